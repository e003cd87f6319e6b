//! What is refused, what becomes of what came with it, and who is told.
#![allow(missing_docs)]

mod support;

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::getuid;
use support::*;

#[test]
fn the_client_of_a_payload_too_long_comes_for_an_answer() {
    for (kind, told) in [(SEQPACKET, 100_000), (STREAM, 4097)] {
        let setup = Setup::new(kind, POLICY);
        let (browser, passed) = pair(STREAM);
        let _connection = {
            let connection = setup.connect();
            sendmsg(&connection, &[b'x'; 100_000], &[&passed]);
            connection
        };
        drop(passed);
        assert_eq!(setup.acceptor.refusal(), (told, PAYLOAD_TRUNCATED, 4096));
        setup.answers(PAYLOAD_TRUNCATED, &browser);
        setup.goes_on();
    }
}

#[test]
fn one_byte_too_long_is_too_long() {
    for kind in BOTH {
        let setup = Setup::new(kind, POLICY);
        let (browser, passed) = pair(STREAM);
        let payload = [&b"{"[..], &[b' '; 4095], b"}"].concat();
        setup.hand_off(&payload, &passed);
        assert_eq!(setup.acceptor.refusal(), (4097, PAYLOAD_TRUNCATED, 4096));
        setup.answers(PAYLOAD_TRUNCATED, &browser);
    }
}

#[test]
fn a_payload_too_long_with_something_that_is_no_client_is_refused_alone() {
    let setup = Setup::new(SEQPACKET, POLICY);
    setup.hand_off(&[b'x'; 5000], &File::open("/dev/null").unwrap());
    assert_eq!(setup.acceptor.refusal(), (5000, PAYLOAD_TRUNCATED, 4096));
    setup.goes_on();
}

#[test]
fn no_descriptor_is_refused() {
    let setup = Setup::new(SEQPACKET, POLICY);
    sendmsg(&setup.connect(), b"{}", &[]);
    assert_eq!(setup.acceptor.refusal(), (2, NO_FD, 0));
    setup.goes_on();
}

#[test]
fn a_person_who_passes_no_descriptor_is_told_so() {
    let setup = Setup::new(STREAM, POLICY);
    let person = setup.connect();
    sendmsg(&person, b"{}", &[]);
    assert_eq!(setup.acceptor.refusal(), (2, NO_FD, 0));
    let answer = String::from_utf8(recv_to_end(&person)).unwrap();
    assert!(answer.starts_with("No file descriptor came") && answer.ends_with('\n'), "{answer:?}");
    assert_eq!(answer.lines().count(), 1);
    setup.goes_on();
}

#[test]
fn a_connection_that_says_nothing_and_closes_is_refused() {
    for kind in BOTH {
        let setup = Setup::new(kind, POLICY);
        drop(setup.connect());
        assert_eq!(setup.acceptor.refusal(), (0, NO_FD, 0));
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
            sendmsg(&setup.connect(), b"{}", &fds);
            drop(passed);
            assert_eq!(setup.acceptor.refusal(), (2, MANY_FDS, many as u32));
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
        assert_eq!(setup.acceptor.refusal(), (2, NOT_A_SOCKET_PASSED, 0));
    }
    setup.goes_on();
}

#[test]
fn what_is_not_a_stream_is_refused_with_its_type() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (seqpacket, _other) = pair(SEQPACKET);
    setup.hand_off(b"{}", &seqpacket);
    assert_eq!(setup.acceptor.refusal(), (2, NOT_STREAM, libc::SOCK_SEQPACKET as u32));
    setup.hand_off(b"{}", &UdpSocket::bind("127.0.0.1:0").unwrap());
    assert_eq!(setup.acceptor.refusal(), (2, NOT_STREAM, libc::SOCK_DGRAM as u32));
    setup.goes_on();
}

#[test]
fn a_listener_is_refused() {
    let setup = Setup::new(SEQPACKET, POLICY);
    setup.hand_off(b"{}", &TcpListener::bind("127.0.0.1:0").unwrap());
    assert_eq!(setup.acceptor.refusal(), (2, LISTENING, 0));
    setup.goes_on();
}

#[test]
fn silence_past_the_timeout_is_refused() {
    for kind in BOTH {
        let setup = Setup::new(kind, Policy { handoff_timeout_ms: 60, ..POLICY });
        let silent = setup.connect();
        let Told::Refused { bytes, reason, micros, count, detail } = setup.acceptor.told() else { panic!() };
        assert_eq!((bytes, reason, count, detail), (0, TIMEOUT, 1, 60));
        assert!(micros >= 60_000, "{micros}");
        assert_eq!(recv_to_end(&silent), b"");
        setup.goes_on();
    }
}

#[test]
fn a_shorter_timeout_holds_for_those_accepted_after_it() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let _patient = setup.connect();
    setup.another();
    assert_eq!(setup.acceptor.configure(Policy { handoff_timeout_ms: 50, ..POLICY }, &[]), 0);
    let _hasty = setup.connect();
    assert_eq!(setup.acceptor.refusal(), (0, TIMEOUT, 50));
    setup.acceptor.stays_silent();
}

#[test]
fn the_client_of_a_sender_that_is_not_allowed_comes_for_an_answer_and_one_message_is_read() {
    let me = getuid().as_raw();
    for kind in BOTH {
        let setup = Setup::with_uids(kind, POLICY, &[me + 1, me + 2]);
        let (browser, passed) = pair(STREAM);
        let connection = setup.connect();
        sendmsg(&connection, b"{\"a\":", &[&passed]);
        drop(passed);
        assert_eq!(setup.acceptor.refusal(), (5, UID_NOT_ALLOWED, me));
        setup.answers(UID_NOT_ALLOWED, &browser);
        assert_eq!(recv_to_end(&connection), b"");
        assert_eq!(setup.acceptor.configure(POLICY, &[me + 1, me]), 0);
        setup.goes_on();
    }
}

#[test]
fn a_sender_that_is_not_allowed_is_not_waited_for_and_takes_nobody_s_place() {
    let me = getuid().as_raw();
    let setup = Setup::with_uids(SEQPACKET, POLICY, &[me]);
    let allowed = setup.connect();
    // One that is allowed itself, which would take the only place if it were accepted before it says something.
    setup.another();
    assert_eq!(setup.acceptor.configure(Policy { max_pending: 1, ..POLICY }, &[me + 1]), 0);
    let _strangers = [setup.connect(), setup.connect()];
    setup.acceptor.refusals(UID_NOT_ALLOWED, 2);
    let (_browser, passed) = pair(STREAM);
    sendmsg(&allowed, b"{}", &[&passed]);
    setup.reactor.client();
    let _late = setup.connect();
    let Told::Refused { reason, micros, .. } = setup.acceptor.told() else { panic!() };
    assert_eq!(reason, UID_NOT_ALLOWED);
    assert!((100_000..2_000_000).contains(&micros), "{micros}");
}

#[test]
fn a_flood_of_refusals_is_a_few_records_and_others_are_served_meanwhile() {
    const REFUSED: u32 = 28_000;
    let setup = Setup::new(SEQPACKET, POLICY);
    let begin = Instant::now();
    let longest = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            for _ in 0..REFUSED {
                sendmsg(&connect(&setup.path, SEQPACKET), b"{}", &[]);
            }
        });
        let mut longest = Duration::ZERO;
        while !flood.is_finished() {
            let (_browser, passed) = pair(STREAM);
            let begin = Instant::now();
            setup.hand_off(b"{}", &passed);
            let client = setup.reactor.handoff().client;
            longest = longest.max(begin.elapsed());
            setup.reactor.close_client(client);
        }
        longest
    });
    eprintln!("{REFUSED} refusals in {:?}, a handoff took {longest:?} at most", begin.elapsed());
    assert!(longest < PATIENCE / 4, "{longest:?}");
    // Nobody has taken anything so far.
    setup.another();
    let [Told::Refused { reason: NO_FD, count: REFUSED, .. }] = setup.acceptor.take()[..] else { panic!() };
    setup.goes_on();
}
