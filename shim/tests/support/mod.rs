//! The C functions with Rust's types. Each test binary uses a part.
#![allow(dead_code, unused_imports, missing_docs)]

mod apache;
mod records;

use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::time::TimeValLike;
use streaming_daemon_shim::*;

pub use apache::*;
pub use records::*;

pub const END: u32 = 1;
pub const BAD_HANDLE: i32 = -5002;
pub const BAD_ARGUMENT: i32 = -5003;
pub const SOCKET_LIVE: i32 = -5004;
pub const NOT_A_SOCKET: i32 = -5005;
pub const NO_SUCH_GROUP: i32 = -5006;
pub const NOT_A_LISTENER: i32 = -5007;
pub const TOO_SMALL: i32 = -5008;

/// Long enough for a slow machine; a test that meets it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

static ALONE: Mutex<()> = Mutex::new(());

/// Fds are counted for the whole process, so one test at a time; at the end of the test as many must be
/// open as at its beginning.
pub struct NoLeak {
    before: i32,
    _alone: MutexGuard<'static, ()>,
}

pub fn no_leak() -> NoLeak {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    NoLeak { before: shim_open_fds(), _alone: alone }
}

impl Drop for NoLeak {
    fn drop(&mut self) {
        if !thread::panicking() {
            // What could block is closed by a thread of its own.
            eventually("as many fds are open as before", || shim_open_fds() == self.before);
        }
    }
}

/// A directory of its own, removed at the end.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let name = format!("shim-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            match std::fs::create_dir(&path) {
                // A program of the same number was killed before it could remove its own.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => {
                    made.unwrap();
                    return Directory(path);
                }
            }
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[derive(Clone, Copy)]
pub struct Policy {
    pub max_connections: u32,
    pub handoff_timeout_ms: u32,
    pub handoff_buffer_bytes: u32,
    pub client_timeout_ms: u32,
    pub max_pending: u32,
}

pub const POLICY: Policy = Policy {
    max_connections: 1000,
    handoff_timeout_ms: 5000,
    handoff_buffer_bytes: 4096,
    client_timeout_ms: 0,
    max_pending: 64,
};

impl Policy {
    pub fn words(&self) -> [u32; 8] {
        [
            self.max_connections,
            self.handoff_timeout_ms,
            self.handoff_buffer_bytes,
            self.client_timeout_ms,
            self.max_pending,
            0,
            0,
            0,
        ]
    }
}

/// An acceptor that is closed at the end. It is started when its records are first waited for.
pub struct Acceptor {
    pub handle: u32,
    ear: OnceCell<Ear>,
    ready: RefCell<VecDeque<Told>>,
}

impl Acceptor {
    pub fn new(policy: Policy) -> Acceptor {
        Acceptor::with_uids(policy, &[])
    }

    pub fn with_uids(policy: Policy, uids: &[u32]) -> Acceptor {
        let mut handle = 0;
        // SAFETY: pointers and lengths belong to live values.
        let status = unsafe {
            shim_acceptor_new(policy.words().as_ptr(), uids.as_ptr(), uids.len() as u32, &mut handle)
        };
        assert_eq!(status, 0);
        Acceptor { handle, ear: OnceCell::new(), ready: RefCell::default() }
    }

    pub fn configure(&self, policy: Policy, uids: &[u32]) -> i32 {
        let words = policy.words();
        // SAFETY: pointers and lengths belong to live values.
        unsafe { shim_acceptor_configure(self.handle, words.as_ptr(), uids.as_ptr(), uids.len() as u32) }
    }

    pub fn try_listen(&self, kind: u32, path: &Path, mode: u32, group: &str) -> i32 {
        let path = path.to_str().unwrap();
        let (bytes, length) = (path.as_ptr(), path.len() as u32);
        let (group, group_length) = (group.as_ptr(), group.len() as u32);
        // SAFETY: pointers and lengths belong to live values.
        unsafe { shim_acceptor_listen(self.handle, kind, bytes, length, mode, group, group_length) }
    }

    pub fn listen(&self, kind: u32, path: &Path) {
        assert_eq!(self.try_listen(kind, path, 0o600, ""), 0);
    }

    pub fn adopt(&self, fd: i32) -> i32 {
        shim_acceptor_adopt(self.handle, fd)
    }

    /// Starts it, if it is not yet.
    pub fn ear(&self) -> &Ear {
        self.ear.get_or_init(|| Ear::of(shim_acceptor_start(self.handle)))
    }

    /// A reactor of it, which is started.
    pub fn reactor(&self) -> Reactor {
        let reactor = self.unstarted();
        reactor.ear();
        reactor
    }

    pub fn unstarted(&self) -> Reactor {
        let mut handle = 0;
        // SAFETY: the pointer is that of a live value.
        assert_eq!(unsafe { shim_reactor_new(self.handle, &mut handle) }, 0);
        Reactor { handle, ear: OnceCell::new(), ready: RefCell::default(), buffer: RefCell::default() }
    }

    pub fn active(&self) -> i32 {
        shim_acceptor_active(self.handle)
    }

    pub fn stop(&self) -> i32 {
        shim_acceptor_stop(self.handle, 0)
    }

    /// What there is to take.
    pub fn take(&self) -> Vec<Told> {
        let mut buffer = [0; 288];
        // SAFETY: pointer and length belong to a live value.
        let bytes = unsafe { shim_acceptor_take(self.handle, buffer.as_mut_ptr(), 288) };
        assert!(bytes >= 0, "{bytes}");
        Told::parse(&buffer[..bytes as usize])
    }

    /// The next record.
    pub fn told(&self) -> Told {
        loop {
            if let Some(told) = self.ready.borrow_mut().pop_front() {
                return told;
            }
            assert!(self.ear().rings(), "the acceptor has ended");
            self.ready.borrow_mut().extend(self.take());
        }
    }

    /// The next record, which has to be one refusal: bytes, reason, detail.
    pub fn refusal(&self) -> (u32, u32, u32) {
        match self.told() {
            Told::Refused { bytes, reason, count: 1, detail, .. } => (bytes, reason, detail),
            other => panic!("not a refusal: {other:?}"),
        }
    }

    /// Takes records until that many handoffs were refused, all for `reason`.
    pub fn refusals(&self, reason: u32, count: u32) {
        let mut so_far = 0;
        while so_far < count {
            let told = self.told();
            let Told::Refused { reason: why, count, .. } = told else { panic!("{told:?}") };
            assert_eq!(why, reason);
            so_far += count;
        }
        assert_eq!(so_far, count);
    }

    /// Nothing is there to take, and nothing comes for a moment.
    pub fn stays_silent(&self) {
        assert_eq!(*self.ready.borrow(), []);
        assert_eq!(self.ear().hear(Duration::from_millis(150), 1), Heard::Nothing);
        assert_eq!(self.take(), []);
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        let status = shim_acceptor_close(self.handle);
        assert!(status == 0 || status == BAD_HANDLE, "close gave {status}");
    }
}

/// One acceptor with one listener and one reactor, all started.
pub struct Setup {
    pub reactor: Reactor,
    pub acceptor: Acceptor,
    pub path: PathBuf,
    pub kind: u32,
    pub directory: Directory,
    _no_leak: NoLeak,
}

impl Setup {
    pub fn new(kind: u32, policy: Policy) -> Setup {
        Setup::with_uids(kind, policy, &[])
    }

    pub fn with_uids(kind: u32, policy: Policy, uids: &[u32]) -> Setup {
        let _no_leak = no_leak();
        let directory = Directory::new();
        let path = directory.path("socket");
        let acceptor = Acceptor::with_uids(policy, uids);
        acceptor.listen(kind, &path);
        acceptor.ear();
        let reactor = acceptor.reactor();
        Setup { reactor, acceptor, path, kind, directory, _no_leak }
    }

    pub fn connect(&self) -> OwnedFd {
        connect(&self.path, self.kind)
    }

    pub fn hand_off(&self, data: &[u8], client: &dyn AsFd) {
        hand_off(&self.path, self.kind, data, client);
    }

    /// Hands off; the client it becomes.
    pub fn admit(&self, passed: impl AsFd) -> u32 {
        self.hand_off(b"{}", &passed);
        self.reactor.client()
    }

    /// A client over a Unix socket, and its browser.
    pub fn local(&self) -> (OwnedFd, u32) {
        let (browser, passed) = pair(STREAM);
        (browser, self.admit(passed))
    }

    /// The acceptor has surely read what was sent before: it goes in order.
    pub fn another(&self) {
        let (_browser, passed) = pair(STREAM);
        let client = self.admit(passed);
        assert_eq!(self.reactor.close_client(client), 0);
    }

    /// The client of a refused handoff comes for an answer; so it is told.
    pub fn answers(&self, expected: u32, browser: &OwnedFd) {
        let Handoff { client, reason, payload, .. } = self.reactor.handoff();
        assert_eq!((reason, payload), (expected, vec![]));
        assert_eq!(self.acceptor.active(), 1);
        assert_eq!(self.reactor.send(client, b"no", END), 2);
        assert_eq!(recv_to_end(browser), b"no");
    }

    /// After a refusal the next handoff is served, and nothing is counted.
    pub fn goes_on(&self) {
        assert_eq!(self.acceptor.active(), 0);
        let (browser, client) = self.local();
        assert_eq!(self.reactor.send(client, b"on", END), 2);
        assert_eq!(recv_to_end(&browser), b"on");
    }
}

/// What an ear hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Bytes, and no end yet.
    Rings(usize),
    End,
    Nothing,
}

/// The caller's end of a bell.
pub struct Ear(OwnedFd);

impl Ear {
    /// Of what a start gave.
    pub fn of(fd: i32) -> Ear {
        assert!(fd >= 0, "the start gave {fd}");
        // SAFETY: the shim has just made it, and by ABI.md it is the caller's.
        Ear(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Waits up to `longest` for up to `most` bytes.
    pub fn hear(&self, longest: Duration, most: usize) -> Heard {
        let deadline = Instant::now() + longest;
        let mut bytes = vec![0; most];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that the last round does not spin.
            let timeout = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap();
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) => return Heard::Nothing,
                Err(Errno::EINTR) => continue,
                polled => assert_eq!(polled, Ok(1)),
            }
            return match recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT).unwrap() {
                0 => Heard::End,
                heard => {
                    assert!(bytes[..heard].iter().all(|byte| *byte == 1), "{bytes:?}");
                    Heard::Rings(heard)
                }
            };
        }
    }

    /// Waits for one byte or the end; neither is a failure of the test.
    pub fn rings(&self) -> bool {
        match self.hear(PATIENCE, 1) {
            Heard::Rings(_) => true,
            Heard::End => false,
            Heard::Nothing => panic!("nothing happened in {PATIENCE:?}"),
        }
    }

    /// The end has come, after any number of bytes.
    pub fn ends(&self) {
        while self.rings() {}
    }

    /// Whether there is neither a byte nor the end, now.
    pub fn is_silent(&self) -> bool {
        self.hear(Duration::ZERO, 1) == Heard::Nothing
    }
}

/// A reactor; its acceptor closes it. It is started when its events are first waited for.
pub struct Reactor {
    pub handle: u32,
    ear: OnceCell<Ear>,
    /// Taken, but not looked at yet.
    ready: RefCell<VecDeque<Event>>,
    buffer: RefCell<Vec<u8>>,
}

impl Reactor {
    /// Starts it, if it is not yet.
    pub fn ear(&self) -> &Ear {
        self.ear.get_or_init(|| Ear::of(shim_reactor_start(self.handle)))
    }

    pub fn admit(&self, open: u32) {
        assert_eq!(shim_reactor_admit(self.handle, open), 0);
    }

    /// Up to `cap` bytes of records, and how many wait then; or the status.
    pub fn take_bytes(&self, cap: usize, most_handoffs: u32) -> Result<(Vec<u8>, u32), i32> {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.len() < cap {
            buffer.resize(cap, 0);
        }
        let mut left = u32::MAX;
        // SAFETY: pointers and lengths belong to live values.
        let bytes = unsafe {
            shim_reactor_take(self.handle, buffer.as_mut_ptr(), cap as u32, most_handoffs, &mut left)
        };
        if bytes < 0 {
            assert_eq!(left, u32::MAX);
            return Err(bytes);
        }
        Ok((buffer[..bytes as usize].to_vec(), left))
    }

    /// What there is to take.
    pub fn take(&self) -> Vec<Event> {
        let (bytes, left) = self.take_bytes(1 << 20, u32::MAX).unwrap();
        let mut events = Event::parse(&bytes);
        if left > 0 {
            events.extend(self.take());
        }
        events
    }

    /// The next event.
    pub fn event(&self) -> Event {
        loop {
            if let Some(event) = self.ready.borrow_mut().pop_front() {
                return event;
            }
            assert!(self.ear().rings(), "the reactor has ended");
            self.ready.borrow_mut().extend(self.take());
        }
    }

    /// The next `count` events.
    pub fn events(&self, count: usize) -> Vec<Event> {
        (0..count).map(|_| self.event()).collect()
    }

    /// The next event that is not about a client which is gone, as those are that a test has done with.
    pub fn handoff(&self) -> Handoff {
        loop {
            match self.event() {
                Event::Handoff(handoff) => return handoff,
                Event::Gone { .. } => {}
                other => panic!("not a handoff: {other:?}"),
            }
        }
    }

    /// The next event, which has to be a handoff that was not refused: the client's number.
    pub fn client(&self) -> u32 {
        match self.event() {
            Event::Handoff(Handoff { client, reason: 0, .. }) => client,
            other => panic!("not a handoff: {other:?}"),
        }
    }

    pub fn wait(&self, timeout: Duration) -> i32 {
        shim_reactor_wait(self.handle, timeout.as_micros() as u32)
    }

    /// Nothing is there, and nothing comes for a moment. A ring may still be on its way for what was taken.
    pub fn stays_silent(&self) {
        assert_eq!(*self.ready.borrow(), []);
        let end = Instant::now() + Duration::from_millis(150);
        while self.ear().hear(end.saturating_duration_since(Instant::now()), 1) != Heard::Nothing {
            assert_eq!(self.take(), []);
        }
        assert_eq!(self.take(), []);
    }

    pub fn send_batch(&self, entries: &[(u32, &[u8], u32)]) -> Vec<i32> {
        let mut data = Vec::new();
        let mut words = Vec::new();
        for (client, bytes, flags) in entries {
            words.extend([*client, data.len() as u32, bytes.len() as u32, *flags]);
            data.extend_from_slice(bytes);
        }
        let mut results = vec![i32::MIN; entries.len()];
        assert_eq!(self.send_raw(&words, &data, &mut results), 0);
        results
    }

    pub fn send_raw(&self, words: &[u32], data: &[u8], results: &mut [i32]) -> i32 {
        assert_eq!(words.len(), 4 * results.len());
        let (entries, length, results_length) = (words.as_ptr(), data.len() as u32, results.len() as u32);
        // SAFETY: pointers and lengths belong to live values.
        unsafe {
            shim_send_batch(self.handle, entries, results_length, data.as_ptr(), length, results.as_mut_ptr())
        }
    }

    pub fn send(&self, client: u32, data: &[u8], flags: u32) -> i32 {
        self.send_batch(&[(client, data, flags)])[0]
    }

    pub fn close_client(&self, client: u32) -> i32 {
        shim_client_close(self.handle, client)
    }

    pub fn close(&self) -> i32 {
        shim_reactor_close(self.handle)
    }
}

/// Waits for something that another thread or the kernel does.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The CPU time this process has used.
pub fn cpu_ms() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    (usage.user_time() + usage.system_time()).num_milliseconds()
}

/// Those that stay open, that is, without the one that reads the directory.
pub fn open_fds() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers: Vec<i32> =
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    // SAFETY: fcntl with F_GETFD touches no memory, and a closed fd is an error.
    numbers.into_iter().filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0).collect()
}

/// While it lives, this process can open no more descriptors.
pub struct FdLimit {
    before: (u64, u64),
    _filler: Vec<File>,
}

impl FdLimit {
    pub fn reach() -> FdLimit {
        let before = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let highest = open_fds().into_iter().max().unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, highest as u64 + 1, before.1).unwrap();
        let filler = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        FdLimit { before, _filler: filler }
    }
}

impl Drop for FdLimit {
    fn drop(&mut self) {
        setrlimit(Resource::RLIMIT_NOFILE, self.before.0, self.before.1).unwrap();
    }
}
