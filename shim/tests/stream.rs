//! Payloads that arrive in pieces on a byte stream.
#![allow(missing_docs)]

mod support;

use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use support::*;

fn setup(policy: Policy) -> Setup {
    Setup::new(STREAM, policy)
}

impl Setup {
    /// Hands off in pieces, the descriptor with the one of that number. After each but the last the acceptor has
    /// surely read the piece.
    fn in_pieces(&self, pieces: &[&[u8]], with_fd: usize) -> (OwnedFd, OwnedFd) {
        let connection = self.connect();
        let (browser, passed) = pair(STREAM);
        for (at, piece) in pieces.iter().enumerate() {
            match at == with_fd {
                true => sendmsg(&connection, piece, &[&passed]),
                false => sendmsg(&connection, piece, &[]),
            }
            if at + 1 < pieces.len() {
                self.another();
            }
        }
        (connection, browser)
    }

    fn payload(&self) -> Vec<u8> {
        let Handoff { client, flags, reason, payload, .. } = self.reactor.handoff();
        assert_eq!((flags, reason), (CAME_OVER_STREAM, 0));
        assert_eq!(self.reactor.close_client(client), 0);
        payload
    }
}

#[test]
fn a_payload_is_whole_when_its_braces_are_balanced() {
    let setup = setup(POLICY);
    let _open = setup.in_pieces(&[b"{\"a\":", b"{\"b\":1}", b"}"], 0);
    assert_eq!(setup.payload(), br#"{"a":{"b":1}}"#);
}

#[test]
fn pieces_may_split_strings_escapes_and_quotes() {
    let text = br#" {"p":"say \"}\" \\","q":"{{"}"#;
    let setup = setup(POLICY);
    for cut in 1..text.len() {
        let _open = setup.in_pieces(&[&text[..cut], &text[cut..]], 0);
        assert_eq!(setup.payload(), text, "cut at {cut}");
    }
}

#[test]
fn one_byte_at_a_time_is_enough() {
    let setup = setup(POLICY);
    let text = br#"{"a":"}\""}"#;
    let pieces: Vec<&[u8]> = text.chunks(1).collect();
    let _open = setup.in_pieces(&pieces, 0);
    assert_eq!(setup.payload(), text);
}

/// More than one round's share.
#[test]
fn a_long_payload_is_read_to_its_end() {
    let setup = setup(Policy { handoff_buffer_bytes: 1 << 20, ..POLICY });
    let text = [&b"{\""[..], &vec![b'x'; 1_000_000], b"\":1}"].concat();
    let connection = setup.connect();
    let (_browser, passed) = pair(STREAM);
    let mut sent = 0;
    while sent < text.len() {
        let fds: &[&dyn std::os::fd::AsFd] = if sent == 0 { &[&passed] } else { &[] };
        match try_sendmsg(&connection, &text[sent..], fds) {
            Ok(bytes) => sent += bytes,
            Err(errno) => assert_eq!(errno, nix::errno::Errno::EAGAIN),
        }
    }
    assert_eq!(setup.payload(), text);
}

#[test]
fn what_follows_the_balanced_braces_is_not_part_of_the_payload() {
    let setup = setup(POLICY);
    let _open = setup.in_pieces(&[b"{\"a\":1}\ntail {"], 0);
    assert_eq!(setup.payload(), b"{\"a\":1}");
}

#[test]
fn the_descriptor_may_come_with_a_later_piece() {
    let setup = setup(POLICY);
    let _open = setup.in_pieces(&[b"{\"a\":", b"1}"], 1);
    assert_eq!(setup.payload(), b"{\"a\":1}");
}

#[test]
fn a_second_descriptor_is_refused_before_the_payload_is_whole() {
    let setup = setup(POLICY);
    let connection = setup.connect();
    let (browser, passed) = pair(STREAM);
    sendmsg(&connection, b"{", &[&passed]);
    setup.another();
    sendmsg(&connection, b" ", &[&passed]);
    drop(passed);
    assert_eq!(setup.acceptor.refusal(), (2, MANY_FDS, 2));
    assert_eq!(recv_to_end(&browser), b"");
    setup.goes_on();
}

#[test]
fn the_sender_s_end_completes_a_payload() {
    for text in [&b"{\"cut\":"[..], b"no braces", b" \0"] {
        let setup = setup(POLICY);
        let (connection, _browser) = setup.in_pieces(&[text], 0);
        setup.another();
        drop(connection);
        assert_eq!(setup.payload(), text);
    }
}

#[test]
fn the_sender_s_end_without_a_descriptor_is_refused_and_told() {
    let setup = setup(POLICY);
    let connection = setup.connect();
    sendmsg(&connection, b"hello\n", &[]);
    let person = UnixStream::from(connection);
    person.shutdown(Shutdown::Write).unwrap();
    assert_eq!(setup.acceptor.refusal(), (6, NO_FD, 0));
    assert!(recv_to_end(&person).starts_with(b"No file descriptor"));
}

#[test]
fn the_timeout_completes_a_payload_that_has_begun() {
    let setup = setup(Policy { handoff_timeout_ms: 60, ..POLICY });
    let _open = setup.in_pieces(&[b"{\"a\":"], 0);
    let Handoff { payload, micros, reason, .. } = setup.reactor.handoff();
    assert_eq!((&payload[..], reason), (&b"{\"a\":"[..], 0));
    assert!(micros >= 60_000, "{micros}");
}

#[test]
fn the_timeout_without_a_descriptor_is_told() {
    let setup = setup(Policy { handoff_timeout_ms: 60, ..POLICY });
    let (person, _browser) = setup.in_pieces(&[b"hello\n"], 1);
    assert_eq!(setup.acceptor.refusal(), (6, NO_FD, 0));
    assert!(recv_to_end(&person).starts_with(b"No file descriptor"));
}

#[test]
fn a_payload_that_grows_too_long_is_refused_and_its_client_comes_for_an_answer() {
    let setup = setup(POLICY);
    let half = [b'x'; 2048];
    let _open = setup.in_pieces(&[&half, &half, b"x"], 0);
    assert_eq!(setup.acceptor.refusal(), (4097, PAYLOAD_TRUNCATED, 4096));
    let Handoff { reason, payload, flags, .. } = setup.reactor.handoff();
    assert_eq!((reason, flags, payload), (PAYLOAD_TRUNCATED, CAME_OVER_STREAM, vec![]));
}

#[test]
fn a_payload_too_long_in_its_last_piece_is_refused() {
    let setup = setup(Policy { handoff_buffer_bytes: 8, ..POLICY });
    let connection = setup.connect();
    let (_browser, passed) = pair(STREAM);
    sendmsg(&connection, b"{\"a\":123}", &[&passed]);
    assert_eq!(setup.acceptor.refusal(), (9, PAYLOAD_TRUNCATED, 8));
}

#[test]
fn past_max_pending_the_first_is_refused_and_its_client_comes_for_an_answer() {
    let setup = setup(Policy { max_pending: 2, ..POLICY });
    let (_connection, browser) = setup.in_pieces(&[b"{"], 0);
    setup.another(); // which may wait for a moment, too
    let silent = [setup.connect(), setup.connect()];
    assert_eq!(setup.acceptor.refusal(), (1, TIMEOUT, 5000));
    let Handoff { client, reason, payload, .. } = setup.reactor.handoff();
    assert_eq!((reason, payload), (TIMEOUT, vec![]));
    assert_eq!(setup.reactor.send(client, b"late", END), 4);
    assert_eq!(recv_to_end(&browser), b"late");
    let _newer = setup.connect();
    assert_eq!(setup.acceptor.refusal(), (0, TIMEOUT, 5000));
    assert_eq!(recv_to_end(&silent[0]), b"");
}
