//! Counts what a client receives: an HTTP/1.1 head, then Server-Sent Events, split anywhere.

/// How much of a line is looked at; long enough for `data: {"error"` and `data: [DONE]`.
const LOOK: usize = 16;

/// Counts one answer. Feed it the bytes as they come.
///
/// Events are framed as WHATWG HTML § 9.2.6 says: lines ended by LF or CRLF, an event is dispatched at a blank line
/// if it had a `data` field. A lone CR is not taken for a line's end, since no JSON text holds one.
#[derive(Debug, Default, Clone)]
pub struct SseCounter {
    in_body: bool,
    /// The current line's beginning and how long the line is so far.
    line: [u8; LOOK],
    line_len: usize,
    has_data: bool,
    is_done: bool,
    is_error: bool,
    /// The status of the response head, once its first line is whole and reads as one.
    pub status: Option<u16>,
    /// Whether the head is whole.
    pub answered: bool,
    /// Bytes of head and body.
    pub bytes: u64,
    /// Events dispatched so far, `[DONE]` included.
    pub events: u32,
    /// Events whose data begins with `{"error"`.
    pub errors: u32,
    /// Whether `[DONE]` was dispatched.
    pub done: bool,
}

impl SseCounter {
    /// Takes the next bytes and returns how many events they completed, `[DONE]` not counted.
    pub fn feed(&mut self, bytes: &[u8]) -> u32 {
        let (before, done_before) = (self.events, self.done);
        self.bytes += bytes.len() as u64;
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&b| b == b'\n') {
            self.extend_line(&rest[..end]);
            self.end_line();
            rest = &rest[end + 1..];
        }
        self.extend_line(rest);
        let done = u32::from(self.done && !done_before);
        self.events - before - done
    }

    fn extend_line(&mut self, part: &[u8]) {
        if self.line_len < LOOK {
            let take = part.len().min(LOOK - self.line_len);
            self.line[self.line_len..self.line_len + take].copy_from_slice(&part[..take]);
        }
        self.line_len += part.len();
    }

    fn end_line(&mut self) {
        let seen = &self.line[..self.line_len.min(LOOK)];
        let line = seen.strip_suffix(b"\r").unwrap_or(seen);
        let blank = line.is_empty();
        if self.in_body {
            if blank && self.has_data {
                self.events += 1;
                self.done |= self.is_done;
                self.errors += u32::from(self.is_error);
                (self.has_data, self.is_done, self.is_error) = (false, false, false);
            } else if let Some(value) = line.strip_prefix(b"data:") {
                let value = value.strip_prefix(b" ").unwrap_or(value);
                // A second data line of one event makes it more than `[DONE]`.
                self.is_done = value == b"[DONE]" && !self.has_data;
                self.is_error |= value.starts_with(b"{\"error\"");
                self.has_data = true;
            }
        } else if blank {
            self.in_body = true;
            self.answered = true;
        } else if self.status.is_none() && line.starts_with(b"HTTP/1.") {
            let digits = line.get(9..12).and_then(|d| std::str::from_utf8(d).ok());
            self.status = digits.and_then(|d| d.parse().ok());
        }
        self.line_len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n\
        data: {\"content\":\"a\"}\n\ndata: {\"content\":\"data: [DONE] is not the end\"}\n\n: heartbeat\n\n\
        data: {\"error\":\"x\"}\r\n\r\ndata: [DONE]\n\n";

    fn check(counter: &SseCounter) {
        assert_eq!(counter.status, Some(200));
        assert_eq!((counter.events, counter.errors), (4, 1));
        assert!(counter.done && counter.answered);
        assert_eq!(counter.bytes, ANSWER.len() as u64);
    }

    #[test]
    fn counts_alike_wherever_one_read_ends() {
        for cut in 0..=ANSWER.len() {
            let mut counter = SseCounter::default();
            let content = counter.feed(&ANSWER[..cut]) + counter.feed(&ANSWER[cut..]);
            check(&counter);
            assert_eq!(content, 3, "cut at {cut}");
        }
    }

    #[test]
    fn counts_alike_byte_by_byte() {
        let mut counter = SseCounter::default();
        let content: u32 = ANSWER.iter().map(|b| counter.feed(&[*b])).sum();
        check(&counter);
        assert_eq!(content, 3);
    }

    #[test]
    fn an_event_without_its_blank_line_does_not_count() {
        let mut counter = SseCounter::default();
        counter.feed(b"HTTP/1.1 200 OK\r\n\r\ndata: a\n\ndata: [DONE]\n");
        assert_eq!((counter.events, counter.done), (1, false));
        counter.feed(b"\n");
        assert_eq!((counter.events, counter.done), (2, true));
    }

    #[test]
    fn events_in_a_head_do_not_count() {
        let mut counter = SseCounter::default();
        counter.feed(b"HTTP/1.1 503 Service Unavailable\r\ndata: a\r\n");
        assert_eq!(
            (counter.status, counter.events, counter.answered),
            (Some(503), 0, false)
        );
    }

    #[test]
    fn done_among_other_data_lines_is_not_the_end() {
        let mut counter = SseCounter::default();
        counter.feed(b"HTTP/1.1 200 OK\r\n\r\ndata: a\ndata: [DONE]\n\ndata: [DONE]x\n\n");
        assert_eq!((counter.events, counter.done), (2, false));
    }

    #[test]
    fn what_is_no_http_has_no_status() {
        let mut counter = SseCounter::default();
        counter.feed(b"data: a\n\ndata: [DONE]\n\n");
        assert_eq!(counter.status, None);
    }
}
