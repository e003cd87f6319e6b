//! The listeners, the limits and the admission policy of one daemon.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{self, Shutdown, SockType};

use crate::border::{Outcome, Status};
use crate::mailbox::Mailbox;
use crate::path::{self, BoundPath};
use crate::registry::lock;
use crate::sys;

/// A payload longer than this is surely a mistake in a configuration.
const LARGEST_BUFFER_BYTES: u32 = 64 * 1024 * 1024;

/// The type of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Seqpacket = 0,
    Stream = 1,
}

impl Kind {
    /// # Errors
    /// `BAD_ARGUMENT`: neither 0 nor 1.
    pub fn from_number(number: u32) -> Result<Kind, Status> {
        match number {
            0 => Ok(Kind::Seqpacket),
            1 => Ok(Kind::Stream),
            _ => Err(Status::BAD_ARGUMENT),
        }
    }

    /// Its name for socket(2).
    pub fn socket_type(self) -> SockType {
        match self {
            Kind::Seqpacket => SockType::SeqPacket,
            Kind::Stream => SockType::Stream,
        }
    }
}

/// The limits of ABI.md's `shim_policy`, and who may hand off.
#[derive(Debug)]
pub struct Policy {
    pub max_connections: u32,
    pub handoff_timeout_ms: u32,
    pub handoff_buffer_bytes: usize,
    pub client_timeout_ms: u32,
    pub max_pending: usize,
    uids: Vec<u32>,
}

impl Policy {
    /// # Errors
    /// `BAD_ARGUMENT`: not eight words, no time, no buffer, a buffer of more than 64 MiB, nothing may be
    /// pending, or a reserved word is not 0.
    pub fn new(words: &[u32], uids: &[u32]) -> Result<Policy, Status> {
        let &[max_connections, handoff_timeout_ms, buffer, client_timeout_ms, max_pending, 0, 0, 0] = words
        else {
            return Err(Status::BAD_ARGUMENT);
        };
        if handoff_timeout_ms == 0 || max_pending == 0 || !(1..=LARGEST_BUFFER_BYTES).contains(&buffer) {
            return Err(Status::BAD_ARGUMENT);
        }
        Ok(Policy {
            max_connections,
            handoff_timeout_ms,
            handoff_buffer_bytes: buffer as usize,
            client_timeout_ms,
            max_pending: max_pending as usize,
            uids: uids.to_vec(),
        })
    }

    /// Whether processes of that user may hand off.
    pub fn allows(&self, uid: u32) -> bool {
        self.uids.is_empty() || self.uids.contains(&uid)
    }
}

/// A listening socket, ours or adopted.
pub struct Listener {
    pub socket: OwnedFd,
    pub kind: Kind,
    /// Where we bound it, until it is removed; nowhere, if somebody else did.
    bound: Mutex<Option<BoundPath>>,
    /// Else somebody else made it, and may have given it to other processes too.
    pub is_ours: bool,
}

/// See the module.
pub struct Intake {
    policy: Mutex<Arc<Policy>>,
    listeners: Mutex<Vec<Arc<Listener>>>,
    mailboxes: Mutex<Vec<Arc<Mailbox>>>,
    active: Arc<AtomicU32>,
    stopping: AtomicBool,
}

impl Intake {
    /// One without listeners and reactors.
    pub fn new(policy: Policy) -> Intake {
        Intake {
            policy: Mutex::new(Arc::new(policy)),
            listeners: Mutex::default(),
            mailboxes: Mutex::default(),
            active: Arc::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Changes the policy for handoffs accepted from now on.
    pub fn configure(&self, policy: Policy) {
        *lock(&self.policy) = Arc::new(policy);
    }

    /// The policy for a handoff accepted now.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&lock(&self.policy))
    }

    /// Live clients over all reactors.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Whether one more client is over the limit.
    pub fn is_full(&self) -> bool {
        self.active() >= lock(&self.policy).max_connections
    }

    /// Whether [`Intake::stop`] has shut the listeners down.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Listens at `path`.
    ///
    /// # Errors
    /// See [`path::listen_at`]; `BAD_ARGUMENT` for an empty path or a mode with more than permission bits;
    /// `-ESHUTDOWN` after `stop`.
    pub fn listen(&self, kind: Kind, path: &str, mode: u32, group: &str) -> Outcome {
        if path.is_empty() || mode > 0o777 {
            return Err(Status::BAD_ARGUMENT);
        }
        self.add(|| {
            let (socket, bound) = path::listen_at(path, kind.socket_type(), mode, group)?;
            Ok(Listener { socket, kind, bound: Mutex::new(Some(bound)), is_ours: true })
        })?;
        Ok(0)
    }

    /// Takes over a listening socket. Returns its kind.
    ///
    /// # Errors
    /// `NOT_A_LISTENER`, `-EBADF`: the fd stays the caller's. `-ESHUTDOWN` after `stop`: so it does.
    pub fn adopt(&self, fd: RawFd) -> Outcome {
        let kind = self.add(|| {
            let kind = sys::with_borrowed(fd, |fd| Ok(listener_kind(fd)))??;
            let socket = sys::take_over(fd)?;
            Ok(Listener { socket, kind, bound: Mutex::new(None), is_ours: false })
        })?;
        Ok(kind as i32)
    }

    fn add(&self, make: impl FnOnce() -> Result<Listener, Status>) -> Result<Kind, Status> {
        let mut listeners = lock(&self.listeners);
        if self.is_stopping() {
            return Err(Errno::ESHUTDOWN.into());
        }
        let listener = make()?;
        let kind = listener.kind;
        listeners.push(Arc::new(listener));
        drop(listeners);
        self.poke_all();
        Ok(kind)
    }

    /// The listeners from the `known`-th on. None is ever taken away.
    pub fn listeners_after(&self, known: usize) -> Vec<Arc<Listener>> {
        lock(&self.listeners).get(known..).map(<[_]>::to_vec).unwrap_or_default()
    }

    /// Removes the paths, refuses new connects, and makes the reactors finish what waits. All of that is
    /// done even where a path cannot be removed, which is then the error. Idempotent.
    pub fn stop(&self) -> Outcome {
        let mut outcome = Ok(0);
        let listeners = lock(&self.listeners);
        for listener in listeners.iter() {
            let bound = lock(&listener.bound).take();
            if let Some(Err(status)) = bound.map(|path| path.remove()) {
                outcome = Err(status);
            }
        }
        if !self.is_stopping() {
            for listener in listeners.iter().filter(|listener| listener.is_ours) {
                if let Err(errno) = socket::shutdown(listener.socket.as_raw_fd(), Shutdown::Both) {
                    outcome = Err(errno.into());
                }
            }
            // Only now: a reactor that sees it takes an empty backlog for the end.
            self.stopping.store(true, Ordering::Release);
        }
        drop(listeners);
        self.poke_all();
        outcome
    }

    /// Gives up the listeners; the reactors have given up theirs by then.
    pub fn close(&self) {
        lock(&self.listeners).clear();
    }

    /// The place of one more reactor.
    ///
    /// # Errors
    /// eventfd(2).
    pub fn add_reactor(&self) -> Result<Arc<Mailbox>, Errno> {
        let mailbox = Arc::new(Mailbox::new(Arc::clone(&self.active))?);
        lock(&self.mailboxes).push(Arc::clone(&mailbox));
        Ok(mailbox)
    }

    /// After this nothing is given to that reactor. The others look at the listeners, since the kernel may
    /// have woken only the one that goes away for a connection that waits.
    pub fn remove_reactor(&self, mailbox: &Arc<Mailbox>) {
        lock(&self.mailboxes).retain(|other| !Arc::ptr_eq(other, mailbox));
        self.poke_all();
    }

    /// Counts a new client in where the fewest are, at `own` on a tie. Returns that place and how many
    /// clients the intake had before.
    pub fn seat(&self, own: &Arc<Mailbox>) -> (Arc<Mailbox>, u32) {
        let mailboxes = lock(&self.mailboxes);
        let mut best = own;
        for other in mailboxes.iter() {
            if other.clients() < best.clients() {
                best = other;
            }
        }
        (Arc::clone(best), best.enter())
    }

    fn poke_all(&self) {
        for mailbox in lock(&self.mailboxes).iter() {
            mailbox.poke();
        }
    }
}

/// The kind of a listener that somebody else made, which is set up as ours are.
fn listener_kind(fd: std::os::fd::BorrowedFd) -> Result<Kind, Status> {
    let option = |name| match sys::socket_option(fd.as_fd(), name) {
        Err(Errno::ENOTSOCK) => Err(Status::NOT_A_LISTENER),
        other => Ok(other?),
    };
    let kind = match option(libc::SO_TYPE)? {
        libc::SOCK_SEQPACKET => Kind::Seqpacket,
        libc::SOCK_STREAM => Kind::Stream,
        _ => return Err(Status::NOT_A_LISTENER),
    };
    if option(libc::SO_DOMAIN)? != libc::AF_UNIX || option(libc::SO_ACCEPTCONN)? == 0 {
        return Err(Status::NOT_A_LISTENER);
    }
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(kind)
}
