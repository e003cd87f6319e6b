//! The acceptor as its callers and the reactors know it: listeners, limits, the places for handoffs, and what it has
//! to tell. Its thread is [`rounds`].
#![forbid(unsafe_code)]

mod doors;
mod pending;
mod report;
mod rounds;

use std::collections::VecDeque;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use streaming_daemon_border::{Outcome, Status, count, guard};

use crate::bell::Bell;
use crate::events::Arrival;
use crate::handoff::Reason;
use crate::listener::Listener;
use crate::policy::Policy;
use crate::records::{Records, Refusals};
use crate::registry::lock;
use crate::seat::Seat;
use report::Report;
use rounds::Rounds;

/// See the module. No lock is held over a system call.
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
    /// No listener comes any more.
    is_complete: bool,
    /// Nobody can connect any more.
    is_stopping: bool,
    /// What is pending has had its time.
    is_hasty: bool,
    is_closed: bool,
}

impl Acceptor {
    /// One without listeners and reactors.
    ///
    /// # Errors
    /// socketpair(2), eventfd(2).
    pub fn new(policy: Policy) -> Result<Acceptor, Status> {
        let (bell, ear) = Bell::new()?;
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
        *lock(&self.policy) = Arc::new(policy);
    }

    /// The policy for a handoff accepted now.
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
    ///
    /// # Errors
    /// `-EBUSY`: it was started already. epoll_create1(2), epoll_ctl(2), clone(2): it can be started again.
    pub fn start(self: &Arc<Self>) -> Outcome {
        let mut ear = lock(&self.ear);
        if ear.is_none() {
            return Err(Errno::EBUSY.into());
        }
        let rounds = Rounds::new(Arc::clone(self))?;
        let thread =
            thread::Builder::new().name("acceptor".into()).spawn(move || rounds.acceptor().run(rounds))?;
        *lock(&self.thread) = Some(thread);
        Ok(ear.take().map_or(0, IntoRawFd::into_raw_fd))
    }

    /// The life of the thread. Where it cannot go on, nobody can connect any more and the caller hears the bell end.
    fn run(self: Arc<Self>, mut rounds: Rounds) {
        let status = guard(|| rounds.run());
        drop(rounds);
        if status < 0 {
            lock(&self.report).failure = Some(Status(status));
            let listeners = std::mem::take(&mut lock(&self.orders).listeners);
            drop(listeners);
        }
        self.bell.end();
    }

    /// Takes up one more listener. Returns its kind.
    ///
    /// # Errors
    /// Those of `make`; `-ESHUTDOWN` after a stop.
    pub fn add(&self, make: impl FnOnce() -> Result<Listener, Status>) -> Outcome {
        if lock(&self.orders).is_complete {
            return Err(Errno::ESHUTDOWN.into());
        }
        let listener = Arc::new(make()?);
        let kind = listener.kind as i32;
        let mut orders = lock(&self.orders);
        if orders.is_complete {
            drop(orders);
            listener.remove_path()?;
            return Err(Errno::ESHUTDOWN.into());
        }
        orders.listeners.push(listener);
        drop(orders);
        self.wake();
        Ok(kind)
    }

    /// Removes the paths, refuses new connects, and makes the thread finish what waits. All of that is done even
    /// where a path cannot be removed, which is then the error. Idempotent.
    ///
    /// # Arguments
    /// * `is_hasty` - what is pending has had its time
    pub fn stop(&self, is_hasty: bool) -> Outcome {
        let mut orders = lock(&self.orders);
        orders.is_complete = true;
        let listeners = orders.listeners.clone();
        drop(orders);
        let mut outcome = Ok(0);
        for listener in &listeners {
            for step in [listener.remove_path(), listener.shut()] {
                outcome = step.and(outcome);
            }
        }
        let mut orders = lock(&self.orders);
        // Only now: the thread takes an empty backlog for the end.
        orders.is_stopping = true;
        orders.is_hasty |= is_hasty;
        drop(orders);
        self.wake();
        outcome
    }

    /// Stops, ends the thread, and gives up what waits for it.
    pub fn close(&self) -> Outcome {
        let outcome = self.stop(false);
        lock(&self.orders).is_closed = true;
        self.wake();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // It has no panic left to tell, see `run`.
            let _done = thread.join();
        }
        let listeners = std::mem::take(&mut lock(&self.orders).listeners);
        drop(listeners);
        self.bell.end();
        outcome
    }

    /// From now on handoffs are given there, if it has not ended.
    pub fn add_seat(&self, seat: &Arc<Seat>) {
        let mut seats = lock(&self.seats);
        if seat.events.check().is_ok() {
            seats.push(Arc::clone(seat));
        }
        drop(seats);
        self.wake();
    }

    /// Nothing is given there any more. It has ended.
    pub fn remove_seat(&self, seat: &Arc<Seat>) {
        lock(&self.seats).retain(|other| !Arc::ptr_eq(other, seat));
    }

    /// Takes handoffs back, for other reactors.
    pub fn give_back(&self, seat: &Seat, arrivals: VecDeque<Arrival>) {
        self.leave(seat, arrivals.len() as u32);
        lock(&self.orders).returned.extend(arrivals);
        self.wake();
    }

    /// Counts clients out.
    pub fn leave(&self, seat: &Seat, clients: u32) {
        seat.leave(clients);
        self.active.fetch_sub(clients, Ordering::Relaxed);
    }

    /// Gives a handoff to the open reactor with the fewest clients, or back if there is none or it has no room. The
    /// thread is woken when that may have changed.
    fn place(&self, mut arrival: Arrival) -> Result<(), Arrival> {
        let most = self.policy().max_connections;
        let seats = lock(&self.seats);
        let are_all_closed = !seats.iter().any(|seat| seat.is_open());
        let candidates = seats.iter().filter(|seat| are_all_closed || seat.is_open());
        let Some(seat) = candidates.filter(|seat| seat.events.has_room()).min_by_key(|seat| seat.clients())
        else {
            return Err(arrival);
        };
        seat.enter();
        arrival.about.is_over_limit = self.active.fetch_add(1, Ordering::Relaxed) >= most;
        arrival.about.no_room = are_all_closed;
        let rings = seat.events.add_arrival(arrival).inspect_err(|_| self.leave(seat, 1))?;
        let seat = Arc::clone(seat);
        drop(seats);
        if rings {
            seat.bell.ring();
        }
        Ok(())
    }

    /// Tells the caller of a refusal.
    pub fn tell_refusal(&self, reason: Reason, refusal: Refusals) {
        self.tell(|report| report.refuse(reason, refusal));
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
    ///
    /// # Errors
    /// `TOO_SMALL`. The failure of the thread.
    pub fn take(&self, buffer: &mut [u8]) -> Outcome {
        let mut records = Records::new(buffer);
        lock(&self.report).take(&mut records)?;
        Ok(count(records.written()))
    }
}
