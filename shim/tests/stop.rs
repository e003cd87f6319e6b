//! The orderly end: nothing that has connected is lost, nothing else comes in.
#![allow(missing_docs)]

mod support;

use std::fs;
use std::time::Duration;

use support::*;

/// The same socket under a second name, since the stop takes the first one away.
fn second_name(directory: &Directory) -> std::path::PathBuf {
    let second = directory.path("second");
    fs::hard_link(directory.path("socket"), &second).unwrap();
    second
}

#[test]
fn the_backlog_is_served_and_later_connects_are_refused() {
    for kind in BOTH {
        let (_no_leak, directory, path, intake) = intake_on(kind, POLICY);
        let reactor = intake.reactor();
        let second = second_name(&directory);
        let browsers: Vec<_> = (0..50)
            .map(|number| {
                let (browser, passed) = pair(STREAM);
                hand_off(&path, kind, format!("{{\"n\":{number}}}").as_bytes(), &passed);
                browser
            })
            .collect();
        assert_eq!(intake.stop(), 0);
        assert_eq!(try_connect(&second, kind).err(), Some(-libc::ECONNREFUSED));
        assert_eq!(try_connect(&path, kind).err(), Some(-libc::ENOENT));
        for (number, browser) in browsers.iter().enumerate() {
            let Event::Handoff { client, payload, .. } = reactor.event() else { panic!() };
            assert_eq!(payload, format!("{{\"n\":{number}}}").as_bytes());
            assert_eq!(reactor.send(client, b"served", END), 6);
            assert_eq!(recv_to_end(browser), b"served");
        }
        assert_eq!(reactor.event(), Event::Drained);
        assert_eq!(intake.stop(), 0);
        assert_eq!(try_connect(&second, kind).err(), Some(-libc::ECONNREFUSED));
        reactor.stays_silent();
    }
}

#[test]
fn a_stop_wakes_every_reactor() {
    for listeners in [0, 2] {
        let _no_leak = no_leak();
        let directory = Directory::new();
        let intake = Intake::new(POLICY);
        for listener in 0..listeners {
            intake.listen(listener, &directory.path(&listener.to_string()));
        }
        let reactors = [intake.reactor(), intake.reactor(), intake.reactor()];
        for reactor in &reactors {
            assert!(reactor.ear().is_silent());
        }
        // Whether their threads wait already or not, they have to hear of the stop.
        assert_eq!(reactors[0].ear().hear(Duration::from_millis(50), 1), Heard::Nothing);
        assert_eq!(intake.stop(), 0);
        for reactor in reactors {
            let bytes = reactor.wait();
            assert_eq!((bytes.len(), parse(&bytes)), (24, vec![Event::Drained]));
        }
    }
}

#[test]
fn every_reactor_is_drained_once_and_the_backlog_is_shared() {
    let (_no_leak, _directory, path, intake) = intake_on(SEQPACKET, POLICY);
    let reactors = [intake.reactor(), intake.reactor()];
    let (_browser, passed) = pair(STREAM);
    for _ in 0..20 {
        hand_off(&path, SEQPACKET, b"{}", &passed);
    }
    assert_eq!(intake.stop(), 0);
    // The first one accepts them all and gives half of them away.
    for _ in 0..10 {
        reactors[0].client();
    }
    assert_eq!(reactors[0].event(), Event::Drained);
    for _ in 0..10 {
        reactors[1].client();
    }
    assert_eq!(reactors[1].event(), Event::Drained);
    for reactor in reactors {
        reactor.stays_silent();
    }
}

#[test]
fn nothing_is_given_to_a_reactor_that_is_drained() {
    let (_no_leak, _directory, path, intake) = intake_on(SEQPACKET, POLICY);
    let (first, second) = (intake.reactor(), intake.reactor());
    let late = connect(&path, SEQPACKET);
    let (_browser, passed) = pair(STREAM);
    // The first reactor has accepted the late one once it has the client that came after it.
    hand_off(&path, SEQPACKET, b"{}", &passed);
    first.client();
    assert_eq!(intake.stop(), 0);
    assert_eq!(second.event(), Event::Drained);
    sendmsg(&late, b"{\"late\":1}", &[&passed]);
    let Event::Handoff { payload, .. } = first.event() else { panic!() };
    assert_eq!(payload, b"{\"late\":1}");
    assert_eq!(first.event(), Event::Drained);
    second.stays_silent();
}

#[test]
fn pending_handoffs_are_finished_before_the_reactor_is_drained() {
    for kind in BOTH {
        let (_no_leak, _directory, path, intake) =
            intake_on(kind, Policy { handoff_timeout_ms: 300, ..POLICY });
        let reactor = intake.reactor();
        let (_browser, passed) = pair(STREAM);
        let slow = connect(&path, kind);
        let _silent = connect(&path, kind);
        hand_off(&path, kind, b"{}", &passed);
        reactor.client();
        assert_eq!(intake.stop(), 0);
        sendmsg(&slow, b"{\"slow\":1}", &[&passed]);
        let Event::Handoff { payload, .. } = reactor.event() else { panic!() };
        assert_eq!(payload, b"{\"slow\":1}");
        assert_eq!(reactor.failure(), (0, 8, 300));
        assert_eq!(reactor.event(), Event::Drained);
    }
}

#[test]
fn clients_stay_after_the_stop() {
    let (_no_leak, _directory, path, intake) = intake_on(SEQPACKET, POLICY);
    let reactor = intake.reactor();
    let (browser, passed) = pair(STREAM);
    hand_off(&path, SEQPACKET, b"{}", &passed);
    drop(passed);
    let client = reactor.client();
    assert_eq!(intake.stop(), 0);
    assert_eq!(reactor.event(), Event::Drained);
    assert_eq!(intake.active(), 1);
    assert_eq!(reactor.send(client, b"to the end", END), 10);
    assert_eq!(recv_to_end(&browser), b"to the end");
}

#[test]
fn a_reactor_made_after_the_stop_serves_the_backlog_too() {
    let (_no_leak, _directory, path, intake) = intake_on(SEQPACKET, POLICY);
    let (_browser, passed) = pair(STREAM);
    hand_off(&path, SEQPACKET, b"{}", &passed);
    assert_eq!(intake.stop(), 0);
    let reactor = intake.reactor();
    reactor.client();
    assert_eq!(reactor.event(), Event::Drained);
}

#[test]
fn an_intake_without_listeners_is_drained_at_once() {
    let _no_leak = no_leak();
    let intake = Intake::new(POLICY);
    let reactor = intake.reactor();
    assert_eq!(intake.stop(), 0);
    assert_eq!(reactor.event(), Event::Drained);
}
