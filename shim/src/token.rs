//! What an epoll event carries: whom it is about.
#![forbid(unsafe_code)]

use nix::sys::epoll::{EpollEvent, EpollFlags};

/// What an epoll event is about, as its 64 bits: two for the kind, and in the rest a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    Client { client: u32, generation: u32 },
    Pending(u64),
    Listener(usize),
    Wake,
}

impl Token {
    /// The bits of a generation.
    pub const GENERATIONS: u32 = u32::MAX >> 2;
    const NUMBER: u64 = u64::MAX >> 2;

    fn encode(self) -> u64 {
        match self {
            Token::Client { client, generation } => u64::from(generation) << 32 | u64::from(client),
            Token::Pending(id) => 1 << 62 | id,
            Token::Listener(index) => 2 << 62 | index as u64,
            Token::Wake => 3 << 62,
        }
    }

    /// Takes an event apart.
    pub fn decode(data: u64) -> Token {
        let number = data & Token::NUMBER;
        match data >> 62 {
            0 => Token::Client { client: number as u32, generation: (number >> 32) as u32 },
            1 => Token::Pending(number),
            2 => Token::Listener(number as usize),
            _ => Token::Wake,
        }
    }

    /// What to hand to epoll_ctl(2).
    pub fn event(self, events: EpollFlags) -> EpollEvent {
        EpollEvent::new(events, self.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_64_bits() {
        for token in [
            Token::Client { client: 0, generation: 0 },
            Token::Client { client: u32::MAX, generation: Token::GENERATIONS },
            Token::Pending(1),
            Token::Listener(7),
            Token::Wake,
        ] {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
