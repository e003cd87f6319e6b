//! One epoll set and the thread that waits on it.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::border::{Outcome, Status, count};
use crate::client::Clients;
use crate::handoff::{Complete, Ending, Handoff, Reason, Refusal};
use crate::intake::{Intake, Kind, Listener};
use crate::mailbox::{Arrival, Mailbox};
use crate::records::{self, Records};
use crate::registry::lock;
use crate::sys;
use crate::token::Token;

/// Events taken from the kernel at once.
const EVENTS_AT_ONCE: usize = 256;
/// Connections accepted from one listener before the others have their turn.
const ACCEPTS_AT_ONCE: usize = 256;
/// How long a listener rests for which there is no descriptor or no memory.
const REST: Duration = Duration::from_millis(100);
/// The shortest time between two `ACCEPT_FAILED`.
const ACCEPT_FAILED_EVERY: Duration = Duration::from_secs(1);

/// A listener as one reactor sees it.
struct Door {
    listener: Arc<Listener>,
    state: DoorState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DoorState {
    Open,
    RestsUntil(Instant),
    /// Nobody can come through any more.
    Shut,
}

/// Handoffs that are not whole yet, in the order of their accepts.
#[derive(Default)]
struct Pending {
    last_id: u64,
    handoffs: BTreeMap<u64, Handoff>,
    /// No deadline lies before this; none at all if there is none.
    earliest: Option<Instant>,
}

/// What only the waiting thread works with, between two waits.
#[derive(Default)]
struct Inner {
    records: Records,
    doors: Vec<Door>,
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
    has_waiter: AtomicBool,
    is_closed: AtomicBool,
}

impl Reactor {
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

    /// Copies whole records. Returns their bytes.
    ///
    /// # Errors
    /// `TOO_SMALL`.
    pub fn take(&self, buffer: &mut [u8]) -> Outcome {
        lock(&self.inner).records.take(buffer).map(count)
    }

    /// See [`Clients::send_batch`].
    pub fn send_batch(&self, entries: &[u32], data: &[u8], results: &mut [i32]) -> Outcome {
        let ended = self
            .clients
            .send_batch(&self.epoll, entries, data, results)?;
        self.mailbox.leave(ended);
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
        for door in &inner.doors {
            if door.state == DoorState::Open {
                // It was watched; if not, there is nothing to undo.
                let _not_watched = self.epoll.delete(&door.listener.socket);
            }
        }
        *inner = Inner::default();
        let clients = self.clients.close_all(&self.epoll);
        drop(inner);
        self.mailbox.leave(clients);
        self.intake.remove_reactor(&self.mailbox);
    }

    /// Turns all that has happened into records.
    fn gather(&self, inner: &mut Inner, events: &[EpollEvent]) -> Result<(), Status> {
        for event in events {
            let flags = event.events();
            match Token::decode(event.data()) {
                Token::Client { client, generation } => {
                    self.clients.on_event(
                        client,
                        generation,
                        flags,
                        &self.epoll,
                        &mut inner.records,
                    );
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
            let Arrival {
                socket,
                flags,
                micros,
                uid,
                payload,
            } = arrival;
            self.admit(inner, socket, flags, micros, uid, &payload);
        }
        self.expire(inner);
        // Read before the doors are tended: no listener is added once it is set.
        let stopping = self.intake.is_stopping();
        self.tend_doors(inner, self.mailbox.take_news() || stopping)?;
        if !inner.is_drained
            && stopping
            && inner.doors.iter().all(|door| door.state == DoorState::Shut)
            && inner.pending.handoffs.is_empty()
            && self.mailbox.close_if_empty()
        {
            inner.is_drained = true;
            inner.records.intake_drained();
        }
        Ok(())
    }

    /// Wakes the listeners that have rested; with `all`, also takes up new ones and empties each.
    fn tend_doors(&self, inner: &mut Inner, all: bool) -> Result<(), Status> {
        if all {
            for listener in self.intake.listeners_after(inner.doors.len()) {
                self.watch(&listener, inner.doors.len())
                    .inspect_err(|_| self.mailbox.poke())?;
                inner.doors.push(Door {
                    listener,
                    state: DoorState::Open,
                });
            }
        }
        for index in 0..inner.doors.len() {
            match inner.doors[index].state {
                DoorState::RestsUntil(end) if end <= Instant::now() => {
                    self.watch(&inner.doors[index].listener, index)?;
                    inner.doors[index].state = DoorState::Open;
                    self.accept_from(inner, index, false);
                }
                DoorState::Open if all => self.accept_from(inner, index, false),
                _ => {}
            }
        }
        Ok(())
    }

    fn watch(&self, listener: &Listener, index: usize) -> Result<(), Errno> {
        let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
        self.epoll
            .add(&listener.socket, Token::Listener(index).event(events))
    }

    /// Accepts what waits at a listener.
    ///
    /// # Arguments
    /// * `is_shut_down` - nobody can connect to it any more; so it is when the intake stops
    fn accept_from(&self, inner: &mut Inner, index: usize, is_shut_down: bool) {
        if inner.doors[index].state != DoorState::Open {
            return;
        }
        let listener = Arc::clone(&inner.doors[index].listener);
        // Read before the accepts: the backlog is final once it is set.
        let is_last_round = is_shut_down || self.intake.is_stopping();
        let policy = self.intake.policy();
        for _ in 0..ACCEPTS_AT_ONCE {
            if !inner.records.has_room() {
                return;
            }
            let state = match sys::accept(listener.socket.as_fd()) {
                Ok(connection) => {
                    match Handoff::begin(connection, listener.kind, &policy) {
                        Ok(handoff) => self.receive(inner, handoff),
                        Err(refusal) => inner.refuse(&refusal, 0),
                    }
                    continue;
                }
                // About one connection, or about nothing.
                Err(Errno::ECONNABORTED | Errno::EINTR) => continue,
                Err(Errno::EAGAIN) if !is_last_round => return,
                // EINVAL: the listener was shut down.
                Err(Errno::EAGAIN | Errno::EINVAL) if is_last_round => DoorState::Shut,
                Err(errno) => {
                    inner.note_accept_failure(errno);
                    DoorState::RestsUntil(Instant::now() + REST)
                }
            };
            inner.doors[index].state = state;
            let _not_watched = self.epoll.delete(&listener.socket);
            return;
        }
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
        if inner.pending.handoffs.len() >= handoff.policy.max_pending {
            if let Some((_, oldest)) = inner.pending.handoffs.pop_first() {
                inner.refuse(&oldest.timed_out(), oldest.micros_since_accept());
            }
        }
        inner.pending.last_id += 1;
        let id = inner.pending.last_id;
        if let Err(errno) = self.epoll.add(
            handoff.connection(),
            Token::Pending(id).event(EpollFlags::EPOLLIN),
        ) {
            let refusal = Refusal {
                reason: Reason::ReceiveError,
                detail: errno as u32,
                received_bytes: 0,
            };
            inner.refuse(&refusal, handoff.micros_since_accept());
            return;
        }
        let deadline = handoff.deadline();
        inner.pending.earliest = Some(
            inner
                .pending
                .earliest
                .map_or(deadline, |other| other.min(deadline)),
        );
        inner.pending.handoffs.insert(id, handoff);
    }

    /// A handoff that was not whole has said more.
    fn advance(&self, inner: &mut Inner, id: u64) {
        if !inner.records.has_room() {
            return;
        }
        let Some(mut handoff) = inner.pending.handoffs.remove(&id) else {
            return;
        };
        let mut scratch = inner.take_scratch(handoff.policy.handoff_buffer_bytes);
        match handoff.advance(&mut scratch) {
            Some(ending) => self.finish(inner, &handoff, ending),
            None => {
                inner.pending.handoffs.insert(id, handoff);
            }
        }
        inner.scratch = scratch;
        if inner.pending.handoffs.is_empty() {
            inner.pending.earliest = None;
        }
    }

    /// Ends the handoffs whose time is up.
    fn expire(&self, inner: &mut Inner) {
        let now = Instant::now();
        if inner.pending.earliest.is_none_or(|earliest| now < earliest) || !inner.records.has_room()
        {
            return;
        }
        let due: Vec<u64> = inner
            .pending
            .handoffs
            .iter()
            .filter(|(_, handoff)| handoff.deadline() <= now)
            .map(|(&id, _)| id)
            .collect();
        for id in due {
            if !inner.records.has_room() {
                return;
            }
            if let Some(mut handoff) = inner.pending.handoffs.remove(&id) {
                let ending = handoff.expire();
                self.finish(inner, &handoff, ending);
            }
        }
        inner.pending.earliest = inner.pending.handoffs.values().map(Handoff::deadline).min();
    }

    /// Brings a handoff that has come to its end to the reactor with the fewest clients.
    fn finish(&self, inner: &mut Inner, handoff: &Handoff, ending: Ending) {
        let micros = handoff.micros_since_accept();
        let Complete {
            socket,
            is_tcp,
            payload,
        } = match ending {
            Ok(complete) => complete,
            Err(refusal) => return inner.refuse(&refusal, micros),
        };
        let (place, clients_before) = self.intake.seat(&self.mailbox);
        let mut flags = 0;
        if clients_before >= handoff.policy.max_connections {
            flags |= records::OVER_LIMIT;
        }
        if is_tcp {
            flags |= records::TCP;
        }
        if handoff.kind == Kind::Stream {
            flags |= records::OVER_STREAM;
        }
        let uid = handoff.uid;
        if Arc::ptr_eq(&place, &self.mailbox) {
            return self.admit(inner, socket, flags, micros, uid, &payload);
        }
        let arrival = Arrival {
            socket,
            flags,
            micros,
            uid,
            payload: Cow::into_owned(payload),
        };
        if let Err(Arrival {
            socket, payload, ..
        }) = place.give(arrival)
        {
            // It takes nobody any more, so the client stays here.
            self.mailbox.enter();
            place.leave(1);
            self.admit(inner, socket, flags, micros, uid, &payload);
        }
    }

    /// Makes a client of a socket that has been counted in.
    fn admit(
        &self,
        inner: &mut Inner,
        socket: OwnedFd,
        flags: u32,
        micros: u32,
        uid: u32,
        payload: &[u8],
    ) {
        match self.clients.insert(socket, &self.epoll) {
            Ok(client) => inner.records.handoff(client, flags, micros, uid, payload),
            Err(errno) => {
                self.mailbox.leave(1);
                let (reason, detail) = (Reason::ReceiveError, errno as u32);
                inner.refuse(
                    &Refusal {
                        reason,
                        detail,
                        received_bytes: payload.len() as u32,
                    },
                    micros,
                );
            }
        }
    }
}

impl Inner {
    fn refuse(&mut self, refusal: &Refusal, micros: u32) {
        self.records.handoff_failed(
            refusal.received_bytes,
            refusal.reason as u32,
            micros,
            refusal.detail,
        );
    }

    fn note_accept_failure(&mut self, errno: Errno) {
        let now = Instant::now();
        if self
            .accept_failed
            .is_none_or(|last| now - last >= ACCEPT_FAILED_EVERY)
        {
            self.accept_failed = Some(now);
            self.records.accept_failed(errno as i32);
        }
    }

    /// The buffer to receive into, out of the way of the borrow checker; to be put back.
    fn take_scratch(&mut self, handoff_buffer_bytes: usize) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.scratch);
        if scratch.len() <= handoff_buffer_bytes {
            scratch.resize(handoff_buffer_bytes + 1, 0);
        }
        scratch
    }

    /// Until when nothing is due. Rounded up, so that it is due then.
    fn next_timeout(&self) -> EpollTimeout {
        let rests = self.doors.iter().filter_map(|door| match door.state {
            DoorState::RestsUntil(end) => Some(end),
            _ => None,
        });
        match rests.chain(self.pending.earliest).min() {
            None => EpollTimeout::NONE,
            Some(due) => {
                let left = due.saturating_duration_since(Instant::now());
                EpollTimeout::try_from(left + Duration::from_micros(999))
                    .unwrap_or(EpollTimeout::MAX)
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
