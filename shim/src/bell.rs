//! How a thread of the shim calls its caller, and how it is woken itself.
#![forbid(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{self, AddressFamily, MsgFlags, Shutdown, SockFlag, SockType};

/// A thread whose bell is owed a ring looks again after so long.
pub const TRY_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// See the module.
pub struct Bell {
    socket: OwnedFd,
    is_owed: AtomicBool,
    /// Readable when somebody wants the thread to look.
    pub wake: EventFd,
}

impl Bell {
    /// A bell and the caller's end of it.
    pub fn new() -> Result<(Bell, OwnedFd), Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (socket, ear) = socket::socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok((Bell { socket, is_owed: AtomicBool::new(false), wake }, ear))
    }

    /// Sends a byte. Where the kernel has no memory for it, the thread will try again.
    pub fn ring(&self) {
        if !self.is_heard() && !self.is_owed.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// For the thread, before each wait: rings if that is owed, and says how long to wait at most.
    pub fn make_good(&self) -> Option<Duration> {
        // Cleared first: who fails to ring from now on wakes the thread.
        if self.is_owed.swap(false, Ordering::AcqRel) && !self.is_heard() {
            self.is_owed.store(true, Ordering::Release);
        }
        self.is_owed.load(Ordering::Acquire).then_some(TRY_AGAIN_AFTER)
    }

    fn is_heard(&self) -> bool {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        // EAGAIN: bytes wait unread, which is as good. The others: the caller has closed its end.
        let heard = [Errno::EAGAIN, Errno::EPIPE, Errno::ECONNRESET];
        socket::send(self.socket.as_raw_fd(), &[1], flags)
            .map_or_else(|errno| heard.contains(&errno), |_| true)
    }

    /// The caller reads the end from now on.
    pub fn end(&self) {
        // It has ended already, or the caller is gone.
        let _no_matter = socket::shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    /// Makes the thread look.
    pub fn wake(&self) {
        // A write fails only where the counter would overflow; it is not zero then, and the thread awake.
        let _overflow = self.wake.write(1);
    }

    /// The thread has been woken and looks.
    pub fn is_awake(&self) {
        // EAGAIN: it was read already.
        let _nothing = self.wake.read();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rings(ear: &OwnedFd) -> usize {
        socket::recv(ear.as_raw_fd(), &mut [0; 16], MsgFlags::MSG_DONTWAIT).unwrap_or(0)
    }

    #[test]
    fn a_ring_that_failed_is_made_good_by_the_thread_which_is_woken_once() {
        let (mut bell, ear) = Bell::new().unwrap();
        assert_eq!(bell.make_good(), None);
        // A socket that is not connected fails with ENOTCONN, each time.
        let deaf =
            socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let working = std::mem::replace(&mut bell.socket, deaf);
        bell.ring();
        bell.ring();
        assert_eq!(bell.wake.read(), Ok(1));
        assert_eq!(bell.make_good(), Some(TRY_AGAIN_AFTER));
        assert_eq!(bell.wake.read(), Err(Errno::EAGAIN));
        bell.socket = working;
        assert_eq!(bell.make_good(), None);
        assert_eq!(rings(&ear), 1);
    }

    #[test]
    fn unread_bytes_and_a_closed_end_are_no_harm() {
        let (bell, ear) = Bell::new().unwrap();
        for _ in 0..10_000 {
            bell.ring();
        }
        assert_eq!(bell.make_good(), None);
        drop(ear);
        bell.ring();
        assert_eq!(bell.make_good(), None);
    }
}
