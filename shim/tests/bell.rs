//! The bell of a reactor: when it rings, when it ends, and what its caller may do with it.
#![allow(missing_docs)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use streaming_daemon_shim::*;
use support::*;

const A_MOMENT: Duration = Duration::from_millis(150);
/// Three of them leave no room for more.
static LONG: [u8; 100_000] = [b'p'; 100_000];

struct Setup {
    _directory: Directory,
    path: PathBuf,
    intake: Intake,
    reactor: u32,
    ear: Ear,
    _no_leak: NoLeak,
}

fn setup() -> Setup {
    let policy = Policy { handoff_buffer_bytes: 131_072, ..POLICY };
    let (_no_leak, _directory, path, intake) = intake_on(SEQPACKET, policy);
    let reactor = intake.reactor();
    let handle = reactor.handle;
    Setup { _directory, path, intake, reactor: handle, ear: reactor.into_ear(), _no_leak }
}

impl Setup {
    /// One more client, whose end of the connection is closed with what is returned.
    fn admit(&self, payload: &[u8]) -> impl Drop + use<> {
        let before = self.intake.active();
        let (browser, passed) = pair(STREAM);
        hand_off(&self.path, SEQPACKET, payload, &passed);
        eventually("it is a client", || self.intake.active() == before + 1);
        browser
    }

    fn take(&self, most: usize) -> Vec<Event> {
        parse(&take_bytes(self.reactor, most).unwrap())
    }
}

#[test]
fn it_rings_once_for_events_after_there_were_none() {
    let setup = setup();
    let mut browsers = Vec::new();
    for _ in 0..2 {
        for _ in 0..3 {
            browsers.push(setup.admit(b"1234"));
        }
        // A part taken leaves a part, so there is nothing new to ring for.
        assert_eq!(setup.take(28).len(), 1);
        browsers.push(setup.admit(b"1234"));
        assert_eq!(setup.take(1 << 20).len(), 3);
        assert_eq!(setup.take(1 << 20), []);
        assert_eq!(setup.ear.hear(PATIENCE, 16), Heard::Rings(1));
        assert!(setup.ear.is_silent());
    }
}

#[test]
fn nothing_is_taken_into_a_buffer_that_is_too_small() {
    let setup = setup();
    let _browser = setup.admit(b"12345");
    assert!(setup.ear.rings());
    assert_eq!(take_bytes(setup.reactor, 31), Err(TOO_SMALL));
    let events = setup.take(32);
    assert!(matches!(&events[..], [Event::Handoff { payload, .. }] if payload == b"12345"), "{events:?}");
    assert_eq!(take_bytes(setup.reactor, 32), Ok(vec![]));
    assert!(setup.ear.is_silent());
}

#[test]
fn it_ends_when_the_reactor_closes_or_its_intake() {
    let of_reactor = |setup: &Setup| shim_reactor_close(setup.reactor);
    let of_intake = |setup: &Setup| {
        // The close would stop it too, but whether the reactor can still say so would be open.
        assert_eq!(setup.intake.stop(), 0);
        assert!(setup.ear.rings());
        shim_intake_close(setup.intake.0)
    };
    for close in [of_reactor as fn(&Setup) -> i32, of_intake] {
        let setup = setup();
        assert_eq!(setup.ear.hear(A_MOMENT, 1), Heard::Nothing);
        assert_eq!(close(&setup), 0);
        assert!(setup.ear.is_at_its_end());
    }
}

/// Of a reactor that is closed nothing is left but the ear, at once.
#[test]
fn close_leaves_no_descriptor_behind() {
    let setup = setup();
    let before = shim_open_fds();
    // That of the setup's reactor.
    let ring = open_rings();
    for _ in 0..50 {
        let reactor = setup.intake.reactor();
        let ear = start(reactor.handle).unwrap();
        assert_eq!(shim_open_fds(), before + 4 + ring);
        assert_eq!(reactor.close(), 0);
        assert_eq!(shim_open_fds(), before + 1);
        assert!(ear.is_at_its_end());
    }
}

#[test]
fn it_is_given_once() {
    let setup = setup();
    assert_eq!(start(setup.reactor).err(), Some(-libc::EBUSY));
    let _browser = setup.admit(b"{}");
    assert!(setup.ear.rings());
    assert_eq!(start(setup.reactor).err(), Some(-libc::EBUSY));
    assert_eq!(shim_reactor_close(setup.reactor), 0);
    assert_eq!(start(setup.reactor).err(), Some(-libc::ECANCELED));
}

#[test]
fn a_reactor_closed_before_its_start_is_not_started() {
    let _no_leak = no_leak();
    let intake = Intake::new(POLICY);
    let reactor = intake.reactor();
    assert_eq!(reactor.close(), 0);
    assert_eq!(start(reactor.handle).err(), Some(-libc::ECANCELED));
}

#[test]
fn a_full_reactor_rests_until_its_events_are_taken() {
    let setup = setup();
    let (_browser, passed) = pair(STREAM);
    for _ in 0..7 {
        hand_off(&setup.path, SEQPACKET, &LONG, &passed);
    }
    eventually("it is full", || setup.intake.active() == 3);
    let cpu = cpu_ms();
    assert_eq!(setup.ear.hear(PATIENCE, 16), Heard::Rings(1));
    assert_eq!(setup.ear.hear(A_MOMENT, 1), Heard::Nothing);
    assert!(cpu_ms() - cpu < 50, "{} ms of CPU", cpu_ms() - cpu);
    assert_eq!(setup.intake.active(), 3);
    // What two of them leave has room for one more.
    assert_eq!(setup.take(100_024).len(), 1);
    eventually("it goes on", || setup.intake.active() == 4);
    assert_eq!(setup.take(1 << 20).len(), 3);
    for expected in [3, 0] {
        eventually("it goes on", || setup.intake.active() == 7);
        assert_eq!(setup.take(1 << 20).len(), expected);
    }
    assert_eq!(setup.ear.hear(PATIENCE, 16), Heard::Rings(1));
    assert!(setup.ear.is_silent());
}

#[test]
fn a_full_reactor_is_closed_at_once() {
    let setup = setup();
    let browsers = [(); 3].map(|()| setup.admit(&LONG));
    assert!(setup.ear.rings());
    assert_eq!(shim_reactor_close(setup.reactor), 0);
    assert!(setup.ear.is_at_its_end());
    drop(browsers);
}

#[test]
fn a_closed_ear_does_no_harm() {
    let setup = setup();
    let Setup { _no_leak, _directory, path, intake, reactor, ear } = setup;
    drop(ear);
    for round in 1..=3 {
        let (browser, passed) = pair(STREAM);
        hand_off(&path, SEQPACKET, b"{}", &passed);
        drop(passed);
        eventually("it is a client", || intake.active() == 1);
        let events = parse(&take_bytes(reactor, 1 << 20).unwrap());
        assert!(matches!(events[..], [Event::Handoff { client: 0, .. }]), "round {round}: {events:?}");
        assert_eq!(shim_client_close(reactor, 0), 0);
        assert_eq!(recv_to_end(&browser), b"");
    }
    assert_eq!(start(reactor).err(), Some(-libc::EBUSY));
    assert_eq!(shim_reactor_close(reactor), 0);
}

/// The bytes of a caller that takes without hearing fill the socket, and then there is no room for more.
#[test]
fn a_bell_that_nobody_hears_does_no_harm() {
    let setup = setup();
    for _ in 0..1000 {
        drop(setup.admit(b"{}"));
        let Some(Event::Handoff { client, .. }) = setup.take(1 << 20).into_iter().next() else { panic!() };
        assert_eq!(shim_client_close(setup.reactor, client), 0);
        while !setup.take(1 << 20).is_empty() {}
    }
    let Heard::Rings(unheard) = setup.ear.hear(PATIENCE, 4000) else { panic!() };
    assert!((1..1000).contains(&unheard), "{unheard}");
    while !setup.ear.is_silent() {}
    let _browser = setup.admit(b"{}");
    assert!(setup.ear.rings());
}

fn wait(reactor: u32, timeout: Duration) -> i32 {
    shim_reactor_wait(reactor, timeout.as_micros() as u32)
}

/// A wait in a thread of its own, which sleeps in it by now.
fn waiting(reactor: u32) -> JoinHandle<i32> {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        tell.send(std::fs::read_link("/proc/thread-self").unwrap()).unwrap();
        drop(tell);
        wait(reactor, PATIENCE)
    });
    let status = Path::new("/proc").join(told.recv().unwrap()).join("status");
    eventually("it sleeps", || std::fs::read_to_string(&status).unwrap().contains("State:\tS"));
    thread
}

#[test]
fn a_wait_ends_with_its_time() {
    let setup = setup();
    let begin = Instant::now();
    assert_eq!(wait(setup.reactor, A_MOMENT), 0);
    assert!(begin.elapsed() >= A_MOMENT);
    // The bell rings again for what comes later.
    let _browser = setup.admit(b"{}");
    assert!(setup.ear.rings());
}

#[test]
fn a_wait_ends_with_an_event_which_does_not_ring() {
    let setup = setup();
    let (browser, passed) = pair(STREAM);
    let waiting = waiting(setup.reactor);
    hand_off(&setup.path, SEQPACKET, b"{}", &passed);
    assert_eq!(waiting.join().unwrap(), 1);
    assert_eq!(setup.take(1 << 20).len(), 1);
    assert!(setup.ear.is_silent());
    drop(browser);
}

#[test]
fn a_wait_for_what_is_there_is_none() {
    let setup = setup();
    let _browser = setup.admit(b"{}");
    assert_eq!(wait(setup.reactor, PATIENCE), 1);
    assert_eq!(wait(setup.reactor, PATIENCE), 1);
    assert!(setup.ear.rings());
}

#[test]
fn a_close_ends_a_wait() {
    let setup = setup();
    let waiting = waiting(setup.reactor);
    assert_eq!(shim_reactor_close(setup.reactor), 0);
    assert_eq!(waiting.join().unwrap(), BAD_HANDLE);
    assert_eq!(wait(setup.reactor, PATIENCE), BAD_HANDLE);
}
