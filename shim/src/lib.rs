//! The C functions of ABI.md, which is their documentation: each takes the caller's memory apart, calls safe
//! code, and lets neither a panic nor a pointer through.

mod border;
mod client;
mod doors;
mod framing;
mod handoff;
mod intake;
mod mailbox;
mod path;
mod pending;
mod process;
mod reactor;
mod records;
mod registry;
#[cfg(feature = "io-uring")]
mod ring;
mod sys;
mod token;
mod tools;

use std::sync::Arc;
use std::time::Duration;

use border::{Status, count, guard, slice, slice_mut, text};
use intake::{Intake, Kind, Policy};
use reactor::Reactor;
use registry::Registry;

const SHIM_ABI_VERSION: u32 = 2;

static INTAKES: Registry<Intake> = Registry::new();
static REACTORS: Registry<Reactor> = Registry::new();

/// See ABI.md, "Process".
#[unsafe(no_mangle)]
pub extern "C" fn shim_abi_version() -> u32 {
    SHIM_ABI_VERSION
}

/// See ABI.md, "Process".
///
/// # Safety
/// `out` is NULL or has room for two values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_raise_fd_limit(out: *mut u64) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let out = unsafe { slice_mut(out, 2) }?;
        process::raise_fd_limit(out)
    })
}

/// See ABI.md, "Process".
#[unsafe(no_mangle)]
pub extern "C" fn shim_open_fds() -> i32 {
    guard(process::open_fds)
}

/// See ABI.md, "Process".
///
/// # Safety
/// `out` is NULL or points to one `uint64_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_monotonic_usec(out: *mut u64) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let out = unsafe { slice_mut(out, 1) }?;
        process::monotonic_usec(out)
    })
}

/// See ABI.md, "Process".
///
/// # Safety
/// Each pointer is NULL or points to as many bytes as the length after it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_notify(
    address: *const u8,
    address_len: u32,
    state: *const u8,
    state_len: u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let address = unsafe { text(address, address_len) }?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let state = unsafe { text(state, state_len) }?;
        process::notify(address, state)
    })
}

/// See ABI.md, "Intake".
///
/// # Safety
/// `policy` is NULL or points to eight words, `uids` to `n_uids`, `out_intake` to one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_intake_new(
    policy: *const u32,
    uids: *const u32,
    n_uids: u32,
    out_intake: *mut u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let words = unsafe { slice(policy, 8) }?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let uids = unsafe { slice(uids, n_uids) }?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let out = unsafe { slice_mut(out_intake, 1) }?;
        out[0] = INTAKES.insert(Arc::new(Intake::new(Policy::new(words, uids)?)))?;
        Ok(0)
    })
}

/// See ABI.md, "Intake".
///
/// # Safety
/// `policy` is NULL or points to eight words, `uids` to `n_uids`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_intake_configure(
    intake: u32,
    policy: *const u32,
    uids: *const u32,
    n_uids: u32,
) -> i32 {
    guard(|| {
        let intake = INTAKES.get(intake)?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let words = unsafe { slice(policy, 8) }?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let uids = unsafe { slice(uids, n_uids) }?;
        intake.configure(Policy::new(words, uids)?);
        Ok(0)
    })
}

/// See ABI.md, "Intake".
///
/// # Safety
/// Each pointer is NULL or points to as many bytes as its length says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_intake_listen(
    intake: u32,
    kind: u32,
    path: *const u8,
    path_len: u32,
    mode: u32,
    group: *const u8,
    group_len: u32,
) -> i32 {
    guard(|| {
        let intake = INTAKES.get(intake)?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let path = unsafe { text(path, path_len) }?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let group = unsafe { text(group, group_len) }?;
        intake.listen(Kind::from_number(kind)?, path, mode, group)
    })
}

/// See ABI.md, "Intake".
#[unsafe(no_mangle)]
pub extern "C" fn shim_intake_adopt(intake: u32, fd: i32) -> i32 {
    guard(|| INTAKES.get(intake)?.adopt(fd))
}

/// See ABI.md, "Intake".
#[unsafe(no_mangle)]
pub extern "C" fn shim_intake_stop(intake: u32) -> i32 {
    guard(|| INTAKES.get(intake)?.stop())
}

/// See ABI.md, "Intake".
#[unsafe(no_mangle)]
pub extern "C" fn shim_intake_active(intake: u32) -> i32 {
    guard(|| Ok(count(INTAKES.get(intake)?.active() as usize)))
}

/// See ABI.md, "Intake".
#[unsafe(no_mangle)]
pub extern "C" fn shim_intake_close(intake: u32) -> i32 {
    guard(|| {
        let intake = INTAKES.remove(intake)?;
        let stopped = intake.stop();
        for reactor in REACTORS.remove_where(|reactor| reactor.belongs_to(&intake)) {
            reactor.close();
        }
        intake.close();
        stopped
    })
}

/// See ABI.md, "Reactor".
///
/// # Safety
/// `out_reactor` is NULL or has room for one word.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_reactor_new(intake: u32, out_reactor: *mut u32) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let out = unsafe { slice_mut(out_reactor, 1) }?;
        out[0] = REACTORS.insert(Arc::new(Reactor::new(&INTAKES.get(intake)?)?))?;
        Ok(0)
    })
}

/// See ABI.md, "Reactor".
#[unsafe(no_mangle)]
pub extern "C" fn shim_reactor_start(reactor: u32) -> i32 {
    guard(|| match REACTORS.get(reactor) {
        Ok(reactor) => reactor.start(),
        // Who starts it a moment after the close is told the same as who does so during it.
        Err(_) if REACTORS.is_closed(reactor) => Err(Status(-libc::ECANCELED)),
        Err(status) => Err(status),
    })
}

/// See ABI.md, "Reactor".
///
/// # Safety
/// `buf` is NULL or has room for `cap` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_reactor_take(reactor: u32, buf: *mut u8, cap: u32) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let buffer = unsafe { slice_mut(buf, cap) }?;
        REACTORS.get(reactor)?.take(buffer)
    })
}

/// See ABI.md, "Reactor".
#[unsafe(no_mangle)]
pub extern "C" fn shim_reactor_wait(reactor: u32, timeout_us: u32) -> i32 {
    guard(|| REACTORS.get(reactor)?.wait(Duration::from_micros(timeout_us.into())))
}

/// See ABI.md, "Reactor".
#[unsafe(no_mangle)]
pub extern "C" fn shim_reactor_close(reactor: u32) -> i32 {
    guard(|| {
        REACTORS.remove(reactor)?.close();
        Ok(0)
    })
}

/// See ABI.md, "Clients".
///
/// # Safety
/// `entries` is NULL or points to four words for each entry, `data` to `data_len` bytes, and `results` has
/// room for a value for each entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_send_batch(
    reactor: u32,
    entries: *const u32,
    n_entries: u32,
    data: *const u8,
    data_len: u32,
    results: *mut i32,
) -> i32 {
    guard(|| {
        let reactor = REACTORS.get(reactor)?;
        let words = n_entries.checked_mul(4).ok_or(Status::BAD_ARGUMENT)?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let entries = unsafe { slice(entries, words) }?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let data = unsafe { slice(data, data_len) }?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let results = unsafe { slice_mut(results, n_entries) }?;
        reactor.send_batch(entries, data, results)
    })
}

/// See ABI.md, "Clients".
#[unsafe(no_mangle)]
pub extern "C" fn shim_client_close(reactor: u32, client: u32) -> i32 {
    guard(|| REACTORS.get(reactor)?.close_client(client))
}

/// See ABI.md, "For tools and tests".
///
/// # Safety
/// `out` is NULL or has room for two values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_socketpair(kind: u32, out: *mut i32) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let out = unsafe { slice_mut(out, 2) }?;
        tools::socketpair(Kind::from_number(kind)?.socket_type(), out)
    })
}

/// See ABI.md, "For tools and tests".
///
/// # Safety
/// `path` is NULL or points to `path_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_connect(path: *const u8, path_len: u32, kind: u32) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let path = unsafe { text(path, path_len) }?;
        tools::connect(path, Kind::from_number(kind)?.socket_type())
    })
}

/// See ABI.md, "For tools and tests".
///
/// # Safety
/// `data` is NULL or points to `len` bytes, `fds` to `n_fds` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_sendmsg(
    fd: i32,
    data: *const u8,
    len: u32,
    fds: *const i32,
    n_fds: u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let data = unsafe { slice(data, len) }?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let fds = unsafe { slice(fds, n_fds) }?;
        tools::sendmsg(fd, data, fds)
    })
}

/// See ABI.md, "For tools and tests".
///
/// # Safety
/// `buf` is NULL or has room for `cap` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_recv(fd: i32, buf: *mut u8, cap: u32, timeout_ms: u32) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let buffer = unsafe { slice_mut(buf, cap) }?;
        tools::recv(fd, buffer, timeout_ms)
    })
}

/// See ABI.md, "For tools and tests".
#[unsafe(no_mangle)]
pub extern "C" fn shim_close_fd(fd: i32) -> i32 {
    guard(|| tools::close_fd(fd))
}
