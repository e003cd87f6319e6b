//! The C functions with Rust's types, and what plays Apache and its clients. Each test binary uses a part.
#![allow(dead_code, missing_docs)]

use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::time::TimeValLike;
use streaming_daemon_shim::*;

pub const SEQPACKET: u32 = 0;
pub const STREAM: u32 = 1;
pub const BOTH: [u32; 2] = [SEQPACKET, STREAM];
pub const END: u32 = 1;

pub const NO_FD: u32 = 1;
pub const MANY_FDS: u32 = 2;
pub const NOT_A_SOCKET_PASSED: u32 = 3;
pub const NOT_STREAM: u32 = 4;
pub const LISTENING: u32 = 5;
pub const PAYLOAD_TRUNCATED: u32 = 6;
pub const CONTROL_TRUNCATED: u32 = 7;
pub const TIMEOUT: u32 = 8;
pub const UID_NOT_ALLOWED: u32 = 9;

pub const BAD_HANDLE: i32 = -5002;
pub const BAD_ARGUMENT: i32 = -5003;
pub const SOCKET_LIVE: i32 = -5004;
pub const NOT_A_SOCKET: i32 = -5005;
pub const NO_SUCH_GROUP: i32 = -5006;
pub const NOT_A_LISTENER: i32 = -5007;
pub const TOO_SMALL: i32 = -5008;

/// Long enough for a slow machine; a test that meets it has failed.
pub const PATIENCE: Duration = Duration::from_secs(10);

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
            assert_eq!(shim_open_fds(), self.before, "fds leaked or closed twice");
        }
    }
}

/// How many io_uring instances this process has open: with that feature each reactor has one, where the system
/// allows any.
pub fn open_rings() -> i32 {
    let is_ring = |fd: &PathBuf| fd.to_str() == Some("anon_inode:[io_uring]");
    let fds = std::fs::read_dir("/proc/self/fd").unwrap();
    fds.filter_map(|fd| fd.unwrap().path().read_link().ok()).filter(is_ring).count() as i32
}

/// A directory of its own, removed at the end.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("shim-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Directory(path)
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

/// An intake that is closed at the end.
pub struct Intake(pub u32);

impl Intake {
    pub fn new(policy: Policy) -> Intake {
        Intake::with_uids(policy, &[])
    }

    pub fn with_uids(policy: Policy, uids: &[u32]) -> Intake {
        let mut handle = 0;
        // SAFETY: pointers and lengths belong to live values.
        let status = unsafe {
            shim_intake_new(policy.words().as_ptr(), uids.as_ptr(), uids.len() as u32, &mut handle)
        };
        assert_eq!(status, 0);
        Intake(handle)
    }

    pub fn configure(&self, policy: Policy, uids: &[u32]) -> i32 {
        // SAFETY: pointers and lengths belong to live values.
        unsafe { shim_intake_configure(self.0, policy.words().as_ptr(), uids.as_ptr(), uids.len() as u32) }
    }

    pub fn try_listen(&self, kind: u32, path: &Path, mode: u32, group: &str) -> i32 {
        let path = path.to_str().unwrap();
        // SAFETY: pointers and lengths belong to live values.
        unsafe {
            shim_intake_listen(
                self.0,
                kind,
                path.as_ptr(),
                path.len() as u32,
                mode,
                group.as_ptr(),
                group.len() as u32,
            )
        }
    }

    pub fn listen(&self, kind: u32, path: &Path) {
        assert_eq!(self.try_listen(kind, path, 0o600, ""), 0);
    }

    pub fn reactor(&self) -> Reactor {
        let mut handle = 0;
        // SAFETY: the pointer is that of a live value.
        assert_eq!(unsafe { shim_reactor_new(self.0, &mut handle) }, 0);
        Reactor { handle, ear: OnceCell::new(), ready: RefCell::default() }
    }

    pub fn active(&self) -> i32 {
        shim_intake_active(self.0)
    }

    pub fn stop(&self) -> i32 {
        shim_intake_stop(self.0)
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        let status = shim_intake_close(self.0);
        assert!(status == 0 || status == BAD_HANDLE, "close gave {status}");
    }
}

/// An intake that listens at the path, in a directory of its own. What is bound to the names goes away in the right order.
pub fn intake_on(kind: u32, policy: Policy) -> (NoLeak, Directory, PathBuf, Intake) {
    let no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let intake = Intake::new(policy);
    intake.listen(kind, &path);
    (no_leak, directory, path, intake)
}

/// One intake with one listener and one reactor.
pub struct Setup {
    _directory: Directory,
    pub path: PathBuf,
    pub kind: u32,
    pub intake: Intake,
    pub reactor: Reactor,
    _no_leak: NoLeak,
}

impl Setup {
    pub fn new(kind: u32, policy: Policy) -> Setup {
        let (_no_leak, _directory, path, intake) = intake_on(kind, policy);
        let reactor = intake.reactor();
        Setup { _directory, path, kind, intake, reactor, _no_leak }
    }

    /// Hands off; the client it becomes.
    pub fn admit(&self, passed: impl AsFd) -> u32 {
        hand_off(&self.path, self.kind, b"{}", &passed);
        self.reactor.client()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Handoff { client: u32, flags: u32, micros: u32, uid: u32, payload: Vec<u8> },
    Gone { client: u32, errno: i32 },
    Writable { client: u32 },
    Failed { bytes: u32, reason: u32, micros: u32, detail: u32 },
    Drained,
    AcceptFailed { errno: i32 },
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

    /// The end has come, and no byte before it.
    pub fn is_at_its_end(&self) -> bool {
        self.hear(PATIENCE, 1) == Heard::End
    }

    /// Whether there is neither a byte nor the end, now.
    pub fn is_silent(&self) -> bool {
        self.hear(Duration::ZERO, 1) == Heard::Nothing
    }
}

/// Starts the reactor of that handle.
pub fn start(handle: u32) -> Result<Ear, i32> {
    let fd = shim_reactor_start(handle);
    if fd < 0 {
        return Err(fd);
    }
    // SAFETY: the shim has just made it, and by ABI.md it is the caller's.
    Ok(Ear(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Up to `most` bytes of records; or the status.
pub fn take_bytes(handle: u32, most: usize) -> Result<Vec<u8>, i32> {
    let mut buffer = vec![0; most];
    // SAFETY: pointer and length belong to a live value.
    let bytes = unsafe { shim_reactor_take(handle, buffer.as_mut_ptr(), most as u32) };
    if bytes < 0 {
        return Err(bytes);
    }
    buffer.truncate(bytes as usize);
    Ok(buffer)
}

/// A reactor; its intake closes it. It is started when its events are first waited for.
pub struct Reactor {
    pub handle: u32,
    ear: OnceCell<Ear>,
    /// Taken, but not looked at yet.
    ready: RefCell<VecDeque<Event>>,
}

impl Reactor {
    /// Starts it, if it is not yet.
    pub fn ear(&self) -> &Ear {
        self.ear.get_or_init(|| start(self.handle).expect("starts"))
    }

    /// Starts it, for somebody else to wait.
    pub fn into_ear(self) -> Ear {
        self.ear();
        self.ear.into_inner().unwrap()
    }

    /// Waits for the bell, which has to ring, and takes every record, of which there has to be one.
    pub fn wait(&self) -> Vec<u8> {
        assert!(self.ear().rings(), "the reactor has ended");
        let bytes = take_bytes(self.handle, 1 << 20).unwrap();
        assert!(!bytes.is_empty(), "it rang for nothing");
        bytes
    }

    /// What there is to take.
    pub fn take(&self) -> Vec<Event> {
        parse(&take_bytes(self.handle, 1 << 20).unwrap())
    }

    /// The next event.
    pub fn event(&self) -> Event {
        loop {
            if let Some(event) = self.ready.borrow_mut().pop_front() {
                return event;
            }
            self.ready.borrow_mut().extend(parse(&self.wait()));
        }
    }

    /// The next `count` events.
    pub fn events(&self, count: usize) -> Vec<Event> {
        (0..count).map(|_| self.event()).collect()
    }

    /// The next event, which has to be a handoff: the client's number.
    pub fn client(&self) -> u32 {
        match self.event() {
            Event::Handoff { client, .. } => client,
            other => panic!("not a handoff: {other:?}"),
        }
    }

    /// The next event, which has to be a refusal: bytes, reason, detail.
    pub fn failure(&self) -> (u32, u32, u32) {
        match self.event() {
            Event::Failed { bytes, reason, detail, .. } => (bytes, reason, detail),
            other => panic!("not a refusal: {other:?}"),
        }
    }

    /// Nothing is there, and nothing comes for a moment. Closes the reactor.
    pub fn stays_silent(&self) {
        assert_eq!(*self.ready.borrow(), []);
        let heard = self.ear().hear(Duration::from_millis(150), 1);
        assert_eq!((heard, self.take()), (Heard::Nothing, vec![]));
        assert_eq!(self.close(), 0);
        assert!(self.ear().is_at_its_end());
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
        // SAFETY: pointers and lengths belong to live values.
        unsafe {
            shim_send_batch(
                self.handle,
                words.as_ptr(),
                results.len() as u32,
                data.as_ptr(),
                data.len() as u32,
                results.as_mut_ptr(),
            )
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

pub fn parse(bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(24);
        let word = |n: usize| u32::from_ne_bytes(head[4 * n..][..4].try_into().unwrap());
        let (kind, one, two, three, length, five) = (word(0), word(1), word(2), word(3), word(4), word(5));
        let padded = (length as usize).next_multiple_of(4);
        let (payload, next) = tail.split_at(padded);
        assert!(payload[length as usize..].iter().all(|byte| *byte == 0), "padding is not zero");
        let payload = payload[..length as usize].to_vec();
        events.push(match kind {
            1 => Event::Handoff { client: one, flags: two, micros: three, uid: five, payload },
            2 => Event::Gone { client: one, errno: two as i32 },
            3 => Event::Writable { client: one },
            4 => Event::Failed { bytes: one, reason: two, micros: three, detail: five },
            5 => Event::Drained,
            6 => Event::AcceptFailed { errno: two as i32 },
            other => panic!("unknown record {other}"),
        });
        rest = next;
    }
    events
}

pub fn try_connect(path: &Path, kind: u32) -> Result<OwnedFd, i32> {
    let path = path.to_str().unwrap();
    // SAFETY: pointer and length belong to a live value.
    let fd = unsafe { shim_connect(path.as_ptr(), path.len() as u32, kind) };
    if fd < 0 {
        return Err(fd);
    }
    // SAFETY: the shim has just made it, and by ABI.md it is the caller's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub fn connect(path: &Path, kind: u32) -> OwnedFd {
    try_connect(path, kind).expect("connects")
}

pub fn pair(kind: u32) -> (OwnedFd, OwnedFd) {
    let mut fds = [0; 2];
    // SAFETY: the pointer is that of two live values.
    assert_eq!(unsafe { shim_socketpair(kind, fds.as_mut_ptr()) }, 0);
    // SAFETY: the shim has just made it, and by ABI.md it is the caller's.
    fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).into()
}

/// A browser's end of a connection over TCP, and the one to pass.
pub fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let browser = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    browser.set_read_timeout(Some(PATIENCE)).unwrap();
    (browser, listener.accept().unwrap().0)
}

pub fn try_sendmsg(to: &OwnedFd, data: &[u8], fds: &[&dyn AsFd]) -> i32 {
    let fds: Vec<i32> = fds.iter().map(|fd| fd.as_fd().as_raw_fd()).collect();
    // SAFETY: pointers and lengths belong to live values.
    unsafe { shim_sendmsg(to.as_raw_fd(), data.as_ptr(), data.len() as u32, fds.as_ptr(), fds.len() as u32) }
}

pub fn sendmsg(to: &OwnedFd, data: &[u8], fds: &[&dyn AsFd]) {
    assert_eq!(try_sendmsg(to, data, fds), data.len() as i32);
}

/// What Apache does: connect, one message, close.
pub fn hand_off(path: &Path, kind: u32, data: &[u8], client: &dyn AsFd) {
    sendmsg(&connect(path, kind), data, &[client]);
}

/// The next bytes, or why there are none: 0 for the end.
pub fn try_recv(from: &impl AsRawFd, timeout: Duration) -> Result<Vec<u8>, i32> {
    let mut buffer = vec![0; 1 << 16];
    // SAFETY: pointer and length belong to a live value.
    let bytes = unsafe {
        shim_recv(from.as_raw_fd(), buffer.as_mut_ptr(), buffer.len() as u32, timeout.as_millis() as u32)
    };
    if bytes <= 0 {
        return Err(bytes);
    }
    buffer.truncate(bytes as usize);
    Ok(buffer)
}

/// All bytes up to the end, which has to be an orderly one.
pub fn recv_to_end(from: &impl AsRawFd) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        match try_recv(from, PATIENCE) {
            Ok(bytes) => all.extend(bytes),
            Err(0) => return all,
            Err(status) => panic!("after {} bytes: {status}", all.len()),
        }
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
