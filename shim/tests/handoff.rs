//! What comes in over one message, and what is refused.
#![allow(missing_docs)]

mod support;

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::getuid;
use support::*;

impl Setup {
    fn hand_off(&self, data: &[u8], client: &dyn AsFd) {
        hand_off(&self.path, self.kind, data, client);
    }

    /// After a refusal the next handoff is served, and nothing is counted.
    fn goes_on(&self) {
        assert_eq!(self.intake.active(), 0);
        let (browser, passed) = pair(STREAM);
        self.hand_off(b"{}", &passed);
        drop(passed);
        let client = self.reactor.client();
        assert_eq!(self.reactor.send(client, b"on", END), 2);
        assert_eq!(recv_to_end(&browser), b"on");
    }
}

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
        let Event::Handoff { client, flags, micros, uid, payload } = setup.reactor.event() else { panic!() };
        assert_eq!(flags, 4 * kind);
        assert!(micros < 10_000_000);
        assert_eq!(uid, getuid().as_raw());
        assert_eq!(payload, br#"{"prompt":"hi"}"#);
        assert_eq!(setup.intake.active(), 1);
        assert_eq!(setup.reactor.send_batch(&[(client, b"one ", 0), (client, b"two", END)]), [4, 3]);
        assert_eq!(recv_to_end(&browser), b"one two");
        assert_eq!(setup.intake.active(), 0);
        assert_eq!(setup.reactor.send(client, b"late", 0), BAD_HANDLE);
    }
}

#[test]
fn a_tcp_client_is_flagged_and_set_up_and_its_file_flags_are_left_alone() {
    let setup = Setup::new(SEQPACKET, Policy { client_timeout_ms: 31_000, ..POLICY });
    let (_browser, passed) = tcp_pair();
    assert!(!passed.nodelay().unwrap());
    setup.hand_off(b"{}", &passed);
    let Event::Handoff { flags, .. } = setup.reactor.event() else { panic!() };
    assert_eq!(flags, 2);
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
        let Event::Handoff { payload, .. } = setup.reactor.event() else { panic!() };
        assert_eq!(payload, b"\0");
    }
}

#[test]
fn an_empty_message_with_a_descriptor_is_a_handoff() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (_browser, passed) = pair(STREAM);
    setup.hand_off(b"", &passed);
    let Event::Handoff { payload, .. } = setup.reactor.event() else { panic!() };
    assert_eq!(payload, b"");
}

#[test]
fn the_longest_payload_fits_and_one_byte_more_is_refused() {
    for kind in BOTH {
        let setup = Setup::new(kind, POLICY);
        let mut payload = vec![b' '; 4096];
        *payload.first_mut().unwrap() = b'{';
        *payload.last_mut().unwrap() = b'}';
        let (_browser, passed) = pair(STREAM);
        setup.hand_off(&payload, &passed);
        let Event::Handoff { payload: received, client, .. } = setup.reactor.event() else { panic!() };
        assert_eq!(received, payload);
        setup.reactor.close_client(client);
        payload.insert(1, b' ');
        setup.hand_off(&payload, &passed);
        assert_eq!(setup.reactor.failure(), (4097, PAYLOAD_TRUNCATED, 4096));
        setup.goes_on();
    }
}

#[test]
fn a_message_much_too_long_is_refused_and_its_length_told() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (_browser, passed) = pair(STREAM);
    setup.hand_off(&[b'x'; 100_000], &passed);
    assert_eq!(setup.reactor.failure(), (100_000, PAYLOAD_TRUNCATED, 4096));
    setup.goes_on();
}

#[test]
fn no_descriptor_is_refused() {
    let setup = Setup::new(SEQPACKET, POLICY);
    sendmsg(&connect(&setup.path, SEQPACKET), b"{}", &[]);
    assert_eq!(setup.reactor.failure(), (2, NO_FD, 0));
    setup.goes_on();
}

#[test]
fn a_person_who_passes_no_descriptor_is_told_so() {
    let setup = Setup::new(STREAM, POLICY);
    let person = connect(&setup.path, STREAM);
    sendmsg(&person, b"{}", &[]);
    assert_eq!(setup.reactor.failure(), (2, NO_FD, 0));
    let answer = String::from_utf8(recv_to_end(&person)).unwrap();
    assert!(answer.starts_with("No file descriptor came") && answer.ends_with('\n'), "{answer:?}");
    assert_eq!(answer.lines().count(), 1);
    setup.goes_on();
}

#[test]
fn a_connection_that_says_nothing_and_closes_is_refused() {
    for kind in BOTH {
        let setup = Setup::new(kind, POLICY);
        drop(connect(&setup.path, kind));
        assert_eq!(setup.reactor.failure(), (0, NO_FD, 0));
        setup.goes_on();
    }
}

#[test]
fn more_than_one_descriptor_is_refused_and_all_are_closed() {
    for kind in BOTH {
        for many in [2, 3, 253] {
            let setup = Setup::new(kind, POLICY);
            let (browser, passed) = pair(STREAM);
            let fds: Vec<&dyn AsFd> = vec![&passed; many];
            sendmsg(&connect(&setup.path, kind), b"{}", &fds);
            drop(passed);
            assert_eq!(setup.reactor.failure(), (2, MANY_FDS, many as u32));
            assert_eq!(recv_to_end(&browser), b"");
            setup.goes_on();
        }
    }
}

#[test]
fn what_is_not_a_socket_is_refused() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let only_a_path = File::options().read(true).custom_flags(libc::O_PATH).open("/").unwrap();
    let file = File::open("/dev/null").unwrap();
    for not_a_socket in [&file as &dyn AsFd, &only_a_path] {
        setup.hand_off(b"{}", not_a_socket);
        assert_eq!(setup.reactor.failure(), (2, NOT_A_SOCKET_PASSED, 0));
    }
    setup.goes_on();
}

#[test]
fn what_is_not_a_stream_is_refused_with_its_type() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (seqpacket, _other) = pair(SEQPACKET);
    setup.hand_off(b"{}", &seqpacket);
    assert_eq!(setup.reactor.failure(), (2, NOT_STREAM, libc::SOCK_SEQPACKET as u32));
    setup.hand_off(b"{}", &UdpSocket::bind("127.0.0.1:0").unwrap());
    assert_eq!(setup.reactor.failure(), (2, NOT_STREAM, libc::SOCK_DGRAM as u32));
    setup.goes_on();
}

#[test]
fn a_listener_is_refused() {
    let setup = Setup::new(SEQPACKET, POLICY);
    setup.hand_off(b"{}", &TcpListener::bind("127.0.0.1:0").unwrap());
    assert_eq!(setup.reactor.failure(), (2, LISTENING, 0));
    setup.goes_on();
}

#[test]
fn silence_past_the_timeout_is_refused() {
    for kind in BOTH {
        let setup = Setup::new(kind, Policy { handoff_timeout_ms: 60, ..POLICY });
        let silent = connect(&setup.path, kind);
        let Event::Failed { bytes, reason, micros, detail } = setup.reactor.event() else { panic!() };
        assert_eq!((bytes, reason, detail), (0, TIMEOUT, 60));
        assert!(micros >= 60_000, "{micros}");
        assert_eq!(recv_to_end(&silent), b"");
        setup.goes_on();
    }
}

#[test]
fn a_shorter_timeout_holds_for_those_accepted_after_it() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let _patient = connect(&setup.path, SEQPACKET);
    // The reactor accepts in order, so once this one is a client, the patient one is accepted.
    let (_browser, passed) = pair(STREAM);
    setup.hand_off(b"{}", &passed);
    setup.reactor.client();
    assert_eq!(setup.intake.configure(Policy { handoff_timeout_ms: 50, ..POLICY }, &[]), 0);
    let _hasty = connect(&setup.path, SEQPACKET);
    assert_eq!(setup.reactor.failure(), (0, TIMEOUT, 50));
    setup.reactor.stays_silent();
}

#[test]
fn past_max_pending_the_oldest_is_refused() {
    let setup = Setup::new(SEQPACKET, Policy { max_pending: 2, ..POLICY });
    let silent: Vec<OwnedFd> = (0..4).map(|_| connect(&setup.path, SEQPACKET)).collect();
    for _ in 0..2 {
        assert_eq!(setup.reactor.failure(), (0, TIMEOUT, 5000));
    }
    assert_eq!(recv_to_end(&silent[0]), b"");
    assert_eq!(recv_to_end(&silent[1]), b"");
    let (_browser, passed) = pair(STREAM);
    for connection in &silent[2..] {
        sendmsg(connection, b"{}", &[&passed]);
        setup.reactor.client();
    }
}

#[test]
fn a_handoff_that_comes_after_the_accept_is_received() {
    for kind in BOTH {
        let setup = Setup::new(kind, POLICY);
        let connection = connect(&setup.path, kind);
        let (first_browser, passed) = pair(STREAM);
        setup.hand_off(b"{}", &passed);
        let first = setup.reactor.client();
        sendmsg(&connection, b"{\"late\":1}", &[&passed]);
        let Event::Handoff { client, payload, .. } = setup.reactor.event() else { panic!() };
        assert_ne!(client, first);
        assert_eq!(payload, b"{\"late\":1}");
        drop(first_browser);
    }
}

#[test]
fn a_sender_whose_uid_is_not_allowed_is_refused() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let me = getuid().as_raw();
    let intake = Intake::with_uids(POLICY, &[me + 1, me + 2]);
    intake.listen(SEQPACKET, &path);
    let reactor = intake.reactor();
    let (browser, passed) = pair(STREAM);
    hand_off(&path, SEQPACKET, b"{}", &passed);
    assert_eq!(reactor.failure(), (0, UID_NOT_ALLOWED, me));
    assert_eq!(intake.configure(POLICY, &[me + 1, me]), 0);
    hand_off(&path, SEQPACKET, b"{}", &passed);
    reactor.client();
    drop((browser, passed));
}

#[test]
fn past_max_connections_a_handoff_is_flagged() {
    let setup = Setup::new(SEQPACKET, Policy { max_connections: 1, ..POLICY });
    let (_browser, passed) = pair(STREAM);
    let mut clients = Vec::new();
    for expected in [0, 1, 1] {
        setup.hand_off(b"{}", &passed);
        let Event::Handoff { client, flags, .. } = setup.reactor.event() else { panic!() };
        assert_eq!(flags, expected);
        clients.push(client);
    }
    assert_eq!(setup.intake.active(), 3);
    for client in clients {
        assert_eq!(setup.reactor.close_client(client), 0);
    }
    setup.hand_off(b"{}", &passed);
    let Event::Handoff { flags, .. } = setup.reactor.event() else { panic!() };
    assert_eq!(flags, 0);
}

#[test]
fn a_client_that_is_gone_already_is_a_handoff_and_then_gone() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (browser, passed) = pair(STREAM);
    drop(browser);
    setup.hand_off(b"{}", &passed);
    let events = setup.reactor.events(2);
    let Event::Handoff { client, .. } = events[0] else { panic!("{events:?}") };
    assert_eq!(events[1], Event::Gone { client, errno: 0 });
}

#[test]
fn the_same_socket_handed_off_twice_at_once_is_two_clients() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (browser, passed) = pair(STREAM);
    setup.hand_off(b"{}", &passed);
    setup.hand_off(b"{}", &passed);
    drop(passed);
    let (one, two) = (setup.reactor.client(), setup.reactor.client());
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
        setup.hand_off(b"{}", &passed);
        let client = setup.reactor.client();
        assert_eq!(setup.reactor.close_client(client), 0);
    }
    setup.hand_off(b"{}", &passed);
    let client = setup.reactor.client();
    drop(browser);
    assert_eq!(setup.reactor.event(), Event::Gone { client, errno: 0 });
    setup.reactor.stays_silent();
}
