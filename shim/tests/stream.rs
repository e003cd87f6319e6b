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
    /// Hands off in pieces, the descriptor with the one of that number. After each but the last a handoff of
    /// another sender goes through, so that the reactor has surely read the piece.
    fn in_pieces(&self, pieces: &[&[u8]], with_fd: usize) -> OwnedFd {
        let connection = connect(&self.path, STREAM);
        let (_browser, passed) = pair(STREAM);
        for (at, piece) in pieces.iter().enumerate() {
            match at == with_fd {
                true => sendmsg(&connection, piece, &[&passed]),
                false => sendmsg(&connection, piece, &[]),
            }
            if at + 1 < pieces.len() {
                self.another();
            }
        }
        connection
    }

    fn another(&self) {
        let (_browser, passed) = pair(STREAM);
        hand_off(&self.path, STREAM, b"{\"another\":1}", &passed);
        let Event::Handoff { client, payload, .. } = self.reactor.event() else { panic!() };
        assert_eq!(payload, b"{\"another\":1}");
        assert_eq!(self.reactor.close_client(client), 0);
    }

    fn payload(&self) -> Vec<u8> {
        loop {
            match self.reactor.event() {
                Event::Handoff { payload, flags, .. } => {
                    assert_eq!(flags, 4);
                    return payload;
                }
                Event::Gone { .. } => {}
                other => panic!("{other:?}"),
            }
        }
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
    for cut in 1..text.len() {
        let setup = setup(POLICY);
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
fn a_second_descriptor_in_a_later_piece_is_refused() {
    let setup = setup(POLICY);
    let connection = connect(&setup.path, STREAM);
    let (_browser, passed) = pair(STREAM);
    sendmsg(&connection, b"{", &[&passed]);
    setup.another();
    sendmsg(&connection, b"}", &[&passed]);
    assert_eq!(setup.reactor.failure(), (2, MANY_FDS, 2));
}

#[test]
fn the_sender_s_end_completes_a_payload() {
    for text in [&b"{\"cut\":"[..], b"no braces", b" \0"] {
        let setup = setup(POLICY);
        let connection = setup.in_pieces(&[text], 0);
        setup.another();
        drop(connection);
        assert_eq!(setup.payload(), text);
    }
}

#[test]
fn the_sender_s_end_without_a_descriptor_is_refused_and_told() {
    let setup = setup(POLICY);
    let connection = connect(&setup.path, STREAM);
    sendmsg(&connection, b"hello\n", &[]);
    let person = UnixStream::from(connection);
    person.shutdown(Shutdown::Write).unwrap();
    assert_eq!(setup.reactor.failure(), (6, NO_FD, 0));
    assert!(recv_to_end(&person).starts_with(b"No file descriptor"));
}

#[test]
fn the_timeout_completes_a_payload_that_has_begun() {
    let setup = setup(Policy { handoff_timeout_ms: 60, ..POLICY });
    let _open = setup.in_pieces(&[b"{\"a\":"], 0);
    let Event::Handoff { payload, micros, .. } = setup.reactor.event() else { panic!() };
    assert_eq!(payload, b"{\"a\":");
    assert!(micros >= 60_000, "{micros}");
}

#[test]
fn the_timeout_without_a_descriptor_is_told() {
    let setup = setup(Policy { handoff_timeout_ms: 60, ..POLICY });
    let person = setup.in_pieces(&[b"hello\n"], 1);
    assert_eq!(setup.reactor.failure(), (6, NO_FD, 0));
    assert!(recv_to_end(&person).starts_with(b"No file descriptor"));
}

#[test]
fn a_payload_that_grows_too_long_is_refused() {
    let setup = setup(POLICY);
    let half = [b'x'; 2048];
    let _open = setup.in_pieces(&[&half, &half, b"x"], 0);
    loop {
        match setup.reactor.event() {
            Event::Gone { .. } => {}
            Event::Failed { bytes, reason, detail, .. } => {
                assert_eq!((bytes, reason, detail), (4097, PAYLOAD_TRUNCATED, 4096));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(setup.intake.active(), 0);
}

#[test]
fn a_payload_too_long_in_its_last_piece_is_refused() {
    let setup = setup(Policy { handoff_buffer_bytes: 8, ..POLICY });
    let connection = connect(&setup.path, STREAM);
    let (_browser, passed) = pair(STREAM);
    sendmsg(&connection, b"{\"a\":123}", &[&passed]);
    assert_eq!(setup.reactor.failure(), (9, PAYLOAD_TRUNCATED, 8));
}

#[test]
fn past_max_pending_the_oldest_is_refused_also_when_it_has_begun() {
    let setup = setup(Policy { max_pending: 1, ..POLICY });
    let (_browser, passed) = pair(STREAM);
    let oldest = connect(&setup.path, STREAM);
    sendmsg(&oldest, b"{", &[&passed]);
    setup.another();
    let _newer = connect(&setup.path, STREAM);
    assert_eq!(setup.reactor.failure(), (1, TIMEOUT, 5000));
}
