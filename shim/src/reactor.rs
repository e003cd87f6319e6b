//! One epoll set and the thread that waits on it.
#![forbid(unsafe_code)]

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};

use crate::border::{Outcome, Status, count};
use crate::client::Clients;
use crate::doors::{Accepted, Doors};
use crate::handoff::{Complete, Ending, Handoff, Reason, Refusal};
use crate::intake::{Intake, Kind};
use crate::mailbox::{Arrival, Mailbox};
use crate::pending::Pending;
use crate::records::{self, About, Records};
use crate::registry::lock;
use crate::token::Token;

/// Events taken from the kernel at once.
const EVENTS_AT_ONCE: usize = 256;
/// Connections accepted from one listener before the others have their turn.
const ACCEPTS_AT_ONCE: usize = 256;
/// The shortest time between two `ACCEPT_FAILED`.
const ACCEPT_FAILED_EVERY: Duration = Duration::from_secs(1);

/// What only the waiting thread works with, between two waits.
#[derive(Default)]
struct Inner {
    records: Records,
    doors: Doors,
    pending: Pending,
    scratch: Vec<u8>,
    accept_failed: Option<Instant>,
    is_drained: bool,
}

/// See the module.
pub struct Reactor {
    intake: Arc<Intake>,
    mailbox: Arc<Mailbox>,
    epoll: Epoll,
    clients: Clients,
    inner: Mutex<Inner>,
    /// Some records were taken, after there was no room for more.
    taken: Condvar,
    has_waiter: AtomicBool,
    is_closed: AtomicBool,
}

impl Reactor {
    /// One more reactor of `intake`.
    ///
    /// # Errors
    /// epoll_create1(2), eventfd(2), epoll_ctl(2).
    pub fn new(intake: &Arc<Intake>) -> Result<Reactor, Status> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mailbox = intake.add_reactor()?;
        let reactor = Reactor {
            intake: Arc::clone(intake),
            mailbox,
            epoll,
            clients: Clients::new(),
            inner: Mutex::default(),
            taken: Condvar::new(),
            has_waiter: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        };
        let wake = Token::Wake.event(EpollFlags::EPOLLIN | EpollFlags::EPOLLET);
        if let Err(errno) = reactor.epoll.add(&reactor.mailbox.wake, wake) {
            reactor.close();
            return Err(errno.into());
        }
        Ok(reactor)
    }

    /// Whether it was made for `intake`.
    pub fn belongs_to(&self, intake: &Arc<Intake>) -> bool {
        Arc::ptr_eq(&self.intake, intake)
    }

    /// Waits until there are records. Returns their bytes.
    ///
    /// # Errors
    /// `-EBUSY`: another thread waits. `-ECANCELED`: closed.
    pub fn wait(&self) -> Outcome {
        if self.has_waiter.swap(true, Ordering::Acquire) {
            return Err(Errno::EBUSY.into());
        }
        let _end = OnDrop(|| self.has_waiter.store(false, Ordering::Release));
        let mut buffer = [EpollEvent::empty(); EVENTS_AT_ONCE];
        let mut events = &buffer[..0];
        loop {
            let timeout = {
                let mut inner = lock(&self.inner);
                if self.is_closed.load(Ordering::Acquire) {
                    return Err(Errno::ECANCELED.into());
                }
                if inner.records.is_empty() {
                    self.gather(&mut inner, events)?;
                }
                if !inner.records.is_empty() {
                    return Ok(count(inner.records.len()));
                }
                inner.next_timeout()
            };
            events = match self.epoll.wait(&mut buffer, timeout) {
                Ok(ready) => &buffer[..ready],
                Err(Errno::EINTR) => &[],
                Err(errno) => return Err(errno.into()),
            };
        }
    }

    /// Gathers in a thread of its own from now on, which sends a byte over a socket whenever there are records
    /// after there were none. Returns the socket's other end, which ends when the reactor closes.
    ///
    /// # Errors
    /// `-EBUSY`: another thread waits. socketpair(2), clone(2).
    pub fn start(self: &Arc<Self>) -> Outcome {
        if self.has_waiter.swap(true, Ordering::Acquire) {
            return Err(Errno::EBUSY.into());
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (bell, ear) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)
            .inspect_err(|_| self.has_waiter.store(false, Ordering::Release))?;
        let reactor = Arc::clone(self);
        thread::Builder::new()
            .name("reactor".into())
            .spawn(move || reactor.gather_until_closed(&bell))
            .map_err(|_| Errno::EAGAIN)
            .inspect_err(|_| self.has_waiter.store(false, Ordering::Release))?;
        Ok(ear.into_raw_fd())
    }

    fn gather_until_closed(&self, bell: &OwnedFd) {
        let mut buffer = [EpollEvent::empty(); EVENTS_AT_ONCE];
        let mut events = &buffer[..0];
        loop {
            let timeout = {
                let mut inner = lock(&self.inner);
                while !inner.records.has_room() && !self.is_closed.load(Ordering::Acquire) {
                    inner = self.taken.wait(inner).unwrap_or_else(PoisonError::into_inner);
                }
                if self.is_closed.load(Ordering::Acquire) {
                    return;
                }
                let was_empty = inner.records.is_empty();
                // What cannot be gathered now is still there the next time.
                let _ = self.gather(&mut inner, events);
                if was_empty && !inner.records.is_empty() {
                    // Only this byte is ever under way, so there is room; an ear that is gone hears nothing.
                    let _ = send(bell.as_raw_fd(), &[1], MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT);
                }
                inner.next_timeout()
            };
            events = match self.epoll.wait(&mut buffer, timeout) {
                Ok(ready) => &buffer[..ready],
                Err(_) => &[],
            };
        }
    }

    /// Copies whole records. Returns their bytes.
    ///
    /// # Errors
    /// `TOO_SMALL`.
    pub fn take(&self, buffer: &mut [u8]) -> Outcome {
        let mut inner = lock(&self.inner);
        let had_room = inner.records.has_room();
        let taken = inner.records.take(buffer).map(count);
        if !had_room {
            self.taken.notify_one();
        }
        taken
    }

    /// See [`Clients::send_batch`].
    pub fn send_batch(&self, entries: &[u32], data: &[u8], results: &mut [i32]) -> Outcome {
        self.clients.send_batch(&self.epoll, entries, data, results, || self.mailbox.leave(1))?;
        Ok(0)
    }

    /// See [`Clients::close`].
    pub fn close_client(&self, client: u32) -> Outcome {
        self.clients.close(client, &self.epoll)?;
        self.mailbox.leave(1);
        Ok(0)
    }

    /// Closes every client and handoff, and wakes the waiter.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.mailbox.close();
        self.mailbox.poke();
        let mut inner = lock(&self.inner);
        inner.doors.clear(&self.epoll);
        *inner = Inner::default();
        let clients = self.clients.close_all(&self.epoll);
        drop(inner);
        self.taken.notify_one();
        self.mailbox.leave(clients);
        self.intake.remove_reactor(&self.mailbox);
    }

    /// Turns all that has happened into records.
    fn gather(&self, inner: &mut Inner, events: &[EpollEvent]) -> Result<(), Status> {
        for event in events {
            let flags = event.events();
            match Token::decode(event.data()) {
                Token::Client { client, generation } => {
                    self.clients.on_event(client, generation, flags, &self.epoll, &mut inner.records);
                }
                Token::Pending(id) => self.advance(inner, id),
                Token::Listener(index) => {
                    self.accept_from(inner, index, flags.contains(EpollFlags::EPOLLHUP));
                }
                Token::Wake => {}
            }
        }
        while inner.records.has_room() {
            let Some(arrival) = self.mailbox.next() else {
                break;
            };
            self.admit(inner, arrival.socket, arrival.about, &arrival.payload);
        }
        while inner.records.has_room() {
            let Some(mut overdue) = inner.pending.remove_due() else {
                break;
            };
            let ending = overdue.expire();
            self.finish(inner, &overdue, ending);
        }
        // Read before the listeners are looked at: none is added once it is set.
        let stopping = self.intake.is_stopping();
        self.tend_doors(inner, self.mailbox.take_news() || stopping)?;
        if stopping
            && !inner.is_drained
            && inner.doors.are_all_shut()
            && inner.pending.is_empty()
            && self.mailbox.close_if_empty()
        {
            inner.is_drained = true;
            inner.records.intake_drained();
        }
        Ok(())
    }

    /// Looks after listeners that have rested; with `all`, takes up new ones and looks at each.
    fn tend_doors(&self, inner: &mut Inner, all: bool) -> Result<(), Status> {
        if all {
            for listener in self.intake.listeners_after(inner.doors.len()) {
                inner.doors.add(listener, &self.epoll).inspect_err(|_| self.mailbox.poke())?;
            }
        }
        if inner.doors.reopen(&self.epoll)? || all {
            for index in 0..inner.doors.len() {
                self.accept_from(inner, index, false);
            }
        }
        Ok(())
    }

    /// Accepts what waits at a listener, or as much of it as there is room and time for.
    ///
    /// # Arguments
    /// * `is_shut_down` - nobody can connect to it any more; so it is when the intake stops
    fn accept_from(&self, inner: &mut Inner, index: usize, is_shut_down: bool) {
        // Read before the accepts: once it is set, the backlog only gets shorter.
        let is_final = is_shut_down || self.intake.is_stopping();
        let policy = self.intake.policy();
        for _ in 0..ACCEPTS_AT_ONCE {
            if !inner.records.has_room() {
                break;
            }
            match inner.doors.accept(index, is_final, &self.epoll) {
                Accepted::Connection(connection, kind) => match Handoff::begin(connection, kind, &policy) {
                    Ok(handoff) => self.receive(inner, handoff),
                    Err(refusal) => inner.refuse(&refusal, 0),
                },
                Accepted::Nothing => return,
                Accepted::Failed(errno) => return inner.note_accept_failure(errno),
            }
        }
        // The kernel speaks up again only where it was the one to call.
        self.mailbox.poke();
    }

    /// The first look at a new connection, over which the handoff has come already as a rule.
    fn receive(&self, inner: &mut Inner, mut handoff: Handoff) {
        let mut scratch = inner.take_scratch(handoff.policy.handoff_buffer_bytes);
        match handoff.advance(&mut scratch) {
            Some(ending) => self.finish(inner, &handoff, ending),
            None => self.set_pending(inner, handoff),
        }
        inner.scratch = scratch;
    }

    fn set_pending(&self, inner: &mut Inner, handoff: Handoff) {
        if inner.pending.len() >= handoff.policy.max_pending {
            if let Some(oldest) = inner.pending.remove_oldest() {
                inner.refuse(&oldest.timed_out(), oldest.micros_since_accept());
            }
        }
        let id = inner.pending.next_id();
        match self.epoll.add(handoff.connection(), Token::Pending(id).event(EpollFlags::EPOLLIN)) {
            Ok(()) => inner.pending.insert(id, handoff),
            Err(errno) => inner.refuse(&handoff.not_received(errno), handoff.micros_since_accept()),
        }
    }

    /// A handoff that was not whole has said more.
    fn advance(&self, inner: &mut Inner, id: u64) {
        if !inner.records.has_room() {
            return;
        }
        let Some(mut handoff) = inner.pending.remove(id) else {
            return;
        };
        let mut scratch = inner.take_scratch(handoff.policy.handoff_buffer_bytes);
        match handoff.advance(&mut scratch) {
            Some(ending) => self.finish(inner, &handoff, ending),
            None => inner.pending.insert(id, handoff),
        }
        inner.scratch = scratch;
    }

    /// Brings a handoff that has come to its end to the reactor with the fewest clients.
    fn finish(&self, inner: &mut Inner, handoff: &Handoff, ending: Ending) {
        let micros = handoff.micros_since_accept();
        let Complete { socket, is_tcp, payload } = match ending {
            Ok(complete) => complete,
            Err(refusal) => return inner.refuse(&refusal, micros),
        };
        let (place, clients_before) = self.intake.seat(&self.mailbox);
        let is_over_limit = clients_before >= handoff.policy.max_connections;
        let about = About {
            flags: records::flags(is_over_limit, is_tcp, handoff.kind == Kind::Stream),
            micros,
            uid: handoff.uid,
        };
        if Arc::ptr_eq(&place, &self.mailbox) {
            return self.admit(inner, socket, about, &payload);
        }
        let arrival = Arrival { socket, about, payload: payload.into_owned() };
        if let Err(Arrival { socket, about, payload }) = place.give(arrival) {
            // It takes nobody any more, so the client stays here.
            self.mailbox.enter();
            place.leave(1);
            self.admit(inner, socket, about, &payload);
        }
    }

    /// Makes a client of a socket that has been counted in.
    fn admit(&self, inner: &mut Inner, socket: OwnedFd, about: About, payload: &[u8]) {
        match self.clients.insert(socket, &self.epoll) {
            Ok(client) => inner.records.handoff(client, about, payload),
            Err(errno) => {
                self.mailbox.leave(1);
                let received_bytes = payload.len() as u32;
                let refusal = Refusal { reason: Reason::ReceiveError, detail: errno as u32, received_bytes };
                inner.refuse(&refusal, about.micros);
            }
        }
    }
}

impl Inner {
    fn refuse(&mut self, refusal: &Refusal, micros: u32) {
        self.records.handoff_failed(refusal.received_bytes, refusal.reason as u32, micros, refusal.detail);
    }

    fn note_accept_failure(&mut self, errno: Errno) {
        let now = Instant::now();
        if self.accept_failed.is_none_or(|last| now - last >= ACCEPT_FAILED_EVERY) {
            self.accept_failed = Some(now);
            self.records.accept_failed(errno as i32);
        }
    }

    /// The buffer to receive into, out of the way of the borrow checker; to be put back.
    fn take_scratch(&mut self, handoff_buffer_bytes: usize) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.scratch);
        if scratch.len() <= handoff_buffer_bytes {
            // Made anew, since memory that comes zeroed is not touched before it is used.
            scratch = vec![0; handoff_buffer_bytes + 1];
        }
        scratch
    }

    /// Until when nothing is due. Rounded up, so that it is due then.
    fn next_timeout(&self) -> EpollTimeout {
        match self.doors.earliest().into_iter().chain(self.pending.earliest()).min() {
            None => EpollTimeout::NONE,
            Some(due) => {
                let left = due.saturating_duration_since(Instant::now());
                EpollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(EpollTimeout::MAX)
            }
        }
    }
}

/// Runs its closure at the end of the scope, also when that unwinds.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
