//! What senders do, and what may become of it.

use std::collections::BTreeSet;
use std::fmt::{self, Debug, Formatter};
use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::pipe;

use crate::support::*;

/// The longest payload.
pub const LIMIT: usize = 512;
/// In one turn the acceptor reads so many messages of a sender that is to make room, and the end counts as one.
const READ_AT_ONCE: usize = 4;

/// Xorshift, as in `framing.rs`.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// What is passed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Tcp,
    Unix,
    /// Its browser has left, and nobody else has it.
    Gone,
    Datagram,
    Udp,
    Listening,
    Pipe,
    Null,
    OnlyAPath,
}

const KINDS: [Kind; 9] = [
    Kind::Tcp,
    Kind::Unix,
    Kind::Gone,
    Kind::Datagram,
    Kind::Udp,
    Kind::Listening,
    Kind::Pipe,
    Kind::Null,
    Kind::OnlyAPath,
];

impl Kind {
    /// Why it is refused; 0: it is a client.
    fn reason(self) -> u32 {
        match self {
            Kind::Tcp | Kind::Unix | Kind::Gone => 0,
            Kind::Datagram | Kind::Udp => NOT_STREAM,
            Kind::Listening => LISTENING,
            Kind::Pipe | Kind::Null | Kind::OnlyAPath => NOT_A_SOCKET_PASSED,
        }
    }
}

/// One of each kind, for all senders of a round.
pub struct Things {
    tcp: (TcpStream, TcpStream),
    pub unix: (OwnedFd, OwnedFd),
    datagram: OwnedFd,
    udp: UdpSocket,
    listening: TcpListener,
    pipe: (OwnedFd, OwnedFd),
    null: File,
    only_a_path: File,
}

impl Things {
    pub fn new() -> Things {
        Things {
            tcp: tcp_pair(),
            unix: pair(STREAM),
            datagram: UnixDatagram::unbound().unwrap().into(),
            udp: UdpSocket::bind("127.0.0.1:0").unwrap(),
            listening: TcpListener::bind("127.0.0.1:0").unwrap(),
            pipe: pipe().unwrap(),
            null: File::open("/dev/null").unwrap(),
            only_a_path: File::options().read(true).custom_flags(libc::O_PATH).open("/").unwrap(),
        }
    }

    fn get<'a>(&'a self, kind: Kind, gone: &'a OwnedFd) -> &'a dyn AsFd {
        match kind {
            Kind::Tcp => &self.tcp.1,
            Kind::Unix => &self.unix.1,
            Kind::Gone => gone,
            Kind::Datagram => &self.datagram,
            Kind::Udp => &self.udp,
            Kind::Listening => &self.listening,
            Kind::Pipe => &self.pipe.0,
            Kind::Null => &self.null,
            Kind::OnlyAPath => &self.only_a_path,
        }
    }
}

#[derive(Clone)]
pub struct Message {
    data: Vec<u8>,
    fds: Vec<Kind>,
}

impl Debug for Message {
    fn fmt(&self, out: &mut Formatter) -> fmt::Result {
        let data = String::from_utf8_lossy(&self.data[..self.data.len().min(60)]).into_owned();
        write!(out, "{data:?} ({} bytes) with {:?}", self.data.len(), self.fds)
    }
}

impl Message {
    fn random(random: &mut Random) -> Message {
        let whole =
            format!(r#"{{"prompt":"{} }}\" {{","n":{{"m":{}}}}}"#, random.below(99), random.below(99));
        let whole = whole.as_bytes();
        let cut = random.below(whole.len());
        let data = match random.below(12) {
            0 | 1 => b"{}".to_vec(),
            2 | 3 => whole.to_vec(),
            4 => whole[..cut].to_vec(),
            5 => whole[cut..].to_vec(),
            6 => vec![0],
            7 => (0..random.below(40)).map(|_| random.of(b"{}\"\\a \0\xFF")).collect(),
            8 => [whole, b" ", whole].concat(),
            9 => vec![random.of(b" x{\0"); random.of(&[LIMIT - 1, LIMIT, LIMIT + 1, 2 * LIMIT, 9 * LIMIT])],
            _ => vec![],
        };
        let fds = match random.below(16) {
            0..8 => 1,
            8..13 => 0,
            13 | 14 => 2,
            _ => random.of(&[3, 20, 253]),
        };
        // What can be a client as often as what cannot.
        let kinds = if random.below(2) == 0 { &KINDS[..3] } else { &KINDS };
        Message { data, fds: (0..fds).map(|_| random.of(kinds)).collect() }
    }

    fn is_nothing(&self) -> bool {
        self.data.is_empty() && self.fds.is_empty()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Close,
    HalfClose,
    Nothing,
}

/// What can become of a handoff: the reason, 0 where it is delivered, and what is delivered.
pub type Verdict = (u32, Vec<u8>);

#[derive(Debug)]
pub struct Sender {
    pub kind: u32,
    messages: Vec<Message>,
    end: End,
}

impl Sender {
    pub fn random(random: &mut Random) -> Sender {
        let messages = random.of(&[0, 1, 1, 1, 1, 2, 2, 3, 5]);
        Sender {
            kind: random.of(&BOTH),
            messages: (0..messages).map(|_| Message::random(random)).collect(),
            end: random.of(&[End::Close, End::Close, End::HalfClose, End::Nothing]),
        }
    }

    /// Sends as much as the acceptor takes, which may have its verdict before all of it is said; `messages` is what
    /// went out. What it returns is the connection, where that stays open.
    pub fn send(&mut self, things: &Things, path: &Path) -> Option<OwnedFd> {
        let connection = connect(path, self.kind);
        let gone = pair(STREAM).1;
        let is_taken = |message: &&Message| {
            let fds: Vec<&dyn AsFd> = message.fds.iter().map(|kind| things.get(*kind, &gone)).collect();
            try_sendmsg(&connection, &message.data, &fds).is_ok()
        };
        let sent = self.messages.iter().take_while(is_taken).count();
        self.messages.truncate(sent);
        if self.end == End::HalfClose {
            // The acceptor may have closed it.
            let _gone = shutdown(connection.as_raw_fd(), Shutdown::Write);
        }
        (self.end != End::Close).then_some(connection)
    }

    /// What ABI.md allows to become of it, however much of it the acceptor finds at each look.
    pub fn verdicts(&self, mode: Mode) -> BTreeSet<Verdict> {
        if mode == Mode::Strangers {
            return [(UID_NOT_ALLOWED, vec![])].into();
        }
        let mut verdicts = BTreeSet::new();
        let is_cut_off = match mode {
            Mode::Hasty => true,
            _ => self.end == End::Nothing || self.messages.len() >= READ_AT_ONCE,
        };
        if is_cut_off {
            verdicts.insert((TIMEOUT, vec![]));
        }
        // On STREAM, nothing is sent for no bytes, and what came by the time-out counts.
        let is_stream = self.kind == STREAM;
        let messages: Vec<_> =
            self.messages.iter().filter(|each| !is_stream || !each.data.is_empty()).cloned().collect();
        let shortest = if mode == Mode::Hasty && is_stream { 0 } else { messages.len() };
        for length in shortest..=messages.len() {
            let read = if is_stream { read_stream } else { read_messages };
            read(&messages[..length], &[], &[], &mut verdicts);
        }
        verdicts
    }
}

fn judge(data: &[u8], fds: &[Kind]) -> Verdict {
    match fds {
        [_, _, ..] => (MANY_FDS, vec![]),
        _ if data.len() > LIMIT => (PAYLOAD_TRUNCATED, vec![]),
        [] => (NO_FD, vec![]),
        [kind] if kind.reason() == 0 => (0, data.to_vec()),
        [kind] => (kind.reason(), vec![]),
    }
}

fn read_messages(messages: &[Message], _: &[u8], _: &[Kind], verdicts: &mut BTreeSet<Verdict>) {
    let Some(first) = messages.first() else {
        verdicts.insert(judge(b"", &[]));
        return;
    };
    if !first.is_nothing() {
        verdicts.insert(judge(&first.data, &first.fds));
        return;
    }
    // It looks like the end, and is one where no more than that is behind it at the second look.
    if messages.get(1).is_some_and(Message::is_nothing) {
        verdicts.insert(judge(b"", &[]));
    }
    read_messages(&messages[1..], &[], &[], verdicts);
}

/// At one look come one message or several, up to the first that carries descriptors.
fn read_stream(messages: &[Message], data: &[u8], fds: &[Kind], verdicts: &mut BTreeSet<Verdict>) {
    if messages.is_empty() {
        verdicts.insert(judge(data, fds));
    }
    let (mut data, mut fds) = (data.to_vec(), fds.to_vec());
    for (at, message) in messages.iter().enumerate() {
        data.extend(&message.data);
        fds.extend(&message.fds);
        match end_of_payload(&data) {
            _ if fds.len() > 1 => drop(verdicts.insert((MANY_FDS, vec![]))),
            Some(end) if end <= LIMIT => drop(verdicts.insert(judge(&data[..end], &fds))),
            _ if data.len() > LIMIT => drop(verdicts.insert((PAYLOAD_TRUNCATED, vec![]))),
            _ => read_stream(&messages[at + 1..], &data, &fds, verdicts),
        }
        if !message.fds.is_empty() {
            break;
        }
    }
}

/// The NUL byte, or the brace that closes the first.
fn end_of_payload(data: &[u8]) -> Option<usize> {
    if data.first() == Some(&0) {
        return Some(1);
    }
    let (mut depth, mut in_string, mut bytes) = (0, false, data.iter().enumerate());
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' if in_string => drop(bytes.next()),
            b'"' if depth > 0 => in_string = !in_string,
            b'{' if !in_string => depth += 1,
            b'}' if !in_string && depth == 1 => return Some(at + 1),
            b'}' if !in_string && depth > 1 => depth -= 1,
            _ => {}
        }
    }
    None
}

/// How the acceptor is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Patient,
    Hasty,
    /// Nobody is allowed.
    Strangers,
}
