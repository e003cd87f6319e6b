//! The clients of one worker: an epoll set, the thread that waits on it, and the queue of what the caller takes.
#![forbid(unsafe_code)]

use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use streaming_daemon_border::{Outcome, Status, count, guard};

use crate::acceptor::{Acceptor, Seat};
use crate::bell::Bell;
use crate::clients::{Clients, EVENT_BYTES, Watched};
use crate::events::{Arrival, Event};
use crate::handoff::Reason;
use crate::records::{HANDOFF, IS_GONE, MOVED, REASON_SHIFT, Records};
use crate::registry::lock;

/// Events taken from the kernel at once.
const EVENTS_AT_ONCE: usize = 256;
/// Events of clients that one take looks at, each of which may cost a system call: the caller has its own turns to keep.
const EVENTS_PER_TAKE: usize = 256;
/// The token of the bell's eventfd: no client's number is so high.
const WAKE: u64 = u64::MAX;

/// See the module.
pub struct Reactor {
    acceptor: Arc<Acceptor>,
    seat: Arc<Seat>,
    epoll: Epoll,
    /// Not for the thread: it would wait for the caller.
    clients: Mutex<Clients>,
    /// The caller's end of the bell, until the start.
    ear: Mutex<Option<OwnedFd>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Reactor {
    /// One more reactor of `acceptor`.
    pub fn new(acceptor: Arc<Acceptor>) -> Result<Reactor, Status> {
        let (bell, ear) = Bell::new()?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&bell.wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        Ok(Reactor {
            acceptor,
            seat: Arc::new(Seat::new(bell)),
            epoll,
            clients: Mutex::default(),
            ear: Mutex::new(Some(ear)),
            thread: Mutex::default(),
        })
    }

    /// Whether it was made for `acceptor`.
    pub fn belongs_to(&self, acceptor: &Arc<Acceptor>) -> bool {
        Arc::ptr_eq(&self.acceptor, acceptor)
    }

    /// Starts the thread and takes handoffs from now on. Returns the caller's end of the bell.
    pub fn start(self: &Arc<Self>) -> Outcome {
        let mut ear = lock(&self.ear);
        // Held, so that a close at the same time comes before, or waits for this thread as well.
        let mut thread = lock(&self.thread);
        self.seat.events.check()?;
        if ear.is_none() {
            return Err(Errno::EBUSY.into());
        }
        let reactor = Arc::clone(self);
        *thread = Some(thread::Builder::new().name("reactor".into()).spawn(move || reactor.run())?);
        drop(thread);
        self.acceptor.add_seat(&self.seat);
        Ok(ear.take().map_or(0, IntoRawFd::into_raw_fd))
    }

    /// Takes handoffs, or leaves them to others.
    pub fn admit(&self, is_open: bool) -> Outcome {
        self.seat.events.check()?;
        self.seat.is_open.store(is_open, Ordering::Release);
        self.acceptor.wake();
        Ok(0)
    }

    /// Writes whole records: a share of the events, then up to `most_handoffs` handoffs. Returns their bytes and how many
    /// wait.
    pub fn take(&self, buffer: &mut [u8], most_handoffs: u32) -> Result<(i32, u32), Status> {
        let mut clients = lock(&self.clients);
        self.seat.events.check()?;
        let mut records = Records::new(buffer);
        if records.room() < EVENT_BYTES && self.seat.events.len() > 0 {
            return Err(Status::TOO_SMALL);
        }
        for _ in 0..EVENTS_PER_TAKE {
            if records.room() < EVENT_BYTES {
                break;
            }
            let Some(event) = self.seat.events.next() else { break };
            clients.on_event(event, &self.epoll, &mut records);
        }
        for _ in 0..most_handoffs {
            match self.admit_next(&mut clients, &mut records) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) if records.written > 0 => break,
                Err(status) => return Err(status),
            }
        }
        Ok((count(records.written), self.seat.events.len() as u32))
    }

    /// Makes a client of the handoff that has waited longest. Returns whether there was one.
    fn admit_next(&self, clients: &mut Clients, records: &mut Records) -> Result<bool, Status> {
        let Some((arrival, is_room_wanted)) = self.seat.events.next_arrival(records.room())? else {
            return Ok(false);
        };
        if is_room_wanted {
            self.acceptor.wake();
        }
        let (mut flags, mut payload) = (arrival.flags, &arrival.payload[..]);
        let (client, watched) = clients.insert(arrival.socket, &self.epoll);
        match watched {
            Watched::Yes => {}
            Watched::IsGone => flags |= IS_GONE,
            Watched::Cannot(errno) => {
                let reason = Reason::ReceiveError;
                self.acceptor.refuse(reason, payload.len() as u32, arrival.micros, errno as u32);
                (flags, payload) = (flags & 0xFF | (reason as u32) << REASON_SHIFT, &[]);
            }
        }
        let length = payload.len() as u32;
        records.push([HANDOFF, client, flags, arrival.micros, length, arrival.uid], payload);
        Ok(true)
    }

    /// Blocks until a handoff waits (1), or for so long (0).
    pub fn wait(&self, timeout: Duration) -> Outcome {
        self.seat.events.wait(timeout)
    }

    /// See [`Clients::send_batch`].
    pub fn send_batch(&self, entries: &[u32], data: &[u8], results: &mut [i32]) -> Outcome {
        let mut clients = lock(&self.clients);
        self.seat.events.check()?;
        let ended = clients.send_batch(&self.epoll, entries, data, results)?;
        self.acceptor.leave(&self.seat, ended);
        Ok(0)
    }

    /// See [`Clients::close`].
    pub fn close_client(&self, client: u32) -> Outcome {
        let mut clients = lock(&self.clients);
        self.seat.events.check()?;
        clients.close(client, &self.epoll)?;
        self.acceptor.leave(&self.seat, 1);
        Ok(0)
    }

    /// Makes a client another reactor's. See ABI.md.
    pub fn move_client(&self, client: u32, to: &Reactor, payload: &[u8]) -> Outcome {
        if Arc::ptr_eq(&self.seat, &to.seat) || !to.belongs_to(&self.acceptor) {
            return Err(Status::BAD_ARGUMENT);
        }
        let payload = payload.to_vec();
        let mut clients = lock(&self.clients);
        self.seat.events.check()?;
        let mut rings = None;
        let is_given = clients.give_away(client, &self.epoll, |socket| {
            if to.seat.is_started.load(Ordering::Acquire) && to.seat.is_open.load(Ordering::Acquire) {
                rings = to.seat.events.add_arrival_if_room(|| {
                    // Counted before the other one can count it out.
                    self.acceptor.change_seat(&self.seat, &to.seat);
                    Arrival { socket: socket(), flags: MOVED, micros: 0, uid: 0, payload }
                });
            }
            rings.is_some()
        })?;
        drop(clients);
        if rings == Some(true) {
            to.seat.bell.ring();
        }
        if is_given { Ok(0) } else { Err(Errno::EAGAIN.into()) }
    }

    /// Closes every client and ends the thread, which is gone then. What was not taken goes to other reactors.
    pub fn close(&self) {
        self.retire(Status::BAD_HANDLE);
        self.seat.bell.wake();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // It has no panic left to tell, see `run`.
            let _done = thread.join();
        }
        let closed = lock(&self.clients).close_all(&self.epoll);
        self.acceptor.leave(&self.seat, closed);
    }

    /// No call does anything any more but give `status`; handoffs go elsewhere. May be done twice.
    fn retire(&self, status: Status) {
        let arrivals = self.seat.events.end(status);
        self.acceptor.remove_seat(&self.seat, arrivals);
        self.seat.bell.end();
    }

    /// The life of the thread. Where it cannot go on, the caller hears the bell end.
    fn run(&self) {
        let status = guard(|| self.watch());
        self.retire(Status(status));
    }

    fn watch(&self) -> Outcome {
        let mut buffer = [EpollEvent::empty(); EVENTS_AT_ONCE];
        loop {
            let owed = self.seat.bell.make_good();
            let timeout =
                owed.map_or(EpollTimeout::NONE, |left| left.try_into().unwrap_or(EpollTimeout::ZERO));
            let ready = match self.epoll.wait(&mut buffer, timeout) {
                Err(Errno::EINTR) => 0,
                ready => ready?,
            };
            let events = buffer[..ready].iter();
            if events.clone().any(|event| event.data() == WAKE) {
                self.seat.bell.is_awake();
            }
            // After that: it is ended first, and then the thread is woken.
            if self.seat.events.check().is_err() {
                return Ok(0);
            }
            let events = events.map(|event| Event { token: event.data(), flags: event.events().bits() });
            if self.seat.events.add(events.filter(|event| event.token != WAKE)) {
                self.seat.bell.ring();
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::policy::Policy;

    #[test]
    fn a_close_at_the_time_of_the_start_leaves_no_thread_behind() {
        let policy = Policy::new(&[1, 1, 1, 0, 1, 0, 0, 0], &[]).unwrap();
        let acceptor = Arc::new(Acceptor::new(policy).unwrap());
        let mut started = 0;
        for turn in 0..2000 {
            let reactor = Arc::new(Reactor::new(Arc::clone(&acceptor)).unwrap());
            let starting = Arc::clone(&reactor);
            let start = thread::spawn(move || starting.start().map(crate::sys::take_over));
            for _ in 0..turn * 20 {
                std::hint::spin_loop();
            }
            reactor.close();
            match start.join().unwrap() {
                Ok(_ear) => started += 1,
                Err(status) => assert_eq!(status, Status::BAD_HANDLE),
            }
            assert!(lock(&reactor.thread).is_none(), "turn {turn}");
        }
        assert!(started > 0);
    }

    /// Where the thread takes the close's wake for the one before, it sleeps on, and the close waits for it for ever.
    #[test]
    fn a_close_just_after_the_thread_was_woken_is_heard() {
        let policy = Policy::new(&[1, 1, 1, 0, 1, 0, 0, 0], &[]).unwrap();
        let acceptor = Arc::new(Acceptor::new(policy).unwrap());
        for turn in 0..2000 {
            let reactor = Arc::new(Reactor::new(Arc::clone(&acceptor)).unwrap());
            let ear = reactor.start().unwrap();
            drop(crate::sys::take_over(ear));
            thread::sleep(Duration::from_micros(100));
            reactor.seat.bell.wake();
            for _ in 0..turn % 3000 {
                std::hint::spin_loop();
            }
            reactor.close();
        }
    }
}
