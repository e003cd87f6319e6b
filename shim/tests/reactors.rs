//! Handoffs on their way to the reactors, their queues and their bells.
#![allow(missing_docs)]

mod support;

use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use streaming_daemon_shim::*;
use support::*;

/// A handoff's record of that many bytes of payload.
const fn record(payload: usize) -> usize {
    24 + payload.next_multiple_of(4)
}

/// An acceptor that is started, with a listener and no reactor.
fn setup(policy: Policy) -> (NoLeak, Directory, std::path::PathBuf, Acceptor) {
    let no_leak = no_leak();
    let directory = Directory::new();
    let path = directory.path("socket");
    let acceptor = Acceptor::new(policy);
    acceptor.listen(SEQPACKET, &path);
    acceptor.ear();
    (no_leak, directory, path, acceptor)
}

fn handoffs(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Handoff(_))).count()
}

#[test]
fn each_handoff_goes_where_the_fewest_clients_are() {
    let (_no_leak, _directory, path, acceptor) = setup(POLICY);
    let reactors = [acceptor.reactor(), acceptor.reactor(), acceptor.reactor()];
    let (_browser, passed) = pair(STREAM);
    for _ in 0..300 {
        hand_off(&path, SEQPACKET, b"{}", &passed);
    }
    eventually("all are placed", || acceptor.active() == 300);
    let mut clients = Vec::new();
    for reactor in &reactors {
        let events = reactor.take();
        assert_eq!(handoffs(&events), 100);
        clients.push(events);
    }
    for event in &clients[1][..50] {
        let Event::Handoff(Handoff { client, .. }) = event else { panic!() };
        assert_eq!(reactors[1].close_client(*client), 0);
    }
    for _ in 0..50 {
        hand_off(&path, SEQPACKET, b"{}", &passed);
    }
    eventually("all are placed", || acceptor.active() == 300);
    assert_eq!(reactors.each_ref().map(|reactor| handoffs(&reactor.take())), [0, 50, 0]);
}

#[test]
fn a_reactor_that_does_not_admit_gets_nothing_while_another_does() {
    let (_no_leak, _directory, path, acceptor) = setup(POLICY);
    let [closed, open] = [acceptor.reactor(), acceptor.reactor()];
    let (_browser, passed) = pair(STREAM);
    closed.admit(0);
    for _ in 0..20 {
        hand_off(&path, SEQPACKET, b"{}", &passed);
        assert_eq!(open.handoff().flags, 0);
    }
    assert_eq!(closed.take(), []);
    // When none admits, all get some, flagged.
    open.admit(0);
    for _ in 0..20 {
        hand_off(&path, SEQPACKET, b"{}", &passed);
        assert_eq!(closed.handoff().flags, NO_ROOM);
    }
    closed.admit(1);
    hand_off(&path, SEQPACKET, b"{}", &passed);
    assert_eq!(closed.handoff().flags, 0);
    assert_eq!(shim_reactor_admit(closed.handle, 2), BAD_ARGUMENT);
}

#[test]
fn without_a_reactor_handoffs_wait() {
    let (_no_leak, _directory, path, acceptor) = setup(POLICY);
    let not_started = acceptor.unstarted();
    let browsers: Vec<OwnedFd> = (0..20)
        .map(|_| {
            let (browser, passed) = pair(STREAM);
            hand_off(&path, SEQPACKET, b"{}", &passed);
            browser
        })
        .collect();
    acceptor.stays_silent();
    assert_eq!(acceptor.active(), 0);
    for browser in &browsers {
        let client = not_started.client();
        assert_eq!(not_started.send(client, b"yes", END), 3);
        assert_eq!(recv_to_end(browser), b"yes");
    }
}

#[test]
fn what_a_closed_reactor_did_not_take_goes_to_another() {
    let (_no_leak, _directory, path, acceptor) = setup(POLICY);
    let dying = acceptor.reactor();
    let (browser, passed) = pair(STREAM);
    for number in 0..50 {
        hand_off(&path, SEQPACKET, format!("{{\"n\":{number}}}").as_bytes(), &passed);
        // Else the next could overtake it, where its connection was accepted before it was sent.
        eventually("it is placed", || acceptor.active() == number + 1);
    }
    drop(passed);
    let (bytes, left) = dying.take_bytes(1 << 20, 10).unwrap();
    assert_eq!((handoffs(&Event::parse(&bytes)), left), (10, 40));
    assert_eq!(dying.close(), 0);
    assert_eq!(acceptor.active(), 0);
    // Nobody is there yet.
    acceptor.stays_silent();
    let heir = acceptor.reactor();
    for number in 10..50 {
        let Handoff { client, payload, flags, .. } = heir.handoff();
        assert_eq!((payload, flags), (format!("{{\"n\":{number}}}").into_bytes(), 0));
        assert_eq!((heir.send(client, b".", 0), heir.close_client(client)), (1, 0));
    }
    assert_eq!(recv_to_end(&browser), [b'.'; 40]);
}

#[test]
fn a_handoff_that_moves_is_judged_anew() {
    let (_no_leak, _directory, path, acceptor) = setup(Policy { max_connections: 1, ..POLICY });
    let dying = acceptor.reactor();
    let (_browser, passed) = pair(STREAM);
    hand_off(&path, SEQPACKET, b"{}", &passed);
    let first = dying.client();
    hand_off(&path, SEQPACKET, b"{}", &passed);
    eventually("it is placed, over the limit", || acceptor.active() == 2);
    assert_eq!(dying.close_client(first), 0);
    assert_eq!(dying.close(), 0);
    // By now there is room for it.
    assert_eq!(acceptor.reactor().handoff().flags, 0);
}

/// Nobody takes: the queue is bounded in bytes, the acceptor waits, and so does the kernel's backlog.
#[test]
fn a_reactor_that_takes_nothing_is_given_no_more_than_its_room() {
    const PAYLOAD: usize = 128 * 1024;
    let policy = Policy { handoff_buffer_bytes: PAYLOAD as u32, ..POLICY };
    let (_no_leak, _directory, path, acceptor) = setup(policy);
    let reactor = acceptor.reactor();
    let (_browser, passed) = pair(STREAM);
    let payload = vec![b'x'; PAYLOAD];
    for _ in 0..100 {
        hand_off(&path, SEQPACKET, &payload, &passed);
    }
    eventually("the queue is full", || acceptor.active() >= 32);
    let before = cpu_ms();
    acceptor.stays_silent();
    assert!(cpu_ms() - before < 75, "it spins: {} ms of CPU", cpu_ms() - before);
    assert_eq!(acceptor.active(), 32);
    let mut taken = 0;
    while taken < 100 {
        assert!(reactor.ear().rings());
        loop {
            let (bytes, left) = reactor.take_bytes(record(PAYLOAD), 1).unwrap();
            taken += Event::parse(&bytes).len();
            assert!(left <= 33, "{left}");
            if left == 0 {
                break;
            }
        }
    }
    assert_eq!((acceptor.active(), acceptor.take()), (100, vec![]));
}

#[test]
fn a_full_reactor_does_not_hold_up_another() {
    const PAYLOAD: usize = 128 * 1024;
    let policy = Policy { handoff_buffer_bytes: PAYLOAD as u32, ..POLICY };
    let (_no_leak, _directory, path, acceptor) = setup(policy);
    let [stuck, quick] = [acceptor.reactor(), acceptor.reactor()];
    let (_browser, passed) = pair(STREAM);
    let payload = vec![b'x'; PAYLOAD];
    let mut taken = 0;
    for _ in 0..120 {
        hand_off(&path, SEQPACKET, &payload, &passed);
    }
    while taken < 120 - 32 {
        assert!(quick.ear().rings());
        taken += handoffs(&quick.take());
    }
    assert_eq!((taken, handoffs(&stuck.take())), (120 - 32, 32));
}

/// A timeout holds also while no reactor has room, and what came in time is not lost.
#[test]
fn what_waits_for_room_goes_to_a_reactor_that_opens() {
    const PAYLOAD: usize = 128 * 1024;
    let policy = Policy { handoff_buffer_bytes: PAYLOAD as u32, ..POLICY };
    let (_no_leak, _directory, path, acceptor) = setup(policy);
    let [stuck, shut] = [acceptor.reactor(), acceptor.reactor()];
    shut.admit(0);
    let (_browser, passed) = pair(STREAM);
    for _ in 0..40 {
        hand_off(&path, SEQPACKET, &[b'x'; PAYLOAD], &passed);
    }
    eventually("the queue is full", || acceptor.active() == 32);
    acceptor.stays_silent();
    shut.admit(1);
    assert!(shut.ear().rings());
    let mut taken = handoffs(&shut.take());
    while taken < 40 - 32 {
        taken += handoffs(&shut.take());
    }
    assert_eq!((taken, handoffs(&stuck.take())), (40 - 32, 32));
}

#[test]
fn while_nobody_has_room_time_goes_on() {
    let (_no_leak, _directory, path, acceptor) = setup(Policy { handoff_timeout_ms: 1000, ..POLICY });
    let (_browser, passed) = pair(STREAM);
    let reactor = acceptor.reactor();
    let [silent, late] = [connect(&path, SEQPACKET), connect(&path, SEQPACKET)];
    hand_off(&path, SEQPACKET, b"{}", &passed);
    reactor.client();
    assert_eq!(reactor.close(), 0);
    hand_off(&path, SEQPACKET, b"{}", &passed);
    sendmsg(&late, b"{\"late\":1}", &[&passed]);
    assert_eq!(acceptor.refusal(), (0, TIMEOUT, 1000));
    assert_eq!(recv_to_end(&silent), b"");
    let heir = acceptor.reactor();
    let mut payloads = [heir.handoff().payload, heir.handoff().payload];
    payloads.sort();
    assert_eq!(payloads, [&b"{\"late\":1}"[..], b"{}"]);
}

#[test]
fn take_gives_events_first_and_a_share_of_the_handoffs_and_tells_how_many_wait() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (gone, client) = setup.local();
    let (_browser, passed) = pair(STREAM);
    for _ in 0..10 {
        setup.hand_off(b"12345", &passed);
    }
    eventually("all are placed", || setup.acceptor.active() == 11);
    assert!(setup.reactor.ear().rings());
    drop(gone);
    let mut events = Vec::new();
    eventually("the event overtakes them", || {
        let (bytes, left) = setup.reactor.take_bytes(1 << 16, 0).unwrap();
        events.extend(Event::parse(&bytes));
        assert_eq!(left, 10);
        !events.is_empty()
    });
    assert_eq!(events, [Event::Gone { client, errno: 0 }]);
    let (bytes, left) = setup.reactor.take_bytes(1 << 16, 3).unwrap();
    assert_eq!((bytes.len(), left), (3 * record(5), 7));
    // As many as fit, whole.
    let (bytes, left) = setup.reactor.take_bytes(2 * record(5) + 31, 7).unwrap();
    assert_eq!((bytes.len(), left), (2 * record(5), 5));
    // The queue was never empty since the first.
    assert!(setup.reactor.ear().is_silent());
}

/// However many have left at once, the caller is soon back at its own work.
#[test]
fn one_take_looks_at_256_events_and_tells_how_many_wait() {
    const CLIENTS: usize = 600;
    let setup = Setup::new(SEQPACKET, POLICY);
    let (browser, passed) = pair(STREAM);
    for _ in 0..CLIENTS {
        setup.admit(&passed);
    }
    drop(browser);
    let mut one_by_one = 0;
    eventually("all have left", || {
        // There is room for one event.
        let (bytes, left) = setup.reactor.take_bytes(48, 0).unwrap();
        one_by_one += Event::parse(&bytes).len();
        one_by_one + left as usize == CLIENTS
    });
    let (bytes, left) = setup.reactor.take_bytes(1 << 20, 0).unwrap();
    assert_eq!((Event::parse(&bytes).len(), left as usize), (256, CLIENTS - one_by_one - 256));
    assert_eq!(setup.reactor.take().len(), CLIENTS - one_by_one - 256);
}

#[test]
fn a_buffer_too_small_for_a_record_takes_nothing() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (_browser, passed) = pair(STREAM);
    setup.hand_off(&[b'x'; 100], &passed);
    assert!(setup.reactor.ear().rings());
    for small in [0, 24, 47, record(100) - 1] {
        assert_eq!(setup.reactor.take_bytes(small, 1), Err(TOO_SMALL), "{small}");
    }
    assert_eq!(setup.acceptor.active(), 1);
    let (bytes, left) = setup.reactor.take_bytes(record(100), 1).unwrap();
    assert_eq!((bytes.len(), left), (record(100), 0));
    assert_eq!(setup.reactor.take_bytes(0, 1), Ok((vec![], 0)));
}

#[test]
fn it_rings_once_when_there_are_records_and_not_again_before_they_are_taken() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (_browser, passed) = pair(STREAM);
    for round in 1..=3 {
        for _ in 0..50 {
            setup.hand_off(b"{}", &passed);
        }
        eventually("all are placed", || setup.acceptor.active() == 50 * round);
        assert_eq!(setup.reactor.ear().hear(PATIENCE, 16), Heard::Rings(1));
        assert!(setup.reactor.ear().is_silent());
        assert_eq!(handoffs(&setup.reactor.take()), 50);
    }
    setup.reactor.stays_silent();
}

#[test]
fn a_handoff_ends_a_wait_and_an_event_does_not() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (browser, client) = setup.local();
    let begin = Instant::now();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| shim_reactor_wait(setup.reactor.handle, 300_000));
        // Whether it waits already or not, the event does not end it.
        drop(browser);
        assert_eq!(waiter.join().unwrap(), 0);
    });
    assert!(begin.elapsed() >= Duration::from_millis(300), "{:?}", begin.elapsed());
    let mut events = setup.reactor.take();
    assert_eq!(events.pop(), Some(Event::Gone { client, errno: 0 }));
    while setup.reactor.ear().hear(Duration::ZERO, 1) != Heard::Nothing {}
    let (_browser, passed) = pair(STREAM);
    thread::scope(|scope| {
        let handle = setup.reactor.handle;
        let waiter = scope.spawn(move || (shim_reactor_wait(handle, 20_000_000), Instant::now()));
        thread::sleep(Duration::from_millis(50));
        let begin = Instant::now();
        setup.hand_off(b"{}", &passed);
        let (status, end) = waiter.join().unwrap();
        assert_eq!(status, 1);
        assert!(end.duration_since(begin) < Duration::from_secs(5));
    });
    assert!(setup.reactor.ear().is_silent(), "it rang for the one who waited");
    assert_eq!(shim_reactor_wait(setup.reactor.handle, 20_000_000), 1);
    assert_eq!(handoffs(&setup.reactor.take()), 1);
}

#[test]
fn a_close_ends_a_wait_and_the_bell() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (browser, _client) = setup.local();
    thread::scope(|scope| {
        let handle = setup.reactor.handle;
        let waiter = scope.spawn(move || shim_reactor_wait(handle, 20_000_000));
        thread::sleep(Duration::from_millis(50));
        assert_eq!(setup.reactor.close(), 0);
        assert_eq!(waiter.join().unwrap(), BAD_HANDLE);
    });
    setup.reactor.ear().ends();
    assert_eq!(recv_to_end(&browser), b"");
    assert_eq!(setup.reactor.close(), BAD_HANDLE);
    assert_eq!(setup.reactor.take_bytes(48, 1), Err(BAD_HANDLE));
    assert_eq!(setup.acceptor.active(), 0);
}

#[test]
fn starting_twice_is_busy() {
    let setup = Setup::new(SEQPACKET, POLICY);
    assert_eq!(shim_reactor_start(setup.reactor.handle), -libc::EBUSY);
    assert_eq!(shim_acceptor_start(setup.acceptor.handle), -libc::EBUSY);
}

#[test]
fn reactors_come_and_go_while_handoffs_come() {
    let setup = Setup::new(SEQPACKET, Policy { max_connections: 10_000, ..POLICY });
    let (_browser, passed) = pair(STREAM);
    const HANDOFFS: usize = 3000;
    let taken = thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..HANDOFFS {
                hand_off(&setup.path, SEQPACKET, b"{}", &passed);
            }
        });
        let mut taken = 0;
        while taken < HANDOFFS {
            // It lives for one share, and what it leaves the next one gets.
            let passing = setup.acceptor.reactor();
            if passing.wait(Duration::from_millis(20)) == 1 {
                taken += handoffs(&Event::parse(&passing.take_bytes(1 << 16, 40).unwrap().0));
            }
            assert_eq!(passing.close(), 0);
            taken += handoffs(&setup.reactor.take());
        }
        taken
    });
    assert_eq!(taken, HANDOFFS);
    assert_eq!(setup.acceptor.take(), []);
}

#[test]
fn an_idle_daemon_s_threads_sleep() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let _client = setup.local();
    let switches = || {
        let mut all = 0;
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            let task = task.unwrap().path();
            let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
            if ["acceptor\n", "reactor\n", "closer\n"].contains(&&name[..]) {
                let status = std::fs::read_to_string(task.join("status")).unwrap();
                let line = status.lines().find(|line| line.starts_with("voluntary")).unwrap();
                all += line.split_whitespace().last().unwrap().parse::<u64>().unwrap();
            }
        }
        all
    };
    setup.reactor.stays_silent();
    let before = switches();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(switches() - before, 0, "somebody woke up");
}
