//! What is refused, what becomes of what came with it, and who is told.
#![allow(missing_docs)]

mod support;

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use nix::unistd::getuid;
use streaming_daemon_shim::shim_open_fds;
use support::*;

impl Setup {
    /// The client of a refused handoff comes for an answer; so it is told.
    fn answers(&self, expected: u32, browser: &OwnedFd) {
        let Handoff { client, reason, payload, .. } = self.reactor.handoff();
        assert_eq!((reason, payload), (expected, vec![]));
        assert_eq!(self.acceptor.active(), 1);
        assert_eq!(self.reactor.send(client, b"no", END), 2);
        assert_eq!(recv_to_end(browser), b"no");
    }
}

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
    let setup = Setup::with_uids(SEQPACKET, Policy { max_pending: 1, ..POLICY }, &[me]);
    let allowed = setup.connect();
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

/// At the limit of open files the payload arrives whole, and of its descriptors those for which there was room.
#[test]
fn at_the_fd_limit_handoffs_are_refused_and_a_client_that_did_come_is_answered() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (browser, passed) = pair(STREAM);
    let before = shim_open_fds();
    let (none, one) = (setup.connect(), setup.connect());
    setup.another();
    eventually("they are accepted, and nothing else is open", || shim_open_fds() == before + 4);
    let limit = FdLimit::reach();
    sendmsg(&none, b"{}", &[&passed]);
    assert_eq!(setup.acceptor.refusal(), (2, CONTROL_TRUNCATED, 0));
    // The connection that is closed leaves room for one, as looking does.
    eventually("there is room for one descriptor", || shim_open_fds() > 0);
    sendmsg(&one, b"{}", &[&passed, &passed]);
    drop(passed);
    let refusal = setup.acceptor.refusal();
    drop(limit);
    assert_eq!(refusal, (2, CONTROL_TRUNCATED, 0));
    setup.answers(CONTROL_TRUNCATED, &browser);
    setup.goes_on();
}

#[test]
fn accepting_rests_at_the_fd_limit_and_goes_on_after_it() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (_browser, passed) = pair(STREAM);
    let sender =
        socket::socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let limit = FdLimit::reach();
    socket::connect(sender.as_raw_fd(), &UnixAddr::new(&setup.path).unwrap()).unwrap();
    assert_eq!(setup.acceptor.told(), Told::AcceptFailed { errno: libc::EMFILE });
    let before = cpu_ms();
    // Four more rests, of which none is told.
    assert_eq!(setup.acceptor.ear().hear(Duration::from_millis(400), 1), Heard::Nothing);
    assert!(cpu_ms() - before < 100, "it spins: {} ms of CPU", cpu_ms() - before);
    drop(limit);
    sendmsg(&sender, b"{}", &[&passed]);
    setup.reactor.client();
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
