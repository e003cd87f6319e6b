//! Sends, ends, and what clients do.
#![allow(missing_docs)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt};
use support::{
    BAD_ARGUMENT, BAD_HANDLE, END, Event, Handoff, PATIENCE, POLICY, SEQPACKET, STREAM, Setup, pair,
    recv_to_end, sendmsg, tcp_pair,
};

fn setup() -> Setup {
    Setup::new(SEQPACKET, POLICY)
}

impl Setup {
    fn tcp(&self) -> (TcpStream, u32) {
        let (browser, passed) = tcp_pair();
        (browser, self.admit(passed))
    }

    /// Sends until the client is full. Returns how many bytes it took.
    fn fill(&self, client: u32) -> usize {
        let block = vec![b'x'; 1 << 20];
        let mut sent = 0;
        loop {
            let result = self.reactor.send(client, &block, 0);
            assert!(result >= 0, "send gave {result}");
            sent += result as usize;
            if (result as usize) < block.len() {
                return sent;
            }
        }
    }
}

fn read_exactly(browser: &mut impl Read, bytes: usize) {
    let mut buffer = vec![0; bytes];
    browser.read_exact(&mut buffer).unwrap();
    assert!(buffer.iter().all(|byte| *byte == b'x'));
}

fn set_linger(socket: &impl AsFd, seconds: i32) {
    let linger = libc::linger { l_onoff: 1, l_linger: seconds };
    setsockopt(&socket.as_fd(), sockopt::Linger, &linger).unwrap();
}

#[test]
fn entries_go_out_in_their_order_each_with_its_result() {
    let setup = setup();
    let (one, first) = setup.local();
    let (mut two, second) = setup.tcp();
    let results = setup.reactor.send_batch(&[
        (first, b"a", 0),
        (second, b"1", 0),
        (first, b"bc", 0),
        (77_777, b"nobody", 0),
        (second, b"23", END),
        (first, b"", 0),
        (first, b"", END),
        (first, b"after", END),
    ]);
    assert_eq!(results, [1, 1, 2, BAD_HANDLE, 2, 0, 0, BAD_HANDLE]);
    assert_eq!(recv_to_end(&one), b"abc");
    let mut received = Vec::new();
    two.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"123");
    assert_eq!(setup.acceptor.active(), 0);
}

#[test]
fn a_word_out_of_range_fails_the_batch_before_anything_is_sent() {
    let setup = setup();
    let (browser, client) = setup.local();
    let wrong = [[client, 0, 6, 0], [client, 5, 1, 0], [client, 0, 1, 2], [client, u32::MAX, 1, 0]];
    for wrong in wrong.into_iter().chain([[client, u32::MAX, u32::MAX, 0], [client, 0, 1 << 31, 0]]) {
        let words: Vec<u32> = [[client, 0, 5, 0], wrong].concat();
        let mut results = [i32::MIN; 2];
        assert_eq!(setup.reactor.send_raw(&words, b"hello", &mut results), BAD_ARGUMENT);
        assert_eq!(results, [i32::MIN; 2]);
    }
    assert_eq!(setup.reactor.send_batch(&[]), [0; 0]);
    assert_eq!(setup.reactor.close_client(client), 0);
    assert_eq!(recv_to_end(&browser), b"");
}

#[test]
fn a_client_s_fin_is_told_once_and_what_it_still_reads_is_sent() {
    let setup = setup();
    let (mut browser, client) = setup.tcp();
    browser.shutdown(Shutdown::Write).unwrap();
    assert_eq!(setup.reactor.event(), Event::Gone { client, errno: 0 });
    // Also where it has to be waited for.
    let sent = setup.fill(client);
    read_exactly(&mut browser, sent);
    assert_eq!(setup.reactor.event(), Event::Writable { client });
    assert_eq!(setup.reactor.send(client, b"still here", END), 10);
    let mut received = String::new();
    browser.read_to_string(&mut received).unwrap();
    assert_eq!(received, "still here");
    setup.reactor.stays_silent();
}

#[test]
fn a_client_that_had_left_comes_with_a_flag_and_nothing_more_is_told_of_it() {
    const IS_GONE: u32 = 32;
    const TCP: u32 = 2;
    let setup = setup();
    let reset = tcp_pair();
    set_linger(&reset.0, 0);
    let finished = tcp_pair();
    finished.0.shutdown(Shutdown::Write).unwrap();
    let here = tcp_pair();
    drop(reset.0);
    for (passed, flags) in [(reset.1, TCP | IS_GONE), (finished.1, TCP | IS_GONE), (here.1, TCP)] {
        setup.hand_off(b"{}", &passed);
        drop(passed);
        let handoff = setup.reactor.handoff();
        assert_eq!((handoff.flags, handoff.reason, &handoff.payload[..]), (flags, 0, &b"{}"[..]));
        setup.reactor.stays_silent();
        assert_eq!(setup.reactor.close_client(handoff.client), 0);
    }
    let mut local = pair(STREAM);
    drop(local.0);
    setup.hand_off(b"{}", &local.1);
    assert_eq!(setup.reactor.handoff().flags, IS_GONE);
    local = pair(STREAM);
    setup.hand_off(b"{}", &local.1);
    assert_eq!(setup.reactor.handoff().flags, 0);
}

#[test]
fn a_client_s_reset_is_told_with_its_errno() {
    let setup = setup();
    let (browser, client) = setup.tcp();
    set_linger(&browser, 0);
    drop(browser);
    assert_eq!(setup.reactor.event(), Event::Gone { client, errno: libc::ECONNRESET });
    let result = setup.reactor.send(client, b"x", 0);
    assert_eq!(result, -libc::EPIPE);
    assert_eq!(setup.acceptor.active(), 1);
    assert_eq!(setup.reactor.close_client(client), 0);
    assert_eq!(setup.acceptor.active(), 0);
    setup.reactor.stays_silent();
}

#[test]
fn what_a_client_says_is_no_event() {
    let setup = setup();
    let (mut browser, _client) = setup.tcp();
    browser.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    setup.reactor.stays_silent();
}

/// A browser with a short receive buffer, so that most of what is sent waits at the sender, and its client.
fn slow_reader(setup: &Setup, linger: Option<i32>) -> (TcpStream, TcpStream, u32) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let SocketAddr::V4(address) = listener.local_addr().unwrap() else { panic!() };
    let browser = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&browser, sockopt::RcvBuf, &8192).unwrap();
    connect(browser.as_raw_fd(), &SockaddrIn::from(address)).unwrap();
    let browser = TcpStream::from(browser);
    browser.set_read_timeout(Some(PATIENCE)).unwrap();
    let passed = listener.accept().unwrap().0;
    linger.inspect(|seconds| set_linger(&passed, *seconds));
    let client = setup.admit(&passed);
    (browser, passed, client)
}

/// With unread data close(2) sends a RST and forgets what it has not sent yet.
#[test]
fn unread_data_of_a_client_does_not_cost_it_its_last_bytes() {
    let setup = setup();
    let (mut browser, passed, client) = slow_reader(&setup, None);
    drop(passed);
    browser.write_all(&[b'?'; 100_000]).unwrap();
    let sent = setup.reactor.send(client, &[b'x'; 16_000], END);
    assert_eq!(sent, 16_000);
    read_exactly(&mut browser, 16_000);
    assert_eq!(browser.read(&mut [0]).unwrap(), 0);
}

/// SO_LINGER {1, 5} makes close(2) wait for 5 s, {1, 0} makes the end a RST. The sender may set it at any time.
#[test]
fn a_lingering_socket_neither_blocks_its_close_nor_loses_its_end() {
    for seconds in [5, 0] {
        for set_later in [false, true] {
            for closes in [false, true] {
                let setup = setup();
                let (mut browser, passed, client) = slow_reader(&setup, (!set_later).then_some(seconds));
                if set_later {
                    set_linger(&passed, seconds);
                }
                drop(passed);
                let begin = Instant::now();
                assert_eq!(setup.reactor.send(client, &[b'x'; 16_000], 0), 16_000);
                match closes {
                    true => assert_eq!(setup.reactor.close_client(client), 0),
                    false => assert_eq!(setup.reactor.send(client, b"x", END), 1),
                }
                assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
                read_exactly(&mut browser, if closes { 16_000 } else { 16_001 });
                assert_eq!(browser.read(&mut [0]).unwrap(), 0);
            }
        }
    }
}

#[test]
fn a_corked_socket_s_bytes_go_out_at_once() {
    let setup = setup();
    let (mut browser, passed) = tcp_pair();
    support::set_option(&passed, libc::IPPROTO_TCP, libc::TCP_CORK, 1);
    let client = setup.admit(passed);
    let mut longest = Duration::ZERO;
    for _ in 0..5 {
        let begin = Instant::now();
        assert_eq!(setup.reactor.send(client, b"x", 0), 1);
        read_exactly(&mut browser, 1);
        longest = longest.max(begin.elapsed());
    }
    // The kernel holds corked bytes back for 200 ms.
    assert!(longest < Duration::from_millis(190), "{longest:?}");
}

/// What a client that reads nothing takes into the kernel.
#[test]
fn a_silent_client_is_full_early() {
    let setup = setup();
    let (_browser, client) = setup.tcp();
    let mut taken = 0;
    while setup.reactor.send(client, &[b'x'; 27], 0) == 27 {
        taken += 27;
    }
    assert!(taken < 300_000, "{taken}");
    // What the kernel has passed on since may have made room again: that is not for this one to tell.
    assert_eq!(setup.reactor.close_client(client), 0);
    let (_browser, client) = setup.tcp();
    let taken = setup.fill(client);
    assert!(taken < 4_000_000, "{taken}");
}

#[test]
fn an_end_reaches_the_client_also_while_the_sender_holds_the_socket() {
    let setup = setup();
    let (browser, passed) = pair(STREAM);
    let client = setup.admit(&passed);
    assert_eq!(setup.reactor.send(client, b"bye", END), 3);
    assert_eq!(recv_to_end(&browser), b"bye");
    drop(passed);
}

/// A message that nobody read holds a descriptor, which is closed with the client: that can take its time.
#[test]
fn what_lies_unread_in_a_client_s_socket_is_closed_where_nobody_waits() {
    for closes in [false, true] {
        let setup = setup();
        let (mut far_end, lingering) = tcp_pair();
        let (browser, client) = setup.local();
        let mut filled = 0;
        lingering.set_nonblocking(true).unwrap();
        while let Ok(bytes) = (&lingering).write(&[b'x'; 1 << 16]) {
            filled += bytes;
        }
        set_linger(&lingering, 2);
        sendmsg(&browser, b"?", &[&lingering]);
        drop(lingering);
        let begin = Instant::now();
        match closes {
            true => assert_eq!(setup.reactor.close_client(client), 0),
            false => assert_eq!(setup.reactor.send(client, b"bye", END), 3),
        }
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        read_exactly(&mut far_end, filled);
        let received = recv_to_end(&browser);
        assert_eq!(received, if closes { &b""[..] } else { b"bye" });
    }
}

#[test]
fn a_full_client_takes_nothing_until_it_is_writable() {
    for over_tcp in [false, true] {
        let setup = setup();
        let (mut browser, client): (Box<dyn Read>, u32) = if over_tcp {
            let (browser, client) = setup.tcp();
            (Box::new(browser), client)
        } else {
            let (browser, client) = setup.local();
            (Box::new(UnixStream::from(browser)), client)
        };
        let sent = setup.fill(client);
        assert_eq!(setup.reactor.send_batch(&[(client, b"y", 0), (client, b"", END)]), [0, 0]);
        assert_eq!(setup.acceptor.active(), 1);
        read_exactly(&mut browser, sent);
        assert_eq!(setup.reactor.event(), Event::Writable { client });
        assert_eq!(setup.reactor.send(client, b"xx", END), 2);
        read_exactly(&mut browser, 2);
        assert_eq!(browser.read(&mut [0]).unwrap(), 0);
        setup.reactor.stays_silent();
    }
}

#[test]
fn each_short_send_has_its_own_writable() {
    let setup = setup();
    let (mut browser, client) = setup.tcp();
    for _ in 0..3 {
        let sent = setup.fill(client);
        read_exactly(&mut browser, sent);
        assert_eq!(setup.reactor.event(), Event::Writable { client });
    }
    setup.reactor.stays_silent();
}

/// However often the kernel has room again, one event waits for the caller.
#[test]
fn a_client_that_reads_byte_by_byte_is_one_event() {
    let setup = setup();
    let (browser, client) = setup.local();
    let mut browser = UnixStream::from(browser);
    let sent = setup.fill(client);
    for _ in 0..sent / 100 {
        read_exactly(&mut browser, 100);
    }
    browser.shutdown(Shutdown::Write).unwrap();
    let events = setup.reactor.events(2);
    assert_eq!(events, [Event::Writable { client }, Event::Gone { client, errno: 0 }]);
    setup.reactor.stays_silent();
}

#[test]
fn one_full_client_does_not_hold_up_another() {
    let setup = setup();
    let (_slow, full) = setup.tcp();
    let (quick, client) = setup.local();
    setup.fill(full);
    assert_eq!(setup.reactor.send_batch(&[(full, b"x", 0), (client, b"quick", END)]), [0, 5]);
    assert_eq!(recv_to_end(&quick), b"quick");
}

/// The client reads while the batch is being sent: less than would make room for the whole block, but enough to have
/// room for what follows it.
#[test]
fn nothing_overtakes_a_short_send_within_its_batch() {
    const READ_MEANWHILE: usize = 64 << 10;
    let setup = setup();
    let (browser, client) = setup.local();
    let mut browser = UnixStream::from(browser);
    let block = vec![b'x'; 4 << 20];
    for _ in 0..200 {
        let results = std::thread::scope(|scope| {
            scope.spawn(|| read_exactly(&mut browser, READ_MEANWHILE));
            setup.reactor.send_batch(&[(client, &block, 0), (client, b"y", 0), (client, b"", END)])
        });
        assert!((results[0] as usize) < block.len());
        assert_eq!(results[1..], [0, 0]);
        read_exactly(&mut browser, results[0] as usize - READ_MEANWHILE);
        assert_eq!(setup.reactor.event(), Event::Writable { client });
    }
    assert_eq!(setup.reactor.send(client, b"", END), 0);
    assert_eq!(recv_to_end(&browser), b"");
}

#[test]
fn a_full_client_that_goes_away_is_told() {
    let setup = setup();
    let (browser, client) = setup.tcp();
    setup.fill(client);
    drop(browser);
    assert_eq!(setup.reactor.event(), Event::Writable { client });
    assert_eq!(setup.reactor.event(), Event::Gone { client, errno: libc::ECONNRESET });
    assert!(setup.reactor.send(client, b"x", 0) < 0);
    assert_eq!(setup.reactor.close_client(client), 0);
    setup.reactor.stays_silent();
}

#[test]
fn an_end_that_fails_leaves_the_close_to_the_caller() {
    let setup = setup();
    let (browser, client) = setup.tcp();
    set_linger(&browser, 0);
    drop(browser);
    assert_eq!(setup.reactor.event(), Event::Gone { client, errno: libc::ECONNRESET });
    assert_eq!(setup.reactor.send(client, b"x", END), -libc::EPIPE);
    assert_eq!(setup.acceptor.active(), 1);
    assert_eq!(setup.reactor.close_client(client), 0);
}

#[test]
fn a_number_is_given_again_and_its_events_are_the_new_client_s() {
    let setup = setup();
    let (browser, passed) = pair(STREAM);
    let first = setup.admit(&passed);
    // The event about the first one waits untaken while the second one gets its number.
    drop(browser);
    assert!(setup.reactor.ear().rings());
    assert_eq!(setup.reactor.close_client(first), 0);
    let (_second_browser, second_passed) = pair(STREAM);
    setup.hand_off(b"{}", &second_passed);
    let mut events = Vec::new();
    support::eventually("the second one comes", || {
        events.extend(setup.reactor.take());
        !events.is_empty()
    });
    let [Event::Handoff(Handoff { client, .. })] = events[..] else { panic!("{events:?}") };
    assert_eq!(client, first);
    drop(passed);
    setup.reactor.stays_silent();
}

#[test]
fn an_event_that_waits_is_not_its_number_s_next_client_s() {
    const FILLERS: usize = 20;
    let setup = setup();
    let mut browsers = Vec::new();
    let clients: Vec<u32> = (0..FILLERS + 2)
        .map(|_| {
            let (browser, client) = setup.local();
            browsers.push(browser);
            client
        })
        .collect();
    drop(browsers);
    // Room for one event. The first ones are taken only to hear how many wait behind them.
    let mut taken = 0;
    let mut take_one = || {
        let (bytes, left) = setup.reactor.take_bytes(48, 0).unwrap();
        taken += Event::parse(&bytes).len();
        assert!(taken <= FILLERS);
        (taken, left as usize)
    };
    support::eventually("all events wait", || {
        let (taken, left) = take_one();
        taken + left == FILLERS + 2
    });
    while take_one().1 > 2 {}
    let last = clients[FILLERS + 1];
    assert_eq!(setup.reactor.close_client(last), 0);
    let (_browser, passed) = pair(STREAM);
    setup.hand_off(b"", &passed);
    support::eventually("the handoff waits", || setup.acceptor.active() as usize == FILLERS + 2);
    // One event, and in the rest of the room the handoff, which gets the number of which an event waits still.
    let (bytes, left) = setup.reactor.take_bytes(48, 1).unwrap();
    let events = Event::parse(&bytes);
    assert_eq!(events[0], Event::Gone { client: clients[FILLERS], errno: 0 });
    assert!(matches!(events[1], Event::Handoff(Handoff { client, .. }) if client == last), "{events:?}");
    assert_eq!(left, 1);
    assert_eq!(setup.reactor.take(), []);
}

#[test]
fn a_number_s_next_client_begins_anew() {
    let setup = setup();
    let (browser, first) = setup.local();
    setup.fill(first);
    drop(browser);
    while !matches!(setup.reactor.event(), Event::Gone { .. }) {}
    assert_eq!(setup.reactor.close_client(first), 0);
    let (browser, second) = setup.local();
    assert_eq!(second, first);
    assert_eq!(setup.reactor.send(second, b"x", 0), 1);
    drop(browser);
    // It left what was sent unread.
    assert_eq!(setup.reactor.event(), Event::Gone { client: second, errno: libc::ECONNRESET });
}

#[test]
fn a_reset_after_a_fin_is_not_told_again() {
    let setup = setup();
    let (browser, client) = setup.tcp();
    browser.shutdown(Shutdown::Write).unwrap();
    assert_eq!(setup.reactor.event(), Event::Gone { client, errno: 0 });
    set_linger(&browser, 0);
    drop(browser);
    setup.reactor.stays_silent();
}

#[test]
fn closing_a_client_twice_is_a_bad_handle() {
    let setup = setup();
    let (browser, client) = setup.local();
    assert_eq!(setup.reactor.close_client(client), 0);
    assert_eq!(setup.reactor.close_client(client), BAD_HANDLE);
    assert_eq!(setup.reactor.close_client(u32::MAX), BAD_HANDLE);
    assert_eq!(recv_to_end(&browser), b"");
}

#[test]
fn many_clients_come_and_go() {
    let setup = setup();
    let browsers: Vec<_> = (0..700).map(|_| setup.local()).collect();
    let mut numbers: Vec<u32> = browsers.iter().map(|(_, client)| *client).collect();
    numbers.sort();
    assert_eq!(numbers, (0..700).collect::<Vec<_>>());
    assert_eq!(setup.acceptor.active(), 700);
    let entries: Vec<(u32, &[u8], u32)> =
        browsers.iter().map(|(_, client)| (*client, &b"bye"[..], END)).collect();
    assert!(setup.reactor.send_batch(&entries).iter().all(|result| *result == 3));
    assert_eq!(setup.acceptor.active(), 0);
    for (browser, _) in &browsers {
        assert_eq!(recv_to_end(browser), b"bye");
    }
}
