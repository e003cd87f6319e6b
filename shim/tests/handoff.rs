//! What comes in over one message.
#![allow(missing_docs)]

mod support;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::unistd::getuid;
use support::*;

fn is_nonblocking(fd: BorrowedFd) -> bool {
    fcntl(fd, FcntlArg::F_GETFL).unwrap() & libc::O_NONBLOCK != 0
}

#[test]
fn a_handoff_becomes_a_client_that_is_sent_to() {
    for kind in BOTH {
        let setup = Setup::new(kind, POLICY);
        let (browser, passed) = pair(STREAM);
        setup.hand_off(br#"{"prompt":"hi"}"#, &passed);
        drop(passed);
        let Handoff { client, flags, reason, micros, uid, payload } = setup.reactor.handoff();
        assert_eq!((flags, reason), (4 * kind, 0));
        assert!(micros < 10_000_000);
        assert_eq!(uid, getuid().as_raw());
        assert_eq!(payload, br#"{"prompt":"hi"}"#);
        assert_eq!(setup.acceptor.active(), 1);
        assert_eq!(setup.reactor.send_batch(&[(client, b"one ", 0), (client, b"two", END)]), [4, 3]);
        assert_eq!(recv_to_end(&browser), b"one two");
        assert_eq!(setup.acceptor.active(), 0);
        assert_eq!(setup.reactor.send(client, b"late", 0), BAD_HANDLE);
        setup.acceptor.stays_silent();
    }
}

/// What the sender left set would make gaps of 200 ms, a close that waits for seconds or an end that is a RST.
#[test]
fn a_tcp_client_has_known_options_and_its_file_flags_are_left_alone() {
    let setup = Setup::new(SEQPACKET, Policy { client_timeout_ms: 31_000, ..POLICY });
    let (_browser, passed) = tcp_pair();
    setsockopt(&passed, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 5 }).unwrap();
    set_option(&passed, libc::IPPROTO_TCP, libc::TCP_CORK, 1);
    assert!(!passed.nodelay().unwrap());
    setup.hand_off(b"{}", &passed);
    assert_eq!(setup.reactor.handoff().flags, TCP);
    assert_eq!(getsockopt(&passed, sockopt::Linger).unwrap().l_onoff, 0);
    assert_eq!(option(&passed, libc::IPPROTO_TCP, libc::TCP_CORK), 0);
    assert_eq!(option(&passed, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT), 16 * 1024);
    assert!(passed.nodelay().unwrap());
    assert_eq!(getsockopt(&passed, sockopt::TcpUserTimeout), Ok(31_000));
    assert!(!is_nonblocking(passed.as_fd()));
}

#[test]
fn without_a_client_timeout_the_system_s_holds() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (_browser, passed) = tcp_pair();
    setup.hand_off(b"{}", &passed);
    setup.reactor.client();
    assert_eq!(getsockopt(&passed, sockopt::TcpUserTimeout), Ok(0));
}

#[test]
fn a_nul_byte_is_a_payload() {
    for kind in BOTH {
        let setup = Setup::new(kind, POLICY);
        let (_browser, passed) = pair(STREAM);
        setup.hand_off(b"\0", &passed);
        assert_eq!(setup.reactor.handoff().payload, b"\0");
    }
}

#[test]
fn an_empty_message_with_a_descriptor_is_a_handoff() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (_browser, passed) = pair(STREAM);
    setup.hand_off(b"", &passed);
    assert_eq!(setup.reactor.handoff().payload, b"");
}

#[test]
fn the_longest_payload_fits() {
    for kind in BOTH {
        let setup = Setup::new(kind, POLICY);
        let mut payload = vec![b' '; 4096];
        *payload.first_mut().unwrap() = b'{';
        *payload.last_mut().unwrap() = b'}';
        let (_browser, passed) = pair(STREAM);
        setup.hand_off(&payload, &passed);
        assert_eq!(setup.reactor.handoff().payload, payload);
    }
}

#[test]
fn a_longer_payload_fits_once_the_policy_lets_it() {
    for kind in BOTH {
        let setup = Setup::new(kind, POLICY);
        setup.another();
        assert_eq!(setup.acceptor.configure(Policy { handoff_buffer_bytes: 90_000, ..POLICY }, &[]), 0);
        let payload = [b"{", &[b' '; 89_998][..], b"}"].concat();
        let (_browser, passed) = pair(STREAM);
        setup.hand_off(&payload, &passed);
        assert_eq!(setup.reactor.handoff().payload, payload);
    }
}

#[test]
fn a_handoff_that_comes_after_the_accept_is_received() {
    for kind in BOTH {
        let setup = Setup::new(kind, POLICY);
        let connection = setup.connect();
        setup.another();
        let (_browser, passed) = pair(STREAM);
        sendmsg(&connection, b"{\"late\":1}", &[&passed]);
        assert_eq!(setup.reactor.handoff().payload, b"{\"late\":1}");
    }
}

#[test]
fn past_max_connections_a_handoff_is_flagged() {
    let setup = Setup::new(SEQPACKET, Policy { max_connections: 1, ..POLICY });
    let (_browser, passed) = pair(STREAM);
    let mut clients = Vec::new();
    for expected in [0, OVER_LIMIT, OVER_LIMIT] {
        setup.hand_off(b"{}", &passed);
        let Handoff { client, flags, .. } = setup.reactor.handoff();
        assert_eq!(flags, expected);
        clients.push(client);
    }
    assert_eq!(setup.acceptor.active(), 3);
    for client in clients {
        assert_eq!(setup.reactor.close_client(client), 0);
    }
    setup.hand_off(b"{}", &passed);
    assert_eq!(setup.reactor.handoff().flags, 0);
}

#[test]
fn the_same_socket_handed_off_twice_at_once_is_two_clients() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (browser, passed) = pair(STREAM);
    let (one, two) = (setup.admit(&passed), setup.admit(&passed));
    drop(passed);
    assert_ne!(one, two);
    assert_eq!(setup.reactor.send_batch(&[(one, b"1", 0), (two, b"2", 0)]), [1, 1]);
    assert_eq!((setup.reactor.close_client(one), setup.reactor.close_client(two)), (0, 0));
    assert_eq!(recv_to_end(&browser), b"12");
}

#[test]
fn a_socket_handed_off_again_after_its_client_was_closed_is_watched_again() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (browser, passed) = pair(STREAM);
    for _ in 0..3 {
        let client = setup.admit(&passed);
        assert_eq!(setup.reactor.close_client(client), 0);
    }
    let client = setup.admit(&passed);
    drop(browser);
    assert_eq!(setup.reactor.event(), Event::Gone { client, errno: 0 });
    setup.reactor.stays_silent();
}

/// 0 bytes without a descriptor say nothing about what comes behind them: an empty message looks like the end.
#[test]
fn behind_an_empty_message_a_handoff_is_received() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let acceptor = Acceptor::new(POLICY);
    acceptor.listen(SEQPACKET, &path);
    let (_browser, passed) = pair(STREAM);
    let connection = connect(&path, SEQPACKET);
    sendmsg(&connection, b"", &[]);
    sendmsg(&connection, b"{}", &[&passed]);
    drop(connection);
    // All of it is there before anybody looks.
    acceptor.ear();
    assert_eq!(acceptor.reactor().handoff().payload, b"{}");
    acceptor.stays_silent();
}

/// On Linux a recvmsg(2) that does not wait can give 0 bytes for a message that is there, if its sender sends and
/// closes meanwhile.
#[test]
fn no_handoff_of_a_sender_that_closes_at_once_is_lost() {
    const SENDERS: usize = 2;
    let each: usize = std::env::var("HANDOFFS").map_or(100_000, |count| count.parse().unwrap()) / SENDERS;
    let setup = Setup::new(SEQPACKET, POLICY);
    let (_browser, passed) = pair(STREAM);
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..each {
                        hand_off(&setup.path, SEQPACKET, b"{}", &passed);
                    }
                })
            })
            .collect();
        let mut taken = 0;
        while taken < SENDERS * each {
            assert_eq!(setup.acceptor.take(), [], "refused after {taken}");
            for event in setup.reactor.take() {
                let Event::Handoff(Handoff { client, reason: 0, .. }) = event else { panic!("{event:?}") };
                assert_eq!(setup.reactor.close_client(client), 0);
                taken += 1;
            }
            assert!(taken == SENDERS * each || setup.reactor.wait(PATIENCE) == 1, "lost after {taken}");
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
    assert_eq!(setup.acceptor.take(), []);
    assert_eq!(setup.acceptor.active(), 0);
}

/// Whoever says nothing takes nobody's place for long.
#[test]
fn past_max_pending_the_first_in_time_is_refused_and_the_others_are_served() {
    let setup = Setup::new(SEQPACKET, Policy { max_pending: 2, ..POLICY });
    let silent: Vec<OwnedFd> = (0..4).map(|_| setup.connect()).collect();
    setup.acceptor.refusals(TIMEOUT, 2);
    assert_eq!(recv_to_end(&silent[0]), b"");
    assert_eq!(recv_to_end(&silent[1]), b"");
    let (_browser, passed) = pair(STREAM);
    for connection in &silent[2..] {
        sendmsg(connection, b"{}", &[&passed]);
        setup.reactor.client();
    }
}
