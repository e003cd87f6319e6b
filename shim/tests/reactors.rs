//! Several reactors, their waiters, and their ends.
#![allow(missing_docs)]

mod support;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use streaming_daemon_shim::*;
use support::*;

/// Waits and takes in a thread of its own until the reactor is closed.
struct Collector {
    thread: thread::JoinHandle<()>,
    events: Arc<Mutex<Vec<Event>>>,
}

fn collect(reactor: &Reactor) -> Collector {
    let handle = reactor.handle;
    let events = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&events);
    let thread = thread::spawn(move || {
        let mut buffer = vec![0; 1 << 19];
        loop {
            let ready = shim_reactor_wait(handle);
            if ready == -libc::ECANCELED {
                return;
            }
            assert!(ready > 0, "wait gave {ready}");
            // SAFETY: pointer and length belong to a live value.
            let taken = unsafe { shim_reactor_take(handle, buffer.as_mut_ptr(), buffer.len() as u32) };
            if taken == BAD_HANDLE {
                return;
            }
            assert_eq!(taken, ready);
            collected.lock().unwrap().extend(parse(&buffer[..taken as usize]));
        }
    });
    Collector { thread, events }
}

impl Collector {
    fn handoffs(&self) -> usize {
        let events = self.events.lock().unwrap();
        events.iter().filter(|event| matches!(event, Event::Handoff { .. })).count()
    }

    /// The reactor has to be closed.
    fn join(self) -> Vec<Event> {
        self.thread.join().unwrap();
        Arc::into_inner(self.events).unwrap().into_inner().unwrap()
    }
}

#[test]
fn handoffs_spread_evenly() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let intake = Intake::new(POLICY);
    intake.listen(SEQPACKET, &path);
    let reactors = [intake.reactor(), intake.reactor()];
    let collectors = reactors.each_ref().map(collect);
    let mut browsers = Vec::new();
    for _ in 0..60 {
        let (browser, passed) = pair(STREAM);
        hand_off(&path, SEQPACKET, b"{}", &passed);
        browsers.push(browser);
    }
    eventually("all have arrived", || collectors.iter().map(Collector::handoffs).sum::<usize>() == 60);
    assert_eq!(intake.active(), 60);
    for reactor in &reactors {
        assert_eq!(reactor.close(), 0);
    }
    assert_eq!(collectors.each_ref().map(Collector::handoffs), [30, 30]);
    for collector in collectors {
        collector.join();
    }
    assert_eq!(intake.active(), 0);
}

#[test]
fn a_reactor_that_does_not_wait_yet_finds_its_clients_later() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let intake = Intake::new(POLICY);
    intake.listen(STREAM, &path);
    let (busy, idle) = (intake.reactor(), intake.reactor());
    let (_browser, passed) = pair(STREAM);
    let payload = br#"{"prompt":"for the other one"}"#;
    hand_off(&path, STREAM, b"{}", &passed);
    busy.client();
    hand_off(&path, STREAM, payload, &passed);
    hand_off(&path, STREAM, b"{}", &passed);
    busy.client();
    let Event::Handoff { flags, payload: received, .. } = idle.event() else { panic!() };
    assert_eq!((flags, &received[..]), (4, &payload[..]));
}

#[test]
fn a_handoff_given_to_another_reactor_wakes_it() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let intake = Intake::new(POLICY);
    intake.listen(SEQPACKET, &path);
    let (giving, given) = (intake.reactor(), intake.reactor());
    let (_browser, passed) = pair(STREAM);
    // The first reactor has accepted the slow one once it has the client that came after it.
    let slow = connect(&path, SEQPACKET);
    hand_off(&path, SEQPACKET, b"{}", &passed);
    giving.client();
    let (say, said) = mpsc::channel();
    let handle = given.handle;
    let waiter = thread::spawn(move || say.send(shim_reactor_wait(handle)));
    let giver = collect(&giving);
    thread::sleep(Duration::from_millis(30));
    sendmsg(&slow, b"1234", &[&passed]);
    assert_eq!(said.recv_timeout(PATIENCE), Ok(28));
    waiter.join().unwrap().unwrap();
    giving.close();
    assert_eq!(giver.join(), []);
}

#[test]
fn a_client_that_its_reactor_has_not_seen_yet_is_closed_and_counted_out_with_it() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let intake = Intake::new(POLICY);
    intake.listen(SEQPACKET, &path);
    let (busy, idle) = (intake.reactor(), intake.reactor());
    let (browser, passed) = pair(STREAM);
    let (_other, other_passed) = pair(STREAM);
    for passed in [&other_passed, &passed, &other_passed] {
        hand_off(&path, SEQPACKET, b"{}", passed);
    }
    drop(passed);
    assert_ne!(busy.client(), busy.client());
    assert_eq!(intake.active(), 3);
    idle.close();
    assert_eq!(recv_to_end(&browser), b"");
    assert_eq!(intake.active(), 2);
}

#[test]
fn listeners_made_after_the_reactor_began_to_wait_are_served() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let intake = Intake::new(POLICY);
    let reactor = intake.reactor();
    let collector = collect(&reactor);
    let (_browser, passed) = pair(STREAM);
    for (kind, name) in [(SEQPACKET, "one"), (STREAM, "two")] {
        let path = directory.path(name);
        intake.listen(kind, &path);
        hand_off(&path, kind, b"{}", &passed);
    }
    eventually("both are clients", || intake.active() == 2);
    reactor.close();
    collector.join();
}

#[test]
fn close_ends_the_wait_of_another_thread_and_every_client() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let intake = Intake::new(POLICY);
    intake.listen(SEQPACKET, &path);
    let reactor = intake.reactor();
    let (browser, passed) = pair(STREAM);
    hand_off(&path, SEQPACKET, b"{}", &passed);
    drop(passed);
    let client = reactor.client();
    let pending = connect(&path, SEQPACKET);
    let handle = reactor.handle;
    let waiter = thread::spawn(move || shim_reactor_wait(handle));
    // Whether it waits already or only after the close, the answer is the same.
    thread::sleep(Duration::from_millis(30));
    assert_eq!(reactor.close(), 0);
    assert_eq!(waiter.join().unwrap(), -libc::ECANCELED);
    assert_eq!(recv_to_end(&browser), b"");
    assert_eq!(recv_to_end(&pending), b"");
    assert_eq!(intake.active(), 0);
    assert_eq!(shim_reactor_wait(handle), -libc::ECANCELED);
    assert_eq!(reactor.close(), BAD_HANDLE);
    assert_eq!(reactor.close_client(client), BAD_HANDLE);
}

#[test]
fn a_second_waiter_is_told_that_one_waits() {
    let _no_leak = no_leak();
    let intake = Intake::new(POLICY);
    let reactor = intake.reactor();
    let (say, said) = mpsc::channel();
    let handle = reactor.handle;
    let waiters = [say.clone(), say].map(|say| thread::spawn(move || say.send(shim_reactor_wait(handle))));
    assert_eq!(said.recv_timeout(PATIENCE), Ok(-libc::EBUSY));
    reactor.close();
    assert_eq!(said.recv_timeout(PATIENCE), Ok(-libc::ECANCELED));
    for waiter in waiters {
        waiter.join().unwrap().unwrap();
    }
}

#[test]
fn wait_returns_at_once_while_events_are_untaken() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let intake = Intake::new(POLICY);
    intake.listen(SEQPACKET, &path);
    let reactor = intake.reactor();
    let (_browser, passed) = pair(STREAM);
    hand_off(&path, SEQPACKET, b"12345", &passed);
    assert_eq!([reactor.wait(), reactor.wait()], [32, 32]);
    let mut buffer = [0; 32];
    // SAFETY: pointer and length belong to a live value.
    assert_eq!(unsafe { shim_reactor_take(reactor.handle, buffer.as_mut_ptr(), 31) }, TOO_SMALL);
    // SAFETY: pointer and length belong to a live value.
    assert_eq!(unsafe { shim_reactor_take(reactor.handle, buffer.as_mut_ptr(), 32) }, 32);
    // SAFETY: pointer and length belong to a live value.
    assert_eq!(unsafe { shim_reactor_take(reactor.handle, buffer.as_mut_ptr(), 32) }, 0);
    assert!(matches!(&parse(&buffer)[..], [Event::Handoff { payload, .. }] if payload == b"12345"));
}

/// The records of a burst are bounded, and what was left in the backlog is not forgotten.
#[test]
fn a_burst_beyond_the_room_for_records_arrives_whole() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let intake = Intake::new(Policy { handoff_buffer_bytes: 131_072, ..POLICY });
    intake.listen(SEQPACKET, &path);
    let (browser, passed) = pair(STREAM);
    let payload = vec![b'p'; 100_000];
    for _ in 0..12 {
        hand_off(&path, SEQPACKET, &payload, &passed);
    }
    let reactor = intake.reactor();
    let mut counts = Vec::new();
    while counts.iter().sum::<usize>() < 12 {
        let bytes = reactor.wait();
        assert!((1..=262_144 + 100_024).contains(&bytes), "{bytes}");
        let events = reactor.take();
        assert!(
            events.iter().all(|event| matches!(event, Event::Handoff { payload: p, .. } if *p == payload))
        );
        counts.push(events.len());
    }
    assert_eq!(counts, [3, 3, 3, 3]);
    drop(browser);
}

#[test]
fn more_connections_than_are_accepted_at_once_are_all_served() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let intake = Intake::new(POLICY);
    intake.listen(SEQPACKET, &path);
    let (_browser, passed) = pair(STREAM);
    for _ in 0..600 {
        hand_off(&path, SEQPACKET, b"{}", &passed);
    }
    let reactor = intake.reactor();
    for _ in 0..600 {
        reactor.client();
    }
    assert_eq!(intake.active(), 600);
}

#[test]
fn a_reactor_s_end_does_not_lose_what_waits_in_the_backlog() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let intake = Intake::new(POLICY);
    intake.listen(SEQPACKET, &path);
    let (_browser, passed) = pair(STREAM);
    for round in 1..=20 {
        let leaving = intake.reactor();
        let staying = intake.reactor();
        let collectors = [collect(&leaving), collect(&staying)];
        let senders: Vec<OwnedFd> = (0..8).map(|_| connect(&path, SEQPACKET)).collect();
        leaving.close();
        for sender in &senders {
            // A connection that the leaving one had accepted went with it; the others are served. None hangs.
            let _refused = try_sendmsg(sender, b"{}", &[&passed]);
        }
        for sender in &senders {
            let end = try_recv(sender, PATIENCE);
            assert!(end == Err(0) || end == Err(-libc::ECONNRESET), "round {round}: {end:?}");
        }
        staying.close();
        for collector in collectors {
            collector.join();
        }
        assert_eq!(intake.active(), 0, "round {round}");
    }
}

#[test]
fn closing_the_intake_closes_its_reactors_and_no_other() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let (one, two) = (Intake::new(POLICY), Intake::new(POLICY));
    two.listen(SEQPACKET, &path);
    let (mine, other) = (one.reactor(), two.reactor());
    let collector = collect(&mine);
    assert_eq!(shim_intake_close(one.0), 0);
    assert_eq!(collector.join(), []);
    assert_eq!(mine.close(), BAD_HANDLE);
    assert_eq!(shim_intake_close(one.0), BAD_HANDLE);
    let (_browser, passed) = pair(STREAM);
    hand_off(&path, SEQPACKET, b"{}", &passed);
    other.client();
}

#[test]
fn invented_handles_are_bad_handles() {
    let _no_leak = no_leak();
    for handle in [0, 1_000_000, u32::MAX] {
        assert_eq!(shim_reactor_wait(handle), BAD_HANDLE);
        assert_eq!(shim_reactor_close(handle), BAD_HANDLE);
        assert_eq!(shim_client_close(handle, 0), BAD_HANDLE);
        assert_eq!(shim_intake_stop(handle), BAD_HANDLE);
        assert_eq!(shim_intake_active(handle), BAD_HANDLE);
        assert_eq!(shim_intake_close(handle), BAD_HANDLE);
        assert_eq!(shim_intake_adopt(handle, 0), BAD_HANDLE);
        let mut word = 7;
        // SAFETY: the pointer is that of a live value.
        assert_eq!(unsafe { shim_reactor_new(handle, &mut word) }, BAD_HANDLE);
        // SAFETY: NULL without a length is allowed.
        let taken = unsafe { shim_reactor_take(handle, std::ptr::null_mut(), 0) };
        // SAFETY: NULL without a length is allowed.
        let sent = unsafe {
            shim_send_batch(handle, std::ptr::null(), 0, std::ptr::null(), 0, std::ptr::null_mut())
        };
        assert_eq!((taken, sent, word), (BAD_HANDLE, BAD_HANDLE, 7));
    }
}
