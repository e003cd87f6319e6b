//! What happens at the limit of open files. One test in a program of its own: a thread that begins opens files for a
//! moment, and a test beside this one would have threads that begin.
#![allow(missing_docs)]

mod support;

use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use streaming_daemon_shim::shim_open_fds;
use support::*;

#[test]
fn at_the_fd_limit() {
    handoffs_are_refused_and_a_client_that_did_come_is_answered();
    an_empty_message_whose_descriptor_is_lost_is_refused_too();
    accepting_rests_and_goes_on_after_it();
}

/// At the limit of open files the payload arrives whole, and of its descriptors those for which there was room.
fn handoffs_are_refused_and_a_client_that_did_come_is_answered() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (browser, passed) = pair(STREAM);
    let before = shim_open_fds();
    let (none, one) = (setup.connect(), setup.connect());
    setup.another();
    eventually("they are accepted, and nothing else is open", || shim_open_fds() == before + 4);
    let limit = FdLimit::reach();
    sendmsg(&none, b"{}", &[&passed]);
    assert_eq!(setup.acceptor.refusal(), (2, CONTROL_TRUNCATED, 0));
    // The connection that is closed leaves room for one, as looking does.
    eventually("there is room for one descriptor", || shim_open_fds() > 0);
    sendmsg(&one, b"{}", &[&passed, &passed]);
    let refusal = setup.acceptor.refusal();
    drop((limit, passed));
    assert_eq!(refusal, (2, CONTROL_TRUNCATED, 0));
    setup.answers(CONTROL_TRUNCATED, &browser);
    setup.goes_on();
}

/// It is no end of the connection, which is told from an empty message by what came with it.
fn an_empty_message_whose_descriptor_is_lost_is_refused_too() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (_browser, passed) = pair(STREAM);
    let before = shim_open_fds();
    let sender = setup.connect();
    setup.another();
    eventually("it is accepted, and nothing else is open", || shim_open_fds() == before + 2);
    let limit = FdLimit::reach();
    sendmsg(&sender, b"", &[&passed]);
    let refusal = setup.acceptor.refusal();
    drop(limit);
    assert_eq!(refusal, (0, CONTROL_TRUNCATED, 0));
    setup.goes_on();
}

fn accepting_rests_and_goes_on_after_it() {
    let setup = Setup::new(SEQPACKET, POLICY);
    let (_browser, passed) = pair(STREAM);
    let sender =
        socket::socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let before = shim_open_fds();
    setup.another();
    eventually("nothing of that is open", || shim_open_fds() == before);
    let limit = FdLimit::reach();
    socket::connect(sender.as_raw_fd(), &UnixAddr::new(&setup.path).unwrap()).unwrap();
    assert_eq!(setup.acceptor.told(), Told::AcceptFailed { errno: libc::EMFILE });
    let begin = cpu_ms();
    // Four more rests, of which none is told.
    assert_eq!(setup.acceptor.ear().hear(Duration::from_millis(400), 1), Heard::Nothing);
    assert!(cpu_ms() - begin < 100, "it spins: {} ms of CPU", cpu_ms() - begin);
    drop(limit);
    sendmsg(&sender, b"{}", &[&passed]);
    setup.reactor.client();
}
