//! One connection over which a handoff comes in, until the handoff is whole or refused.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags, sockopt};

use crate::framing::Framing;
use crate::intake::{Kind, Policy};
use crate::sys;

/// For the person at the other end of a STREAM connection.
const NO_FD_LINE: &[u8] =
    b"No file descriptor came with this message: this socket takes handoffs (SCM_RIGHTS), not text.\n";

/// Why a handoff is refused; the numbers are those of ABI.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NoFd = 1,
    ManyFds = 2,
    NotASocket = 3,
    NotStream = 4,
    Listening = 5,
    PayloadTruncated = 6,
    ControlTruncated = 7,
    Timeout = 8,
    UidNotAllowed = 9,
    ReceiveError = 10,
}

/// A handoff that came to nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub detail: u32,
    pub received_bytes: u32,
}

/// A handoff that is whole.
pub struct Complete<'a> {
    pub socket: OwnedFd,
    pub is_tcp: bool,
    pub payload: Cow<'a, [u8]>,
}

pub type Ending<'a> = Result<Complete<'a>, Refusal>;

/// The connection, and what it has said so far.
pub struct Handoff {
    connection: OwnedFd,
    pub kind: Kind,
    pub policy: Arc<Policy>,
    pub uid: u32,
    pub accepted: Instant,
    received_bytes: usize,
    payload: Vec<u8>,
    framing: Framing,
    passed: Option<OwnedFd>,
    fds: u32,
}

impl Handoff {
    /// Looks at who has connected. A sender that is not allowed is not read from; what it passed is closed
    /// with the connection.
    pub fn begin(connection: OwnedFd, kind: Kind, policy: &Arc<Policy>) -> Result<Handoff, Refusal> {
        let refusal = |reason, detail| Refusal { reason, detail, received_bytes: 0 };
        let uid = socket::getsockopt(&connection, sockopt::PeerCredentials)
            .map_err(|errno| refusal(Reason::ReceiveError, errno as u32))?
            .uid();
        if !policy.allows(uid) {
            return Err(refusal(Reason::UidNotAllowed, uid));
        }
        Ok(Handoff {
            connection,
            kind,
            policy: Arc::clone(policy),
            uid,
            accepted: Instant::now(),
            received_bytes: 0,
            payload: Vec::new(),
            framing: Framing::default(),
            passed: None,
            fds: 0,
        })
    }

    /// What to watch.
    pub fn connection(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }

    /// When a handoff that is not whole by then is refused.
    pub fn deadline(&self) -> Instant {
        self.accepted + Duration::from_millis(u64::from(self.policy.handoff_timeout_ms))
    }

    /// How long ago it was accepted.
    pub fn micros_since_accept(&self) -> u32 {
        u32::try_from(self.accepted.elapsed().as_micros()).unwrap_or(u32::MAX)
    }

    /// Reads what is there. `None`: not whole yet.
    ///
    /// # Arguments
    /// * `scratch` - at least `handoff_buffer_bytes` + 1 bytes
    pub fn advance<'a>(&mut self, scratch: &'a mut [u8]) -> Option<Ending<'a>> {
        match self.kind {
            Kind::Seqpacket => self.read_message(scratch),
            Kind::Stream => self.read_stream(scratch),
        }
    }

    /// The time is up.
    pub fn expire(&mut self) -> Ending<'static> {
        if self.payload.is_empty() {
            return Err(self.timed_out());
        }
        let payload = std::mem::take(&mut self.payload);
        self.conclude(Cow::Owned(payload))
    }

    /// The refusal of a handoff for which a call has failed.
    pub fn not_received(&self, errno: Errno) -> Refusal {
        self.refusal(Reason::ReceiveError, errno as u32)
    }

    /// The refusal of a handoff that has taken too long.
    pub fn timed_out(&self) -> Refusal {
        self.refusal(Reason::Timeout, self.policy.handoff_timeout_ms)
    }

    fn read_message<'a>(&mut self, scratch: &'a mut [u8]) -> Option<Ending<'a>> {
        let limit = self.policy.handoff_buffer_bytes;
        let received = match sys::receive(self.connection.as_fd(), &mut scratch[..limit], true) {
            Err(Errno::EAGAIN) => return None,
            Err(errno) => return Some(Err(self.not_received(errno))),
            Ok(received) => received,
        };
        self.received_bytes = received.bytes;
        self.fds = received.fds;
        self.passed = received.first;
        if received.control_truncated {
            return Some(Err(self.refusal(Reason::ControlTruncated, 0)));
        }
        if received.bytes > limit {
            return Some(Err(self.refusal(Reason::PayloadTruncated, limit as u32)));
        }
        Some(self.conclude(Cow::Borrowed(&scratch[..received.bytes])))
    }

    fn read_stream<'a>(&mut self, scratch: &'a mut [u8]) -> Option<Ending<'a>> {
        let limit = self.policy.handoff_buffer_bytes;
        // The payload's last piece is `scratch[..last_bytes]`; one that comes whole is not copied.
        let last_bytes = loop {
            let room = limit + 1 - self.payload.len();
            let received = match sys::receive(self.connection.as_fd(), &mut scratch[..room], false) {
                Err(Errno::EAGAIN) => return None,
                Err(errno) => return Some(Err(self.not_received(errno))),
                Ok(received) => received,
            };
            self.received_bytes += received.bytes;
            self.fds += received.fds;
            self.passed = self.passed.take().or(received.first);
            if received.control_truncated {
                return Some(Err(self.refusal(Reason::ControlTruncated, 0)));
            }
            if received.bytes == 0 {
                break 0;
            }
            let piece = &scratch[..received.bytes];
            if let Some(end) = self.framing.feed(piece) {
                break end;
            }
            self.payload.extend_from_slice(piece);
            if self.payload.len() > limit {
                return Some(Err(self.refusal(Reason::PayloadTruncated, limit as u32)));
            }
        };
        let last = &scratch[..last_bytes];
        if self.payload.len() + last.len() > limit {
            return Some(Err(self.refusal(Reason::PayloadTruncated, limit as u32)));
        }
        if self.payload.is_empty() {
            return Some(self.conclude(Cow::Borrowed(last)));
        }
        self.payload.extend_from_slice(last);
        let payload = std::mem::take(&mut self.payload);
        Some(self.conclude(Cow::Owned(payload)))
    }

    /// All bytes are there: is what was passed a client?
    fn conclude<'a>(&mut self, payload: Cow<'a, [u8]>) -> Ending<'a> {
        let socket = match (self.fds, self.passed.take()) {
            (1, Some(socket)) => socket,
            (0, _) => {
                if self.kind == Kind::Stream {
                    self.say_that_no_fd_came();
                }
                return Err(self.refusal(Reason::NoFd, 0));
            }
            (many, _) => return Err(self.refusal(Reason::ManyFds, many)),
        };
        match prepare_client(&socket, self.policy.client_timeout_ms) {
            Ok(is_tcp) => Ok(Complete { socket, is_tcp, payload }),
            Err((reason, detail)) => Err(self.refusal(reason, detail)),
        }
    }

    /// One try: whoever is gone by now needs no answer.
    fn say_that_no_fd_came(&self) {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let _unsent = socket::send(self.connection.as_raw_fd(), NO_FD_LINE, flags);
    }

    fn refusal(&self, reason: Reason, detail: u32) -> Refusal {
        let received_bytes = u32::try_from(self.received_bytes).unwrap_or(u32::MAX);
        Refusal { reason, detail, received_bytes }
    }
}

/// Checks that `fd` can be a client, and sets what the shim sets on one. Returns whether it is TCP.
fn prepare_client(fd: &OwnedFd, client_timeout_ms: u32) -> Result<bool, (Reason, u32)> {
    let failure = |errno: Errno| (Reason::ReceiveError, errno as u32);
    match sys::socket_option(fd.as_fd(), libc::SO_TYPE) {
        Ok(libc::SOCK_STREAM) => {}
        Ok(other) => return Err((Reason::NotStream, other.unsigned_abs())),
        // EBADF: it was opened with O_PATH.
        Err(Errno::ENOTSOCK | Errno::EBADF) => return Err((Reason::NotASocket, 0)),
        Err(errno) => return Err(failure(errno)),
    }
    if sys::socket_option(fd.as_fd(), libc::SO_ACCEPTCONN).map_err(failure)? != 0 {
        return Err((Reason::Listening, 0));
    }
    // Only TCP knows the option, so that setting it is the check as well.
    let is_tcp = socket::setsockopt(fd, sockopt::TcpNoDelay, &true).is_ok();
    if is_tcp && client_timeout_ms > 0 {
        socket::setsockopt(fd, sockopt::TcpUserTimeout, &client_timeout_ms).map_err(failure)?;
    }
    Ok(is_tcp)
}
