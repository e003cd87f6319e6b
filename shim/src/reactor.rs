//! One epoll set, the thread that waits on it, and the bell by which that thread calls its caller.
#![forbid(unsafe_code)]

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};

use crate::border::{Outcome, Status, count, guard};
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

/// What only the reactor's thread works with, between two waits; and the records, which are taken from it.
#[derive(Default)]
struct Inner {
    records: Records,
    doors: Doors,
    pending: Pending,
    scratch: Vec<u8>,
    accept_failed: Option<Instant>,
    is_drained: bool,
    /// Somebody waits for records, and needs no bell.
    is_awaited: bool,
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
    /// There are records, while somebody waits for them.
    arrived: Condvar,
    /// From the start to the close.
    thread: Mutex<Option<JoinHandle<()>>>,
    is_closed: AtomicBool,
    /// The status with which the thread ended by itself, or 0.
    failure: AtomicI32,
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
            arrived: Condvar::new(),
            thread: Mutex::default(),
            is_closed: AtomicBool::new(false),
            failure: AtomicI32::new(0),
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

    /// Gathers in a thread of its own from now on, which sends a byte over a socket whenever there are records
    /// after there were none. Returns the socket's other end, which is the caller's and ends with the thread.
    ///
    /// # Errors
    /// `-EBUSY`: it was started already. `-ECANCELED`: it is closed. The failure, if it has failed.
    /// socketpair(2), clone(2): it can be started again.
    pub fn start(self: &Arc<Self>) -> Outcome {
        let mut thread = lock(&self.thread);
        if self.is_closed.load(Ordering::Acquire) {
            self.check_failure()?;
            return Err(Errno::ECANCELED.into());
        }
        if thread.is_some() {
            return Err(Errno::EBUSY.into());
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (bell, ear) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
        let reactor = Arc::clone(self);
        let run = move || {
            reactor.run(&bell);
            // The bell last: who hears it end finds all the rest done.
            drop(reactor);
            drop(bell);
        };
        *thread = Some(thread::Builder::new().name("reactor".into()).spawn(run)?);
        Ok(ear.into_raw_fd())
    }

    /// The life of the thread. Where it cannot go on, nobody else is to wait for what only it does.
    fn run(&self, bell: &OwnedFd) {
        let status = guard(|| self.gather_until_closed(bell));
        if status < 0 {
            self.failure.store(status, Ordering::Release);
            self.shut();
        }
    }

    /// # Errors
    /// epoll_wait(2) and send(2), for reasons that do not pass.
    fn gather_until_closed(&self, bell: &OwnedFd) -> Outcome {
        let mut buffer = [EpollEvent::empty(); EVENTS_AT_ONCE];
        let mut events = &buffer[..0];
        loop {
            let mut inner = lock(&self.inner);
            while !inner.records.has_room() && !self.is_closed.load(Ordering::Acquire) {
                inner = self.taken.wait(inner).unwrap_or_else(PoisonError::into_inner);
            }
            if self.is_closed.load(Ordering::Acquire) {
                return Ok(0);
            }
            let was_empty = inner.records.is_empty();
            self.gather(&mut inner, events);
            let has_news = was_empty && !inner.records.is_empty();
            let is_awaited = inner.is_awaited;
            let timeout = inner.next_timeout();
            // Not under the lock, which is the first thing that who is woken wants.
            drop(inner);
            match (has_news, is_awaited) {
                (true, true) => self.arrived.notify_one(),
                (true, false) => ring(bell)?,
                (false, _) => {}
            }
            events = match self.epoll.wait(&mut buffer, timeout) {
                Ok(ready) => &buffer[..ready],
                Err(Errno::EINTR) => &[],
                Err(errno) => return Err(errno.into()),
            };
        }
    }

    /// # Errors
    /// The failure, if it has failed. `BAD_HANDLE`: closed since the caller found it.
    fn check_open(&self) -> Result<(), Status> {
        if !self.is_closed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.check_failure()?;
        Err(Status::BAD_HANDLE)
    }

    /// # Errors
    /// The status with which the thread ended by itself.
    fn check_failure(&self) -> Result<(), Status> {
        match self.failure.load(Ordering::Acquire) {
            0 => Ok(()),
            status => Err(Status(status)),
        }
    }

    /// Blocks until there are records, or for so long. Returns whether there are any (1) or none (0); the bell does
    /// not ring for those that end the wait.
    ///
    /// # Errors
    /// `BAD_HANDLE`: closed meanwhile. The failure, if it has failed.
    pub fn wait(&self, timeout: Duration) -> Outcome {
        let mut inner = lock(&self.inner);
        inner.is_awaited = true;
        let nothing_yet =
            |inner: &mut Inner| inner.records.is_empty() && !self.is_closed.load(Ordering::Acquire);
        let waited = self.arrived.wait_timeout_while(inner, timeout, nothing_yet);
        let (mut inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.is_awaited = false;
        self.check_open()?;
        Ok(i32::from(!inner.records.is_empty()))
    }

    /// Copies whole records. Returns their bytes.
    ///
    /// # Errors
    /// `TOO_SMALL`. `BAD_HANDLE`: closed since the caller found it. The failure, if it has failed.
    pub fn take(&self, buffer: &mut [u8]) -> Outcome {
        let mut inner = lock(&self.inner);
        self.check_open()?;
        let had_room = inner.records.has_room();
        let taken = inner.records.take(buffer).map(count);
        if !had_room {
            self.taken.notify_one();
        }
        taken
    }

    /// See [`Clients::send_batch`].
    ///
    /// # Errors
    /// The failure, if it has failed.
    pub fn send_batch(&self, entries: &[u32], data: &[u8], results: &mut [i32]) -> Outcome {
        self.check_failure()?;
        self.clients.send_batch(&self.epoll, entries, data, results, || self.mailbox.leave(1))?;
        Ok(0)
    }

    /// See [`Clients::close`].
    ///
    /// # Errors
    /// The failure, if it has failed.
    pub fn close_client(&self, client: u32) -> Outcome {
        self.check_failure()?;
        self.clients.close(client, &self.epoll)?;
        self.mailbox.leave(1);
        Ok(0)
    }

    /// Closes every client and handoff and ends the thread, which is gone then.
    pub fn close(&self) {
        self.shut();
        if let Some(thread) = lock(&self.thread).take() {
            // It panics only where it fails to shut the reactor after a failure, which has been done just now.
            let _done_here = thread.join();
        }
    }

    /// Closes every client and handoff and makes the thread end. May be done twice.
    fn shut(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.mailbox.close();
        self.mailbox.poke();
        let mut inner = lock(&self.inner);
        inner.doors.clear(&self.epoll);
        *inner = Inner::default();
        let clients = self.clients.close_all(&self.epoll);
        drop(inner);
        self.taken.notify_one();
        self.arrived.notify_one();
        self.mailbox.leave(clients);
        self.intake.remove_reactor(&self.mailbox);
    }

    /// Turns all that has happened into records.
    fn gather(&self, inner: &mut Inner, events: &[EpollEvent]) {
        for event in events {
            let flags = event.events();
            match Token::decode(event.data()) {
                Token::Client { client, generation } => {
                    self.clients.on_event(client, generation, flags, &self.epoll, &mut inner.records);
                }
                Token::Pending(id) => self.advance(inner, id),
                Token::Listener(index) => {
                    self.accept_from(inner, index, flags.contains(EpollFlags::EPOLLHUP), false);
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
        self.tend_doors(inner, self.mailbox.take_news() || stopping);
        if !stopping && inner.doors.is_any_shared() && self.intake.is_full() {
            inner.doors.leave_shared(&self.epoll);
        }
        if stopping
            && !inner.is_drained
            && inner.doors.are_all_shut()
            && inner.pending.is_empty()
            && self.mailbox.close_if_empty()
        {
            inner.is_drained = true;
            inner.records.intake_drained();
        }
    }

    /// Looks after listeners that have rested; with `all`, takes up new ones and looks at each.
    fn tend_doors(&self, inner: &mut Inner, all: bool) {
        if all {
            for listener in self.intake.listeners_after(inner.doors.len()) {
                inner.doors.add(listener);
            }
        }
        let (any, failure) = inner.doors.open(&self.epoll);
        if let Some(errno) = failure {
            inner.note_accept_failure(errno);
        }
        if any || all {
            for index in 0..inner.doors.len() {
                // What waits after a rest nobody else had room for.
                self.accept_from(inner, index, false, true);
            }
        }
    }

    /// Accepts what waits at a listener, or as much of it as there is room and time for.
    ///
    /// # Arguments
    /// * `is_shut_down` - nobody can connect to it any more; so it is when the intake stops
    /// * `may_refuse` - at the limit of connections too, what waits at a shared listener is not left to others
    fn accept_from(&self, inner: &mut Inner, index: usize, is_shut_down: bool, may_refuse: bool) {
        // Read before the accepts: once it is set, the backlog only gets shorter.
        let is_final = is_shut_down || self.intake.is_stopping();
        let policy = self.intake.policy();
        let is_shared = !is_final && inner.doors.is_shared(index);
        let mut accepted = 0;
        let is_emptied = loop {
            if accepted == ACCEPTS_AT_ONCE || !inner.records.has_room() {
                break false;
            }
            if is_shared && !may_refuse && self.intake.is_full() {
                break true;
            }
            match inner.doors.accept(index, is_final, &self.epoll) {
                Accepted::Connection(connection, kind) => match Handoff::begin(connection, kind, &policy) {
                    Ok(handoff) => self.receive(inner, handoff),
                    Err(refusal) => inner.refuse(&refusal, 0),
                },
                Accepted::Nothing => break true,
                Accepted::Failed(errno) => return inner.note_accept_failure(errno),
            }
            accepted += 1;
        };
        if is_shared && accepted > 0 {
            inner.doors.give_turn(index, &self.epoll);
        }
        if !is_emptied {
            // The kernel speaks up again only where it was the one to call.
            self.mailbox.poke();
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

/// Says that there are records.
///
/// # Errors
/// send(2), where the caller might not hear of it.
fn ring(bell: &OwnedFd) -> Result<(), Errno> {
    match send(bell.as_raw_fd(), &[1], MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
        // No room: so many bytes are unread that one more would tell nothing new.
        Ok(_) | Err(Errno::EAGAIN) => Ok(()),
        // Who has closed the other end does not want to hear of it.
        Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, create_dir, remove_dir_all};
    use std::path::PathBuf;

    use super::*;
    use crate::intake::Policy;
    use crate::{sys, tools};

    const PATIENCE_MS: u32 = 10_000;

    /// A listener in a directory of its own, and a reactor that is not started yet.
    struct Setup {
        directory: PathBuf,
        path: String,
        intake: Arc<Intake>,
        reactor: Reactor,
    }

    fn setup(name: &str) -> Setup {
        let directory = std::env::temp_dir().join(format!("shim-reactor-{}-{name}", std::process::id()));
        create_dir(&directory).unwrap();
        let path = directory.join("socket").into_os_string().into_string().unwrap();
        let intake = Arc::new(Intake::new(policy()));
        intake.listen(Kind::Stream, &path, 0o600, "").unwrap();
        let reactor = Reactor::new(&intake).unwrap();
        Setup { directory, path, intake, reactor }
    }

    fn policy() -> Policy {
        Policy::new(&[9, 5000, 4096, 0, 9, 0, 0, 0], &[]).unwrap()
    }

    fn started(reactor: Reactor) -> (Arc<Reactor>, OwnedFd) {
        let reactor = Arc::new(reactor);
        let ear = sys::take_over(reactor.start().unwrap()).unwrap();
        (reactor, ear)
    }

    /// How many bytes come next; 0 for the end.
    fn hear(ear: &OwnedFd) -> Outcome {
        tools::recv(ear.as_raw_fd(), &mut [0; 16], PATIENCE_MS)
    }

    fn connect(path: &str) -> OwnedFd {
        sys::take_over(tools::connect(path, Kind::Stream.socket_type()).unwrap()).unwrap()
    }

    /// The records that are there, as words.
    fn take(reactor: &Reactor) -> Vec<u32> {
        let mut buffer = [0; 256];
        let taken = reactor.take(&mut buffer).unwrap() as usize;
        buffer[..taken].chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect()
    }

    fn assert_failed(reactor: &Arc<Reactor>, status: Status) {
        assert_eq!(reactor.take(&mut [0; 64]), Err(status));
        assert_eq!(reactor.send_batch(&[0, 0, 0, 0], &[], &mut [0]), Err(status));
        assert_eq!(reactor.close_client(0), Err(status));
        assert_eq!(reactor.start(), Err(status));
    }

    #[test]
    fn a_panic_in_the_thread_ends_the_bell_and_leaves_the_listener_to_the_others() {
        let Setup { directory, path, intake, reactor } = setup("panic");
        let other = Reactor::new(&intake).unwrap();
        let (reactor, ear) = started(reactor);
        // No memory is so large: an allocation of it panics.
        let mut impossible = policy();
        impossible.handoff_buffer_bytes = isize::MAX as usize;
        intake.configure(impossible);
        let connection = connect(&path);
        assert_eq!(hear(&ear), Ok(0));
        assert_failed(&reactor, Status::PANIC);
        assert_eq!(tools::recv(connection.as_raw_fd(), &mut [0], PATIENCE_MS), Ok(0));
        intake.configure(policy());
        // Nothing is given to the failed one, which has fewer clients.
        other.mailbox.enter();
        assert!(Arc::ptr_eq(&intake.seat(&other.mailbox).0, &other.mailbox));
        other.mailbox.leave(2);
        let (other, other_ear) = started(other);
        drop(connect(&path));
        assert_eq!(hear(&other_ear), Ok(1));
        assert_eq!(take(&other)[..3], [4, 0, Reason::NoFd as u32]);
        reactor.close();
        assert_failed(&reactor, Status::PANIC);
        other.close();
        remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_wait_that_cannot_succeed_ends_the_bell() {
        let Setup { directory, intake, mut reactor, .. } = setup("wait");
        reactor.epoll = Epoll(File::open("/dev/null").unwrap().into());
        let (reactor, ear) = started(reactor);
        // The listener that cannot be watched is told first.
        assert_eq!([hear(&ear), hear(&ear)], [Ok(1), Ok(0)]);
        assert_failed(&reactor, Status::from(Errno::EINVAL));
        reactor.close();
        assert_eq!(intake.active(), 0);
        remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_listener_that_cannot_be_watched_is_told_and_served_after_a_rest() {
        let Setup { directory, path, intake, reactor } = setup("watch");
        let [listener] = &intake.listeners_after(0)[..] else { panic!() };
        reactor.epoll.add(&listener.socket, Token::Wake.event(EpollFlags::empty())).unwrap();
        let (mut doors, begin) = (Doors::default(), Instant::now());
        doors.add(Arc::clone(listener));
        assert_eq!(doors.open(&reactor.epoll), (false, Some(Errno::EEXIST)));
        assert!(doors.earliest().unwrap() >= begin + Duration::from_millis(100));
        drop(connect(&path));
        let (reactor, ear) = started(reactor);
        assert_eq!(hear(&ear), Ok(1));
        assert_eq!(take(&reactor), [6, 0, libc::EEXIST as u32, 0, 0, 0]);
        // Some rests later; the failure is told once a second.
        assert_eq!(tools::recv(ear.as_raw_fd(), &mut [0], 250), Err(Errno::ETIMEDOUT.into()));
        reactor.epoll.delete(&listener.socket).unwrap();
        assert_eq!(hear(&ear), Ok(1));
        assert_eq!(take(&reactor)[..3], [4, 0, Reason::NoFd as u32]);
        reactor.close();
        remove_dir_all(directory).unwrap();
    }
}
