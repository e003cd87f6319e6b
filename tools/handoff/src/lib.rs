//! The other side of a handoff, for tools and tests: plain descriptors that belong to the caller. ABI.md is the
//! contract.
#![allow(
    missing_docs,
    clippy::missing_safety_doc,
    reason = "ABI.md says what each does and asks of its caller"
)]

mod tools;

use streaming_daemon_border::{guard, slice, slice_mut, text};

const TOOLS_ABI_VERSION: u32 = 1;

#[unsafe(no_mangle)]
pub extern "C" fn tools_abi_version() -> u32 {
    TOOLS_ABI_VERSION
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tools_socketpair(kind: u32, out: *mut i32) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md.
        let out = unsafe { slice_mut(out, 2) }?;
        tools::socketpair(kind, out)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tools_connect(path: *const u8, path_len: u32, kind: u32) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md.
        let path = unsafe { text(path, path_len) }?;
        tools::connect(path, kind)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tools_sendmsg(
    fd: i32,
    data: *const u8,
    len: u32,
    fds: *const i32,
    n_fds: u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md.
        let data = unsafe { slice(data, len) }?;
        // SAFETY: the caller's promise, ABI.md.
        let fds = unsafe { slice(fds, n_fds) }?;
        tools::sendmsg(fd, data, fds)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tools_recv(fd: i32, buf: *mut u8, cap: u32, timeout_ms: u32) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md.
        let buffer = unsafe { slice_mut(buf, cap) }?;
        tools::recv(fd, buffer, timeout_ms)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn tools_close_fd(fd: i32) -> i32 {
    guard(|| tools::close_fd(fd))
}
