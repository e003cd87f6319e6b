//! The records of ABI.md, taken apart.

pub const NO_FD: u32 = 1;
pub const MANY_FDS: u32 = 2;
pub const NOT_A_SOCKET_PASSED: u32 = 3;
pub const NOT_STREAM: u32 = 4;
pub const LISTENING: u32 = 5;
pub const PAYLOAD_TRUNCATED: u32 = 6;
pub const CONTROL_TRUNCATED: u32 = 7;
pub const TIMEOUT: u32 = 8;
pub const UID_NOT_ALLOWED: u32 = 9;
pub const RECEIVE_ERROR: u32 = 10;

pub const OVER_LIMIT: u32 = 1;
pub const TCP: u32 = 2;
pub const CAME_OVER_STREAM: u32 = 4;
pub const NO_ROOM: u32 = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handoff {
    pub client: u32,
    pub flags: u32,
    pub reason: u32,
    pub micros: u32,
    pub uid: u32,
    pub payload: Vec<u8>,
}

/// A record of a reactor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Handoff(Handoff),
    Gone { client: u32, errno: i32 },
    Writable { client: u32 },
}

/// A record of the acceptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Refused { bytes: u32, reason: u32, micros: u32, count: u32, detail: u32 },
    Drained,
    AcceptFailed { errno: i32 },
}

fn words(head: &[u8]) -> [u32; 6] {
    let mut words = [0; 6];
    for (word, bytes) in words.iter_mut().zip(head.chunks_exact(4)) {
        *word = u32::from_ne_bytes(bytes.try_into().unwrap());
    }
    words
}

impl Event {
    pub fn parse(mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let (head, tail) = bytes.split_at(24);
            let words = words(head);
            let length = if words[0] == 1 { words[4] as usize } else { 0 };
            let (payload, next) = tail.split_at(length.next_multiple_of(4));
            assert!(payload[length..].iter().all(|byte| *byte == 0), "padding is not zero");
            events.push(match words {
                [1, client, flags, micros, _, uid] => Event::Handoff(Handoff {
                    client,
                    flags: flags & 0xFF,
                    reason: flags >> 8,
                    micros,
                    uid,
                    payload: payload[..length].to_vec(),
                }),
                [2, client, errno, 0, 0, 0] => Event::Gone { client, errno: errno as i32 },
                [3, client, 0, 0, 0, 0] => Event::Writable { client },
                other => panic!("unknown record {other:?}"),
            });
            bytes = next;
        }
        events
    }
}

impl Told {
    pub fn parse(bytes: &[u8]) -> Vec<Told> {
        assert_eq!(bytes.len() % 24, 0);
        let told = bytes.chunks_exact(24).map(|head| match words(head) {
            [1, bytes, reason, micros, count, detail] => {
                Told::Refused { bytes, reason, micros, count, detail }
            }
            [2, 0, 0, 0, 0, 0] => Told::Drained,
            [3, 0, errno, 0, 0, 0] => Told::AcceptFailed { errno: errno as i32 },
            other => panic!("unknown record {other:?}"),
        });
        told.collect()
    }
}
