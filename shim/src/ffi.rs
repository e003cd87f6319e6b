//! The C functions of ABI.md, which is their documentation: each takes the caller's memory apart, calls safe
//! code, and lets neither a panic nor a pointer through.
#![allow(
    missing_docs,
    clippy::missing_safety_doc,
    reason = "ABI.md says what each does and asks of its caller"
)]

use std::sync::Arc;
use std::time::Duration;

use streaming_daemon_border::{Status, count, guard, slice, slice_mut, text};

use crate::acceptor::Acceptor;
use crate::listener::{Kind, Listener};
use crate::policy::Policy;
use crate::process;
use crate::reactor::Reactor;
use crate::registry::Registry;

const SHIM_ABI_VERSION: u32 = 6;

static ACCEPTORS: Registry<Acceptor> = Registry::new();
static REACTORS: Registry<Reactor> = Registry::new();

#[unsafe(no_mangle)]
pub extern "C" fn shim_abi_version() -> u32 {
    SHIM_ABI_VERSION
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_raise_fd_limit(out: *mut u64) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let out = unsafe { slice_mut(out, 2) }?;
        process::raise_fd_limit(out)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn shim_open_fds() -> i32 {
    guard(process::open_fds)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_monotonic_usec(out: *mut u64) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let out = unsafe { slice_mut(out, 1) }?;
        process::monotonic_usec(out)
    })
}

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

#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_shut_down(
    local: *const u8,
    local_len: u32,
    peer: *const u8,
    peer_len: u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let local = unsafe { text(local, local_len) }?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let peer = unsafe { text(peer, peer_len) }?;
        process::shut_down(local, peer)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_acceptor_new(
    policy: *const u32,
    uids: *const u32,
    n_uids: u32,
    out_acceptor: *mut u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let words = unsafe { slice(policy, 8) }?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let uids = unsafe { slice(uids, n_uids) }?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let out = unsafe { slice_mut(out_acceptor, 1) }?;
        out[0] = ACCEPTORS.insert(Arc::new(Acceptor::new(Policy::new(words, uids)?)?))?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_acceptor_configure(
    acceptor: u32,
    policy: *const u32,
    uids: *const u32,
    n_uids: u32,
) -> i32 {
    guard(|| {
        let acceptor = ACCEPTORS.get(acceptor)?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let words = unsafe { slice(policy, 8) }?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let uids = unsafe { slice(uids, n_uids) }?;
        acceptor.configure(Policy::new(words, uids)?);
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_acceptor_listen(
    acceptor: u32,
    kind: u32,
    path: *const u8,
    path_len: u32,
    mode: u32,
    group: *const u8,
    group_len: u32,
) -> i32 {
    guard(|| {
        let acceptor = ACCEPTORS.get(acceptor)?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let path = unsafe { text(path, path_len) }?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let group = unsafe { text(group, group_len) }?;
        let kind = Kind::from_number(kind)?;
        acceptor.add(|| Listener::bind(kind, path, mode, group)).map(|_| 0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn shim_acceptor_adopt(acceptor: u32, fd: i32) -> i32 {
    guard(|| ACCEPTORS.get(acceptor)?.add(|| Listener::adopt(fd)))
}

#[unsafe(no_mangle)]
pub extern "C" fn shim_acceptor_start(acceptor: u32) -> i32 {
    guard(|| ACCEPTORS.get(acceptor)?.start())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_acceptor_take(acceptor: u32, buf: *mut u8, cap: u32) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let buffer = unsafe { slice_mut(buf, cap) }?;
        ACCEPTORS.get(acceptor)?.take(buffer)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn shim_acceptor_stop(acceptor: u32, now: u32) -> i32 {
    guard(|| {
        if now > 1 {
            return Err(Status::BAD_ARGUMENT);
        }
        ACCEPTORS.get(acceptor)?.stop(now == 1)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn shim_acceptor_active(acceptor: u32) -> i32 {
    guard(|| Ok(count(ACCEPTORS.get(acceptor)?.active() as usize)))
}

#[unsafe(no_mangle)]
pub extern "C" fn shim_acceptor_close(acceptor: u32) -> i32 {
    guard(|| {
        let acceptor = ACCEPTORS.remove(acceptor)?;
        let outcome = acceptor.close();
        for reactor in REACTORS.remove_where(|reactor| reactor.belongs_to(&acceptor)) {
            reactor.close();
        }
        outcome
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_reactor_new(acceptor: u32, out_reactor: *mut u32) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let out = unsafe { slice_mut(out_reactor, 1) }?;
        out[0] = REACTORS.insert(Arc::new(Reactor::new(ACCEPTORS.get(acceptor)?)?))?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn shim_reactor_start(reactor: u32) -> i32 {
    guard(|| REACTORS.get(reactor)?.start())
}

#[unsafe(no_mangle)]
pub extern "C" fn shim_reactor_admit(reactor: u32, open: u32) -> i32 {
    guard(|| {
        if open > 1 {
            return Err(Status::BAD_ARGUMENT);
        }
        REACTORS.get(reactor)?.admit(open == 1)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_reactor_take(
    reactor: u32,
    buf: *mut u8,
    cap: u32,
    max_handoffs: u32,
    out_left: *mut u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let buffer = unsafe { slice_mut(buf, cap) }?;
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let left = unsafe { slice_mut(out_left, 1) }?;
        let taken;
        (taken, left[0]) = REACTORS.get(reactor)?.take(buffer, max_handoffs)?;
        Ok(taken)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn shim_reactor_wait(reactor: u32, timeout_us: u32) -> i32 {
    guard(|| REACTORS.get(reactor)?.wait(Duration::from_micros(timeout_us.into())))
}

#[unsafe(no_mangle)]
pub extern "C" fn shim_reactor_close(reactor: u32) -> i32 {
    guard(|| {
        REACTORS.remove(reactor)?.close();
        Ok(0)
    })
}

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

#[unsafe(no_mangle)]
pub extern "C" fn shim_client_close(reactor: u32, client: u32) -> i32 {
    guard(|| REACTORS.get(reactor)?.close_client(client))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim_client_move(
    reactor: u32,
    client: u32,
    to_reactor: u32,
    payload: *const u8,
    len: u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, ABI.md "Conventions".
        let payload = unsafe { slice(payload, len) }?;
        REACTORS.get(reactor)?.move_client(client, &*REACTORS.get(to_reactor)?, payload)
    })
}
