//! Clients that go from one reactor to another.
#![allow(missing_docs)]

mod support;

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use streaming_daemon_shim::*;
use support::*;

const MOVED: u32 = 16;
const IS_GONE: u32 = 32;
const EAGAIN: i32 = -(Errno::EAGAIN as i32);

/// The reactor with the fewest clients gets a handoff: the first one, as long as it has no more than the other.
fn setup() -> (Setup, Reactor) {
    let setup = Setup::new(SEQPACKET, POLICY);
    let other = setup.acceptor.reactor();
    (setup, other)
}

fn move_client(from: &Reactor, client: u32, to: u32, payload: &[u8]) -> i32 {
    // SAFETY: pointer and length belong to a live value.
    unsafe { shim_client_move(from.handle, client, to, payload.as_ptr(), payload.len() as u32) }
}

fn moved(setup: &Setup, other: &Reactor) -> (OwnedFd, u32) {
    let (browser, client) = setup.local();
    assert_eq!(move_client(&setup.reactor, client, other.handle, b"{\"a\":1}"), 0);
    let Handoff { client, flags, reason, payload, .. } = other.handoff();
    assert_eq!((flags, reason, &payload[..]), (MOVED, 0, &b"{\"a\":1}"[..]));
    (browser, client)
}

#[test]
fn it_is_the_other_ones_client_with_its_payload_and_no_more_the_first_ones() {
    let (setup, other) = setup();
    let (browser, client) = setup.local();
    assert_eq!(move_client(&setup.reactor, client, other.handle, b"{}"), 0);
    assert_eq!(setup.reactor.close_client(client), BAD_HANDLE);
    assert_eq!(setup.acceptor.active(), 1);
    let Handoff { client, flags, payload, .. } = other.handoff();
    assert_eq!((flags, &payload[..]), (MOVED, &b"{}"[..]));
    assert_eq!(other.send(client, b"hello", END), 5);
    assert_eq!(recv_to_end(&browser), b"hello");
    assert_eq!(setup.acceptor.active(), 0);
    setup.goes_on();
}

#[test]
fn one_that_has_gone_before_or_after_is_told_where_it_is() {
    let (setup, other) = setup();
    let (browser, client) = moved(&setup, &other);
    drop(browser);
    assert_eq!(other.event(), Event::Gone { client, errno: 0 });
    assert_eq!(other.close_client(client), 0);

    let (browser, client) = setup.local();
    drop(browser);
    assert_eq!(setup.reactor.event(), Event::Gone { client, errno: 0 });
    assert_eq!(move_client(&setup.reactor, client, other.handle, b"{}"), 0);
    let Handoff { client, flags, .. } = other.handoff();
    assert_eq!(flags, MOVED | IS_GONE);
    assert_eq!(other.close_client(client), 0);
    assert_eq!((setup.reactor.take(), other.take()), (vec![], vec![]));
}

#[test]
fn where_it_cannot_go_it_stays() {
    let (setup, other) = setup();
    let (browser, client) = setup.local();
    let unstarted = setup.acceptor.unstarted();
    let stranger = Acceptor::new(POLICY);
    let elsewhere = stranger.reactor();
    for (to, status) in [
        (unstarted.handle, EAGAIN),
        (setup.reactor.handle, BAD_ARGUMENT),
        (elsewhere.handle, BAD_ARGUMENT),
        (u32::MAX, BAD_HANDLE),
    ] {
        assert_eq!(move_client(&setup.reactor, client, to, b"{}"), status);
    }
    assert_eq!(move_client(&setup.reactor, client + 1, other.handle, b"{}"), BAD_HANDLE);
    other.admit(0);
    assert_eq!(move_client(&setup.reactor, client, other.handle, b"{}"), EAGAIN);
    other.close();
    assert_eq!(move_client(&setup.reactor, client, other.handle, b"{}"), BAD_HANDLE);
    // It is still watched.
    drop(browser);
    assert_eq!(setup.reactor.event(), Event::Gone { client, errno: 0 });
    assert_eq!(setup.reactor.close_client(client), 0);
    drop((elsewhere, stranger));
}

#[test]
fn one_that_is_full_and_stays_is_writable_again() {
    let (setup, _other) = setup();
    let (browser, client) = setup.local();
    let block = vec![b'x'; 1 << 20];
    let mut unread = setup.reactor.send(client, &block, 0) as usize;
    assert!(unread < block.len());
    let unstarted = setup.acceptor.unstarted();
    assert_eq!(move_client(&setup.reactor, client, unstarted.handle, b"{}"), EAGAIN);
    while unread > 0 {
        unread -= try_recv(&browser, PATIENCE).unwrap().len();
    }
    assert_eq!(setup.reactor.event(), Event::Writable { client });
}

#[test]
fn there_is_room_for_so_many_bytes_and_no_more() {
    let (setup, other) = setup();
    let payload = vec![b' '; 1 << 20];
    let mut browsers = Vec::new();
    let mut clients = Vec::new();
    let refused = loop {
        let (browser, client) = setup.local();
        browsers.push(browser);
        match move_client(&setup.reactor, client, other.handle, &payload) {
            0 => clients.push(client),
            status => break (client, status),
        }
    };
    assert_eq!((clients.len(), refused.1), (4, EAGAIN));
    assert_eq!(setup.reactor.close_client(refused.0), 0);
    assert_eq!(setup.acceptor.active(), 4);
}

#[test]
fn one_that_was_not_taken_before_the_close_goes_on_to_another_reactor() {
    let (setup, other) = setup();
    let (browser, client) = setup.local();
    assert_eq!(move_client(&setup.reactor, client, other.handle, b"{\"b\":2}"), 0);
    other.close();
    let Handoff { client, flags, payload, .. } = setup.reactor.handoff();
    assert_eq!((flags, &payload[..]), (MOVED, &b"{\"b\":2}"[..]));
    assert_eq!(setup.acceptor.active(), 1);
    assert_eq!(setup.reactor.send(client, b"x", END), 1);
    assert_eq!(recv_to_end(&browser), b"x");
}

#[test]
fn two_reactors_that_give_to_each_other_lose_none() {
    let (setup, other) = setup();
    let browsers: Vec<_> = (0..200)
        .map(|_| {
            let (browser, passed) = pair(STREAM);
            setup.hand_off(b"{}", &passed);
            browser
        })
        .collect();
    eventually("all are placed", || setup.acceptor.active() == 200);
    let (first, second) = (Handle(setup.reactor.handle), Handle(other.handle));
    // Each sees its own hundred, and the other one's.
    let thread = std::thread::spawn(move || second.swap_all(first.0));
    let here = Handle(setup.reactor.handle).swap_all(other.handle);
    assert_eq!((here, thread.join().unwrap()), (100, 100));
    assert_eq!(setup.acceptor.active(), 0);
    drop(browsers);
}

/// A reactor by its handle alone, for another thread.
struct Handle(u32);

impl Handle {
    fn swap_all(&self, to: u32) -> usize {
        let mut closed = 0;
        let mut seen = 0;
        while seen < 200 {
            let mut buffer = vec![0; 1 << 16];
            let mut left = 0;
            // SAFETY: pointers and lengths belong to live values.
            let bytes =
                unsafe { shim_reactor_take(self.0, buffer.as_mut_ptr(), buffer.len() as u32, 10, &mut left) };
            assert!(bytes >= 0);
            for event in Event::parse(&buffer[..bytes as usize]) {
                let Event::Handoff(Handoff { client, flags, .. }) = event else { continue };
                seen += 1;
                if flags == MOVED {
                    assert_eq!(shim_client_close(self.0, client), 0);
                    closed += 1;
                } else {
                    // SAFETY: pointer and length belong to a literal.
                    assert_eq!(unsafe { shim_client_move(self.0, client, to, b"{}".as_ptr(), 2) }, 0);
                }
            }
        }
        closed
    }
}
