//! One sender that means harm, and how the others fare.
#![allow(missing_docs)]

mod support;

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, UnixAddr, recv, sendmsg as send_message, setsockopt, sockopt,
};
use streaming_daemon_shim::*;
use support::*;

/// How long a handoff of somebody else may take beside an attack, on a busy machine.
const SOON: Duration = Duration::from_secs(2);

impl Setup {
    /// Hands off, and again where the connection was closed before the message was sent: a full house does that to who
    /// has waited longest.
    fn insist(&self, passed: &dyn AsFd) {
        let begin = Instant::now();
        loop {
            match try_sendmsg(&self.connect(), b"{}", &[passed]) {
                Err(Errno::EPIPE) if begin.elapsed() < PATIENCE => {}
                sent => return assert_eq!(sent, Ok(2)),
            }
        }
    }

    /// How long a good handoff took at most while `attack` went on, and what else came.
    fn beside(&self, attack: impl Fn(&AtomicBool) + Sync) -> (Duration, Vec<Handoff>) {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let attacker = scope.spawn(|| attack(&is_over));
            let _at_the_end = Raise(&is_over);
            let (mut longest, mut others) = (Duration::ZERO, Vec::new());
            let end = Instant::now() + Duration::from_secs(1);
            while Instant::now() < end && !attacker.is_finished() {
                let (browser, passed) = pair(STREAM);
                let begin = Instant::now();
                self.insist(&passed);
                drop(passed);
                let client = loop {
                    let handoff = self.reactor.handoff();
                    if handoff.payload == b"{}" {
                        break handoff.client;
                    }
                    others.push(handoff);
                };
                assert_eq!(self.reactor.send(client, b"served", END), 6);
                assert_eq!(recv_to_end(&browser), b"served");
                longest = longest.max(begin.elapsed());
            }
            (longest, others)
        })
    }
}

/// Ends the attack, also where the test fails.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A socket that close(2) waits for: it has sent what nobody reads.
fn lingering() -> (TcpStream, TcpStream, usize) {
    let (far_end, near_end) = tcp_pair();
    near_end.set_nonblocking(true).unwrap();
    let mut filled = 0;
    while let Ok(bytes) = (&near_end).write(&[b'x'; 1 << 16]) {
        filled += bytes;
    }
    setsockopt(&near_end, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 5 }).unwrap();
    (far_end, near_end, filled)
}

/// One byte and 253 descriptors a message, as many as there is room for, over and over.
#[test]
fn a_sender_of_253_descriptors_a_message_is_refused_at_the_first() {
    let setup = Setup::new(STREAM, Policy { handoff_buffer_bytes: 1 << 20, ..POLICY });
    let (_browser, passed) = pair(STREAM);
    let path = setup.path.clone();
    let (longest, _) = setup.beside(|is_over| {
        let fds: Vec<&dyn AsFd> = vec![&passed; 253];
        while !is_over.load(Ordering::Acquire) {
            let connection = connect(&path, STREAM);
            while try_sendmsg(&connection, b"x", &fds).is_ok() {}
        }
    });
    assert!(longest < SOON, "{longest:?}");
    let told = setup.acceptor.take();
    assert!(matches!(told[..], [Told::Refused { reason: MANY_FDS, detail: 253, bytes: 1, .. }]), "{told:?}");
}

/// Bytes without an end: at no time is there nothing to read.
#[test]
fn a_sender_that_never_stops_neither_keeps_others_waiting_nor_outlasts_its_time() {
    let setup =
        Setup::new(STREAM, Policy { handoff_buffer_bytes: 64 << 20, handoff_timeout_ms: 500, ..POLICY });
    let (_browser, passed) = pair(STREAM);
    let path = setup.path.clone();
    let (longest, others) = setup.beside(|is_over| {
        while !is_over.load(Ordering::Acquire) {
            let connection = connect(&path, STREAM);
            sendmsg(&connection, b"x", &[&passed]);
            while !is_over.load(Ordering::Acquire) {
                match try_sendmsg(&connection, b" ", &[]) {
                    Ok(_) | Err(nix::errno::Errno::EAGAIN) => {}
                    Err(_) => break,
                }
            }
        }
    });
    assert!(longest < SOON, "{longest:?}");
    assert!(!others.is_empty());
    for Handoff { payload, micros, .. } in others {
        assert!(payload.starts_with(b"x "));
        assert!((500_000..3_000_000).contains(&micros), "{micros}");
    }
}

#[test]
fn lingering_sockets_that_are_refused_are_closed_without_a_wait() {
    for kind in BOTH {
        let _no_leak = no_leak();
        let directory = Directory::new();
        let path = directory.path("socket");
        let acceptor = Acceptor::new(POLICY);
        acceptor.listen(kind, &path);
        let (mut far_end, near_end, filled) = lingering();
        sendmsg(&connect(&path, kind), b"{}", &[&near_end, &near_end]);
        // Before anybody looks: the last close of a socket is the one that waits.
        drop(near_end);
        let (_browser, passed) = pair(STREAM);
        hand_off(&path, kind, b"{}", &passed);
        let begin = Instant::now();
        let reactor = acceptor.reactor();
        assert_eq!(acceptor.refusal(), (2, MANY_FDS, 2));
        reactor.client();
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        // In order, and not by a RST.
        let mut all = Vec::new();
        assert_eq!(far_end.read_to_end(&mut all).unwrap(), filled);
    }
}

/// Descriptors that were never received are closed with the connection.
#[test]
fn what_lies_unread_in_the_connection_is_closed_where_nobody_waits() {
    let _no_leak = no_leak();
    // Also behind empty messages, which a peek does not tell from the end.
    for empty in 0..3 {
        let directory = Directory::new();
        let path = directory.path("socket");
        let acceptor = Acceptor::new(POLICY);
        acceptor.listen(SEQPACKET, &path);
        let (_far_end, near_end, _) = lingering();
        let connection = connect(&path, SEQPACKET);
        sendmsg(&connection, b"{}", &[]);
        for _ in 0..empty {
            sendmsg(&connection, b"", &[]);
        }
        sendmsg(&connection, b"", &[&near_end]);
        drop(near_end);
        let (_browser, passed) = pair(STREAM);
        hand_off(&path, SEQPACKET, b"{}", &passed);
        let begin = Instant::now();
        let reactor = acceptor.reactor();
        assert_eq!(acceptor.refusal(), (2, NO_FD, 0));
        reactor.client();
        assert!(begin.elapsed() < SOON, "{empty} {:?}", begin.elapsed());
    }
}

/// So are those of a connection that was never accepted.
#[test]
fn what_lies_in_the_backlog_is_closed_where_nobody_waits() {
    for kind in BOTH {
        let _no_leak = no_leak();
        let directory = Directory::new();
        let path = directory.path("socket");
        let acceptor = Acceptor::new(POLICY);
        acceptor.listen(kind, &path);
        let (_far_end, near_end, _) = lingering();
        hand_off(&path, kind, b"{}", &near_end);
        drop(near_end);
        let begin = Instant::now();
        drop(acceptor);
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    }
}

/// A socket that holds the last reference to a lingering one in a message that nobody read.
fn slow_to_close() -> (TcpStream, OwnedFd) {
    let (far_end, near_end, _) = lingering();
    let (one, other) = pair(SEQPACKET);
    sendmsg(&one, b"", &[&near_end]);
    (far_end, other)
}

#[test]
fn closes_that_block_are_made_where_nobody_waits() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (_far_end, slow) = slow_to_close();
    let begin = Instant::now();
    setup.hand_off(b"{}", &slow);
    drop(slow);
    assert_eq!(setup.acceptor.refusal(), (2, NOT_STREAM, libc::SOCK_SEQPACKET as u32));
    setup.another();
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

/// One byte out of band, with a descriptor.
fn send_urgent(to: &OwnedFd, passed: &impl AsRawFd) {
    let rights = [ControlMessage::ScmRights(&[passed.as_raw_fd()])];
    let sent = send_message::<UnixAddr>(
        to.as_raw_fd(),
        &[IoSlice::new(b"x")],
        &rights,
        MsgFlags::MSG_OOB | MsgFlags::MSG_NOSIGNAL,
        None,
    );
    assert_eq!(sent, Ok(1));
}

/// A recvmsg(2) that skips a byte out of band closes what came with it, by itself.
#[test]
fn what_comes_out_of_band_is_received_as_all_else() {
    let setup = Setup::new(STREAM, POLICY);
    let (_far_end, near_end, _) = lingering();
    let begin = Instant::now();
    let connection = setup.connect();
    send_urgent(&connection, &near_end);
    drop(near_end);
    setup.another();
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    drop(connection);
    let Handoff { client, payload, .. } = setup.reactor.handoff();
    assert_eq!(payload, b"x");
    assert_eq!(setup.reactor.close_client(client), 0);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

/// What a peek does not show is closed with the socket all the same.
#[test]
fn what_is_hidden_in_a_client_is_closed_where_nobody_waits() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let urgent = |one: &OwnedFd, _: &OwnedFd, passed: &TcpStream| send_urgent(one, passed);
    let read_already = |one: &OwnedFd, other: &OwnedFd, passed: &TcpStream| {
        send_urgent(one, passed);
        assert_eq!(recv(other.as_raw_fd(), &mut [0], MsgFlags::MSG_OOB), Ok(1));
    };
    let peeked_past = |one: &OwnedFd, other: &OwnedFd, passed: &TcpStream| {
        sendmsg(one, b"x", &[passed]);
        set_option(other, libc::SOL_SOCKET, libc::SO_PEEK_OFF, 1000);
    };
    type Hide = fn(&OwnedFd, &OwnedFd, &TcpStream);
    for hide in [urgent as Hide, read_already, peeked_past] {
        let (_far_end, near_end, _) = lingering();
        let (one, other) = pair(STREAM);
        hide(&one, &other, &near_end);
        drop(near_end);
        let client = setup.admit(other);
        let begin = Instant::now();
        assert_eq!(setup.reactor.close_client(client), 0);
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    }
}

/// While one close blocks, others queue up behind it; past a thousand nothing more is received.
#[test]
fn what_waits_for_a_close_that_blocks_is_bounded() {
    const MESSAGES: i32 = 20;
    let setup = Setup::new(SEQPACKET, POLICY);
    let (_far_end, slow) = slow_to_close();
    setup.hand_off(b"{}", &slow);
    drop(slow);
    setup.acceptor.refusals(NOT_STREAM, 1);
    let before = shim_open_fds();
    let file = File::open("/dev/null").unwrap();
    let fds: Vec<&dyn AsFd> = vec![&file; 253];
    for _ in 0..MESSAGES {
        sendmsg(&setup.connect(), b"{}", &fds);
    }
    eventually("many wait", || shim_open_fds() > before + 1024);
    let cpu = cpu_ms();
    assert_eq!(setup.acceptor.ear().hear(Duration::from_millis(300), 16), Heard::Rings(1));
    assert_eq!(setup.acceptor.ear().hear(Duration::from_millis(300), 16), Heard::Nothing);
    assert!(cpu_ms() - cpu < 100, "it spins: {} ms of CPU", cpu_ms() - cpu);
    assert!(shim_open_fds() < before + 1024 + 2 * 253, "{} are open", shim_open_fds() - before);
    let begin = Instant::now();
    setup.another();
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    let [Told::Refused { reason: MANY_FDS, count, .. }] = setup.acceptor.take()[..] else { panic!() };
    assert_eq!(count, MESSAGES as u32);
}

#[test]
fn many_silent_connections_cost_nobody_his_place_for_long() {
    let setup = Setup::new(SEQPACKET, Policy { max_pending: 8, ..POLICY });
    let path = setup.path.clone();
    let (longest, _) = setup.beside(|is_over| {
        let mut silent = std::collections::VecDeque::new();
        while !is_over.load(Ordering::Acquire) {
            match try_connect(&path, SEQPACKET) {
                Ok(connection) => silent.push_back(connection),
                Err(_) => thread::yield_now(),
            }
            if silent.len() > 100 {
                silent.pop_front();
            }
        }
    });
    assert!(longest < SOON, "{longest:?}");
    let told = setup.acceptor.take();
    let reasons: Vec<u32> = told
        .iter()
        .map(|told| match told {
            Told::Refused { reason, .. } => *reason,
            other => panic!("{other:?}"),
        })
        .collect();
    // They lose their place, or have left before they are looked at.
    assert!(!reasons.is_empty());
    assert!(reasons.iter().all(|reason| [NO_FD, TIMEOUT].contains(reason)), "{told:?}");
}
