//! The process itself: its limit of open files, its open files, its connections, its service manager.
#![forbid(unsafe_code)]

use std::fs;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, SockaddrStorage, UnixAddr,
};
use nix::time::{ClockId, clock_gettime};
use streaming_daemon_border::{Outcome, Status, count};

use crate::sys;

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

/// Shuts down the TCP connection between two addresses, whoever in this process has it and sees its end then.
///
/// # Arguments
/// * `local`, `peer` - `1.2.3.4:5` or `[::1]:5`
///
/// # Returns
/// 1, or 0 if there is none (any more)
pub fn shut_down(local: &str, peer: &str) -> Outcome {
    let address = |text: &str| text.parse::<SocketAddr>().map_err(|_| Status::BAD_ARGUMENT);
    let ends = Some((address(local)?, address(peer)?));
    for entry in fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if ends_of(fd) != ends {
            continue;
        }
        // The number may be another's by now, but what it stood for a moment ago is not.
        let Ok(socket) = sys::duplicate(fd) else { continue };
        if ends_of(socket.as_raw_fd()) == ends {
            let _has_ended_meanwhile = socket::shutdown(socket.as_raw_fd(), Shutdown::Both);
            return Ok(1);
        }
    }
    Ok(0)
}

/// The addresses of a TCP connection, its own first.
fn ends_of(fd: RawFd) -> Option<(SocketAddr, SocketAddr)> {
    let local = socket::getsockname::<SockaddrStorage>(fd).ok()?;
    let peer = socket::getpeername::<SockaddrStorage>(fd).ok()?;
    Some((internet(&local)?, internet(&peer)?))
}

fn internet(address: &SockaddrStorage) -> Option<SocketAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::from((v4.ip(), v4.port()))),
        (_, Some(v6)) => Some(SocketAddr::from((v6.ip(), v6.port()))),
        _ => None,
    }
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
