//! The functions, safe.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr};

use streaming_daemon_border::{Outcome, Status, count};

/// The most descriptors the kernel passes in one message (SCM_MAX_FD).
const MAX_PASSED_FDS: usize = 253;

fn socket_type(kind: u32) -> Result<SockType, Status> {
    match kind {
        0 => Ok(SockType::SeqPacket),
        1 => Ok(SockType::Stream),
        _ => Err(Status::BAD_ARGUMENT),
    }
}

/// Two connected AF_UNIX sockets of the type `kind`, into `out`.
///
/// # Errors
/// socketpair(2).
pub fn socketpair(kind: u32, out: &mut [i32]) -> Outcome {
    let kind = socket_type(kind)?;
    let (one, other) = socket::socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
    out.copy_from_slice(&[one.into_raw_fd(), other.into_raw_fd()]);
    Ok(0)
}

/// Connects to the Unix socket at `path` without waiting. Returns the fd.
///
/// # Errors
/// connect(2): `EAGAIN` if the backlog is full, `EPROTOTYPE` if the socket there is of another type.
pub fn connect(path: &str, kind: u32) -> Outcome {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let address = UnixAddr::new(path)?;
    let socket = socket::socket(AddressFamily::Unix, socket_type(kind)?, flags, None)?;
    socket::connect(socket.as_raw_fd(), &address)?;
    Ok(socket.into_raw_fd())
}

/// Sends one message with `fds` as SCM_RIGHTS, without waiting. Returns the bytes sent.
///
/// # Errors
/// `BAD_ARGUMENT` for more fds than the kernel passes at once; sendmsg(2).
pub fn sendmsg(fd: RawFd, data: &[u8], fds: &[RawFd]) -> Outcome {
    if fds.len() > MAX_PASSED_FDS {
        return Err(Status::BAD_ARGUMENT);
    }
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let sent = socket::sendmsg::<UnixAddr>(fd, &[IoSlice::new(data)], control, flags, None)?;
    Ok(count(sent))
}

/// Receives into `buffer`, waiting up to `timeout_ms`. Returns the bytes received, 0 at the end.
///
/// # Errors
/// `BAD_ARGUMENT` for an empty buffer; `-ETIMEDOUT`; recv(2).
pub fn recv(fd: RawFd, buffer: &mut [u8], timeout_ms: u32) -> Outcome {
    // 0 bytes mean the end; a buffer that holds none could not tell.
    if buffer.is_empty() {
        return Err(Status::BAD_ARGUMENT);
    }
    let deadline = Instant::now() + Duration::from_millis(u64::from(timeout_ms));
    loop {
        match socket::recv(fd, buffer, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN) => {}
            received => return Ok(count(received?)),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::ETIMEDOUT.into());
        }
        // Rounded up, so that the last round does not spin.
        let left = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        // SAFETY: `recv` has just found the number to be an open socket; where the caller closes it meanwhile, poll(2)
        // answers POLLNVAL.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let polled = poll(&mut [PollFd::new(borrowed, PollFlags::POLLIN)], left);
        match polled {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// close(2).
///
/// # Errors
/// `-EBADF`.
pub fn close_fd(fd: RawFd) -> Outcome {
    nix::unistd::close(fd)?;
    Ok(0)
}
