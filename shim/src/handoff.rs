//! One connection over which a handoff comes in, until the handoff is whole or refused.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags, Shutdown, sockopt};

use crate::framing::Framing;
use crate::listener::Kind;
use crate::passed::Passed;
use crate::policy::Policy;
use crate::records::{CAME_OVER_STREAM, TCP};
use crate::sys;

/// Messages read from one sender before the others have their turn, and bytes of each where they come as a stream.
const MESSAGES_AT_ONCE: usize = 4;
const STREAM_BYTES_AT_ONCE: usize = 64 * 1024;
/// A sender that may not hand off is waited for no longer.
const PATIENCE_WITH_STRANGERS: Duration = Duration::from_millis(100);
/// Bytes that are written and not sent yet, past which a client counts as full (TCP_NOTSENT_LOWAT).
const NOT_SENT_BYTES: i32 = 16 * 1024;
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

impl Reason {
    /// How many there are.
    pub const COUNT: usize = Reason::ReceiveError as usize;
}

/// A socket that can be a client, and the flags of its record.
pub struct Client {
    pub socket: Passed,
    pub flags: u32,
}

/// What a handoff came to.
pub enum Ending {
    Complete { client: Client, payload: Vec<u8> },
    Refused { reason: Reason, detail: u32, client: Option<Client> },
}

/// The connection, and what it has said so far.
pub struct Handoff {
    connection: Passed,
    kind: Kind,
    pub policy: Arc<Policy>,
    pub uid: u32,
    pub is_allowed: bool,
    accepted: Instant,
    received_bytes: usize,
    payload: Vec<u8>,
    framing: Framing,
    passed: Option<Passed>,
    fds: u32,
}

impl Handoff {
    /// Looks at who has connected.
    pub fn begin(connection: Passed, kind: Kind, policy: &Arc<Policy>) -> Result<Handoff, Errno> {
        let uid = socket::getsockopt(&connection, sockopt::PeerCredentials)?.uid();
        if kind == Kind::Stream {
            sys::take_urgent_as_all_else(connection.as_fd());
        }
        Ok(Handoff {
            connection,
            kind,
            policy: Arc::clone(policy),
            uid,
            is_allowed: policy.allows(uid),
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

    /// When [`Handoff::expire`] is due.
    pub fn deadline(&self) -> Instant {
        let timeout = Duration::from_millis(self.policy.handoff_timeout_ms.into());
        self.accepted + if self.is_allowed { timeout } else { timeout.min(PATIENCE_WITH_STRANGERS) }
    }

    pub fn received_bytes(&self) -> u32 {
        u32::try_from(self.received_bytes).unwrap_or(u32::MAX)
    }

    /// The time since it was accepted.
    pub fn micros(&self) -> u32 {
        u32::try_from(self.accepted.elapsed().as_micros()).unwrap_or(u32::MAX)
    }

    /// How long `scratch` has to be.
    pub fn scratch_bytes(policy: &Policy) -> usize {
        (policy.handoff_buffer_bytes + 1).max(STREAM_BYTES_AT_ONCE)
    }

    /// Reads what has come, or as much as is one sender's share. None: there is more to come.
    pub fn advance(&mut self, scratch: &mut [u8]) -> Option<Ending> {
        for _ in 0..MESSAGES_AT_ONCE {
            let ending = match self.read(scratch) {
                Ok(Some(ending)) => ending,
                Ok(None) => continue,
                Err(Errno::EAGAIN) => return None,
                Err(errno) => self.refuse(Reason::ReceiveError, errno as u32),
            };
            return Some(ending);
        }
        None
    }

    /// The time is up: what has come counts, if a payload has begun. Before its time, which is not the sender's fault,
    /// what is not whole is not judged.
    pub fn expire(&mut self, scratch: &mut [u8]) -> Ending {
        if let Some(ending) = self.advance(scratch) {
            return ending;
        }
        if !self.is_allowed {
            return self.refuse(Reason::UidNotAllowed, self.uid);
        }
        if self.payload.is_empty() || Instant::now() < self.deadline() {
            return self.refuse(Reason::Timeout, self.policy.handoff_timeout_ms);
        }
        let payload = std::mem::take(&mut self.payload);
        self.conclude(payload)
    }

    /// A refusal, with the client if one came that can be told.
    pub fn refuse(&mut self, reason: Reason, detail: u32) -> Ending {
        let passed = if self.fds == 1 { self.passed.take() } else { None };
        let client = passed.and_then(|socket| self.prepare(socket).ok());
        Ending::Refused { reason, detail, client }
    }

    /// Reads one message and judges it.
    fn read(&mut self, scratch: &mut [u8]) -> Result<Option<Ending>, Errno> {
        let limit = self.policy.handoff_buffer_bytes;
        let is_message = self.kind == Kind::Seqpacket;
        let room =
            if is_message { limit } else { (limit + 1 - self.payload.len()).min(STREAM_BYTES_AT_ONCE) };
        let mut received = sys::receive(self.connection(), &mut scratch[..room], is_message)?;
        let is_nothing = received.bytes == 0 && received.fds.is_empty() && !received.control_truncated;
        if is_message && is_nothing {
            // The end; or the sender sent and closed while the kernel looked, and the message is there now.
            received = sys::receive(self.connection(), &mut scratch[..room], is_message)?;
        }
        self.received_bytes += received.bytes;
        self.fds += received.fds.len() as u32;
        let first = received.fds.into_iter().next();
        self.passed = self.passed.take().or(first);
        if !self.is_allowed {
            return Ok(Some(self.refuse(Reason::UidNotAllowed, self.uid)));
        }
        if self.fds > 1 {
            return Ok(Some(self.refuse(Reason::ManyFds, self.fds)));
        }
        if received.control_truncated {
            return Ok(Some(self.refuse(Reason::ControlTruncated, 0)));
        }
        if received.bytes > room {
            return Ok(Some(self.refuse(Reason::PayloadTruncated, limit as u32)));
        }
        let piece = &scratch[..received.bytes];
        let end = if is_message { Some(piece.len()) } else { self.framing.feed(piece) };
        self.payload.extend_from_slice(&piece[..end.unwrap_or(piece.len())]);
        if self.payload.len() > limit {
            return Ok(Some(self.refuse(Reason::PayloadTruncated, limit as u32)));
        }
        if end.is_none() && !piece.is_empty() {
            return Ok(None);
        }
        let payload = std::mem::take(&mut self.payload);
        Ok(Some(self.conclude(payload)))
    }

    /// All bytes are there: is what was passed a client?
    fn conclude(&mut self, payload: Vec<u8>) -> Ending {
        let Some(socket) = self.passed.take() else {
            if self.kind == Kind::Stream {
                // One try: whoever is gone by now needs no answer.
                let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
                let _unsent = socket::send(self.connection.as_raw_fd(), NO_FD_LINE, flags);
            }
            return self.refuse(Reason::NoFd, 0);
        };
        match self.prepare(socket) {
            Ok(client) => Ending::Complete { client, payload },
            Err((reason, detail)) => Ending::Refused { reason, detail, client: None },
        }
    }

    /// Checks that a descriptor can be a client, and sets what the shim sets on one. Or why it cannot, and the detail.
    fn prepare(&self, socket: Passed) -> Result<Client, (Reason, u32)> {
        let failure = |errno: Errno| (Reason::ReceiveError, errno as u32);
        let fd = socket.as_fd();
        match sys::socket_option(fd, libc::SO_TYPE) {
            Ok(libc::SOCK_STREAM) => {}
            Ok(other) => return Err((Reason::NotStream, other.unsigned_abs())),
            // EBADF: it was opened with O_PATH.
            Err(Errno::ENOTSOCK | Errno::EBADF) => return Err((Reason::NotASocket, 0)),
            Err(errno) => return Err(failure(errno)),
        }
        if sys::socket_option(fd, libc::SO_ACCEPTCONN).map_err(failure)? != 0 {
            return Err((Reason::Listening, 0));
        }
        socket::setsockopt(&socket, sockopt::Linger, &sys::NO_LINGER).map_err(failure)?;
        let set = |name, value| sys::set_option(fd, libc::IPPROTO_TCP, name, value).is_ok();
        let mut flags = if self.kind == Kind::Stream { CAME_OVER_STREAM } else { 0 };
        // Only TCP knows the option, so that setting it is the check as well.
        if set(libc::TCP_NODELAY, 1) {
            flags |= TCP;
            // Older kernels do not know each of these for MPTCP, which is a client all the same.
            set(libc::TCP_CORK, 0);
            set(libc::TCP_NOTSENT_LOWAT, NOT_SENT_BYTES);
            set(libc::TCP_USER_TIMEOUT, self.policy.client_timeout_ms);
        }
        Ok(Client { socket, flags })
    }
}

impl Drop for Handoff {
    fn drop(&mut self) {
        // Nothing comes any more, so that what `Passed` finds unread is all there is. ENOTCONN: the sender is gone.
        let _gone = socket::shutdown(self.connection.as_raw_fd(), Shutdown::Read);
        if self.kind == Kind::Seqpacket {
            sys::tell_messages_from_the_end(self.connection());
        }
    }
}
