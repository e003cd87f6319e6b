//! The system calls that nix gives no safe or no sufficient interface to, each behind a safe function.

use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{self, SockFlag};

/// The most descriptors the kernel passes in one message (SCM_MAX_FD).
pub const MAX_PASSED_FDS: usize = 253;
const FD_BYTES: usize = size_of::<RawFd>();
// SAFETY: CMSG_SPACE only computes.
const CONTROL_BYTES: usize = unsafe { libc::CMSG_SPACE((MAX_PASSED_FDS * FD_BYTES) as u32) } as usize;

/// Room for the largest SCM_RIGHTS message, aligned as a `cmsghdr` has to be.
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// What one recvmsg(2) gave.
pub struct Received {
    /// The length of the message, also of what did not fit, where that was asked for.
    pub bytes: usize,
    /// How many descriptors came. All but the first are closed already.
    pub fds: u32,
    pub first: Option<OwnedFd>,
    /// MSG_CTRUNC: descriptors were lost, because the process is at its limit.
    pub control_truncated: bool,
}

/// Receives without waiting.
///
/// # Arguments
/// * `whole_length` - for message sockets: `bytes` tells the length of the message even if `buffer` is shorter
///
/// # Errors
/// recvmsg(2); `EAGAIN` if there is nothing yet.
pub fn receive(from: BorrowedFd, buffer: &mut [u8], whole_length: bool) -> Result<Received, Errno> {
    let mut control = Control([0; CONTROL_BYTES]);
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a msghdr of zeros is a valid one: no name, no buffers, no control data.
    let mut head: libc::msghdr = unsafe { zeroed() };
    head.msg_iov = &mut iov;
    head.msg_iovlen = 1;
    head.msg_control = control.0.as_mut_ptr().cast();
    head.msg_controllen = CONTROL_BYTES as _;
    let truncation = if whole_length { libc::MSG_TRUNC } else { 0 };
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC | truncation;
    // SAFETY: `head` describes `buffer` and `control`, which both live until after the call.
    let bytes = Errno::result(unsafe { libc::recvmsg(from.as_raw_fd(), &mut head, flags) })? as usize;
    let (fds, first) = passed(&head);
    Ok(Received { bytes, fds, first, control_truncated: head.msg_flags & libc::MSG_CTRUNC != 0 })
}

/// Takes ownership of every descriptor that came with `head`; keeps the first, closes the others.
fn passed(head: &libc::msghdr) -> (u32, Option<OwnedFd>) {
    let mut count = 0;
    let mut first = None;
    // SAFETY: `head` was filled in by recvmsg(2), its control buffer is alive.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(head) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give NULL or a whole, aligned cmsghdr within the control buffer.
    while let Some(message) = unsafe { next.as_ref() } {
        if message.cmsg_level == libc::SOL_SOCKET && message.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: CMSG_LEN only computes.
            let head_bytes = unsafe { libc::CMSG_LEN(0) } as usize;
            // SAFETY: `message` lies in the control buffer; its data follows it.
            let data = unsafe { libc::CMSG_DATA(message) };
            for at in 0..(message.cmsg_len - head_bytes) / FD_BYTES {
                // SAFETY: the kernel wrote that many descriptors; `read_unaligned` asks for no alignment.
                let fd = unsafe { data.cast::<RawFd>().wrapping_add(at).read_unaligned() };
                // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                first.get_or_insert(fd);
                count += 1;
            }
        }
        // SAFETY: `message` came from this `head`.
        next = unsafe { libc::CMSG_NXTHDR(head, message) };
    }
    (count, first)
}

/// Accepts one connection; non-blocking, close-on-exec.
///
/// # Errors
/// accept4(2).
pub fn accept(listener: BorrowedFd) -> Result<OwnedFd, Errno> {
    let fd = socket::accept4(listener.as_raw_fd(), SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: accept4(2) has just made this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An integer option of the level SOL_SOCKET, also for values that nix has no name for.
///
/// # Errors
/// getsockopt(2); `ENOTSOCK`, or `EBADF` for a descriptor that is only a path (O_PATH).
pub fn socket_option(fd: BorrowedFd, name: libc::c_int) -> Result<i32, Errno> {
    let mut value = 0_i32;
    let mut value_bytes = size_of::<i32>() as libc::socklen_t;
    // SAFETY: both pointers are to locals, and the length is that of the value.
    Errno::result(unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &mut value_bytes)
    })?;
    Ok(value)
}

/// Runs `use_it` with a descriptor that the caller of the shim named.
///
/// # Errors
/// `EBADF` for a negative number, which no descriptor has.
pub fn with_borrowed<T>(fd: RawFd, use_it: impl FnOnce(BorrowedFd) -> Result<T, Errno>) -> Result<T, Errno> {
    if fd < 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: not -1; the caller of the shim keeps it open during the call (ABI.md), and where it does not,
    // system calls answer EBADF.
    use_it(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Takes over a descriptor that the caller of the shim gives away.
///
/// # Errors
/// `EBADF` for a negative number, which no descriptor has.
pub fn take_over(fd: RawFd) -> Result<OwnedFd, Errno> {
    if fd < 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: not -1, and by ABI.md the caller gives up its ownership with this call.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
