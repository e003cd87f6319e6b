//! Arguments that are wrong, and the functions about the process.
#![allow(missing_docs)]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::ptr::{null, null_mut};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};
use streaming_daemon_shim::*;
use support::*;

fn notify(address: &str, state: &str) -> i32 {
    // SAFETY: pointers and lengths belong to live values.
    unsafe { shim_notify(address.as_ptr(), address.len() as u32, state.as_ptr(), state.len() as u32) }
}

fn shut_down(local: &str, peer: &str) -> i32 {
    // SAFETY: pointers and lengths belong to live values.
    unsafe { shim_shut_down(local.as_ptr(), local.len() as u32, peer.as_ptr(), peer.len() as u32) }
}

#[test]
fn the_version_is_the_one_of_the_contract() {
    assert_eq!(shim_abi_version(), 6);
}

#[test]
#[allow(clippy::multiple_unsafe_ops_per_block, reason = "one reason holds for all")]
fn null_with_a_length_is_a_bad_argument_everywhere() {
    let _no_leak = no_leak();
    let acceptor = Acceptor::new(POLICY);
    let reactor = acceptor.reactor();
    let (acceptor, reactor) = (acceptor.handle, reactor.handle);
    let words = POLICY.words();
    let words = words.as_ptr();
    let text = b"text".as_ptr();
    let mut out = [0_u32; 2];
    let out = out.as_mut_ptr();
    // SAFETY: NULL is allowed, and the other pointers and lengths belong to live values.
    let results = unsafe {
        [
            shim_raise_fd_limit(null_mut()),
            shim_monotonic_usec(null_mut()),
            shim_notify(null(), 1, text, 4),
            shim_notify(text, 4, null(), 1),
            shim_shut_down(null(), 1, text, 4),
            shim_shut_down(text, 4, null(), 1),
            shim_acceptor_new(null(), null(), 0, out),
            shim_acceptor_new(words, null(), 1, out),
            shim_acceptor_new(words, null(), 0, null_mut()),
            shim_acceptor_configure(acceptor, null(), null(), 0),
            shim_acceptor_configure(acceptor, words, null(), 1),
            shim_acceptor_listen(acceptor, 0, null(), 4, 0o600, null(), 0),
            shim_acceptor_listen(acceptor, 0, text, 4, 0o600, null(), 4),
            shim_acceptor_take(acceptor, null_mut(), 1),
            shim_reactor_new(acceptor, null_mut()),
            shim_reactor_take(reactor, null_mut(), 1, 0, out),
            shim_reactor_take(reactor, text.cast_mut(), 0, 0, null_mut()),
            shim_send_batch(reactor, null(), 1, null(), 0, null_mut()),
            shim_send_batch(reactor, words, 1, null(), 1, out.cast()),
            shim_send_batch(reactor, words, 1, null(), 0, null_mut()),
            shim_send_batch(reactor, words, 1 << 30, null(), 0, null_mut()),
            // Not aligned.
            shim_acceptor_configure(acceptor, words.wrapping_byte_add(1), null(), 0),
        ]
    };
    assert_eq!(results, [BAD_ARGUMENT; 22]);
}

#[test]
#[allow(clippy::multiple_unsafe_ops_per_block, reason = "one reason holds for all")]
fn a_handle_that_was_never_given_is_a_bad_handle_everywhere() {
    let _no_leak = no_leak();
    let words = POLICY.words();
    let mut out = [0_u32; 2];
    let (path, buffer) = (b"/nowhere".as_ptr(), out.as_mut_ptr().cast());
    for handle in [0, u32::MAX] {
        // SAFETY: pointers and lengths belong to live values.
        let results = unsafe {
            [
                shim_acceptor_configure(handle, words.as_ptr(), null(), 0),
                shim_acceptor_listen(handle, 0, path, 8, 0o600, null(), 0),
                shim_acceptor_adopt(handle, 0),
                shim_acceptor_start(handle),
                shim_acceptor_take(handle, buffer, 8),
                shim_acceptor_stop(handle, 0),
                shim_acceptor_active(handle),
                shim_acceptor_close(handle),
                shim_reactor_new(handle, out.as_mut_ptr()),
                shim_reactor_start(handle),
                shim_reactor_admit(handle, 1),
                shim_reactor_take(handle, buffer, 4, 1, out.as_mut_ptr()),
                shim_reactor_wait(handle, 0),
                shim_reactor_close(handle),
                shim_send_batch(handle, null(), 0, null(), 0, null_mut()),
                shim_client_close(handle, 0),
            ]
        };
        assert_eq!(results, [BAD_HANDLE; 16]);
    }
}

#[test]
fn a_policy_out_of_range_is_a_bad_argument() {
    let _no_leak = no_leak();
    let acceptor = Acceptor::new(POLICY);
    let wrong = [
        Policy { handoff_timeout_ms: 0, ..POLICY },
        Policy { handoff_buffer_bytes: 0, ..POLICY },
        Policy { handoff_buffer_bytes: (64 << 20) + 1, ..POLICY },
        Policy { client_timeout_ms: 1 << 31, ..POLICY },
        Policy { max_pending: 0, ..POLICY },
    ];
    for policy in wrong {
        assert_eq!(acceptor.configure(policy, &[]), BAD_ARGUMENT);
    }
    for reserved in 5..8 {
        let mut words = POLICY.words();
        words[reserved] = 1;
        let mut out = 0;
        // SAFETY: pointers and lengths belong to live values.
        let status = unsafe { shim_acceptor_new(words.as_ptr(), null(), 0, &mut out) };
        assert_eq!((status, out), (BAD_ARGUMENT, 0));
    }
}

#[test]
fn a_connection_between_two_addresses_is_shut_down_and_no_other() {
    let _no_leak = no_leak();
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(host).unwrap();
        let address = listener.local_addr().unwrap();
        let [mut cut, mut kept] = [(); 2].map(|()| TcpStream::connect(address).unwrap());
        let [mut cut_peer, mut kept_peer] = [(); 2].map(|()| listener.accept().unwrap().0);
        let (from, to) = (cut.local_addr().unwrap().to_string(), address.to_string());
        assert_eq!(shut_down(&from, &to), 1);
        assert_eq!(cut_peer.read(&mut [0]).unwrap(), 0);
        assert_eq!(cut.read(&mut [0]).unwrap(), 0);
        kept_peer.write_all(b"x").unwrap();
        kept.read_exact(&mut [0]).unwrap();
        drop((cut, cut_peer));
        assert_eq!(shut_down(&from, &to), 0);
    }
    assert_eq!(shut_down("127.0.0.1", "127.0.0.1:1"), BAD_ARGUMENT);
    assert_eq!(shut_down("127.0.0.1:1", "localhost:1"), BAD_ARGUMENT);
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
fn every_descriptor_of_the_shim_is_closed_on_exec() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let before = open_fds();
    let second = setup.directory.path("second");
    setup.acceptor.listen(STREAM, &second);
    let reactor = setup.acceptor.reactor();
    let (browser, passed) = pair(STREAM);
    hand_off(&second, STREAM, b"{}", &passed);
    hand_off(&second, STREAM, b"{}", &passed);
    eventually("they are clients", || setup.acceptor.active() == 2);
    let pending = connect(&second, STREAM);
    hand_off(&second, STREAM, b"{}", &passed);
    eventually("the pending one is accepted", || setup.acceptor.active() == 3);
    let own = [browser.as_raw_fd(), passed.as_raw_fd(), pending.as_raw_fd()];
    let news = || -> Vec<i32> {
        open_fds().into_iter().filter(|fd| !before.contains(fd) && !own.contains(fd)).collect()
    };
    // A listener, epoll, eventfd, the bell's two ends, three clients, the pending connection; none that is closed soon.
    eventually("all that stays is open, and nothing else", || news().len() == 9);
    for fd in news() {
        // SAFETY: fcntl with F_GETFD touches no memory, and a closed fd is an error.
        assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFD) }, libc::FD_CLOEXEC, "fd {fd}");
    }
    drop(reactor);
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let _no_leak = no_leak();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 100, hard).unwrap();
    let mut out = [0; 2];
    // SAFETY: there is room for two values.
    assert_eq!(unsafe { shim_raise_fd_limit(out.as_mut_ptr()) }, 0);
    assert_eq!(out, [hard; 2]);
    assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((hard, hard)));
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
}

#[test]
fn open_fds_counts_what_is_open_and_the_clock_goes_on() {
    let _no_leak = no_leak();
    let before = shim_open_fds();
    assert_eq!(before as usize, open_fds().len());
    let files: Vec<File> = (0..5).map(|_| File::open("/dev/null").unwrap()).collect();
    assert_eq!(shim_open_fds(), before + 5);
    drop(files);
    assert_eq!(shim_open_fds(), before);
    for mut time in [0; 100] {
        let usec = || Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap()).as_micros() as u64;
        let before = usec();
        // SAFETY: there is room for one value.
        assert_eq!(unsafe { shim_monotonic_usec(&mut time) }, 0);
        assert!((before..=usec()).contains(&time), "{before} {time}");
    }
}

/// So that no descriptor has to wait for the kernel to make the table larger.
#[test]
fn the_table_of_descriptors_has_room_for_all_clients_from_the_beginning() {
    let _no_leak = no_leak();
    let _acceptor = Acceptor::new(Policy { max_connections: 3000, ..POLICY });
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let room: u32 =
        status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap().trim().parse().unwrap();
    assert!(room >= 3000, "{room}");
}
