//! Arguments that are wrong, and the functions for tools.
#![allow(missing_docs)]

mod support;

use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use streaming_daemon_shim::*;
use support::*;

fn notify(address: &str, state: &str) -> i32 {
    // SAFETY: pointers and lengths belong to live values.
    unsafe { shim_notify(address.as_ptr(), address.len() as u32, state.as_ptr(), state.len() as u32) }
}

#[test]
fn the_version_is_the_one_of_the_contract() {
    assert_eq!(shim_abi_version(), 2);
}

#[test]
#[allow(clippy::multiple_unsafe_ops_per_block, reason = "one reason holds for all")]
fn null_with_a_length_is_a_bad_argument_everywhere() {
    let _no_leak = no_leak();
    let intake = Intake::new(POLICY);
    let reactor = intake.reactor();
    let words = POLICY.words();
    let (one, _other) = pair(STREAM);
    let text = b"text";
    let mut out = [0_u32; 2];
    // SAFETY: NULL is allowed, and the other pointers and lengths belong to live values.
    let results = unsafe {
        [
            shim_raise_fd_limit(null_mut()),
            shim_notify(null(), 1, text.as_ptr(), 4),
            shim_notify(text.as_ptr(), 4, null(), 1),
            shim_intake_new(null(), null(), 0, out.as_mut_ptr()),
            shim_intake_new(words.as_ptr(), null(), 1, out.as_mut_ptr()),
            shim_intake_new(words.as_ptr(), null(), 0, null_mut()),
            shim_intake_configure(intake.0, null(), null(), 0),
            shim_intake_configure(intake.0, words.as_ptr(), null(), 1),
            shim_intake_listen(intake.0, 0, null(), 4, 0o600, null(), 0),
            shim_intake_listen(intake.0, 0, text.as_ptr(), 4, 0o600, null(), 4),
            shim_reactor_new(intake.0, null_mut()),
            shim_reactor_take(reactor.handle, null_mut(), 1),
            shim_send_batch(reactor.handle, null(), 1, null(), 0, null_mut()),
            shim_send_batch(reactor.handle, words.as_ptr(), 1, null(), 1, out.as_mut_ptr().cast()),
            shim_send_batch(reactor.handle, words.as_ptr(), 1, null(), 0, null_mut()),
            shim_send_batch(reactor.handle, words.as_ptr(), 1 << 30, null(), 0, null_mut()),
            shim_socketpair(0, null_mut()),
            shim_connect(null(), 1, 0),
            shim_sendmsg(one.as_raw_fd(), null(), 1, null(), 0),
            shim_sendmsg(one.as_raw_fd(), text.as_ptr(), 4, null(), 1),
            shim_recv(one.as_raw_fd(), null_mut(), 1, 0),
        ]
    };
    assert_eq!(results, [BAD_ARGUMENT; 21]);
    assert_eq!(out, [0; 2]);
}

#[test]
fn a_policy_out_of_range_is_a_bad_argument() {
    let _no_leak = no_leak();
    let intake = Intake::new(POLICY);
    let wrong = [
        Policy { handoff_timeout_ms: 0, ..POLICY },
        Policy { handoff_buffer_bytes: 0, ..POLICY },
        Policy { handoff_buffer_bytes: (64 << 20) + 1, ..POLICY },
        Policy { max_pending: 0, ..POLICY },
    ];
    for policy in wrong {
        assert_eq!(intake.configure(policy, &[]), BAD_ARGUMENT);
    }
    for reserved in 5..8 {
        let mut words = POLICY.words();
        words[reserved] = 1;
        let mut out = 0;
        // SAFETY: pointers and lengths belong to live values.
        let status = unsafe { shim_intake_new(words.as_ptr(), null(), 0, &mut out) };
        assert_eq!((status, out), (BAD_ARGUMENT, 0));
    }
}

#[test]
#[allow(clippy::multiple_unsafe_ops_per_block, reason = "one reason holds for all")]
fn text_has_to_be_utf8() {
    let _no_leak = no_leak();
    let intake = Intake::new(POLICY);
    for bytes in [&b"/tmp/\xff"[..], b"/tmp/a\0b"] {
        // SAFETY: pointers and lengths belong to live values.
        let results = unsafe {
            [
                shim_intake_listen(intake.0, 0, bytes.as_ptr(), bytes.len() as u32, 0o600, null(), 0),
                shim_connect(bytes.as_ptr(), bytes.len() as u32, 0),
                shim_notify(bytes.as_ptr(), bytes.len() as u32, b"x".as_ptr(), 1),
            ]
        };
        assert_eq!(results, [BAD_ARGUMENT; 3]);
    }
}

#[test]
fn a_notification_reaches_a_path_and_an_abstract_address() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(notify(path.to_str().unwrap(), "READY=1\nSTATUS=grüße"), 0);
    let mut buffer = [0; 64];
    let bytes = manager.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..bytes], "READY=1\nSTATUS=grüße".as_bytes());

    let name = format!("shim-notify-{}", std::process::id());
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(notify(&format!("@{name}"), "STOPPING=1"), 0);
    let bytes = manager.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..bytes], b"STOPPING=1");
}

#[test]
fn a_notification_that_cannot_be_sent_is_told_and_does_not_wait() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("notify");
    let text = path.to_str().unwrap();
    assert_eq!(notify(text, "READY=1"), -libc::ENOENT);
    drop(UnixDatagram::bind(&path).unwrap());
    assert_eq!(notify(text, "READY=1"), -libc::ECONNREFUSED);
    for (address, state) in [("relative", "READY=1"), ("", "READY=1"), ("@", "READY=1"), (text, "")] {
        assert_eq!(notify(address, state), BAD_ARGUMENT);
    }
    std::fs::remove_file(&path).unwrap();
    let _deaf = UnixDatagram::bind(&path).unwrap();
    eventually("the queue is full", || notify(text, "WATCHDOG=1") == -libc::EAGAIN);
}

#[test]
fn the_ends_of_a_pair_are_connected_and_close_on_exec() {
    let _no_leak = no_leak();
    for kind in BOTH {
        let (one, other) = pair(kind);
        sendmsg(&one, b"hello", &[]);
        assert_eq!(try_recv(&other, PATIENCE), Ok(b"hello".to_vec()));
        for end in [&one, &other] {
            assert_eq!(fcntl(end, FcntlArg::F_GETFD), Ok(FdFlag::FD_CLOEXEC.bits()));
        }
        drop(one);
        assert_eq!(try_recv(&other, PATIENCE), Err(0));
    }
    // SAFETY: there is room for two values.
    assert_eq!(unsafe { shim_socketpair(2, [0; 2].as_mut_ptr()) }, BAD_ARGUMENT);
}

#[test]
fn every_descriptor_of_the_shim_is_closed_on_exec() {
    let no_leak = no_leak();
    let directory = Directory::new();
    let before = open_fds();
    let intake = Intake::new(POLICY);
    let reactor = intake.reactor();
    for (kind, name) in [(SEQPACKET, "one"), (STREAM, "two")] {
        let path = directory.path(name);
        intake.listen(kind, &path);
        let (_browser, passed) = pair(STREAM);
        hand_off(&path, kind, b"{}", &passed);
        reactor.event();
    }
    let pending = connect(&directory.path("one"), SEQPACKET);
    let (browser, passed) = pair(STREAM);
    hand_off(&directory.path("one"), SEQPACKET, b"{}", &passed);
    eventually("the last one is a client", || {
        reactor.event();
        intake.active() == 3
    });
    drop((browser, passed));
    // Two listeners, epoll, eventfd, the bell's two ends, three clients, the pending connection and its other end.
    let new: Vec<i32> = open_fds().into_iter().filter(|fd| !before.contains(fd)).collect();
    assert_eq!(new.len() as i32, 11 + open_rings(), "{new:?}");
    for fd in new {
        // SAFETY: fcntl with F_GETFD touches no memory, and a closed fd is an error.
        assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFD) }, libc::FD_CLOEXEC, "fd {fd}");
    }
    drop((pending, reactor, intake, no_leak));
}

/// Those that stay open, that is, without the one that reads the directory.
fn open_fds() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers: Vec<i32> =
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    // SAFETY: fcntl with F_GETFD touches no memory, and a closed fd is an error.
    numbers.into_iter().filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0).collect()
}

#[test]
fn recv_waits_no_longer_than_its_time() {
    let _no_leak = no_leak();
    let (one, _other) = pair(STREAM);
    let begin = Instant::now();
    assert_eq!(try_recv(&one, Duration::ZERO), Err(-libc::ETIMEDOUT));
    assert_eq!(try_recv(&one, Duration::from_millis(40)), Err(-libc::ETIMEDOUT));
    assert!((Duration::from_millis(40)..PATIENCE).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    // SAFETY: NULL without a length is allowed.
    assert_eq!(unsafe { shim_recv(one.as_raw_fd(), null_mut(), 0, 0) }, BAD_ARGUMENT);
    assert_eq!(try_recv(&-1, Duration::from_millis(40)), Err(-libc::EBADF));
}

#[test]
fn connect_tells_why_not() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    assert_eq!(try_connect(&directory.path("nothing"), STREAM).err(), Some(-libc::ENOENT));
    assert_eq!(try_connect(&directory.path("nothing"), 2).err(), Some(BAD_ARGUMENT));
}

#[test]
fn sendmsg_passes_no_more_descriptors_than_the_kernel_takes() {
    let _no_leak = no_leak();
    let (one, _other) = pair(STREAM);
    assert_eq!(
        try_sendmsg(&one, b"x", &vec![&one; 254].iter().map(|fd| *fd as _).collect::<Vec<_>>()),
        BAD_ARGUMENT
    );
    assert_eq!(try_sendmsg(&one, b"x", &[&one]), 1);
}

#[test]
fn a_descriptor_is_closed_once() {
    let _no_leak = no_leak();
    let (one, _other) = pair(STREAM);
    let fd = one.into_raw_fd();
    assert_eq!(shim_close_fd(fd), 0);
    assert_eq!(shim_close_fd(fd), -libc::EBADF);
    assert_eq!(shim_close_fd(-1), -libc::EBADF);
}
