//! What plays Apache and its clients.

use std::io::IoSlice;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, recv,
    sendmsg as send_message,
};

use super::PATIENCE;

pub const SEQPACKET: u32 = 0;
pub const STREAM: u32 = 1;
pub const BOTH: [u32; 2] = [SEQPACKET, STREAM];

pub fn socket_type(kind: u32) -> SockType {
    [SockType::SeqPacket, SockType::Stream][kind as usize]
}

/// A Unix socket of ours that is bound, but does not listen.
pub fn bound(path: &Path, kind: SockType) -> OwnedFd {
    let bound = nix::sys::socket::socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    nix::sys::socket::bind(bound.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    bound
}

/// What systemd would pass.
pub fn listening(path: &Path, kind: SockType) -> OwnedFd {
    let listening = bound(path, kind);
    nix::sys::socket::listen(&listening, Backlog::new(1024).unwrap()).unwrap();
    listening
}

pub fn try_connect(path: &Path, kind: u32) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = nix::sys::socket::socket(AddressFamily::Unix, socket_type(kind), flags, None)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// Connects; waits while the backlog is full.
pub fn connect(path: &Path, kind: u32) -> OwnedFd {
    let begin = Instant::now();
    loop {
        match try_connect(path, kind) {
            Err(Errno::EAGAIN) if begin.elapsed() < PATIENCE => std::thread::yield_now(),
            connected => return connected.expect("connects"),
        }
    }
}

pub fn pair(kind: u32) -> (OwnedFd, OwnedFd) {
    let flags = SockFlag::SOCK_CLOEXEC;
    nix::sys::socket::socketpair(AddressFamily::Unix, socket_type(kind), None, flags).unwrap()
}

/// A browser's end of a connection over TCP, and the one to pass.
pub fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let browser = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    browser.set_read_timeout(Some(PATIENCE)).unwrap();
    (browser, listener.accept().unwrap().0)
}

pub fn try_sendmsg(to: &OwnedFd, data: &[u8], fds: &[&dyn AsFd]) -> Result<usize, Errno> {
    let fds: Vec<i32> = fds.iter().map(|fd| fd.as_fd().as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    send_message::<UnixAddr>(to.as_raw_fd(), &[IoSlice::new(data)], control, flags, None)
}

pub fn sendmsg(to: &OwnedFd, data: &[u8], fds: &[&dyn AsFd]) {
    assert_eq!(try_sendmsg(to, data, fds), Ok(data.len()));
}

/// What Apache does: connect, one message, close.
pub fn hand_off(path: &Path, kind: u32, data: &[u8], client: &dyn AsFd) {
    sendmsg(&connect(path, kind), data, &[client]);
}

/// The next bytes, none at the end, or why there are none.
pub fn try_recv(from: &(impl AsFd + AsRawFd), timeout: Duration) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 1 << 16];
    let timeout = PollTimeout::try_from(timeout).unwrap();
    if poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
        return Err(Errno::ETIMEDOUT);
    }
    let bytes = recv(from.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)?;
    buffer.truncate(bytes);
    Ok(buffer)
}

/// All bytes up to the end, which has to be an orderly one.
pub fn recv_to_end(from: &(impl AsFd + AsRawFd)) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        match try_recv(from, PATIENCE) {
            Ok(bytes) if bytes.is_empty() => return all,
            Ok(bytes) => all.extend(bytes),
            Err(errno) => panic!("after {} bytes: {errno}", all.len()),
        }
    }
}

/// An option that is an integer.
pub fn option(fd: &impl AsRawFd, level: i32, name: i32) -> i32 {
    let (mut value, mut bytes) = (0_i32, 4);
    // SAFETY: both pointers are to locals, and the length is that of the value.
    let status =
        unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut bytes) };
    assert_eq!(status, 0);
    value
}

/// Sets an option that is an integer.
pub fn set_option(fd: &impl AsRawFd, level: i32, name: i32, value: i32) {
    // SAFETY: the pointer is to a local, and the length is that of the value.
    let status = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), 4) };
    assert_eq!(status, 0);
}
