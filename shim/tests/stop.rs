//! The orderly end: nothing that has connected is lost, nothing else comes in.
#![allow(missing_docs)]

mod support;

use std::fs::{self, Permissions};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::SockType;
use nix::unistd::geteuid;
use streaming_daemon_shim::*;
use support::*;

/// The same socket under a second name, since the stop takes the first one away.
fn second_name(directory: &Directory) -> std::path::PathBuf {
    let second = directory.path("second");
    fs::hard_link(directory.path("socket"), &second).unwrap();
    second
}

/// An acceptor with one listener that is not started yet.
fn unstarted(kind: u32, policy: Policy) -> (NoLeak, Directory, std::path::PathBuf, Acceptor) {
    let no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let acceptor = Acceptor::new(policy);
    acceptor.listen(kind, &path);
    (no_leak, directory, path, acceptor)
}

#[test]
fn the_backlog_is_served_and_later_connects_are_refused() {
    for kind in BOTH {
        let (_no_leak, directory, path, acceptor) = unstarted(kind, POLICY);
        let second = second_name(&directory);
        let browsers: Vec<_> = (0..200)
            .map(|number| {
                let (browser, passed) = pair(STREAM);
                hand_off(&path, kind, format!("{{\"n\":{number}}}").as_bytes(), &passed);
                browser
            })
            .collect();
        assert_eq!(acceptor.stop(), 0);
        assert_eq!(try_connect(&second, kind).err(), Some(Errno::ECONNREFUSED));
        assert_eq!(try_connect(&path, kind).err(), Some(Errno::ENOENT));
        let reactor = acceptor.reactor();
        assert_eq!(acceptor.told(), Told::Drained);
        // Every handoff is in the queue by then.
        let handoffs: Vec<_> = reactor.take();
        assert_eq!(handoffs.len(), browsers.len());
        for (number, (event, browser)) in handoffs.into_iter().zip(&browsers).enumerate() {
            let Event::Handoff(Handoff { client, payload, .. }) = event else { panic!() };
            assert_eq!(payload, format!("{{\"n\":{number}}}").as_bytes());
            assert_eq!(reactor.send(client, b"served", END), 6);
            assert_eq!(recv_to_end(browser), b"served");
        }
        assert_eq!(acceptor.stop(), 0);
        assert_eq!(try_connect(&second, kind).err(), Some(Errno::ECONNREFUSED));
        acceptor.stays_silent();
        assert!(reactor.take().is_empty());
    }
}

#[test]
fn a_stop_is_heard_with_and_without_listeners() {
    for listeners in [0, 2] {
        let _no_leak = no_leak();
        let directory = Directory::new();
        let acceptor = Acceptor::new(POLICY);
        for listener in 0..listeners {
            acceptor.listen(listener, &directory.path(&listener.to_string()));
        }
        // Whether the thread waits already or not, it has to hear of the stop.
        assert_eq!(acceptor.ear().hear(Duration::from_millis(50), 1), Heard::Nothing);
        assert_eq!(acceptor.stop(), 0);
        assert_eq!(acceptor.told(), Told::Drained);
        acceptor.stays_silent();
    }
}

#[test]
fn pending_handoffs_are_finished_before_it_is_drained() {
    for kind in BOTH {
        let setup = Setup::new(kind, Policy { handoff_timeout_ms: 300, ..POLICY });
        let (_browser, passed) = pair(STREAM);
        let slow = setup.connect();
        let _silent = setup.connect();
        setup.another();
        assert_eq!(setup.acceptor.stop(), 0);
        sendmsg(&slow, b"{\"slow\":1}", &[&passed]);
        assert_eq!(setup.reactor.handoff().payload, b"{\"slow\":1}");
        assert_eq!(setup.acceptor.refusal(), (0, TIMEOUT, 300));
        assert_eq!(setup.acceptor.told(), Told::Drained);
    }
}

#[test]
fn a_stop_in_haste_refuses_pending_handoffs_at_once_and_brings_their_clients() {
    let setup = Setup::new(STREAM, POLICY);
    let (_browser, passed) = pair(STREAM);
    let begun = setup.connect();
    sendmsg(&begun, b"{\"begun\":", &[&passed]);
    let _silent = setup.connect();
    setup.another();
    assert_eq!(setup.acceptor.stop(), 0);
    setup.acceptor.stays_silent();
    assert_eq!(shim_acceptor_stop(setup.acceptor.handle, 1), 0);
    // What is not whole is not judged as data: it was not the sender who ended it.
    assert_eq!(setup.reactor.handoff().reason, TIMEOUT);
    setup.acceptor.refusals(TIMEOUT, 2);
    assert_eq!(setup.acceptor.told(), Told::Drained);
    assert_eq!(shim_acceptor_stop(setup.acceptor.handle, 2), BAD_ARGUMENT);
}

#[test]
fn clients_stay_after_the_stop() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (browser, client) = setup.local();
    assert_eq!(setup.acceptor.stop(), 0);
    assert_eq!(setup.acceptor.told(), Told::Drained);
    assert_eq!(setup.acceptor.active(), 1);
    assert_eq!(setup.reactor.send(client, b"to the end", END), 10);
    assert_eq!(recv_to_end(&browser), b"to the end");
}

#[test]
fn without_a_reactor_it_is_not_drained_while_somebody_waits() {
    let (_no_leak, _directory, path, acceptor) = unstarted(SEQPACKET, POLICY);
    let (_browser, passed) = pair(STREAM);
    hand_off(&path, SEQPACKET, b"{}", &passed);
    assert_eq!(acceptor.stop(), 0);
    acceptor.stays_silent();
    let reactor = acceptor.reactor();
    reactor.client();
    assert_eq!(acceptor.told(), Told::Drained);
}

#[test]
fn without_a_reactor_a_pending_handoff_that_becomes_whole_waits_for_one() {
    let setup = Setup::new(STREAM, POLICY);
    let (_browser, passed) = pair(STREAM);
    let slow = setup.connect();
    sendmsg(&slow, b"{\"slow\":", &[&passed]);
    setup.another();
    assert_eq!(setup.acceptor.stop(), 0);
    assert_eq!(setup.reactor.close(), 0);
    sendmsg(&slow, b"1}", &[]);
    setup.acceptor.stays_silent();
    let heir = setup.acceptor.reactor();
    assert_eq!(heir.handoff().payload, b"{\"slow\":1}");
    assert_eq!(setup.acceptor.told(), Told::Drained);
}

/// Files can be removed by whoever may write to their folder, which is what root loses with its file-system uid.
#[test]
fn a_path_that_cannot_be_removed_is_told_and_the_stop_is_made_all_the_same() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let second = second_name(&setup.directory);
    let folder = setup.path.parent().unwrap();
    fs::set_permissions(folder, Permissions::from_mode(0o555)).unwrap();
    let become_nobody = geteuid().is_root();
    // SAFETY: setfsuid(2) touches no memory, and changes this thread alone.
    let before = if become_nobody { unsafe { libc::setfsuid(65_534) } } else { 0 };
    let status = setup.acceptor.stop();
    if become_nobody {
        // SAFETY: as above.
        unsafe { libc::setfsuid(before as u32) };
    }
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(status, -libc::EACCES);
    assert_eq!(try_connect(&second, SEQPACKET).err(), Some(Errno::ECONNREFUSED));
    assert_eq!(setup.acceptor.told(), Told::Drained);
}

#[test]
fn after_a_stop_nothing_listens_any_more() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let acceptor = Acceptor::new(POLICY);
    assert_eq!(acceptor.stop(), 0);
    assert_eq!(acceptor.try_listen(SEQPACKET, &path, 0o600, ""), -libc::ESHUTDOWN);
    assert!(fs::symlink_metadata(&path).is_err());
    let listener = listening(&path, SockType::Stream).into_raw_fd();
    assert_eq!(acceptor.adopt(listener), -libc::ESHUTDOWN);
    assert_eq!(nix::unistd::close(listener), Ok(()));
}

#[test]
fn a_close_ends_everything_at_once() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (browser, _client) = setup.local();
    let (second, passed) = pair(STREAM);
    let silent = setup.connect();
    setup.another();
    setup.hand_off(b"{}", &passed);
    drop(passed);
    assert_eq!(shim_acceptor_close(setup.acceptor.handle), 0);
    for ended in [&browser, &second, &silent] {
        assert_eq!(recv_to_end(ended), b"");
    }
    // Nothing is told any more.
    assert_eq!(setup.acceptor.ear().hear(PATIENCE, 1), Heard::End);
    setup.reactor.ear().ends();
    assert_eq!(shim_acceptor_active(setup.acceptor.handle), BAD_HANDLE);
    assert_eq!(setup.reactor.close(), BAD_HANDLE);
    assert_eq!(shim_acceptor_close(setup.acceptor.handle), BAD_HANDLE);
}
