//! Handoffs at a steady rate, good ones or bad ones of one kind, to see what they do to streams that already run.
//! Unlike `run` it follows no answer: a client is told something or not, and then it goes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, connect, listen, recv,
    sendmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};
use nix::unistd::{Uid, geteuid, pipe, seteuid};
use serde::Serialize;

use crate::clock::{now_ns, own_cpu_ns};
use crate::handoff::{ClientKind, Clients, Door};
use crate::player::default_payload;
use crate::sample::{rss_kib, snapshot};
use crate::target::Target;

/// What knocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// What Apache sends; the client leaves when it has read the first bytes.
    Good,
    /// The same, but the client has left before the daemon can answer.
    Gone,
    /// A client and data that is no JSON.
    Garbage,
    /// A client and more data than the daemon takes.
    Oversized,
    /// One client twice in one message.
    TwoFds,
    /// Data without a client.
    NoFd,
    /// Data and a pipe.
    NoSocket,
    /// Data and a datagram socket.
    Datagram,
    /// Data and a socket that listens.
    Listener,
    /// What Apache sends, by a user that is none of the daemon's: [`STRANGER`], which only root can become.
    Stranger,
    /// A connection on which nothing comes.
    Silent,
    /// On one STREAM connection without an end, a byte and as many fds as a message carries: [`MOST_FDS`]. When all is
    /// over it goes on until the last connection is cut off as well.
    Trickle,
}

/// SCM_MAX_FD of the kernel.
pub const MOST_FDS: usize = 253;
/// Debian's nobody.
const STRANGER: u32 = 65_534;
/// More than the 128 KiB that Apache's module sends at most, and less than a Unix socket's send buffer.
const OVERSIZED_BYTES: usize = 140 * 1024;
/// From the last client's end to the count of the daemon's fds.
const REST: Duration = Duration::from_millis(500);
/// How long a client waits for its answer, and a sender for room in the backlog.
const PATIENCE_MS: u16 = 10_000;

/// What to do.
#[derive(Debug, Clone)]
pub struct Knocks {
    /// Where.
    pub door: Door,
    /// What.
    pub kind: Kind,
    /// What the clients sit on.
    pub client: ClientKind,
    /// Knocks per second, of `Trickle` messages.
    pub rate: f64,
    /// For how long.
    pub time: Duration,
    /// No more than so many in all.
    pub most: u64,
    /// How many clients, or silent connections, may wait at the same time. Further ones knock when the oldest is over.
    pub hold: usize,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Knocked {
    kind: Kind,
    knocks: u64,
    ms: f64,
    per_sec: f64,
    /// How many clients were told which status, or how they were not told any.
    answers: BTreeMap<String, u64>,
    /// How many knocks did not get through, and why.
    failed: BTreeMap<&'static str, u64>,
    /// The daemon's resident set at the beginning and after each tenth of the knocks or the time, KiB; without a
    /// process to look at 0.
    rss_kib: Vec<u64>,
    /// Its fds at the beginning, and at the end, when all clients are gone.
    fds: [u64; 2],
    /// What the knocking itself took, user and system.
    cpu_ms: f64,
}

impl Knocked {
    /// A few lines for people.
    pub fn text(&self) -> String {
        let mut out = format!(
            "{} knocks in {:.1} s, {:.0} a second\n",
            self.knocks,
            self.ms / 1e3,
            self.per_sec
        );
        let mib = |kib: &u64| format!("{:.0}", *kib as f64 / 1024.0);
        let rss: Vec<String> = self.rss_kib.iter().map(mib).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  daemon: {} MiB, fds {:?}", rss.join(" "), self.fds);
        for (what, count) in &self.answers {
            let _ = writeln!(out, "  {count} × {what}");
        }
        for (why, count) in &self.failed {
            let _ = writeln!(out, "  {count} × failed: {why}");
        }
        out
    }
}

struct Knocker<'a> {
    job: &'a Knocks,
    clients: Clients,
    /// The oldest first: clients that wait for an answer, or silent connections.
    held: VecDeque<OwnedFd>,
    /// The one connection of `Trickle`, and what it sends again and again.
    trickle: Option<(OwnedFd, OwnedFd)>,
    knocked: Knocked,
}

/// Knocks until the time is over.
pub fn run(job: &Knocks, target: &mut Target) -> io::Result<Knocked> {
    if job.kind == Kind::Trickle && job.door.kind != SockType::Stream {
        return Err(io::Error::other("--kind trickle needs --type stream"));
    }
    let mut knocker = Knocker {
        job,
        clients: Clients::new(job.client, u8::MAX)?,
        held: VecDeque::new(),
        trickle: None,
        knocked: Knocked {
            kind: job.kind,
            knocks: 0,
            ms: 0.0,
            per_sec: 0.0,
            answers: BTreeMap::new(),
            failed: BTreeMap::new(),
            rss_kib: Vec::new(),
            fds: [0; 2],
            cpu_ms: 0.0,
        },
    };
    let pids = target.pids();
    knocker.knocked.fds[0] = snapshot(&pids)?.fds;
    let began = now_ns();
    let until = began + job.time.as_nanos() as u64;
    while knocker.knocked.knocks < job.most {
        let due = began + (knocker.knocked.knocks as f64 / job.rate * 1e9) as u64;
        let now = now_ns();
        if due.max(now) >= until {
            break;
        }
        let done = (knocker.knocked.knocks as f64 / job.most as f64)
            .max((now - began) as f64 / job.time.as_nanos() as f64);
        if done >= knocker.knocked.rss_kib.len() as f64 / 10.0 {
            knocker.knocked.rss_kib.push(rss_kib(&pids)?);
            target.check_alive()?;
        }
        if due > now {
            sleep_until(due);
        }
        knocker.count_knock();
        while knocker.held.len() >= job.hold || knocker.oldest_is_told() {
            knocker.part_with_oldest();
        }
    }
    // The last one may have been cut off, which only one more message tells it.
    let limit = now_ns() + u64::from(PATIENCE_MS) * 1_000_000;
    while knocker.trickle.is_some() && now_ns() < limit {
        knocker.count_knock();
    }
    let ns = now_ns() - began;
    while !knocker.held.is_empty() {
        knocker.part_with_oldest();
    }
    let mut knocked = knocker.knocked;
    knocked.rss_kib.push(rss_kib(&pids)?);
    // What the daemon has not heard of yet, it hears now.
    sleep(REST);
    knocked.fds[1] = snapshot(&pids)?.fds;
    knocked.cpu_ms = own_cpu_ns() as f64 / 1e6;
    knocked.ms = ns as f64 / 1e6;
    knocked.per_sec = knocked.knocks as f64 / (ns as f64 / 1e9);
    Ok(knocked)
}

impl Knocker<'_> {
    fn count_knock(&mut self) {
        self.knocked.knocks += 1;
        if let Err(error) = self.knock() {
            *self.knocked.failed.entry(error.desc()).or_default() += 1;
        }
    }

    fn knock(&mut self) -> nix::Result<()> {
        match self.job.kind {
            Kind::Good | Kind::Gone => {
                let data = default_payload(self.knocked.knocks as usize);
                self.hand_over(data.as_bytes(), 1)
            }
            Kind::Garbage => self.hand_over(b"not JSON", 1),
            Kind::Oversized => {
                let data = format!(r#"{{"prompt":"{}"}}"#, "x".repeat(OVERSIZED_BYTES));
                self.hand_over(data.as_bytes(), 1)
            }
            Kind::TwoFds => self.hand_over(b"{}", 2),
            Kind::NoFd => self.pass(&[]),
            Kind::NoSocket => self.pass(&[pipe()?.0.as_raw_fd()]),
            Kind::Datagram => self.pass(&[new_socket(SockType::Datagram)?.as_raw_fd()]),
            Kind::Listener => {
                let listener = new_socket(SockType::Stream)?;
                listen(&listener, Backlog::new(1)?)?;
                self.pass(&[listener.as_raw_fd()])
            }
            Kind::Stranger => self.hand_over(b"{}", 1),
            Kind::Silent => {
                self.held.push_back(open(&self.job.door)?);
                Ok(())
            }
            Kind::Trickle => self.trickle(),
        }
    }

    /// One message with the same client `times` times, over a connection of its own that is closed at once.
    fn hand_over(&mut self, data: &[u8], times: usize) -> nix::Result<()> {
        let (mine, theirs) = self.clients.make(self.knocked.knocks as usize, None)?;
        let fds = [theirs.as_raw_fd(); 2];
        let connection = if self.job.kind == Kind::Stranger {
            as_stranger(|| open(&self.job.door))?
        } else {
            open(&self.job.door)?
        };
        send(&connection, data, &fds[..times])?;
        if self.job.kind != Kind::Gone {
            self.held.push_back(mine);
        }
        Ok(())
    }

    /// One message with what is no client, or with nothing.
    fn pass(&self, fds: &[RawFd]) -> nix::Result<()> {
        send(&open(&self.job.door)?, b"{}", fds)
    }

    fn trickle(&mut self) -> nix::Result<()> {
        let (connection, theirs) = match &self.trickle {
            Some(both) => both,
            None => {
                let (_, theirs) = self.clients.make(0, None)?;
                self.trickle.insert((open(&self.job.door)?, theirs))
            }
        };
        let sent = send(connection, b" ", &[theirs.as_raw_fd(); MOST_FDS]);
        if sent.is_err() {
            self.trickle = None; // the daemon has closed it, as it should
        }
        sent
    }

    fn oldest_is_told(&self) -> bool {
        let Some(oldest) = self.held.front() else {
            return false;
        };
        let mut byte = [0];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
        recv(oldest.as_raw_fd(), &mut byte, flags) != Err(Errno::EAGAIN)
    }

    /// Waits until the oldest client is told something, notes what, and closes it.
    fn part_with_oldest(&mut self) {
        let Some(oldest) = self.held.pop_front() else {
            return;
        };
        if self.job.kind != Kind::Silent {
            *self
                .knocked
                .answers
                .entry(first_words(&oldest))
                .or_default() += 1;
        }
    }
}

/// The status that a client is told, or how it is not.
fn first_words(client: &OwnedFd) -> String {
    let readable = PollFd::new(client.as_fd(), PollFlags::POLLIN);
    if poll(&mut [readable], PollTimeout::from(PATIENCE_MS)) == Ok(0) {
        return "silence".into();
    }
    let mut text = [0; 64];
    match recv(client.as_raw_fd(), &mut text, MsgFlags::MSG_DONTWAIT) {
        Ok(0) => "closed without a word".into(),
        Ok(read) => {
            let status = text[..read]
                .strip_prefix(b"HTTP/1.1 ")
                .and_then(|t| t.get(..3));
            match status.map(std::str::from_utf8) {
                Some(Ok(status)) => status.into(),
                _ => "no HTTP".into(),
            }
        }
        Err(_) => "reset without a word".into(),
    }
}

/// Connects and waits for room in the backlog, if it must.
fn open(door: &Door) -> nix::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, door.kind, SockFlag::SOCK_CLOEXEC, None)?;
    let patience = TimeVal::milliseconds(i64::from(PATIENCE_MS));
    setsockopt(&fd, sockopt::SendTimeout, &patience)?;
    connect(fd.as_raw_fd(), &door.address)?;
    Ok(fd)
}

/// Who connects is whom the daemon sees, whoever sends.
fn as_stranger<T>(act: impl FnOnce() -> nix::Result<T>) -> nix::Result<T> {
    let me = geteuid();
    seteuid(Uid::from_raw(STRANGER))?;
    let done = act();
    seteuid(me)?;
    done
}

fn new_socket(kind: SockType) -> nix::Result<OwnedFd> {
    socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None)
}

fn send(connection: &OwnedFd, data: &[u8], fds: &[RawFd]) -> nix::Result<()> {
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[] } else { &rights[..] };
    let data = [IoSlice::new(data)];
    sendmsg::<()>(
        connection.as_raw_fd(),
        &data,
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// Until CLOCK_MONOTONIC reads `ns`, or a signal comes.
fn sleep_until(ns: u64) {
    let until = nix::sys::time::TimeSpec::nanoseconds(ns as i64);
    let flags = ClockNanosleepFlags::TIMER_ABSTIME;
    // Too early is as good: the caller looks at the clock.
    let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, flags, &until);
}
