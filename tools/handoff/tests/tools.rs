//! The functions over their C border.
#![allow(missing_docs)]

use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use streaming_daemon_tools::*;

const SEQPACKET: u32 = 0;
const STREAM: u32 = 1;
const BAD_ARGUMENT: i32 = -5003;
const PATIENCE: Duration = Duration::from_secs(20);

fn pair(kind: u32) -> (OwnedFd, OwnedFd) {
    let mut fds = [0; 2];
    // SAFETY: there is room for two values.
    assert_eq!(unsafe { tools_socketpair(kind, fds.as_mut_ptr()) }, 0);
    // SAFETY: they have just been made, and by ABI.md they are the caller's.
    fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).into()
}

fn connect(path: &Path, kind: u32) -> i32 {
    let path = path.to_str().unwrap();
    // SAFETY: pointer and length belong to a live value.
    unsafe { tools_connect(path.as_ptr(), path.len() as u32, kind) }
}

fn sendmsg(to: i32, data: &[u8], fds: &[i32]) -> i32 {
    // SAFETY: pointers and lengths belong to live values.
    unsafe { tools_sendmsg(to, data.as_ptr(), data.len() as u32, fds.as_ptr(), fds.len() as u32) }
}

fn receive(from: i32, timeout: Duration) -> (i32, Vec<u8>) {
    let mut buffer = vec![0; 64];
    // SAFETY: pointer and length belong to a live value.
    let bytes = unsafe { tools_recv(from, buffer.as_mut_ptr(), 64, timeout.as_millis() as u32) };
    buffer.truncate(bytes.max(0) as usize);
    (bytes, buffer)
}

#[test]
fn the_version_is_the_one_of_the_contract() {
    assert_eq!(tools_abi_version(), 1);
}

#[test]
fn the_ends_of_a_pair_are_connected_and_close_on_exec() {
    for kind in [SEQPACKET, STREAM] {
        let (one, other) = pair(kind);
        assert_eq!(sendmsg(one.as_raw_fd(), b"hello", &[]), 5);
        assert_eq!(receive(other.as_raw_fd(), PATIENCE), (5, b"hello".to_vec()));
        for end in [&one, &other] {
            let links = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", end.as_raw_fd())).unwrap();
            let flags = links.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
            assert_ne!(u32::from_str_radix(flags, 8).unwrap() & 0o2000000, 0, "{flags}");
        }
        drop(one);
        assert_eq!(receive(other.as_raw_fd(), PATIENCE), (0, vec![]));
    }
}

#[test]
fn a_descriptor_is_passed_to_who_listens() {
    let path = std::env::temp_dir().join(format!("tools-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(connect(&path, SEQPACKET), -(Errno::EPROTOTYPE as i32));
    let apache = connect(&path, STREAM);
    let (accepted, _) = listener.accept().unwrap();
    let (browser, passed) = pair(STREAM);
    assert_eq!(sendmsg(apache, b"{}", &[passed.as_raw_fd()]), 2);
    drop(passed);
    assert_eq!(tools_close_fd(apache), 0);
    // The message holds the descriptor until it is thrown away.
    assert_eq!(recv(browser.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT), Err(Errno::EAGAIN));
    drop(accepted);
    assert_eq!(receive(browser.as_raw_fd(), PATIENCE).0, 0);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(connect(&path, STREAM), -(Errno::ENOENT as i32));
}

#[test]
fn recv_waits_no_longer_than_its_time() {
    let (one, _other) = pair(STREAM);
    let begin = Instant::now();
    let timed_out = -(Errno::ETIMEDOUT as i32);
    assert_eq!(receive(one.as_raw_fd(), Duration::ZERO).0, timed_out);
    assert_eq!(receive(one.as_raw_fd(), Duration::from_millis(40)).0, timed_out);
    assert!((Duration::from_millis(40)..PATIENCE).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!(receive(-1, Duration::from_millis(40)).0, -(Errno::EBADF as i32));
}

#[test]
fn a_descriptor_is_closed_once() {
    let (one, _other) = pair(STREAM);
    let fd = one.into_raw_fd();
    assert_eq!(tools_close_fd(fd), 0);
    assert_eq!(tools_close_fd(-1), -(Errno::EBADF as i32));
}

#[test]
#[allow(clippy::multiple_unsafe_ops_per_block, reason = "one reason holds for all")]
fn arguments_that_are_wrong_are_told() {
    let (one, _other) = pair(STREAM);
    let fd = one.as_raw_fd();
    let text = b"/a\0b".as_ptr();
    // SAFETY: NULL is allowed, and the other pointers and lengths belong to live values.
    let results = unsafe {
        [
            tools_socketpair(0, null_mut()),
            tools_socketpair(2, [0; 2].as_mut_ptr()),
            tools_connect(null(), 1, 0),
            tools_connect(text, 4, 0),
            tools_connect(text, 2, 2),
            tools_sendmsg(fd, null(), 1, null(), 0),
            tools_sendmsg(fd, text, 4, null(), 1),
            tools_sendmsg(fd, text, 4, [fd; 254].as_ptr(), 254),
            tools_recv(fd, null_mut(), 1, 0),
            tools_recv(fd, null_mut(), 0, 0),
        ]
    };
    assert_eq!(results, [BAD_ARGUMENT; 10]);
    assert_eq!(sendmsg(fd, b"x", &[fd; 253]), 1);
}
