//! The sockets' paths, and listeners that somebody else made.
#![allow(missing_docs)]

mod support;

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr, bind, listen, shutdown, socket,
};
use nix::unistd::{Gid, Group, geteuid, getgid, getgroups};
use streaming_daemon_shim::*;
use support::*;

fn bound(path: &Path, kind: SockType) -> OwnedFd {
    let bound = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(bound.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    bound
}

fn listening(path: &Path, kind: SockType) -> OwnedFd {
    let listening = bound(path, kind);
    listen(&listening, Backlog::new(5).unwrap()).unwrap();
    listening
}

/// Hands one off over `path` and sees it served.
fn is_served(path: &Path, kind: u32, reactor: &Reactor) {
    let (_browser, passed) = pair(STREAM);
    hand_off(path, kind, b"{}", &passed);
    assert_eq!(reactor.close_client(reactor.client()), 0);
}

#[test]
fn a_stale_socket_is_replaced() {
    let _no_leak = no_leak();
    for kind in BOTH {
        for left in [SockType::SeqPacket, SockType::Stream, SockType::Datagram] {
            let directory = Directory::new();
            let path = directory.path("socket");
            drop(bound(&path, left));
            let inode = fs::symlink_metadata(&path).unwrap().ino();
            // A second name keeps the inode's number from being given again.
            fs::hard_link(&path, directory.path("second")).unwrap();
            let intake = Intake::new(POLICY);
            intake.listen(kind, &path);
            assert_ne!(fs::symlink_metadata(&path).unwrap().ino(), inode);
            is_served(&path, kind, &intake.reactor());
        }
    }
}

#[test]
fn a_live_socket_of_any_type_is_refused_and_not_troubled() {
    let _no_leak = no_leak();
    for kind in BOTH {
        for live in [SockType::SeqPacket, SockType::Stream] {
            let directory = Directory::new();
            let path = directory.path("socket");
            let listener = listening(&path, live);
            let before = fs::symlink_metadata(&path).unwrap();
            let intake = Intake::new(POLICY);
            assert_eq!(intake.try_listen(kind, &path, 0o600, ""), SOCKET_LIVE);
            let after = fs::symlink_metadata(&path).unwrap();
            assert_eq!((after.ino(), after.mode()), (before.ino(), before.mode()));
            let listener = UnixListener::from(listener);
            listener.set_nonblocking(true).unwrap();
            assert_eq!(listener.accept().unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        }
    }
    let directory = Directory::new();
    let path = directory.path("socket");
    let _log = UnixDatagram::bind(&path).unwrap();
    assert_eq!(Intake::new(POLICY).try_listen(STREAM, &path, 0o600, ""), SOCKET_LIVE);
}

#[test]
fn our_own_live_socket_is_refused_too() {
    let (_no_leak, _directory, path, intake) = intake_on(SEQPACKET, POLICY);
    for kind in BOTH {
        assert_eq!(intake.try_listen(kind, &path, 0o600, ""), SOCKET_LIVE);
    }
    is_served(&path, SEQPACKET, &intake.reactor());
}

/// What the ABI says about a connect of the wrong kind.
#[test]
fn a_connect_of_the_other_kind_is_a_wrong_prototype() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    for kind in BOTH {
        let intake = Intake::new(POLICY);
        intake.listen(kind, &path);
        assert_eq!(try_connect(&path, 1 - kind).err(), Some(-libc::EPROTOTYPE));
    }
}

#[test]
fn what_is_not_a_socket_is_left_alone() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let intake = Intake::new(POLICY);
    let target = directory.path("target");
    drop(bound(&target, SockType::Stream));
    let (file, folder, link) = (directory.path("file"), directory.path("folder"), directory.path("link"));
    File::create(&file).unwrap();
    fs::create_dir(&folder).unwrap();
    symlink(&target, &link).unwrap();
    for path in [file, folder, link] {
        assert_eq!(intake.try_listen(STREAM, &path, 0o600, ""), NOT_A_SOCKET);
        assert!(fs::symlink_metadata(path).is_ok());
    }
}

#[test]
fn the_mode_is_as_asked() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    for mode in [0o600, 0o660, 0o666, 0o777, 0] {
        let path = directory.path(&format!("socket-{mode:o}"));
        let intake = Intake::new(POLICY);
        assert_eq!(intake.try_listen(SEQPACKET, &path, mode, ""), 0);
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, mode);
    }
}

/// A group that this user can give a file to, and that new files do not have anyway where there is one.
fn some_group() -> Group {
    let other = if geteuid().is_root() {
        (1..100).find_map(|gid| Group::from_gid(Gid::from_raw(gid)).unwrap())
    } else {
        let mine = getgroups().unwrap().into_iter().filter(|gid| *gid != getgid());
        mine.filter_map(|gid| Group::from_gid(gid).unwrap()).next()
    };
    other.unwrap_or_else(|| Group::from_gid(getgid()).unwrap().unwrap())
}

#[test]
fn the_group_is_as_asked() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let group = some_group();
    let intake = Intake::new(POLICY);
    assert_eq!(intake.try_listen(SEQPACKET, &path, 0o660, &group.name), 0);
    let found = fs::symlink_metadata(&path).unwrap();
    assert_eq!((found.gid(), found.mode() & 0o7777), (group.gid.as_raw(), 0o660));
}

#[test]
fn an_unknown_group_fails_and_leaves_what_was_there() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let intake = Intake::new(POLICY);
    assert_eq!(intake.try_listen(SEQPACKET, &path, 0o660, "no-such-group-here"), NO_SUCH_GROUP);
    assert!(fs::symlink_metadata(&path).is_err());
    drop(bound(&path, SockType::Stream));
    assert_eq!(intake.try_listen(SEQPACKET, &path, 0o660, "no-such-group-here"), NO_SUCH_GROUP);
    assert!(fs::symlink_metadata(&path).is_ok());
}

#[test]
fn a_path_that_cannot_be_bound_is_told() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let intake = Intake::new(POLICY);
    let missing = directory.path("missing/socket");
    assert_eq!(intake.try_listen(SEQPACKET, &missing, 0o600, ""), -libc::ENOENT);
    let long = directory.path(&"x".repeat(108));
    assert_eq!(intake.try_listen(SEQPACKET, &long, 0o600, ""), -libc::ENAMETOOLONG);
    assert_eq!(intake.try_listen(SEQPACKET, Path::new(""), 0o600, ""), BAD_ARGUMENT);
    assert_eq!(intake.try_listen(2, &directory.path("socket"), 0o600, ""), BAD_ARGUMENT);
    assert_eq!(intake.try_listen(STREAM, &directory.path("socket"), 0o1000, ""), BAD_ARGUMENT);
}

#[test]
fn the_path_goes_with_the_stop_and_with_the_close() {
    let (_no_leak, _directory, path, intake) = intake_on(SEQPACKET, POLICY);
    assert_eq!(intake.stop(), 0);
    assert!(fs::symlink_metadata(&path).is_err());
    let intake = Intake::new(POLICY);
    intake.listen(SEQPACKET, &path);
    drop(intake);
    assert!(fs::symlink_metadata(&path).is_err());
}

#[test]
fn a_path_that_is_another_s_by_now_is_not_removed() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let old = Intake::new(POLICY);
    old.listen(SEQPACKET, &path);
    fs::rename(&path, directory.path("away")).unwrap();
    let new = Intake::new(POLICY);
    new.listen(SEQPACKET, &path);
    assert_eq!(old.stop(), 0);
    drop(old);
    is_served(&path, SEQPACKET, &new.reactor());
}

#[test]
fn after_a_stop_nothing_listens_any_more() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let intake = Intake::new(POLICY);
    assert_eq!(intake.stop(), 0);
    assert_eq!(intake.try_listen(SEQPACKET, &path, 0o600, ""), -libc::ESHUTDOWN);
    assert!(fs::symlink_metadata(&path).is_err());
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(shim_intake_adopt(intake.0, listener.as_raw_fd()), -libc::ESHUTDOWN);
    listener.local_addr().unwrap();
}

#[test]
fn an_adopted_listener_is_served_and_its_path_stays() {
    let _no_leak = no_leak();
    for (kind, socket_type) in [(SEQPACKET, SockType::SeqPacket), (STREAM, SockType::Stream)] {
        let directory = Directory::new();
        let path = directory.path("socket");
        let intake = Intake::new(POLICY);
        let reactor = intake.reactor();
        let listener = listening(&path, socket_type).into_raw_fd();
        assert_eq!(shim_intake_adopt(intake.0, listener), kind as i32);
        is_served(&path, kind, &reactor);
        assert_eq!(intake.stop(), 0);
        assert_eq!(reactor.event(), Event::Drained);
        drop(intake);
        assert!(fs::symlink_metadata(&path).is_ok());
        assert_eq!(try_connect(&path, kind).err(), Some(-libc::ECONNREFUSED));
    }
}

#[test]
fn what_connects_to_an_adopted_listener_after_the_stop_waits_for_the_next_daemon() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let of_the_manager = listening(&path, SockType::SeqPacket);
    let old = Intake::new(POLICY);
    let reactor = old.reactor();
    assert_eq!(shim_intake_adopt(old.0, of_the_manager.try_clone().unwrap().into_raw_fd()), 0);
    assert_eq!(old.stop(), 0);
    assert_eq!(reactor.event(), Event::Drained);
    let (_browser, passed) = pair(STREAM);
    hand_off(&path, SEQPACKET, b"{}", &passed);
    reactor.stays_silent();
    drop(old);
    let new = Intake::new(POLICY);
    assert_eq!(shim_intake_adopt(new.0, of_the_manager.into_raw_fd()), 0);
    new.reactor().client();
}

#[test]
fn an_adopted_listener_that_is_shut_down_elsewhere_costs_nothing() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let of_the_manager = listening(&directory.path("socket"), SockType::Stream);
    let intake = Intake::new(POLICY);
    let reactor = intake.reactor();
    assert_eq!(shim_intake_adopt(intake.0, of_the_manager.try_clone().unwrap().into_raw_fd()), 1);
    shutdown(of_the_manager.as_raw_fd(), Shutdown::Both).unwrap();
    let before = cpu_ms();
    reactor.stays_silent();
    assert!(cpu_ms() - before < 75, "{} ms of CPU", cpu_ms() - before);
}

#[test]
fn what_is_not_a_listening_unix_socket_is_not_adopted_and_stays_open() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let intake = Intake::new(POLICY);
    let (connected, _other) = pair(SEQPACKET);
    let only_bound = bound(&directory.path("bound"), SockType::Stream);
    let datagram = UnixDatagram::bind(directory.path("datagram")).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = File::open("/dev/null").unwrap();
    for wrong in [&connected as &dyn AsFd, &only_bound, &datagram, &tcp, &file] {
        assert_eq!(shim_intake_adopt(intake.0, wrong.as_fd().as_raw_fd()), NOT_A_LISTENER);
        assert!(wrong.as_fd().try_clone_to_owned().is_ok());
    }
    assert_eq!(shim_intake_adopt(intake.0, -1), -libc::EBADF);
    assert_eq!(shim_intake_adopt(intake.0, 10_000), -libc::EBADF);
}
