//! The acceptor as its callers and the reactors know it: listeners, limits, the places for handoffs, and what it has
//! to tell. Its thread is [`rounds`].
#![forbid(unsafe_code)]

mod pending;
mod report;
mod rounds;

use std::collections::VecDeque;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use streaming_daemon_border::{Outcome, Status, count, guard};

use crate::bell::Bell;
use crate::events::{Arrival, Events};
use crate::handoff::{Handoff, Reason};
use crate::listener::Listener;
use crate::policy::Policy;
use crate::records::{NO_ROOM, OVER_LIMIT, Records};
use crate::registry::lock;
use crate::sys;
use report::Report;
use rounds::Rounds;

/// The part of a reactor that the acceptor knows.
pub struct Seat {
    pub events: Events,
    pub bell: Bell,
    /// Whether it takes handoffs that another could take as well.
    pub is_open: AtomicBool,
    /// Clients of the reactor, those that wait in its queue included.
    clients: AtomicU32,
    /// Whether somebody takes what is put into its queue.
    pub is_started: AtomicBool,
}

impl Seat {
    pub fn new(bell: Bell) -> Seat {
        let (is_open, clients) = (AtomicBool::new(true), AtomicU32::new(0));
        Seat { events: Events::default(), bell, is_open, clients, is_started: AtomicBool::new(false) }
    }
}

/// See the module. No lock is held over a system call but those of `ear` and `thread`, for which only another start and
/// the close wait.
pub struct Acceptor {
    policy: Mutex<Arc<Policy>>,
    orders: Mutex<Orders>,
    seats: Mutex<Vec<Arc<Seat>>>,
    active: AtomicU32,
    report: Mutex<Report>,
    bell: Bell,
    /// The caller's end of the bell, until the start.
    ear: Mutex<Option<OwnedFd>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread is to do.
#[derive(Default)]
struct Orders {
    listeners: Vec<Arc<Listener>>,
    /// Handoffs that a reactor did not take before it was closed.
    returned: VecDeque<Arrival>,
    stage: Stage,
}

/// How far the stop is. None is left for an earlier one.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Running,
    /// No listener comes any more.
    Complete,
    /// Nobody can connect any more: an empty backlog is the end.
    Stopping,
    /// What is pending has had its time.
    Hasty,
    Closed,
}

impl Acceptor {
    /// One without listeners and reactors.
    pub fn new(policy: Policy) -> Result<Acceptor, Status> {
        let (bell, ear) = Bell::new()?;
        sys::make_room_for_fds(policy.max_connections, bell.wake.as_fd());
        Ok(Acceptor {
            policy: Mutex::new(Arc::new(policy)),
            orders: Mutex::default(),
            seats: Mutex::default(),
            active: AtomicU32::new(0),
            report: Mutex::default(),
            bell,
            ear: Mutex::new(Some(ear)),
            thread: Mutex::default(),
        })
    }

    /// Changes the policy for handoffs accepted from now on.
    pub fn configure(&self, policy: Policy) {
        sys::make_room_for_fds(policy.max_connections, self.bell.wake.as_fd());
        *lock(&self.policy) = Arc::new(policy);
    }

    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&lock(&self.policy))
    }

    /// Live clients over all reactors.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Makes the thread look.
    pub fn wake(&self) {
        self.bell.wake();
    }

    /// Starts the thread. Returns the caller's end of the bell.
    pub fn start(self: &Arc<Self>) -> Outcome {
        let mut ear = lock(&self.ear);
        if ear.is_none() {
            return Err(Errno::EBUSY.into());
        }
        // Held, so that a close at the same time comes before, or waits for this thread as well.
        let mut thread = lock(&self.thread);
        if lock(&self.orders).stage == Stage::Closed {
            return Err(Status::BAD_HANDLE);
        }
        let acceptor = Arc::clone(self);
        let rounds = Rounds::new(Arc::clone(self))?;
        *thread = Some(thread::Builder::new().name("acceptor".into()).spawn(move || acceptor.run(rounds))?);
        Ok(ear.take().map_or(0, IntoRawFd::into_raw_fd))
    }

    /// The life of the thread. Where it cannot go on, nobody can connect any more and the caller hears the bell end.
    fn run(&self, mut rounds: Rounds) {
        let status = guard(|| rounds.run());
        drop(rounds);
        if status < 0 {
            lock(&self.report).failure = Some(Status(status));
            self.drop_listeners();
        }
        self.bell.end();
    }

    /// Whoever waits in the backlog of one may have passed something whose close blocks, and goes before it.
    fn drop_listeners(&self) {
        let listeners = std::mem::take(&mut lock(&self.orders).listeners);
        for listener in &listeners {
            // After a stop there is none left; where the thread has failed, that is what is told.
            let _stays = listener.remove_path();
        }
        for listener in listeners.iter().filter(|listener| listener.is_ours && listener.shut().is_ok()) {
            while let Ok(connection) = sys::accept(listener.socket.as_fd()) {
                drop(Handoff::begin(connection, listener.kind, &self.policy()));
            }
        }
    }

    /// Takes up one more listener. Returns its kind.
    pub fn add(&self, make: impl FnOnce() -> Result<Listener, Status>) -> Outcome {
        if lock(&self.orders).stage > Stage::Running {
            return Err(Errno::ESHUTDOWN.into());
        }
        let listener = make()?;
        let kind = listener.kind as i32;
        let mut orders = lock(&self.orders);
        if orders.stage > Stage::Running {
            drop(orders);
            listener.undo()?;
            return Err(Errno::ESHUTDOWN.into());
        }
        orders.listeners.push(Arc::new(listener));
        drop(orders);
        self.wake();
        Ok(kind)
    }

    /// Removes the paths, refuses new connects, and makes the thread finish what waits. All of that is done even
    /// where a path cannot be removed, which is then the error. Idempotent.
    pub fn stop(&self, is_hasty: bool) -> Outcome {
        self.shut_then(if is_hasty { Stage::Hasty } else { Stage::Stopping })
    }

    fn shut_then(&self, stage: Stage) -> Outcome {
        self.advance_to(Stage::Complete);
        let listeners = lock(&self.orders).listeners.clone();
        let mut outcome = Ok(0);
        for listener in &listeners {
            for step in [listener.remove_path(), listener.shut()] {
                outcome = step.and(outcome);
            }
        }
        self.advance_to(stage);
        outcome
    }

    fn advance_to(&self, stage: Stage) {
        let mut orders = lock(&self.orders);
        orders.stage = orders.stage.max(stage);
        drop(orders);
        self.wake();
    }

    /// Stops, ends the thread, and gives up what waits for it.
    pub fn close(&self) -> Outcome {
        let outcome = self.shut_then(Stage::Closed);
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // It has no panic left to tell, see `run`.
            let _done = thread.join();
        }
        self.drop_listeners();
        self.bell.end();
        outcome
    }

    /// From now on handoffs are given there, if it has not ended.
    pub fn add_seat(&self, seat: &Arc<Seat>) {
        let mut seats = lock(&self.seats);
        if seat.events.check().is_ok() {
            seats.push(Arc::clone(seat));
            seat.is_started.store(true, Ordering::Release);
        }
        drop(seats);
        self.wake();
    }

    /// Nothing is given there any more, since it has ended; what it had not taken is for other reactors.
    pub fn remove_seat(&self, seat: &Arc<Seat>, mut untaken: VecDeque<Arrival>) {
        lock(&self.seats).retain(|other| !Arc::ptr_eq(other, seat));
        self.leave(seat, untaken.len() as u32);
        lock(&self.orders).returned.append(&mut untaken);
        self.wake();
    }

    /// Counts clients out.
    pub fn leave(&self, seat: &Seat, clients: u32) {
        seat.clients.fetch_sub(clients, Ordering::Relaxed);
        self.active.fetch_sub(clients, Ordering::Relaxed);
    }

    /// Counts a client out of one seat and into another.
    pub fn change_seat(&self, from: &Seat, to: &Seat) {
        to.clients.fetch_add(1, Ordering::Relaxed);
        from.clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// Gives a handoff to the open reactor with the fewest clients, or back if there is none or it has no room. The
    /// thread is woken when that may have changed.
    fn place(&self, mut arrival: Arrival) -> Result<(), Arrival> {
        let most = self.policy().max_connections;
        let seats = lock(&self.seats);
        let is_open = |seat: &Seat| seat.is_open.load(Ordering::Acquire);
        let are_all_closed = !seats.iter().any(|seat| is_open(seat));
        let candidates = seats.iter().filter(|seat| are_all_closed || is_open(seat));
        let fewest = |seat: &&Arc<Seat>| seat.clients.load(Ordering::Relaxed);
        let Some(seat) = candidates.filter(|seat| seat.events.has_room()).min_by_key(fewest) else {
            return Err(arrival);
        };
        seat.clients.fetch_add(1, Ordering::Relaxed);
        let is_over_limit = self.active.fetch_add(1, Ordering::Relaxed) >= most;
        // Set anew: it may have waited in another reactor.
        arrival.flags &= !(OVER_LIMIT | NO_ROOM);
        arrival.flags |=
            if is_over_limit { OVER_LIMIT } else { 0 } | if are_all_closed { NO_ROOM } else { 0 };
        let rings = seat.events.add_arrival(arrival).inspect_err(|_| self.leave(seat, 1))?;
        let seat = Arc::clone(seat);
        drop(seats);
        if rings {
            seat.bell.ring();
        }
        Ok(())
    }

    /// Tells the caller of a refusal.
    pub fn refuse(&self, reason: Reason, bytes: u32, micros: u32, detail: u32) {
        self.tell(|report| report.refuse(reason, bytes, micros, detail));
    }

    fn tell(&self, what: impl FnOnce(&mut Report)) {
        let mut report = lock(&self.report);
        let was_empty = report.is_empty();
        what(&mut report);
        drop(report);
        if was_empty {
            self.bell.ring();
        }
    }

    /// Writes whole records. Returns their bytes.
    pub fn take(&self, buffer: &mut [u8]) -> Outcome {
        let mut records = Records::new(buffer);
        lock(&self.report).take(&mut records)?;
        Ok(count(records.written))
    }
}
