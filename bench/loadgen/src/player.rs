//! One process's share of the clients, on one thread and one epoll set: starts them at their time, hands them over,
//! reads what comes and judges how it ends.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{MsgFlags, recv};

use crate::board::Slot;
use crate::clock::{now_ns, own_cpu_ns};
use crate::handoff::{ClientKind, Clients, Door, Front, data_segments_in, hand_over, knock};
use crate::sse::SseCounter;
use crate::tally::{End, Outcome, Tally, judge};

/// What all players of a run have in common.
#[derive(Debug, Clone)]
pub struct Job {
    /// Where the handoffs go.
    pub door: Door,
    /// What the clients sit on.
    pub client: ClientKind,
    /// Who is asked in place of a handoff.
    pub front: Option<Front>,
    /// How many clients all players start together.
    pub clients: usize,
    /// Arrivals per second of all players together.
    pub rate: f64,
    /// What was asked between two events.
    pub interval_ns: Option<u64>,
    /// Events per answer, `[DONE]` included, if it is known.
    pub expect: Option<u32>,
    /// The payload for every client; `None`: the default prompt with a request id of its own.
    pub payload: Option<Vec<u8>>,
    /// How many of the clients read slowly.
    pub slow_readers: usize,
    /// What a slow reader takes per second, 0: nothing at all.
    pub slow_bytes_per_sec: usize,
    /// SO_RCVBUF of slow readers.
    pub slow_receive_buffer_bytes: usize,
    /// How many of the clients leave.
    pub leavers: usize,
    /// After how many events they do.
    pub leave_after: u32,
    /// When the players give up.
    pub time_limit_ns: u64,
    /// How many players there are.
    pub players: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Reader,
    Slow,
    Leaver,
}

/// Spreads slow readers and leavers evenly over all clients.
fn role(job: &Job, client: usize) -> Role {
    let special = job.slow_readers + job.leavers;
    let nth = client * special / job.clients;
    if nth == (client + 1) * special / job.clients {
        Role::Reader
    } else if nth * job.slow_readers / special != (nth + 1) * job.slow_readers / special {
        Role::Slow
    } else {
        Role::Leaver
    }
}

struct Client {
    /// `None` once it is over.
    fd: Option<OwnedFd>,
    role: Role,
    answer: SseCounter,
    /// When it was to arrive; a handoff that is late is late for it.
    due_ns: u64,
    last_event_ns: u64,
}

/// A handoff that did not get through yet.
struct Waiting {
    client: usize,
    theirs: OwnedFd,
    /// Tries that found nobody listening.
    tries: u32,
    next_ns: u64,
    /// When the backlog was first full, 0: it was not.
    full_since_ns: u64,
}

/// The module waits 100 ms for room in the backlog.
/// In the handoff data, where the client's number goes.
const NUMBER: &str = "{client}";
const CONNECT_LIMIT_NS: u64 = 100_000_000;
/// The module's pauses before it tries again where nobody listens.
const RETRY_AFTER_NS: [u64; 2] = [10_000_000, 20_000_000];
const BACKLOG_POLL_NS: u64 = 1_000_000;
const SLOW_TICK_NS: u64 = 100_000_000;
/// Arrivals started in one turn at most, so that a late start does not keep the readers waiting.
const STARTS_PER_TURN: usize = 4;

struct Player<'a> {
    job: &'a Job,
    number: usize,
    slot: &'a Slot,
    epoll: Epoll,
    makes: Clients,
    clients: Vec<Client>,
    waiting: Vec<Waiting>,
    tally: Tally,
    /// Clients that are not over, without the slow ones.
    readers: usize,
    slow: usize,
    buf: Box<[u8]>,
}

/// Plays this player's share to its end.
pub fn play(job: &Job, number: usize, slot: &Slot) -> io::Result<Tally> {
    let mut player = Player {
        job,
        number,
        slot,
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        makes: Clients::new(job.client, u8::try_from(number).unwrap_or(u8::MAX))?,
        clients: Vec::new(),
        waiting: Vec::new(),
        tally: Tally::default(),
        readers: 0,
        slow: 0,
        buf: vec![0; 16 * 1024].into_boxed_slice(),
    };
    player.run()?;
    player.tally.cpu_ns = own_cpu_ns();
    Ok(player.tally)
}

impl Player<'_> {
    fn run(&mut self) -> io::Result<()> {
        let share = (self.job.clients - self.number).div_ceil(self.job.players);
        self.clients.reserve_exact(share);
        self.tally.clients = share as u64;
        let began = now_ns();
        let over = began + self.job.time_limit_ns;
        let mut slow_tick = began + SLOW_TICK_NS;
        let mut events = vec![EpollEvent::empty(); 256];
        loop {
            let now = now_ns();
            let mut starts = 0;
            while self.clients.len() < share
                && starts < STARTS_PER_TURN
                && self.arrival_ns(began) <= now
            {
                self.start(self.arrival_ns(began))?;
                starts += 1;
            }
            self.retry(now_ns());
            if now >= slow_tick {
                self.read_slowly();
                slow_tick = now + SLOW_TICK_NS;
            }
            let all_started = self.clients.len() == share;
            let slow_will_end = self.job.slow_bytes_per_sec > 0 && self.slow > 0;
            if now >= over || (all_started && self.readers == 0 && !slow_will_end) {
                break;
            }
            let mut wake = over;
            if !all_started {
                wake = wake.min(self.arrival_ns(began));
            }
            if self.slow > 0 {
                wake = wake.min(slow_tick);
            }
            for waiting in &self.waiting {
                wake = wake.min(waiting.next_ns);
            }
            let ready = wait_until(&self.epoll, &mut events, wake)?;
            for event in &events[..ready] {
                self.on_event(event.data() as usize, event.events());
            }
            self.slot.events.store(self.tally.events, Ordering::Relaxed);
        }
        for index in 0..self.clients.len() {
            if self.clients[index].fd.is_some() {
                self.end(index, End::TimeLimit);
            }
        }
        for _ in self.clients.len()..share {
            self.tally
                .record(Outcome::Lost("not started before the time limit"));
        }
        Ok(())
    }

    /// When the next client of this player is due: clients go round the players.
    fn arrival_ns(&self, began: u64) -> u64 {
        let client = self.clients.len() * self.job.players + self.number;
        began + (client as f64 / self.job.rate * 1e9) as u64
    }

    fn start(&mut self, due_ns: u64) -> io::Result<()> {
        let index = self.clients.len();
        let role = role(self.job, index * self.job.players + self.number);
        let small = (role == Role::Slow).then_some(self.job.slow_receive_buffer_bytes);
        let (mine, theirs) = match &self.job.front {
            Some(front) => (front.ask()?, None),
            None => {
                let (mine, theirs) = self.makes.make(index, small)?;
                (mine, Some(theirs))
            }
        };
        let interest = match role {
            Role::Slow => EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET,
            _ => EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET,
        };
        self.epoll
            .add(&mine, EpollEvent::new(interest, index as u64))?;
        match role {
            Role::Slow => self.slow += 1,
            _ => self.readers += 1,
        }
        let answer = SseCounter::default();
        self.clients.push(Client {
            fd: Some(mine),
            role,
            answer,
            due_ns,
            last_event_ns: 0,
        });
        match theirs {
            Some(theirs) => self.hand(Waiting {
                client: index,
                theirs,
                tries: 0,
                next_ns: 0,
                full_since_ns: 0,
            }),
            None => drop(self.slot.handed.fetch_add(1, Ordering::Relaxed)),
        }
        Ok(())
    }

    /// Tries one handoff; puts it back to wait where the module would try again.
    fn hand(&mut self, mut handoff: Waiting) {
        let client = handoff.client;
        let number = client * self.job.players + self.number;
        let payload = match &self.job.payload {
            Some(payload) => payload_for(payload, number),
            None => default_payload(number).into_bytes().into(),
        };
        let sent = knock(&self.job.door)
            .and_then(|connection| hand_over(&connection, &payload, handoff.theirs.as_fd()));
        let now = now_ns();
        match sent {
            Ok(_) => {
                self.slot.handed.fetch_add(1, Ordering::Relaxed);
            }
            Err(Errno::EAGAIN) => {
                if handoff.full_since_ns == 0 {
                    handoff.full_since_ns = now;
                }
                handoff.next_ns = now + BACKLOG_POLL_NS;
                if now < handoff.full_since_ns + CONNECT_LIMIT_NS {
                    self.tally.handoff_retries += 1;
                    self.waiting.push(handoff);
                    return;
                }
                self.lose(client, "handoff failed: backlog full for 100 ms");
            }
            Err(Errno::ENOENT | Errno::ECONNREFUSED)
                if (handoff.tries as usize) < RETRY_AFTER_NS.len() =>
            {
                handoff.next_ns = now + RETRY_AFTER_NS[handoff.tries as usize];
                handoff.tries += 1;
                self.tally.handoff_retries += 1;
                self.waiting.push(handoff);
            }
            Err(error) => self.lose(client, error_reason(error)),
        }
    }

    fn retry(&mut self, now: u64) {
        let mut i = 0;
        while i < self.waiting.len() {
            if self.waiting[i].next_ns <= now {
                let handoff = self.waiting.swap_remove(i);
                self.hand(handoff);
            } else {
                i += 1;
            }
        }
    }

    fn lose(&mut self, index: usize, how: &'static str) {
        self.tally.record(Outcome::Lost(how));
        self.remove(index);
    }

    fn remove(&mut self, index: usize) {
        self.clients[index].fd = None;
        match self.clients[index].role {
            Role::Slow => self.slow -= 1,
            _ => self.readers -= 1,
        }
        if self.clients[index].role != Role::Leaver {
            self.slot.ended.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn on_event(&mut self, index: usize, flags: EpollFlags) {
        let ended =
            flags.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        // Edge-triggered: a read that does not fill the buffer has emptied the socket, and what comes later wakes
        // again; only an end has to be read up to.
        let full = self.buf.len();
        while let Some(read) = self.read(index, full) {
            if read < full && !ended {
                break;
            }
        }
    }

    /// Reads once. `None`: there is nothing more, or the client is over.
    fn read(&mut self, index: usize, limit: usize) -> Option<usize> {
        let client = &mut self.clients[index];
        let fd = client.fd.as_ref()?.as_raw_fd();
        match recv(fd, &mut self.buf[..limit], MsgFlags::MSG_DONTWAIT) {
            Ok(0) => {
                self.end(index, End::Eof);
                None
            }
            Ok(read) => {
                let now = now_ns();
                // A front has a head of its own, which may come earlier: what counts is the daemon's first event.
                let nothing_yet = match self.job.front {
                    Some(_) => client.answer.events == 0,
                    None => client.answer.bytes == 0,
                };
                let before = client.answer.events;
                let content = client.answer.feed(&self.buf[..read]);
                if nothing_yet && (self.job.front.is_none() || client.answer.events > 0) {
                    self.slot.answered.fetch_add(1, Ordering::Relaxed);
                    if client.role != Role::Slow {
                        self.tally
                            .ttfb
                            .record_ns(now.saturating_sub(client.due_ns), 1);
                    }
                }
                self.tally.events += u64::from(client.answer.events - before);
                self.tally.bytes += read as u64;
                if content > 0 && client.role != Role::Slow {
                    let (asked, steady) = (
                        self.job.interval_ns,
                        self.slot.steady.load(Ordering::Relaxed),
                    );
                    if client.last_event_ns != 0 {
                        let gap = now - client.last_event_ns;
                        self.tally.record_gap(gap, content, asked, steady);
                    } else if content > 1 {
                        self.tally.record_gap(0, content - 1, asked, steady);
                    }
                    client.last_event_ns = now;
                }
                if client.role == Role::Leaver && client.answer.events >= self.job.leave_after {
                    self.tally.left += 1;
                    self.remove(index);
                    return None;
                }
                Some(read)
            }
            Err(Errno::EAGAIN) => None,
            Err(Errno::EINTR) => Some(limit),
            Err(_) => {
                self.end(index, End::Reset);
                None
            }
        }
    }

    fn read_slowly(&mut self) {
        let allowance = (self.job.slow_bytes_per_sec / 10).min(self.buf.len());
        if allowance == 0 {
            return;
        }
        for index in 0..self.clients.len() {
            if self.clients[index].role == Role::Slow {
                self.read(index, allowance);
            }
        }
    }

    fn end(&mut self, index: usize, end: End) {
        let client = &self.clients[index];
        self.tally.error_events += u64::from(client.answer.errors);
        if client.role == Role::Slow && end == End::TimeLimit {
            self.tally.slow_open += 1;
        } else {
            if let (End::Eof, Some(fd)) = (end, &client.fd)
                && let Some(segments) = data_segments_in(fd.as_raw_fd())
            {
                self.tally.segments += u64::from(segments);
                self.tally.segment_events += u64::from(client.answer.events);
            }
            self.tally
                .record(judge(&client.answer, end, self.job.expect));
        }
        self.remove(index);
    }
}

fn error_reason(error: Errno) -> &'static str {
    match error {
        Errno::ENOENT => "handoff failed: no such socket",
        Errno::ECONNREFUSED => "handoff failed: connection refused",
        Errno::EPROTOTYPE => "handoff failed: the socket is of the other type",
        Errno::EPIPE | Errno::ECONNRESET => "handoff failed: the daemon closed early",
        Errno::ETOOMANYREFS => "handoff failed: too many fds under way",
        other => other.desc(),
    }
}

/// The handoff data that was asked for, with the client's number where it has a place for it.
fn payload_for(payload: &[u8], client: usize) -> Cow<'_, [u8]> {
    match std::str::from_utf8(payload) {
        Ok(text) if text.contains(NUMBER) => text
            .replace(NUMBER, &client.to_string())
            .into_bytes()
            .into(),
        _ => payload.into(),
    }
}

/// The default handoff data: small JSON of the same length for every client.
pub fn default_payload(client: usize) -> String {
    format!(r#"{{"prompt":"Hello from the load generator","request_id":"load-{client:08}"}}"#)
}

/// Waits for events until CLOCK_MONOTONIC reads `until_ns`. epoll_pwait2(2), since arrivals are finer than the
/// milliseconds of epoll_wait(2).
fn wait_until(epoll: &Epoll, events: &mut [EpollEvent], until_ns: u64) -> io::Result<usize> {
    let left = until_ns.saturating_sub(now_ns());
    let timeout = libc::timespec {
        tv_sec: (left / 1_000_000_000) as i64,
        tv_nsec: (left % 1_000_000_000) as i64,
    };
    let capacity = i32::try_from(events.len()).unwrap_or(i32::MAX);
    // SAFETY: EpollEvent is a transparent epoll_event, the slice has `capacity` of them, no signal mask is given.
    let ready = unsafe {
        libc::epoll_pwait2(
            epoll.0.as_raw_fd(),
            events.as_mut_ptr().cast(),
            capacity,
            &timeout,
            std::ptr::null(),
        )
    };
    match ready {
        0.. => Ok(ready as usize),
        _ if Errno::last() == Errno::EINTR => Ok(0),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{SockType, UnixAddr};

    fn job(clients: usize, slow_readers: usize, leavers: usize) -> Job {
        Job {
            door: Door {
                kind: SockType::Stream,
                address: UnixAddr::new("/nowhere").unwrap(),
            },
            client: ClientKind::Pair,
            front: None,
            clients,
            rate: 1e6,
            interval_ns: None,
            expect: None,
            payload: None,
            slow_readers,
            slow_bytes_per_sec: 0,
            slow_receive_buffer_bytes: 4096,
            leavers,
            leave_after: 1,
            time_limit_ns: 5_000_000_000,
            players: 1,
        }
    }

    #[test]
    fn a_payload_has_the_clients_number_where_it_has_a_place_for_it() {
        assert_eq!(
            &*payload_for(b"{\"id\":\"s-{client}\"}", 17),
            b"{\"id\":\"s-17\"}"
        );
        for as_it_is in [&b"{}"[..], b"\0", b"\xff{client}"] {
            assert_eq!(&*payload_for(as_it_is, 17), as_it_is);
        }
    }

    #[test]
    fn roles_are_given_exactly_as_often_as_asked() {
        for (clients, slow, leavers) in [
            (100, 0, 0),
            (100, 7, 13),
            (10, 10, 0),
            (10, 0, 10),
            (9, 4, 5),
            (1000, 1, 1),
        ] {
            let job = job(clients, slow, leavers);
            let roles: Vec<Role> = (0..clients).map(|c| role(&job, c)).collect();
            let count = |r| roles.iter().filter(|&&x| x == r).count();
            assert_eq!((count(Role::Slow), count(Role::Leaver)), (slow, leavers));
        }
    }

    #[test]
    fn default_payloads_have_one_length() {
        assert_eq!(default_payload(0).len(), default_payload(99_999_999).len());
    }

    #[test]
    fn nobody_at_the_socket_loses_every_client_after_two_more_tries() {
        let slots = crate::board::shared_slots(1.try_into().unwrap()).unwrap();
        let tally = play(&job(5, 0, 0), 0, &slots[0]).unwrap();
        assert_eq!(
            (tally.clients, tally.lost, tally.handoff_retries),
            (5, 5, 10)
        );
        assert_eq!(tally.reasons["handoff failed: no such socket"], 5);
    }
}
