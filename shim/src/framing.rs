//! Where a payload on a byte stream ends: a scan for balanced braces, no parsing.
#![forbid(unsafe_code)]

/// The scan's state between two pieces; each byte is looked at once.
#[derive(Debug, Default)]
pub struct Framing {
    begun: bool,
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Framing {
    /// Scans the next piece. Returns how many of its bytes belong to the payload, if the payload ends in it:
    /// the single NUL byte of a payload that begins with one, or all up to the brace that closes the first.
    pub fn feed(&mut self, piece: &[u8]) -> Option<usize> {
        if !self.begun && piece.first() == Some(&0) {
            return Some(1);
        }
        self.begun |= !piece.is_empty();
        for (at, &byte) in piece.iter().enumerate() {
            if self.escaped {
                self.escaped = false;
            } else if self.in_string {
                match byte {
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
            } else {
                match byte {
                    b'{' => self.depth += 1,
                    b'"' => self.in_string = self.depth > 0,
                    b'}' if self.depth == 1 => return Some(at + 1),
                    b'}' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(text: &str) -> Option<usize> {
        Framing::default().feed(text.as_bytes())
    }

    #[test]
    fn ends_at_the_brace_that_closes_the_first() {
        assert_eq!(end_of("{}"), Some(2));
        assert_eq!(end_of(r#" {"a":{"b":{}}} tail"#), Some(15));
        assert_eq!(end_of(r#"{"a":1"#), None);
    }

    #[test]
    fn braces_and_escaped_quotes_in_strings_do_not_count() {
        assert_eq!(end_of(r#"{"a":"}"}"#), Some(9));
        assert_eq!(end_of(r#"{"a":"\"}"}"#), Some(11));
        assert_eq!(end_of(r#"{"a":"\\"}"#), Some(10));
        assert_eq!(end_of(r#"{"a":"{{{"}"#), Some(11));
    }

    #[test]
    fn a_nul_byte_ends_only_at_the_beginning() {
        assert_eq!(end_of("\0{}"), Some(1));
        assert_eq!(end_of("x\0"), None);
        let mut framing = Framing::default();
        assert_eq!(framing.feed(b" "), None);
        assert_eq!(framing.feed(b"\0"), None);
        assert_eq!(framing.feed(b"{}"), Some(2));
    }

    #[test]
    fn what_stands_before_the_first_brace_does_not_count() {
        assert_eq!(end_of(r#"}}" {"a":1}"#), Some(11));
    }

    #[test]
    fn an_empty_piece_changes_nothing() {
        let mut framing = Framing::default();
        assert_eq!(framing.feed(b""), None);
        assert_eq!(framing.feed(b"\0"), Some(1));
    }

    /// The same rule told another way: looks at the whole text, with no state.
    fn reference(text: &[u8]) -> Option<usize> {
        if text.first() == Some(&0) {
            return Some(1);
        }
        let start = text.iter().position(|&byte| byte == b'{')?;
        (start + 1..=text.len()).find(|&end| {
            let mut outside = Vec::new();
            let mut rest = text[start..end].iter();
            while let Some(&byte) = rest.next() {
                if byte != b'"' {
                    outside.push(byte);
                    continue;
                }
                loop {
                    match rest.next() {
                        Some(b'\\') => drop(rest.next()),
                        Some(b'"') => break,
                        Some(_) => {}
                        None => return false,
                    }
                }
            }
            let opened = outside.iter().filter(|&&byte| byte == b'{').count();
            opened == outside.iter().filter(|&&byte| byte == b'}').count()
        })
    }

    #[test]
    fn agrees_with_the_reference_on_random_texts_cut_at_random() {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        let alphabet = b"{{}}\"\"\\\\a \0";
        let mut ended = 0;
        let texts = if cfg!(miri) { 200 } else { 20_000 };
        for _ in 0..texts {
            let text: Vec<u8> = (0..random(40)).map(|_| alphabet[random(alphabet.len())]).collect();
            let mut framing = Framing::default();
            let (mut fed, mut found) = (0, None);
            while found.is_none() && fed < text.len() {
                let piece = &text[fed..][..random(text.len() - fed + 1)];
                found = framing.feed(piece).map(|end| fed + end);
                fed += piece.len();
            }
            let expected = reference(&text);
            assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(&text));
            ended += usize::from(expected.is_some());
        }
        assert!(
            (texts / 10..texts * 9 / 10).contains(&ended),
            "the texts are of one kind only: {ended} ended"
        );
    }
}
