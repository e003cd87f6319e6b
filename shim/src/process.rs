//! The process itself: its limit of open files, its open files, its service manager.
#![forbid(unsafe_code)]

use std::fs;
use std::os::fd::AsRawFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr};
use nix::time::{ClockId, clock_gettime};
use streaming_daemon_border::{Outcome, Status, count};

/// Raises the soft limit of open files to the hard one; `out` becomes soft, hard.
pub fn raise_fd_limit(out: &mut [u64]) -> Outcome {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    out.copy_from_slice(&[hard, hard]);
    Ok(0)
}

/// How many descriptors are open, without the one that looks.
pub fn open_fds() -> Outcome {
    let mut entries = 0;
    for entry in fs::read_dir("/proc/self/fd")? {
        entry?;
        entries += 1;
    }
    Ok(count(entries - 1))
}

/// CLOCK_MONOTONIC in microseconds.
pub fn monotonic_usec(out: &mut [u64]) -> Outcome {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    out[0] = now.tv_sec() as u64 * 1_000_000 + now.tv_nsec() as u64 / 1000;
    Ok(0)
}

/// Sends `state` to the service manager at `address`, as sd_notify(3) does, without waiting.
///
/// # Arguments
/// * `address` - a path that begins with `/`, or `@` and an abstract name
pub fn notify(address: &str, state: &str) -> Outcome {
    if state.is_empty() {
        return Err(Status::BAD_ARGUMENT);
    }
    let address = match address.as_bytes() {
        [b'/', ..] => UnixAddr::new(address)?,
        [b'@', name @ ..] if !name.is_empty() => UnixAddr::new_abstract(name)?,
        _ => return Err(Status::BAD_ARGUMENT),
    };
    let socket = socket::socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    socket::sendto(socket.as_raw_fd(), state.as_bytes(), &address, flags)?;
    Ok(0)
}
