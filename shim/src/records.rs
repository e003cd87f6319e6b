//! The events of a reactor on their way to the caller, in the form ABI.md gives them.
#![forbid(unsafe_code)]

use crate::border::Status;

const HEAD_BYTES: usize = 24;
/// So much is gathered before the caller has to take it, plus one payload.
const ROOM_BYTES: usize = 256 * 1024;

const HANDOFF: u32 = 1;
const CLIENT_GONE: u32 = 2;
const CLIENT_WRITABLE: u32 = 3;
const HANDOFF_FAILED: u32 = 4;
const INTAKE_DRAINED: u32 = 5;
const ACCEPT_FAILED: u32 = 6;

/// What the head of a `HANDOFF` says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    pub flags: u32,
    pub micros: u32,
    pub uid: u32,
}

/// The flags of a `HANDOFF`.
pub fn flags(is_over_limit: bool, is_tcp: bool, came_over_stream: bool) -> u32 {
    u32::from(is_over_limit) | u32::from(is_tcp) << 1 | u32::from(came_over_stream) << 2
}

/// Whole records in order; what is before `taken` is with the caller already.
#[derive(Default)]
pub struct Records {
    bytes: Vec<u8>,
    taken: usize,
}

impl Records {
    fn push(&mut self, kind: u32, words: [u32; 5]) {
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        for word in words {
            self.bytes.extend_from_slice(&word.to_ne_bytes());
        }
    }

    /// A client has come.
    pub fn handoff(&mut self, client: u32, about: About, payload: &[u8]) {
        self.push(HANDOFF, [client, about.flags, about.micros, payload.len() as u32, about.uid]);
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The client's FIN (errno 0), RST or error.
    pub fn client_gone(&mut self, client: u32, errno: i32) {
        self.push(CLIENT_GONE, [client, errno.unsigned_abs(), 0, 0, 0]);
    }

    /// There is room again after a send that came up short.
    pub fn client_writable(&mut self, client: u32) {
        self.push(CLIENT_WRITABLE, [client, 0, 0, 0, 0]);
    }

    /// A handoff was refused.
    pub fn handoff_failed(&mut self, received_bytes: u32, reason: u32, micros: u32, detail: u32) {
        self.push(HANDOFF_FAILED, [received_bytes, reason, micros, 0, detail]);
    }

    /// No `HANDOFF` follows.
    pub fn intake_drained(&mut self) {
        self.push(INTAKE_DRAINED, [0; 5]);
    }

    /// accept4(2) failed, and not because of one connection; or a listener cannot be watched.
    pub fn accept_failed(&mut self, errno: i32) {
        self.push(ACCEPT_FAILED, [0, errno.unsigned_abs(), 0, 0, 0]);
    }

    /// Bytes that wait to be taken.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Whether nothing waits to be taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether more should be gathered before the caller takes some.
    pub fn has_room(&self) -> bool {
        self.len() < ROOM_BYTES
    }

    /// Copies as many whole records as `buffer` holds; returns their bytes.
    ///
    /// # Errors
    /// `TOO_SMALL`: not even the first one fits; nothing is taken.
    pub fn take(&mut self, buffer: &mut [u8]) -> Result<usize, Status> {
        let waiting = &self.bytes[self.taken..];
        let mut whole = waiting.len();
        if whole > buffer.len() {
            whole = 0;
            loop {
                let next = whole + record_bytes(&waiting[whole..]);
                if next > buffer.len() {
                    break;
                }
                whole = next;
            }
            if whole == 0 {
                return Err(Status::TOO_SMALL);
            }
        }
        buffer[..whole].copy_from_slice(&waiting[..whole]);
        self.taken += whole;
        if self.taken == self.bytes.len() {
            self.taken = 0;
            self.bytes.clear();
            self.bytes.shrink_to(2 * ROOM_BYTES);
        }
        Ok(whole)
    }
}

/// The length of the record at the front, head and padding included.
fn record_bytes(records: &[u8]) -> usize {
    let word = |n: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| records[4 * n + byte]));
    let payload_bytes = if word(0) == HANDOFF { word(4) as usize } else { 0 };
    HEAD_BYTES + payload_bytes.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: About = About { flags: 0, micros: 0, uid: 0 };

    #[test]
    fn each_flag_has_its_bit() {
        assert_eq!(
            [flags(true, false, false), flags(false, true, false), flags(false, false, true)],
            [1, 2, 4]
        );
    }

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn a_handoff_is_its_head_and_its_padded_payload() {
        let mut records = Records::default();
        records.handoff(7, About { flags: flags(false, true, true), micros: 40, uid: 33 }, b"abcde");
        let mut buffer = [0xEE; 64];
        assert_eq!(records.take(&mut buffer), Ok(32));
        assert_eq!(words(&buffer[..24]), [1, 7, 6, 40, 5, 33]);
        assert_eq!(&buffer[24..33], b"abcde\0\0\0\xEE");
        assert_eq!(records.take(&mut buffer), Ok(0));
    }

    #[test]
    fn takes_only_whole_records_in_order() {
        let mut records = Records::default();
        records.client_gone(1, 104);
        records.handoff(2, NOTHING, b"12345678");
        records.client_writable(3);
        let mut buffer = [0; 55];
        assert_eq!(records.take(&mut buffer), Ok(24));
        assert_eq!(words(&buffer[..24]), [2, 1, 104, 0, 0, 0]);
        assert_eq!(records.take(&mut buffer[..31]), Err(Status::TOO_SMALL));
        assert_eq!(records.take(&mut buffer), Ok(32));
        assert_eq!(&buffer[24..32], b"12345678");
        assert_eq!(records.take(&mut buffer), Ok(24));
        assert_eq!(words(&buffer[..24]), [3, 3, 0, 0, 0, 0]);
        assert!(records.is_empty());
    }

    #[test]
    fn says_when_there_is_no_room_left() {
        let mut records = Records::default();
        records.handoff(0, NOTHING, &vec![b'x'; ROOM_BYTES - HEAD_BYTES - 1]);
        assert!(!records.has_room());
        records.take(&mut vec![0; ROOM_BYTES]).unwrap();
        assert!(records.has_room());
    }
}
