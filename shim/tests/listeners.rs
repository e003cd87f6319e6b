//! The sockets' paths, and listeners that somebody else made.
#![allow(missing_docs)]

mod support;

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, SockType, shutdown};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, geteuid, getgid, getgroups};
use streaming_daemon_shim::*;
use support::*;

/// The kernel's number, which libc does not name yet.
const SO_PASSPIDFD: i32 = 76;

/// Hands one off over `path` and sees it served.
fn is_served(path: &Path, kind: u32, acceptor: &Acceptor) {
    acceptor.ear();
    let reactor = acceptor.reactor();
    let (_browser, passed) = pair(STREAM);
    hand_off(path, kind, b"{}", &passed);
    assert_eq!(reactor.close_client(reactor.client()), 0);
    assert_eq!(reactor.close(), 0);
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
            let acceptor = Acceptor::new(POLICY);
            acceptor.listen(kind, &path);
            assert_ne!(fs::symlink_metadata(&path).unwrap().ino(), inode);
            is_served(&path, kind, &acceptor);
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
            let acceptor = Acceptor::new(POLICY);
            assert_eq!(acceptor.try_listen(kind, &path, 0o600, ""), SOCKET_LIVE);
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
    assert_eq!(Acceptor::new(POLICY).try_listen(STREAM, &path, 0o600, ""), SOCKET_LIVE);
}

#[test]
fn our_own_live_socket_is_refused_too() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let acceptor = Acceptor::new(POLICY);
    acceptor.listen(SEQPACKET, &path);
    for kind in BOTH {
        assert_eq!(acceptor.try_listen(kind, &path, 0o600, ""), SOCKET_LIVE);
    }
    is_served(&path, SEQPACKET, &acceptor);
}

/// What the ABI says about a connect of the wrong kind.
#[test]
fn a_connect_of_the_other_kind_is_a_wrong_prototype() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    for kind in BOTH {
        let acceptor = Acceptor::new(POLICY);
        acceptor.listen(kind, &path);
        assert_eq!(try_connect(&path, 1 - kind).err(), Some(Errno::EPROTOTYPE));
    }
}

#[test]
fn what_is_not_a_socket_is_left_alone() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let acceptor = Acceptor::new(POLICY);
    let target = directory.path("target");
    drop(bound(&target, SockType::Stream));
    let (file, folder, link) = (directory.path("file"), directory.path("folder"), directory.path("link"));
    File::create(&file).unwrap();
    fs::create_dir(&folder).unwrap();
    symlink(&target, &link).unwrap();
    for path in [file, folder, link] {
        assert_eq!(acceptor.try_listen(STREAM, &path, 0o600, ""), NOT_A_SOCKET);
        assert!(fs::symlink_metadata(path).is_ok());
    }
}

#[test]
fn the_mode_is_as_asked_whatever_the_umask_and_the_umask_stays() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let before = umask(Mode::from_bits_truncate(0o022));
    for mask in [0, 0o022, 0o077, 0o777] {
        umask(Mode::from_bits_truncate(mask));
        for mode in [0o600, 0o660, 0o666, 0o777, 0] {
            let path = directory.path(&format!("socket-{mask:o}-{mode:o}"));
            let acceptor = Acceptor::new(POLICY);
            assert_eq!(acceptor.try_listen(SEQPACKET, &path, mode, ""), 0);
            assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, mode);
        }
        assert_eq!(umask(Mode::from_bits_truncate(0o022)).bits(), mask);
    }
    umask(before);
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
    let acceptor = Acceptor::new(POLICY);
    assert_eq!(acceptor.try_listen(SEQPACKET, &path, 0o660, &group.name), 0);
    let found = fs::symlink_metadata(&path).unwrap();
    assert_eq!((found.gid(), found.mode() & 0o7777), (group.gid.as_raw(), 0o660));
}

#[test]
fn an_unknown_group_fails_and_leaves_what_was_there() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let acceptor = Acceptor::new(POLICY);
    assert_eq!(acceptor.try_listen(SEQPACKET, &path, 0o660, "no-such-group-here"), NO_SUCH_GROUP);
    assert!(fs::symlink_metadata(&path).is_err());
    drop(bound(&path, SockType::Stream));
    assert_eq!(acceptor.try_listen(SEQPACKET, &path, 0o660, "no-such-group-here"), NO_SUCH_GROUP);
    assert!(fs::symlink_metadata(&path).is_ok());
}

#[test]
fn a_path_that_cannot_be_bound_is_told() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let acceptor = Acceptor::new(POLICY);
    let missing = directory.path("missing/socket");
    assert_eq!(acceptor.try_listen(SEQPACKET, &missing, 0o600, ""), -libc::ENOENT);
    let long = directory.path(&"x".repeat(108));
    assert_eq!(acceptor.try_listen(SEQPACKET, &long, 0o600, ""), -libc::ENAMETOOLONG);
    assert_eq!(acceptor.try_listen(SEQPACKET, Path::new(""), 0o600, ""), BAD_ARGUMENT);
    assert_eq!(acceptor.try_listen(2, &directory.path("socket"), 0o600, ""), BAD_ARGUMENT);
    assert_eq!(acceptor.try_listen(STREAM, &directory.path("socket"), 0o1000, ""), BAD_ARGUMENT);
}

#[test]
fn the_path_goes_with_the_stop_and_with_the_close() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let acceptor = Acceptor::new(POLICY);
    acceptor.listen(SEQPACKET, &path);
    assert_eq!(acceptor.stop(), 0);
    assert!(fs::symlink_metadata(&path).is_err());
    let acceptor = Acceptor::new(POLICY);
    acceptor.listen(SEQPACKET, &path);
    drop(acceptor);
    assert!(fs::symlink_metadata(&path).is_err());
}

#[test]
fn a_path_that_is_another_s_by_now_is_not_removed() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let old = Acceptor::new(POLICY);
    old.listen(SEQPACKET, &path);
    fs::rename(&path, directory.path("away")).unwrap();
    let new = Acceptor::new(POLICY);
    new.listen(SEQPACKET, &path);
    assert_eq!(old.stop(), 0);
    drop(old);
    is_served(&path, SEQPACKET, &new);
}

#[test]
fn an_adopted_listener_is_served_and_its_path_stays() {
    let _no_leak = no_leak();
    for kind in BOTH {
        let directory = Directory::new();
        let path = directory.path("socket");
        let acceptor = Acceptor::new(POLICY);
        assert_eq!(acceptor.adopt(listening(&path, socket_type(kind)).into_raw_fd()), kind as i32);
        is_served(&path, kind, &acceptor);
        assert_eq!(acceptor.stop(), 0);
        assert_eq!(acceptor.told(), Told::Drained);
        drop(acceptor);
        assert!(fs::symlink_metadata(&path).is_ok());
        assert_eq!(try_connect(&path, kind).err(), Some(Errno::ECONNREFUSED));
    }
}

#[test]
fn what_connects_to_an_adopted_listener_after_the_stop_waits_for_the_next_daemon() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let of_the_manager = listening(&path, SockType::SeqPacket);
    let old = Acceptor::new(POLICY);
    assert_eq!(old.adopt(of_the_manager.try_clone().unwrap().into_raw_fd()), 0);
    let (_browser, passed) = pair(STREAM);
    hand_off(&path, SEQPACKET, b"{\"before\":1}", &passed);
    assert_eq!(old.stop(), 0);
    let reactor = old.reactor();
    assert_eq!(old.told(), Told::Drained);
    assert_eq!(reactor.handoff().payload, b"{\"before\":1}");
    hand_off(&path, SEQPACKET, b"{\"after\":1}", &passed);
    old.stays_silent();
    assert_eq!(reactor.take(), []);
    drop(old);
    let new = Acceptor::new(POLICY);
    assert_eq!(new.adopt(of_the_manager.into_raw_fd()), 0);
    new.ear();
    assert_eq!(new.reactor().handoff().payload, b"{\"after\":1}");
}

/// Nobody tells that an adopted listener has nothing more: it has to be asked.
#[test]
fn the_stop_of_an_adopted_listener_ends_also_where_a_round_has_taken_all_there_was() {
    const ACCEPTED_IN_A_ROUND: usize = 64;
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let acceptor = Acceptor::new(POLICY);
    assert_eq!(acceptor.adopt(listening(&path, SockType::SeqPacket).into_raw_fd()), 0);
    acceptor.ear();
    let (_browser, passed) = pair(STREAM);
    // The first waits for a reactor, and the others for it.
    for _ in 0..=ACCEPTED_IN_A_ROUND {
        hand_off(&path, SEQPACKET, b"{}", &passed);
    }
    assert_eq!(acceptor.stop(), 0);
    acceptor.stays_silent();
    let reactor = acceptor.reactor();
    assert_eq!(acceptor.told(), Told::Drained);
    assert_eq!(reactor.take().len(), 1 + ACCEPTED_IN_A_ROUND);
}

/// As systemd does at the start of each further process on it, without `NonBlocking=yes`.
#[test]
fn an_adopted_listener_that_is_made_blocking_elsewhere_holds_nobody_up() {
    let _no_leak = no_leak();
    for kind in BOTH {
        let directory = Directory::new();
        let path = directory.path("socket");
        let of_the_manager = listening(&path, socket_type(kind));
        let acceptor = Acceptor::new(POLICY);
        assert_eq!(acceptor.adopt(of_the_manager.try_clone().unwrap().into_raw_fd()), kind as i32);
        UnixListener::from(of_the_manager).set_nonblocking(false).unwrap();
        is_served(&path, kind, &acceptor);
        assert_eq!(acceptor.stop(), 0);
        assert_eq!(acceptor.told(), Told::Drained);
    }
}

#[test]
fn an_adopted_listener_that_is_shut_down_elsewhere_costs_nothing() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let of_the_manager = listening(&directory.path("socket"), SockType::Stream);
    let acceptor = Acceptor::new(POLICY);
    assert_eq!(acceptor.adopt(of_the_manager.try_clone().unwrap().into_raw_fd()), 1);
    shutdown(of_the_manager.as_raw_fd(), Shutdown::Both).unwrap();
    acceptor.ear();
    let before = cpu_ms();
    acceptor.stays_silent();
    assert!(cpu_ms() - before < 75, "{} ms of CPU", cpu_ms() - before);
}

/// Two daemons that systemd gave the same socket.
#[test]
fn processes_that_share_a_listener_all_have_a_share() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let of_the_manager = listening(&path, SockType::SeqPacket);
    let instances = [Acceptor::new(POLICY), Acceptor::new(POLICY)];
    let reactors = instances.each_ref().map(|instance| {
        assert_eq!(instance.adopt(of_the_manager.try_clone().unwrap().into_raw_fd()), 0);
        instance.ear();
        instance.reactor()
    });
    let (_browser, passed) = pair(STREAM);
    let mut shares = [0, 0];
    for number in 1..=500 {
        hand_off(&path, SEQPACKET, b"{}", &passed);
        eventually("one of them has it", || {
            for (share, reactor) in shares.iter_mut().zip(&reactors) {
                *share += reactor.take().len();
            }
            shares[0] + shares[1] == number
        });
    }
    assert!(shares[0] >= 25 && shares[1] >= 25, "{shares:?}");
}

#[test]
fn at_max_connections_others_take_what_comes_to_a_shared_listener() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let of_the_manager = listening(&path, SockType::SeqPacket);
    let full = Acceptor::new(Policy { max_connections: 0, ..POLICY });
    assert_eq!(full.adopt(of_the_manager.try_clone().unwrap().into_raw_fd()), 0);
    full.ear();
    let its_reactor = full.reactor();
    let other = Acceptor::new(POLICY);
    assert_eq!(other.adopt(of_the_manager.try_clone().unwrap().into_raw_fd()), 0);
    other.ear();
    let (_browser, passed) = pair(STREAM);
    let reactor = other.reactor();
    // What waits when a rest of a tenth of a second ends may have come just now: that it takes itself.
    let (mut taken, mut its_own, begin) = (0, 0, Instant::now());
    for number in 1..=50 {
        hand_off(&path, SEQPACKET, b"{}", &passed);
        eventually("one of them has it", || {
            taken += reactor.take().len();
            its_own += its_reactor.take().len();
            taken + its_own == number
        });
    }
    let rests = 1 + begin.elapsed().as_millis() / 100;
    assert!(its_own as u128 <= rests, "{its_own} of 50 in {rests} rests");
    drop(other);
    // Alone it answers, after a rest: over the limit.
    let begin = Instant::now();
    hand_off(&path, SEQPACKET, b"{}", &passed);
    let mut events = Vec::new();
    eventually("it comes", || {
        events.extend(its_reactor.take());
        !events.is_empty()
    });
    assert!(matches!(events[..], [Event::Handoff(Handoff { flags: OVER_LIMIT, .. })]), "{events:?}");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    let before = cpu_ms();
    full.stays_silent();
    assert!(cpu_ms() - before < 75, "it spins");
}

#[test]
fn what_fills_a_daemon_is_the_last_that_it_takes_from_a_shared_listener() {
    for _ in 0..50 {
        let _no_leak = no_leak();
        let directory = Directory::new();
        let path = directory.path("socket");
        let of_the_manager = listening(&path, SockType::SeqPacket);
        let acceptor = Acceptor::new(Policy { max_connections: 1, ..POLICY });
        assert_eq!(acceptor.adopt(of_the_manager.try_clone().unwrap().into_raw_fd()), 0);
        let reactor = acceptor.reactor();
        let (_browser, passed) = pair(STREAM);
        for _ in 0..5 {
            hand_off(&path, SEQPACKET, b"{}", &passed);
        }
        let begin = Instant::now();
        acceptor.ear();
        let mut taken = 0;
        eventually("the first one comes", || {
            taken += reactor.take().len();
            taken > 0
        });
        std::thread::sleep(Duration::from_millis(20));
        taken += reactor.take().len();
        // Past that it has rested, and takes what nobody else has.
        if begin.elapsed() < Duration::from_millis(100) {
            assert_eq!(taken, 1);
            return;
        }
    }
    panic!("each of 50 rounds took longer than a rest");
}

/// With SO_PASSPIDFD the kernel makes a descriptor for each message, which must not stay open.
#[test]
fn a_listener_that_asks_for_credentials_and_pidfds_leaks_nothing() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    for kind in BOTH {
        let path = directory.path(&kind.to_string());
        let listener = listening(&path, socket_type(kind));
        set_option(&listener, libc::SOL_SOCKET, libc::SO_PASSCRED, 1);
        set_option(&listener, libc::SOL_SOCKET, SO_PASSPIDFD, 1);
        set_option(&listener, libc::SOL_SOCKET, libc::SO_PASSSEC, 1);
        let acceptor = Acceptor::new(POLICY);
        assert_eq!(acceptor.adopt(listener.into_raw_fd()), kind as i32);
        acceptor.ear();
        let reactor = acceptor.reactor();
        let before = shim_open_fds();
        let (_browser, passed) = pair(STREAM);
        for _ in 0..20 {
            hand_off(&path, kind, b"{}", &passed);
            assert_eq!(reactor.close_client(reactor.client()), 0);
        }
        drop((_browser, passed));
        eventually("no descriptor is left", || shim_open_fds() == before);
    }
}

#[test]
fn what_is_not_a_listening_unix_socket_is_not_adopted_and_stays_open() {
    let _no_leak = no_leak();
    let directory = Directory::new();
    let acceptor = Acceptor::new(POLICY);
    let (connected, _other) = pair(SEQPACKET);
    let only_bound = bound(&directory.path("bound"), SockType::Stream);
    let datagram = UnixDatagram::bind(directory.path("datagram")).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = File::open("/dev/null").unwrap();
    for wrong in [&connected as &dyn AsFd, &only_bound, &datagram, &tcp, &file] {
        assert_eq!(acceptor.adopt(wrong.as_fd().as_raw_fd()), NOT_A_LISTENER);
        assert!(wrong.as_fd().try_clone_to_owned().is_ok());
    }
    assert_eq!(acceptor.adopt(-1), -libc::EBADF);
    assert_eq!(acceptor.adopt(10_000), -libc::EBADF);
}
