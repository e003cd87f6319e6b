//! Several reactors, their callers, and their ends.
#![allow(missing_docs)]

mod support;

use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use streaming_daemon_shim::*;
use support::*;

/// Hears and takes in a thread of its own until the reactor is closed.
struct Collector {
    handle: u32,
    thread: thread::JoinHandle<()>,
    events: Arc<Mutex<Vec<Event>>>,
}

fn collect(reactor: Reactor) -> Collector {
    let handle = reactor.handle;
    let events = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&events);
    let ear = reactor.into_ear();
    let thread = thread::spawn(move || {
        while ear.rings() {
            match take_bytes(handle, 1 << 19) {
                Err(BAD_HANDLE) => return,
                Err(status) => panic!("take gave {status}"),
                Ok(bytes) => {
                    assert!(!bytes.is_empty(), "it rang for nothing");
                    collected.lock().unwrap().extend(parse(&bytes));
                }
            }
        }
    });
    Collector { handle, thread, events }
}

impl Collector {
    fn handoffs(&self) -> usize {
        let events = self.events.lock().unwrap();
        events.iter().filter(|event| matches!(event, Event::Handoff { .. })).count()
    }

    fn close(&self) -> i32 {
        shim_reactor_close(self.handle)
    }

    /// The reactor has to be closed.
    fn join(self) -> Vec<Event> {
        self.thread.join().unwrap();
        Arc::into_inner(self.events).unwrap().into_inner().unwrap()
    }
}

#[test]
fn handoffs_spread_evenly() {
    let (_no_leak, _directory, path, intake) = intake_on(SEQPACKET, POLICY);
    let collectors = [intake.reactor(), intake.reactor()].map(collect);
    let mut browsers = Vec::new();
    for _ in 0..60 {
        let (browser, passed) = pair(STREAM);
        hand_off(&path, SEQPACKET, b"{}", &passed);
        browsers.push(browser);
    }
    eventually("all have arrived", || collectors.iter().map(Collector::handoffs).sum::<usize>() == 60);
    assert_eq!(intake.active(), 60);
    for collector in &collectors {
        assert_eq!(collector.close(), 0);
    }
    assert_eq!(collectors.each_ref().map(Collector::handoffs), [30, 30]);
    for collector in collectors {
        collector.join();
    }
    assert_eq!(intake.active(), 0);
}

/// Two intakes that adopt one listener, as two processes do, each with a reactor that has one client already,
/// from a listener of its own: it watches both by then.
fn sharing(directory: &Directory, policies: [Policy; 2]) -> [(Intake, Collector); 2] {
    let listener = UnixListener::bind(directory.path("shared")).unwrap();
    policies.map(|policy| {
        let intake = Intake::new(policy);
        assert_eq!(shim_intake_adopt(intake.0, listener.try_clone().unwrap().into_raw_fd()), STREAM as i32);
        let own = directory.path(&intake.0.to_string());
        intake.listen(STREAM, &own);
        let collector = collect(intake.reactor());
        hand_off(&own, STREAM, b"{}", &pair(STREAM).0);
        eventually("it serves", || collector.handoffs() == 1);
        (intake, collector)
    })
}

/// Hands off one after the other has arrived. Returns the browsers.
fn hand_off_in_turn(directory: &Directory, count: usize, sharing: &[(Intake, Collector); 2]) -> Vec<OwnedFd> {
    let arrived = || sharing.iter().map(|(_, collector)| collector.handoffs()).sum::<usize>();
    let before = arrived();
    let hand_off_one = |nth| {
        let (browser, passed) = pair(STREAM);
        hand_off(&directory.path("shared"), STREAM, b"{}", &passed);
        eventually("it has arrived", || arrived() == before + nth);
        browser
    };
    (1..=count).map(hand_off_one).collect()
}

fn flags_of(sharing: [(Intake, Collector); 2]) -> [Vec<u32>; 2] {
    sharing.map(|(_intake, collector)| {
        assert_eq!(collector.close(), 0);
        let flags = |event: Event| match event {
            Event::Handoff { flags, .. } => Some(flags),
            _ => None,
        };
        collector.join().into_iter().filter_map(flags).collect()
    })
}

const OVER_LIMIT: u32 = 1;

#[test]
fn processes_that_share_an_adopted_listener_take_turns() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let sharing = sharing(&directory, [POLICY; 2]);
    let _browsers = hand_off_in_turn(&directory, 40, &sharing);
    let [one, two] = flags_of(sharing).map(|flags| flags.len());
    assert!(one > 10 && two > 10, "{one} and {two}");
}

#[test]
fn a_process_at_its_limit_leaves_an_adopted_listener_to_the_others_until_all_are() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let limited = |max_connections| Policy { max_connections, ..POLICY };
    let sharing = sharing(&directory, [limited(3), limited(7)]);
    let _browsers = hand_off_in_turn(&directory, 8, &sharing);
    assert_eq!(sharing.each_ref().map(|(intake, _)| intake.active()), [3, 7]);
    let _refused = hand_off_in_turn(&directory, 1, &sharing);
    let flags = flags_of(sharing).concat();
    assert_eq!(flags.iter().filter(|flags| **flags & OVER_LIMIT != 0).count(), 1, "{flags:?}");
}

#[test]
fn a_reactor_that_is_not_started_yet_finds_its_clients_later() {
    let (_no_leak, _directory, path, intake) = intake_on(STREAM, POLICY);
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
    let (_no_leak, _directory, path, intake) = intake_on(SEQPACKET, POLICY);
    let (giving, given) = (intake.reactor(), intake.reactor());
    let (_browser, passed) = pair(STREAM);
    // The first reactor has accepted the slow one once it has the client that came after it.
    let slow = connect(&path, SEQPACKET);
    hand_off(&path, SEQPACKET, b"{}", &passed);
    giving.client();
    let giver = collect(giving);
    assert_eq!(given.ear().hear(Duration::from_millis(30), 1), Heard::Nothing);
    sendmsg(&slow, b"1234", &[&passed]);
    assert_eq!(given.wait().len(), 28);
    giver.close();
    assert_eq!(giver.join(), []);
}

#[test]
fn a_client_that_its_reactor_has_not_seen_yet_is_closed_and_counted_out_with_it() {
    let (_no_leak, _directory, path, intake) = intake_on(SEQPACKET, POLICY);
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
fn listeners_made_after_the_reactor_was_started_are_served() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let intake = Intake::new(POLICY);
    let collector = collect(intake.reactor());
    let (_browser, passed) = pair(STREAM);
    for (kind, name) in [(SEQPACKET, "one"), (STREAM, "two")] {
        let path = directory.path(name);
        intake.listen(kind, &path);
        hand_off(&path, kind, b"{}", &passed);
    }
    eventually("both are clients", || intake.active() == 2);
    collector.close();
    collector.join();
}

#[test]
fn close_ends_every_client_and_the_reactor_is_known_no_more() {
    let (_no_leak, _directory, path, intake) = intake_on(SEQPACKET, POLICY);
    let reactor = intake.reactor();
    let (browser, passed) = pair(STREAM);
    let pending = connect(&path, SEQPACKET);
    // The reactor accepts in order, so once this one is a client, the pending one is accepted.
    hand_off(&path, SEQPACKET, b"{}", &passed);
    drop(passed);
    let client = reactor.client();
    assert_eq!(reactor.close(), 0);
    assert!(reactor.ear().is_at_its_end());
    assert_eq!(recv_to_end(&browser), b"");
    assert_eq!(recv_to_end(&pending), b"");
    assert_eq!(intake.active(), 0);
    assert_eq!(start(reactor.handle).err(), Some(-libc::ECANCELED));
    assert_eq!(take_bytes(reactor.handle, 64), Err(BAD_HANDLE));
    assert_eq!(reactor.close(), BAD_HANDLE);
    assert_eq!(reactor.close_client(client), BAD_HANDLE);
}

/// The records of a burst are bounded, and what was left in the backlog is not forgotten.
#[test]
fn a_burst_beyond_the_room_for_records_arrives_whole() {
    let (_no_leak, _directory, path, intake) =
        intake_on(SEQPACKET, Policy { handoff_buffer_bytes: 131_072, ..POLICY });
    let (browser, passed) = pair(STREAM);
    let payload = vec![b'p'; 100_000];
    for _ in 0..12 {
        hand_off(&path, SEQPACKET, &payload, &passed);
    }
    let reactor = intake.reactor();
    let mut counts = Vec::new();
    while counts.iter().sum::<usize>() < 12 {
        let bytes = reactor.wait();
        assert!((1..=262_144 + 100_024).contains(&bytes.len()), "{}", bytes.len());
        let events = parse(&bytes);
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
    let (_no_leak, _directory, path, intake) = intake_on(SEQPACKET, POLICY);
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
    let (_no_leak, _directory, path, intake) = intake_on(SEQPACKET, POLICY);
    let (_browser, passed) = pair(STREAM);
    for round in 1..=20 {
        let [leaving, staying] = [intake.reactor(), intake.reactor()].map(collect);
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
        for collector in [leaving, staying] {
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
    let mine = collect(mine);
    // The close would stop it too, but whether the reactor can still say so would be open.
    assert_eq!(one.stop(), 0);
    eventually("it is drained", || mine.events.lock().unwrap().len() == 1);
    assert_eq!(shim_intake_close(one.0), 0);
    assert_eq!(mine.close(), BAD_HANDLE);
    assert_eq!(mine.join(), [Event::Drained]);
    assert_eq!(shim_intake_close(one.0), BAD_HANDLE);
    let (_browser, passed) = pair(STREAM);
    hand_off(&path, SEQPACKET, b"{}", &passed);
    other.client();
}

#[test]
fn invented_handles_are_bad_handles() {
    let _no_leak = no_leak();
    for handle in [0, 1_000_000, u32::MAX] {
        assert_eq!(shim_reactor_start(handle), BAD_HANDLE);
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
