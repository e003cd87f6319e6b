//! The process's limit of open files: in a binary of its own, since it holds for the whole process.
#![allow(missing_docs)]

mod support;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use support::*;

/// The bell's two ends: what a start takes.
const BELL_FDS: u64 = 2;

/// The soft limit as it was, put back at the end.
struct Limit {
    soft: u64,
    hard: u64,
    /// What fills the gaps below the limit.
    _fillers: Vec<File>,
}

/// Leaves room for the start of a reactor and exactly `spare` more descriptors. The reactors of this file are
/// started under the limit, or they would have accepted before it holds.
fn only(spare: u64) -> Limit {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let highest = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<i32>().unwrap())
        .max()
        .unwrap();
    let mut fillers = Vec::new();
    let next = loop {
        let filler = File::open("/dev/null").unwrap();
        let number = filler.as_raw_fd();
        if number > highest {
            break number;
        }
        fillers.push(filler);
    };
    setrlimit(Resource::RLIMIT_NOFILE, next as u64 + BELL_FDS + spare, hard).unwrap();
    Limit { soft, hard, _fillers: fillers }
}

impl Drop for Limit {
    fn drop(&mut self) {
        setrlimit(Resource::RLIMIT_NOFILE, self.soft, self.hard).unwrap();
    }
}

#[test]
fn a_descriptor_lost_at_the_limit_is_a_truncated_control_message() {
    for kind in BOTH {
        for (spare, fds) in [(1, 1), (1, 2), (2, 2), (4, 9)] {
            let setup = Setup::new(kind, POLICY);
            let (browser, passed) = pair(STREAM);
            let connection = connect(&setup.path, kind);
            let passed_fds: Vec<&dyn AsFd> = vec![&passed; fds];
            sendmsg(&connection, b"{}", &passed_fds);
            drop((connection, passed));
            let limit = only(spare);
            assert_eq!(setup.reactor.failure(), (2, CONTROL_TRUNCATED, 0));
            drop(limit);
            assert_eq!(recv_to_end(&browser), b"");
            assert_eq!(setup.intake.active(), 0);
        }
    }
}

#[test]
fn at_the_limit_the_listener_rests_and_nothing_is_lost() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (_browser, passed) = pair(STREAM);
    for _ in 0..3 {
        hand_off(&setup.path, SEQPACKET, b"{}", &passed);
    }
    let limit = only(0);
    assert_eq!(setup.reactor.event(), Event::AcceptFailed { errno: libc::EMFILE });
    drop(limit);
    let begin = Instant::now();
    for _ in 0..3 {
        setup.reactor.client();
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[test]
fn a_rest_costs_nothing_and_is_told_once_a_second() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (_browser, passed) = pair(STREAM);
    hand_off(&setup.path, SEQPACKET, b"{}", &passed);
    let limit = only(0);
    let (begin, cpu) = (Instant::now(), cpu_ms());
    for _ in 0..2 {
        assert_eq!(setup.reactor.event(), Event::AcceptFailed { errno: libc::EMFILE });
    }
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
    assert!(cpu_ms() - cpu < 200, "{} ms of CPU", cpu_ms() - cpu);
    drop(limit);
    setup.reactor.client();
}

#[test]
fn a_stop_at_the_limit_still_serves_the_backlog_later() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (_browser, passed) = pair(STREAM);
    hand_off(&setup.path, SEQPACKET, b"{}", &passed);
    let limit = only(0);
    assert_eq!(setup.intake.stop(), 0);
    assert_eq!(setup.reactor.event(), Event::AcceptFailed { errno: libc::EMFILE });
    drop(limit);
    setup.reactor.client();
    assert_eq!(setup.reactor.event(), Event::Drained);
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let _no_leak = no_leak();
    let limit = only(10);
    let mut out = [0; 2];
    // SAFETY: the pointer is that of two live values.
    assert_eq!(unsafe { streaming_daemon_shim::shim_raise_fd_limit(out.as_mut_ptr()) }, 0);
    assert_eq!(out, [limit.hard; 2]);
    assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((limit.hard, limit.hard)));
}

#[test]
fn open_fds_counts_what_is_open() {
    let _no_leak = no_leak();
    let before = streaming_daemon_shim::shim_open_fds();
    let files: Vec<OwnedFd> = (0..5).map(|_| File::open("/dev/null").unwrap().into()).collect();
    assert_eq!(streaming_daemon_shim::shim_open_fds(), before + 5);
    drop(files);
    assert_eq!(streaming_daemon_shim::shim_open_fds(), before);
}
