//! Descriptors that somebody else passed or can pass: whatever they are, closing them holds nobody up.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, MsgFlags, Shutdown, UnixAddr, sockopt};

use crate::registry::lock;
use crate::sys;

/// So many may wait for a close that could block; past it no more are received.
const MOST_WAITING: usize = 1024;
/// How much unread data is discarded at most, in rounds of [`DISCARD_BYTES`]: who sends faster than it is
/// thrown away is not waited for.
const DISCARD_ROUNDS: usize = 64;
const DISCARD_BYTES: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct Passed {
    /// There until it is dropped.
    fd: Option<OwnedFd>,
    /// Its address family, if it is a socket.
    family: Option<i32>,
    /// It is the end of a connection that nobody else has ever had.
    is_accepted: bool,
}

impl Passed {
    /// Takes the descriptor in.
    pub fn new(fd: OwnedFd) -> Passed {
        let family = sys::socket_option(fd.as_fd(), libc::SO_DOMAIN).ok();
        Passed { fd: Some(fd), family, is_accepted: false }
    }

    /// Takes in what accept(2) has given.
    pub fn accepted(fd: OwnedFd) -> Passed {
        let mut accepted = Passed::new(fd);
        accepted.is_accepted = true;
        accepted
    }

    /// For tests that need none.
    #[cfg(test)]
    pub fn nothing() -> Passed {
        Passed { fd: None, family: None, is_accepted: false }
    }

    /// Ends a connection in order: what was sent and nobody read is discarded, or close(2) would become a RST that
    /// can overtake the last bytes; then the FIN is sent, also where the sender still holds the socket.
    pub fn end(self) {
        if self.is_tcp() {
            discard(self.as_fd());
        }
        // A peer that is gone already (ENOTCONN) needs no FIN.
        let _gone = socket::shutdown(self.as_raw_fd(), Shutdown::Write);
    }

    fn is_tcp(&self) -> bool {
        matches!(self.family, Some(libc::AF_INET | libc::AF_INET6))
    }
}

impl AsFd for Passed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("it is there until the drop").as_fd()
    }
}

impl AsRawFd for Passed {
    fn as_raw_fd(&self) -> i32 {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        let Some(fd) = self.fd.take() else { return };
        let closes_at_once = if self.is_tcp() {
            // With SO_LINGER, which the sender can set at any time, close(2) waits or becomes a RST.
            socket::setsockopt(&fd, sockopt::Linger, &sys::NO_LINGER).is_ok()
        } else {
            let is_empty = if self.is_accepted { has_nothing_unread } else { has_nothing_to_tell };
            self.family == Some(libc::AF_UNIX) && is_empty(&fd)
        };
        if !closes_at_once {
            CLOSER.close(fd);
        }
    }
}

/// Whether nothing at all is in the queue of a Unix socket, and nobody has ended it. A peek can be kept from seeing
/// what is there: by SO_PEEK_OFF, and by a byte out of band, read or not.
fn has_nothing_to_tell(fd: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(0)
}

/// Whether a connection that was accepted has no message unread: a message can hold descriptors, which are closed with
/// it, and that can block.
fn has_nothing_unread(fd: &OwnedFd) -> bool {
    let mut byte = [0];
    let mut room = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    match socket::recvmsg::<UnixAddr>(fd.as_raw_fd(), &mut room, None, flags) {
        // The end; or an empty message, which shows in that its credentials found no room.
        Ok(message) => message.bytes == 0 && !message.flags.contains(MsgFlags::MSG_CTRUNC),
        Err(errno) => errno == Errno::EAGAIN,
    }
}

fn discard(fd: BorrowedFd) {
    let mut discarded = [0; DISCARD_BYTES];
    for _ in 0..DISCARD_ROUNDS {
        match socket::recv(fd.as_raw_fd(), &mut discarded, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC) {
            Ok(1..) => {}
            // The end, nothing more, or an error: there is nothing left to discard.
            Ok(0) | Err(_) => break,
        }
    }
}

/// Whether more descriptors may be received.
pub fn closes_keep_up() -> bool {
    CLOSER.keeps_up()
}

static CLOSER: Closer = Closer(Mutex::new(Waiting { fds: VecDeque::new(), is_closing: false }));

/// Closes in a thread of its own, which lives for as long as there is something to close.
struct Closer(Mutex<Waiting>);

struct Waiting {
    fds: VecDeque<OwnedFd>,
    is_closing: bool,
}

impl Closer {
    fn close(&'static self, fd: OwnedFd) {
        lock(&self.0).fds.push_back(fd);
        self.start();
    }

    fn keeps_up(&'static self) -> bool {
        self.start();
        lock(&self.0).fds.len() < MOST_WAITING
    }

    /// Starts the thread, if there is something to close and none is at it.
    fn start(&'static self) {
        let mut waiting = lock(&self.0);
        if waiting.is_closing || waiting.fds.is_empty() {
            return;
        }
        waiting.is_closing = true;
        drop(waiting);
        if thread::Builder::new().name("closer".into()).spawn(|| self.run()).is_err() {
            // They wait for the next try.
            lock(&self.0).is_closing = false;
        }
    }

    fn run(&self) {
        while let Some(fd) = self.next() {
            discard(fd.as_fd());
            drop(fd);
        }
    }

    fn next(&self) -> Option<OwnedFd> {
        let mut waiting = lock(&self.0);
        let next = waiting.fds.pop_front();
        waiting.is_closing = next.is_some();
        next
    }
}
