//! The records of ABI.md, as they are written into the caller's buffer.
#![forbid(unsafe_code)]

/// What each record has before its payload.
pub const HEAD_BYTES: usize = 24;

/// The kinds of a reactor's records.
pub const HANDOFF: u32 = 1;
pub const CLIENT_GONE: u32 = 2;
pub const CLIENT_WRITABLE: u32 = 3;

/// The flags of a `HANDOFF`; the reason of a refusal stands above them.
pub const OVER_LIMIT: u32 = 1;
pub const TCP: u32 = 2;
pub const CAME_OVER_STREAM: u32 = 4;
pub const NO_ROOM: u32 = 8;
pub const MOVED: u32 = 16;
pub const IS_GONE: u32 = 32;
pub const REASON_SHIFT: u32 = 8;

/// The kinds of an acceptor's records.
pub const HANDOFF_REFUSED: u32 = 1;
pub const DRAINED: u32 = 2;
pub const ACCEPT_FAILED: u32 = 3;

/// The caller's buffer. Whoever writes has looked at [`Records::room`] first.
pub struct Records<'a> {
    buffer: &'a mut [u8],
    pub written: usize,
}

impl<'a> Records<'a> {
    pub fn new(buffer: &'a mut [u8]) -> Records<'a> {
        Records { buffer, written: 0 }
    }

    /// How many bytes more there is room for.
    pub fn room(&self) -> usize {
        self.buffer.len() - self.written
    }

    pub fn push(&mut self, words: [u32; 6], payload: &[u8]) {
        let (head, tail) = self.buffer[self.written..].split_at_mut(HEAD_BYTES);
        for (bytes, word) in head.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        let padded_bytes = padded(payload.len());
        let (body, padding) = tail[..padded_bytes].split_at_mut(payload.len());
        body.copy_from_slice(payload);
        padding.fill(0);
        self.written += HEAD_BYTES + padded_bytes;
    }
}

/// What a payload of so many bytes takes in a record.
pub fn padded(payload_bytes: usize) -> usize {
    payload_bytes.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_its_head_and_its_padded_payload() {
        let mut buffer = [0xEE; 64];
        let mut records = Records::new(&mut buffer);
        records.push([1, 2, 3, 4, 5, 0x01020304], b"abcde");
        assert_eq!((records.written, records.room()), (32, 32));
        records.push([9; 6], b"");
        assert_eq!((records.written, records.room()), (56, 8));
        assert_eq!(buffer[20..24], 0x01020304_u32.to_ne_bytes());
        assert_eq!(&buffer[24..32], b"abcde\0\0\0");
        assert_eq!(buffer[32..36], 9_u32.to_ne_bytes());
        assert_eq!(buffer[56..], [0xEE; 8]);
    }
}
