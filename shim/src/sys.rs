//! The system calls that nix gives no safe or no sufficient interface to, each behind a safe function.

use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{self, SockFlag};

use crate::passed::Passed;

/// The most descriptors the kernel passes in one message (SCM_MAX_FD).
const MAX_PASSED_FDS: usize = 253;
const FD_BYTES: usize = size_of::<RawFd>();
// SAFETY: CMSG_SPACE only computes.
const CONTROL_BYTES: usize = unsafe { libc::CMSG_SPACE((MAX_PASSED_FDS * FD_BYTES) as u32) } as usize;
/// A pidfd of the sender (SO_PASSPIDFD), which libc has no name for yet.
const SCM_PIDFD: i32 = 4;
const SO_PASSPIDFD: i32 = 76;
/// close(2) neither waits nor becomes a RST.
pub const NO_LINGER: libc::linger = libc::linger { l_onoff: 0, l_linger: 0 };

/// Makes the process's table of descriptors as large as so many of them need, as far as its limit allows; it never
/// shrinks. Each time that it grows by itself, the kernel holds up whoever opens a descriptor for a grace period of
/// RCU, which is 5 to 20 ms (`expand_fdtable` in its fs/file.c).
///
/// # Arguments
/// * `some` - any descriptor
pub fn make_room_for_fds(fds: u32, some: BorrowedFd) {
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let highest = limit.saturating_sub(1).min(fds.into());
    // At the limit there is no room to be made.
    if let Ok(fd) = fcntl(some, FcntlArg::F_DUPFD_CLOEXEC(highest as RawFd)) {
        // SAFETY: fcntl(2) has just made it, and nobody else knows it.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

/// Room for the largest SCM_RIGHTS message, aligned as a `cmsghdr` has to be.
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// What one recvmsg(2) gave.
pub struct Received {
    /// The length of the message, also of what did not fit, where that was asked for.
    pub bytes: usize,
    pub fds: Vec<Passed>,
    /// MSG_CTRUNC: descriptors were lost, because the process is at its limit.
    pub control_truncated: bool,
}

/// Receives without waiting.
///
/// # Arguments
/// * `whole_length` - for message sockets: `bytes` tells the length of the message even if `buffer` is shorter
pub fn receive(from: BorrowedFd, buffer: &mut [u8], whole_length: bool) -> Result<Received, Errno> {
    let mut control = Control([0; CONTROL_BYTES]);
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a msghdr of zeros is a valid one: no name, no buffers, no control data.
    let mut head: libc::msghdr = unsafe { zeroed() };
    head.msg_iov = &raw mut iov;
    head.msg_iovlen = 1;
    head.msg_control = (&raw mut control).cast();
    head.msg_controllen = CONTROL_BYTES as _;
    let truncation = if whole_length { libc::MSG_TRUNC } else { 0 };
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC | truncation;
    // SAFETY: `head` describes `buffer` and `control`, which both live until after the call.
    let bytes = Errno::result(unsafe { libc::recvmsg(from.as_raw_fd(), &raw mut head, flags) })? as usize;
    // SAFETY: recvmsg(2) has just filled in `head`, whose control buffer is alive.
    let fds = unsafe { passed(&raw const head) };
    Ok(Received { bytes, fds, control_truncated: head.msg_flags & libc::MSG_CTRUNC != 0 })
}

/// Takes ownership of every descriptor that came with `head`, and returns those that were passed by SCM_RIGHTS.
///
/// # Safety
/// `head` was filled in by a recvmsg(2) whose control buffer is alive, and nobody has taken its descriptors yet.
unsafe fn passed(head: *const libc::msghdr) -> Vec<Passed> {
    let mut fds = Vec::new();
    // SAFETY: the caller's promise.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(head) };
    while !next.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give NULL or a whole, aligned cmsghdr within the control buffer.
        let message = unsafe { next.read() };
        let is_rights = message.cmsg_type == libc::SCM_RIGHTS;
        if message.cmsg_level == libc::SOL_SOCKET && (is_rights || message.cmsg_type == SCM_PIDFD) {
            // SAFETY: CMSG_LEN only computes.
            let head_bytes = unsafe { libc::CMSG_LEN(0) } as usize;
            // SAFETY: `next` points into the control buffer, and the message's data follows its head there.
            let data = unsafe { libc::CMSG_DATA(next) };
            for at in 0..(message.cmsg_len as usize - head_bytes) / FD_BYTES {
                // SAFETY: the kernel wrote that many descriptors; `read_unaligned` asks for no alignment.
                let fd = unsafe { data.cast::<RawFd>().wrapping_add(at).read_unaligned() };
                // A pidfd that could not be made is a negative number.
                if let Ok(fd) = take_over(fd) {
                    if is_rights {
                        fds.push(Passed::new(fd));
                    }
                }
            }
        }
        // SAFETY: `next` came from this `head`.
        next = unsafe { libc::CMSG_NXTHDR(head, next) };
    }
    fds
}

/// Accepts one connection; non-blocking, close-on-exec.
pub fn accept(listener: BorrowedFd) -> Result<Passed, Errno> {
    let fd = socket::accept4(listener.as_raw_fd(), SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC)?;
    // accept4(2) has just made this descriptor; nobody else owns it.
    Ok(Passed::accepted(take_over(fd)?))
}

/// Makes a byte out of band (MSG_OOB) come as any other. Else recvmsg(2) skips it, and closes what was passed with it
/// by itself, which can block.
pub fn take_urgent_as_all_else(connection: BorrowedFd) {
    let _every_socket_knows_it = set_option(connection, libc::SOL_SOCKET, libc::SO_OOBINLINE, 1);
}

/// Switches off what a connection inherits from a listener that somebody else made: control messages that nobody
/// asked for, of which SCM_PIDFD is a descriptor.
pub fn pass_rights_only(connection: BorrowedFd) {
    for name in [libc::SO_PASSCRED, libc::SO_PASSSEC, SO_PASSPIDFD] {
        // ENOPROTOOPT: the kernel does not know it, so it is not on.
        let _unknown = set_option(connection, libc::SOL_SOCKET, name, 0);
    }
}

/// Makes a SEQPACKET socket give credentials with each message, for which a look without room for them shows
/// MSG_CTRUNC: an empty message is told from the end by that alone.
pub fn tell_messages_from_the_end(connection: BorrowedFd) {
    let _every_unix_socket_knows_it = set_option(connection, libc::SOL_SOCKET, libc::SO_PASSCRED, 1);
}

/// An integer option of the level SOL_SOCKET, also for values that nix has no name for.
pub fn socket_option(fd: BorrowedFd, name: libc::c_int) -> Result<i32, Errno> {
    let mut value = 0_i32;
    let mut value_bytes = size_of::<i32>() as libc::socklen_t;
    // SAFETY: both pointers are to locals, and the length is that of the value.
    Errno::result(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw mut value).cast(),
            &raw mut value_bytes,
        )
    })?;
    Ok(value)
}

/// Sets an integer option.
pub fn set_option(fd: BorrowedFd, level: i32, name: i32, value: i32) -> Result<(), Errno> {
    let value_bytes = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the pointer is to a local, and the length is that of the value.
    Errno::result(unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), value_bytes)
    })?;
    Ok(())
}

/// Another descriptor of what a number stands for at this moment, whoever has it.
pub fn duplicate(fd: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: fcntl(2) fails on a number that stands for nothing, and touches no memory.
    take_over(Errno::result(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) })?)
}

/// Takes over a descriptor that the kernel or the caller of the shim gives away.
pub fn take_over(fd: RawFd) -> Result<OwnedFd, Errno> {
    if fd < 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: not -1, and whoever names it gives up its ownership with this call.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
