//! The records of ABI.md, as they are written into the caller's buffer.
#![forbid(unsafe_code)]

/// What each record has before its payload.
pub const HEAD_BYTES: usize = 24;

const HANDOFF: u32 = 1;
const CLIENT_GONE: u32 = 2;
const CLIENT_WRITABLE: u32 = 3;
const HANDOFF_REFUSED: u32 = 1;
const DRAINED: u32 = 2;
const ACCEPT_FAILED: u32 = 3;

/// What the head of a `HANDOFF` says, its client and its payload's length aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    pub is_over_limit: bool,
    pub is_tcp: bool,
    pub came_over_stream: bool,
    pub no_room: bool,
    pub reason: u32,
    pub micros: u32,
    pub uid: u32,
}

/// The refusals of one reason that the caller has not taken: how many, and the last one's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    pub count: u32,
    pub bytes: u32,
    pub micros: u32,
    pub detail: u32,
}

/// The caller's buffer. Whoever writes has looked at [`Records::room`] first.
pub struct Records<'a> {
    buffer: &'a mut [u8],
    written: usize,
}

impl<'a> Records<'a> {
    /// Nothing is written yet.
    pub fn new(buffer: &'a mut [u8]) -> Records<'a> {
        Records { buffer, written: 0 }
    }

    /// How many bytes are written.
    pub fn written(&self) -> usize {
        self.written
    }

    /// How many bytes more there is room for.
    pub fn room(&self) -> usize {
        self.buffer.len() - self.written
    }

    fn push(&mut self, words: [u32; 6], payload: &[u8]) {
        let (head, tail) = self.buffer[self.written..].split_at_mut(HEAD_BYTES);
        for (bytes, word) in head.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        let (body, padding) = tail[..padded(payload.len())].split_at_mut(payload.len());
        body.copy_from_slice(payload);
        padding.fill(0);
        self.written += HEAD_BYTES + padded(payload.len());
    }

    /// A client has come.
    pub fn handoff(&mut self, client: u32, about: About, payload: &[u8]) {
        let flags = u32::from(about.is_over_limit)
            | u32::from(about.is_tcp) << 1
            | u32::from(about.came_over_stream) << 2
            | u32::from(about.no_room) << 3;
        let length = payload.len() as u32;
        self.push([HANDOFF, client, flags | about.reason << 8, about.micros, length, about.uid], payload);
    }

    /// The client's FIN (errno 0), RST or error.
    pub fn client_gone(&mut self, client: u32, errno: i32) {
        self.push([CLIENT_GONE, client, errno.unsigned_abs(), 0, 0, 0], &[]);
    }

    /// There is room again after a send that came up short.
    pub fn client_writable(&mut self, client: u32) {
        self.push([CLIENT_WRITABLE, client, 0, 0, 0, 0], &[]);
    }

    /// Handoffs were refused.
    pub fn refused(&mut self, reason: u32, refusals: &Refusals) {
        let Refusals { count, bytes, micros, detail } = *refusals;
        self.push([HANDOFF_REFUSED, bytes, reason, micros, count, detail], &[]);
    }

    /// Nothing more comes of a listener.
    pub fn drained(&mut self) {
        self.push([DRAINED, 0, 0, 0, 0, 0], &[]);
    }

    /// accept4(2) failed, and not because of one connection; or a listener cannot be watched.
    pub fn accept_failed(&mut self, errno: i32) {
        self.push([ACCEPT_FAILED, 0, errno.unsigned_abs(), 0, 0, 0], &[]);
    }
}

/// What a payload of so many bytes takes in a record.
pub fn padded(payload_bytes: usize) -> usize {
    payload_bytes.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn a_handoff_is_its_head_and_its_padded_payload() {
        let mut buffer = [0xEE; 64];
        let mut records = Records::new(&mut buffer);
        let about = About {
            is_tcp: true,
            came_over_stream: true,
            reason: 6,
            micros: 40,
            uid: 33,
            ..About::default()
        };
        records.handoff(7, about, b"abcde");
        assert_eq!((records.written(), records.room()), (32, 32));
        assert_eq!(words(&buffer[..24]), [1, 7, 6 | 6 << 8, 40, 5, 33]);
        assert_eq!(&buffer[24..33], b"abcde\0\0\0\xEE");
    }

    #[test]
    fn each_flag_has_its_bit() {
        let none = About::default();
        for (about, expected) in [
            (About { is_over_limit: true, ..none }, 1),
            (About { is_tcp: true, ..none }, 2),
            (About { came_over_stream: true, ..none }, 4),
            (About { no_room: true, ..none }, 8),
        ] {
            let mut buffer = [0; 24];
            Records::new(&mut buffer).handoff(0, about, &[]);
            assert_eq!(words(&buffer)[2], expected);
        }
    }

    #[test]
    fn the_others_are_heads_alone() {
        let mut buffer = [0xEE; 24 * 5];
        let mut records = Records::new(&mut buffer);
        records.client_gone(1, 104);
        records.client_writable(2);
        records.refused(3, &Refusals { count: 4, bytes: 5, micros: 6, detail: 7 });
        records.drained();
        records.accept_failed(24);
        assert_eq!(records.room(), 0);
        let heads = [[2, 1, 104, 0, 0, 0], [3, 2, 0, 0, 0, 0], [1, 5, 3, 6, 4, 7], [2, 0, 0, 0, 0, 0]];
        assert_eq!(words(&buffer), [&heads.concat()[..], &[3, 0, 24, 0, 0, 0]].concat());
    }
}
