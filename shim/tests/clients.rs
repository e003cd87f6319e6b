//! Sends, ends, and what clients do.
#![allow(missing_docs)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt};
use support::{
    BAD_ARGUMENT, BAD_HANDLE, END, Event, PATIENCE, POLICY, SEQPACKET, STREAM, Setup, pair, recv_to_end,
    take_bytes, tcp_pair,
};

fn setup() -> Setup {
    Setup::new(SEQPACKET, POLICY)
}

impl Setup {
    fn local(&self) -> (OwnedFd, u32) {
        let (browser, passed) = pair(STREAM);
        (browser, self.admit(passed))
    }

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
        (first, b"after", 0),
    ]);
    assert_eq!(results, [1, 1, 2, BAD_HANDLE, 2, 0, 0, BAD_HANDLE]);
    assert_eq!(recv_to_end(&one), b"abc");
    let mut received = Vec::new();
    two.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"123");
    assert_eq!(setup.intake.active(), 0);
}

#[test]
fn a_word_out_of_range_fails_the_batch_before_anything_is_sent() {
    let setup = setup();
    let (browser, client) = setup.local();
    for wrong in [[client, 0, 6, 0], [client, 5, 1, 0], [client, 0, 1, 2], [client, u32::MAX, 1, 0]] {
        let words: Vec<u32> = [[client, 0, 5, 0], wrong].concat();
        let mut results = [i32::MIN; 2];
        assert_eq!(setup.reactor.send_raw(&words, b"hello", &mut results), BAD_ARGUMENT);
        assert_eq!(results, [i32::MIN; 2]);
    }
    assert_eq!(setup.reactor.close_client(client), 0);
    assert_eq!(recv_to_end(&browser), b"");
}

#[test]
fn an_empty_batch_is_nothing() {
    let setup = setup();
    assert_eq!(setup.reactor.send_batch(&[]), [0; 0]);
}

#[test]
fn a_client_s_fin_is_told_once_and_what_it_still_reads_is_sent() {
    let setup = setup();
    let (mut browser, client) = setup.tcp();
    browser.shutdown(Shutdown::Write).unwrap();
    assert_eq!(setup.reactor.event(), Event::Gone { client, errno: 0 });
    assert_eq!(setup.reactor.send(client, b"still here", END), 10);
    let mut received = String::new();
    browser.read_to_string(&mut received).unwrap();
    assert_eq!(received, "still here");
    setup.reactor.stays_silent();
}

#[test]
fn a_client_s_reset_is_told_with_its_errno() {
    let setup = setup();
    let (browser, client) = setup.tcp();
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&browser, sockopt::Linger, &at_once).unwrap();
    drop(browser);
    assert_eq!(setup.reactor.event(), Event::Gone { client, errno: libc::ECONNRESET });
    let result = setup.reactor.send(client, b"x", 0);
    assert_eq!(result, -libc::EPIPE);
    assert_eq!(setup.intake.active(), 1);
    assert_eq!(setup.reactor.close_client(client), 0);
    assert_eq!(setup.intake.active(), 0);
    setup.reactor.stays_silent();
}

#[test]
fn what_a_client_says_is_no_event() {
    let setup = setup();
    let (mut browser, _client) = setup.tcp();
    browser.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    setup.reactor.stays_silent();
}

/// With unread data close(2) sends a RST and forgets what it has not sent yet.
#[test]
fn unread_data_of_a_client_does_not_cost_it_its_last_bytes() {
    let setup = setup();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let SocketAddr::V4(address) = listener.local_addr().unwrap() else { panic!() };
    // A short receive buffer, so that most of what is sent waits at the sender.
    let browser = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&browser, sockopt::RcvBuf, &8192).unwrap();
    connect(browser.as_raw_fd(), &SockaddrIn::from(address)).unwrap();
    let mut browser = TcpStream::from(browser);
    browser.set_read_timeout(Some(PATIENCE)).unwrap();
    let client = setup.admit(listener.accept().unwrap().0);
    browser.write_all(&[b'?'; 100_000]).unwrap();
    let block = vec![b'x'; 500_000];
    assert_eq!(setup.reactor.send(client, &block, END), 500_000);
    read_exactly(&mut browser, 500_000);
    assert_eq!(browser.read(&mut [0]).unwrap(), 0);
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

#[test]
fn a_full_client_takes_nothing_until_it_is_writable() {
    for over_tcp in [false, true] {
        let setup = setup();
        let (mut browser, client): (Box<dyn Read>, u32) = if over_tcp {
            let (browser, client) = setup.tcp();
            (Box::new(browser), client)
        } else {
            let (browser, client) = setup.local();
            (Box::new(std::os::unix::net::UnixStream::from(browser)), client)
        };
        let sent = setup.fill(client);
        assert_eq!(setup.reactor.send_batch(&[(client, b"y", 0), (client, b"", END)]), [0, 0]);
        assert_eq!(setup.intake.active(), 1);
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

#[test]
fn one_full_client_does_not_hold_up_another() {
    let setup = setup();
    let (_slow, full) = setup.tcp();
    let (quick, client) = setup.local();
    setup.fill(full);
    assert_eq!(setup.reactor.send_batch(&[(full, b"x", 0), (client, b"quick", END)]), [0, 5]);
    assert_eq!(recv_to_end(&quick), b"quick");
}

#[test]
fn a_full_client_that_goes_away_is_told() {
    let setup = setup();
    let (browser, client) = setup.tcp();
    setup.fill(client);
    drop(browser);
    let mut kinds = Vec::new();
    loop {
        match setup.reactor.event() {
            Event::Gone { errno, .. } => {
                assert_eq!(errno, libc::ECONNRESET);
                break;
            }
            other => kinds.push(other),
        }
    }
    assert!(kinds.is_empty() || kinds == [Event::Writable { client }], "{kinds:?}");
    assert_eq!(setup.reactor.close_client(client), 0);
}

/// The reactor's thread records CLIENT_WRITABLE while the batch goes on; what follows in the batch must not
/// overtake what did not fit.
#[test]
fn nothing_overtakes_a_short_send_within_its_batch() {
    let setup = setup();
    let (browser, client) = setup.local();
    let others: Vec<_> = (0..64).map(|_| setup.local()).collect();
    let (handle, ear) = (setup.reactor.handle, setup.reactor.ear());
    thread::scope(|scope| {
        let reader = scope.spawn(|| recv_to_end(&browser).len());
        let taker = scope.spawn(move || {
            while ear.rings() {
                match take_bytes(handle, 1 << 13) {
                    // Several at once, if it is late.
                    Ok(bytes) => assert_eq!(bytes.len() % 24, 0),
                    Err(status) => assert_eq!(status, BAD_HANDLE),
                }
            }
        });
        let block = vec![b'x'; 1 << 20];
        // The first entry fills the client, the entries of the others take so long that it is emptied and
        // recorded as writable meanwhile, and the last one must wait all the same.
        let mut batch = vec![(client, &block[..], 0)];
        for _ in 0..50 {
            batch.extend(others.iter().map(|(_, other)| (*other, &b"x"[..], 0)));
        }
        batch.push((client, b"x", 0));
        let mut firsts = Vec::new();
        let mut lasts = Vec::new();
        for _ in 0..5 {
            let results = setup.reactor.send_batch(&batch);
            firsts.push(results[0]);
            lasts.push(results[results.len() - 1]);
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(setup.reactor.close(), 0);
        taker.join().unwrap();
        let received = reader.join().unwrap();
        assert_eq!(lasts, [0; 5], "overtaken");
        assert!(firsts.iter().all(|first| (0..1 << 20).contains(first)), "{firsts:?}");
        assert_eq!(received, firsts.iter().sum::<i32>() as usize);
    });
}

#[test]
fn a_number_is_given_again_and_its_events_are_the_new_client_s() {
    let setup = setup();
    let (browser, passed) = pair(STREAM);
    let first = setup.admit(&passed);
    assert_eq!(setup.reactor.close_client(first), 0);
    let (_second_browser, second) = setup.local();
    assert_eq!(second, first);
    drop((browser, passed));
    setup.reactor.stays_silent();
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
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&browser, sockopt::Linger, &at_once).unwrap();
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
fn a_thousand_clients_come_and_go() {
    let setup = setup();
    let mut browsers = Vec::new();
    for _ in 0..700 {
        browsers.push(setup.local());
    }
    assert_eq!(setup.intake.active(), 700);
    let entries: Vec<(u32, &[u8], u32)> =
        browsers.iter().map(|(_, client)| (*client, &b"bye"[..], END)).collect();
    assert!(setup.reactor.send_batch(&entries).iter().all(|result| *result == 3));
    assert_eq!(setup.intake.active(), 0);
    for (browser, _) in &browsers {
        assert_eq!(recv_to_end(browser), b"bye");
    }
}
