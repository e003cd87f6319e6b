//! The clients of one worker: an epoll set, the thread that waits on it, and the queue of what the caller takes.
#![forbid(unsafe_code)]

use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use streaming_daemon_border::{Outcome, Status, count, guard};

use crate::acceptor::Acceptor;
use crate::bell::Bell;
use crate::clients::{Clients, EVENT_BYTES};
use crate::events::Event;
use crate::handoff::Reason;
use crate::records::{Records, Refusals};
use crate::registry::lock;
use crate::seat::Seat;

/// Events taken from the kernel at once.
const EVENTS_AT_ONCE: usize = 256;
/// The token of the bell's eventfd: no client has it, since no client's number is so high.
const WAKE: u64 = u64::MAX;

/// What the thread works with.
struct Watcher {
    seat: Arc<Seat>,
    epoll: Epoll,
    acceptor: Arc<Acceptor>,
}

/// See the module.
pub struct Reactor {
    watcher: Arc<Watcher>,
    clients: Mutex<Clients>,
    /// The caller's end of the bell, until the start.
    ear: Mutex<Option<OwnedFd>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Reactor {
    /// One more reactor of `acceptor`.
    ///
    /// # Errors
    /// epoll_create1(2), socketpair(2), eventfd(2), epoll_ctl(2).
    pub fn new(acceptor: Arc<Acceptor>) -> Result<Reactor, Status> {
        let (bell, ear) = Bell::new()?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&bell.wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        Ok(Reactor {
            watcher: Arc::new(Watcher { seat: Arc::new(Seat::new(bell)), epoll, acceptor }),
            clients: Mutex::default(),
            ear: Mutex::new(Some(ear)),
            thread: Mutex::default(),
        })
    }

    /// Whether it was made for `acceptor`.
    pub fn belongs_to(&self, acceptor: &Arc<Acceptor>) -> bool {
        Arc::ptr_eq(&self.watcher.acceptor, acceptor)
    }

    /// Starts the thread and takes handoffs from now on. Returns the caller's end of the bell.
    ///
    /// # Errors
    /// `-EBUSY`: it was started already. clone(2): it can be started again.
    pub fn start(&self) -> Outcome {
        self.watcher.seat.events.check()?;
        let mut ear = lock(&self.ear);
        if ear.is_none() {
            return Err(Errno::EBUSY.into());
        }
        let watcher = Arc::clone(&self.watcher);
        let thread = thread::Builder::new().name("reactor".into()).spawn(move || watcher.run())?;
        *lock(&self.thread) = Some(thread);
        self.watcher.acceptor.add_seat(&self.watcher.seat);
        Ok(ear.take().map_or(0, IntoRawFd::into_raw_fd))
    }

    /// Takes handoffs, or leaves them to others.
    ///
    /// # Errors
    /// The failure of the thread.
    pub fn admit(&self, is_open: bool) -> Outcome {
        self.watcher.seat.events.check()?;
        self.watcher.seat.set_open(is_open);
        self.watcher.acceptor.wake();
        Ok(0)
    }

    /// Writes whole records: events, then up to `most_handoffs` handoffs. Returns their bytes and how many wait.
    ///
    /// # Errors
    /// `TOO_SMALL`. The failure of the thread.
    pub fn take(&self, buffer: &mut [u8], most_handoffs: u32) -> Result<(i32, u32), Status> {
        let Watcher { seat, epoll, .. } = &*self.watcher;
        let mut clients = lock(&self.clients);
        seat.events.check()?;
        let mut records = Records::new(buffer);
        if records.room() < EVENT_BYTES && seat.events.len() > 0 {
            return Err(Status::TOO_SMALL);
        }
        while records.room() >= EVENT_BYTES {
            let Some(event) = seat.events.next() else { break };
            clients.on_event(event, epoll, &mut records);
        }
        for _ in 0..most_handoffs {
            match self.admit_next(&mut clients, &mut records) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) if records.written() > 0 => break,
                Err(status) => return Err(status),
            }
        }
        Ok((count(records.written()), seat.events.len() as u32))
    }

    /// Makes a client of the handoff that has waited longest. Returns whether there was one.
    fn admit_next(&self, clients: &mut Clients, records: &mut Records) -> Result<bool, Status> {
        let Watcher { seat, epoll, acceptor } = &*self.watcher;
        let Some((arrival, is_room_wanted)) = seat.events.next_arrival(records.room())? else {
            return Ok(false);
        };
        if is_room_wanted {
            acceptor.wake();
        }
        let (mut about, mut payload) = (arrival.about, &arrival.payload[..]);
        let (client, failure) = clients.insert(arrival.socket, epoll);
        if let Some(errno) = failure {
            let bytes = payload.len() as u32;
            let refusal = Refusals { count: 1, bytes, micros: about.micros, detail: errno as u32 };
            acceptor.tell_refusal(Reason::ReceiveError, refusal);
            (about.reason, payload) = (Reason::ReceiveError as u32, &[]);
        }
        records.handoff(client, about, payload);
        Ok(true)
    }

    /// See [`Events::wait`].
    pub fn wait(&self, timeout: Duration) -> Outcome {
        self.watcher.seat.events.wait(timeout)
    }

    /// See [`Clients::send_batch`].
    ///
    /// # Errors
    /// The failure of the thread.
    pub fn send_batch(&self, entries: &[u32], data: &[u8], results: &mut [i32]) -> Outcome {
        let mut clients = lock(&self.clients);
        self.watcher.seat.events.check()?;
        let ended = clients.send_batch(&self.watcher.epoll, entries, data, results)?;
        self.leave(ended);
        Ok(0)
    }

    /// See [`Clients::close`].
    ///
    /// # Errors
    /// The failure of the thread.
    pub fn close_client(&self, client: u32) -> Outcome {
        let mut clients = lock(&self.clients);
        self.watcher.seat.events.check()?;
        clients.close(client, &self.watcher.epoll)?;
        self.leave(1);
        Ok(0)
    }

    fn leave(&self, clients: u32) {
        self.watcher.acceptor.leave(&self.watcher.seat, clients);
    }

    /// Closes every client and ends the thread, which is gone then. What was not taken goes to other reactors.
    pub fn close(&self) {
        self.watcher.retire(Status::BAD_HANDLE);
        self.watcher.seat.bell.wake();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // It has no panic left to tell, see `Watcher::run`.
            let _done = thread.join();
        }
        let closed = lock(&self.clients).close_all(&self.watcher.epoll);
        self.leave(closed);
    }
}

impl Watcher {
    /// The life of the thread. Where it cannot go on, the caller hears the bell end.
    fn run(&self) {
        let status = guard(|| self.watch());
        self.retire(Status(status));
    }

    /// # Errors
    /// epoll_wait(2).
    fn watch(&self) -> Outcome {
        let mut buffer = [EpollEvent::empty(); EVENTS_AT_ONCE];
        loop {
            let timeout = self.seat.bell.make_good();
            let timeout =
                timeout.map_or(EpollTimeout::NONE, |left| left.try_into().unwrap_or(EpollTimeout::ZERO));
            let ready = match self.epoll.wait(&mut buffer, timeout) {
                Err(Errno::EINTR) => 0,
                ready => ready?,
            };
            if self.seat.events.check().is_err() {
                return Ok(0);
            }
            let events = buffer[..ready].iter().map(|event| (event.data(), event.events().bits()));
            if events.clone().any(|(token, _)| token == WAKE) {
                self.seat.bell.is_awake();
            }
            let about_clients = events.filter(|(token, _)| *token != WAKE);
            if self.seat.events.add(about_clients.map(|(token, flags)| Event { token, flags })) {
                self.seat.bell.ring();
            }
        }
    }

    /// No call does anything any more but give `status`; handoffs go elsewhere. May be done twice.
    fn retire(&self, status: Status) {
        let arrivals = self.seat.events.end(status);
        self.acceptor.remove_seat(&self.seat);
        self.acceptor.give_back(&self.seat, arrivals);
        self.seat.bell.end();
    }
}
