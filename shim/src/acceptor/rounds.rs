//! The acceptor's thread. Each round is bounded in count and in time, so that no sender keeps others waiting.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use streaming_daemon_border::Outcome;

use super::doors::{Accepted, Doors, REST};
use super::pending::Pending;
use super::{Acceptor, Orders};
use crate::events::Arrival;
use crate::handoff::{Ending, Handoff, Reason};
use crate::listener::Kind;
use crate::passed::{Passed, closes_keep_up};
use crate::records::{About, Refusals};
use crate::registry::lock;

/// Events taken from the kernel at once. Those that are not looked at come again.
const EVENTS_AT_ONCE: usize = 64;
/// Connections accepted from one listener before the others have their turn, and for how long.
const ACCEPTS_AT_ONCE: usize = 64;
const ACCEPTING_FOR: Duration = Duration::from_millis(5);
/// The shortest time between two `ACCEPT_FAILED`.
const ACCEPT_FAILED_EVERY: Duration = Duration::from_secs(1);
/// The token of the bell's eventfd.
const WAKE: u64 = u64::MAX;

/// What the thread works with.
pub struct Rounds {
    acceptor: Arc<Acceptor>,
    epoll: Epoll,
    doors: Doors,
    pending: Pending,
    /// No reactor has room for these; while there are any, nothing is accepted and nothing read.
    waiting: VecDeque<Arrival>,
    scratch: Vec<u8>,
    accept_failed: Option<Instant>,
    is_drained: bool,
}

impl Rounds {
    /// # Errors
    /// epoll_create1(2), epoll_ctl(2).
    pub fn new(acceptor: Arc<Acceptor>) -> Result<Rounds, Errno> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&acceptor.bell.wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        Ok(Rounds {
            acceptor,
            epoll,
            doors: Doors::default(),
            pending: Pending::default(),
            waiting: VecDeque::new(),
            scratch: Vec::new(),
            accept_failed: None,
            is_drained: false,
        })
    }

    /// Whose rounds they are.
    pub fn acceptor(&self) -> Arc<Acceptor> {
        Arc::clone(&self.acceptor)
    }

    /// Goes on until the acceptor is closed.
    ///
    /// # Errors
    /// epoll_wait(2), poll(2).
    pub fn run(&mut self) -> Outcome {
        let mut buffer = [EpollEvent::empty(); EVENTS_AT_ONCE];
        let mut ready = 0;
        while self.round(&buffer[..ready]) {
            ready = match self.wait(&mut buffer) {
                Err(Errno::EINTR) => 0,
                ready => ready?,
            };
        }
        Ok(0)
    }

    /// Waits for something to do. Returns how many events there are.
    fn wait(&mut self, buffer: &mut [EpollEvent]) -> Result<usize, Errno> {
        let bell = &self.acceptor.bell;
        let owed = bell.make_good().map(|left| Instant::now() + left);
        let timeout = |until: &[Option<Instant>]| {
            let left = until.iter().flatten().min().map(|end| end.saturating_duration_since(Instant::now()));
            // Rounded up, so that the last round does not spin.
            left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX)
            })
        };
        if self.is_blocked() {
            let look_again = (!closes_keep_up()).then(|| Instant::now() + REST);
            let mut wake = [PollFd::new(bell.wake.as_fd(), PollFlags::POLLIN)];
            if poll(&mut wake, timeout(&[owed, look_again, self.pending.earliest()]))? > 0 {
                bell.is_awake();
            }
            return Ok(0);
        }
        let ready =
            self.epoll.wait(buffer, timeout(&[owed, self.pending.earliest(), self.doors.earliest()]))?;
        if buffer[..ready].iter().any(|event| event.data() == WAKE) {
            bell.is_awake();
        }
        Ok(ready)
    }

    fn is_blocked(&self) -> bool {
        !self.waiting.is_empty() || !closes_keep_up()
    }

    /// Does what there is to do. Returns whether it goes on.
    fn round(&mut self, events: &[EpollEvent]) -> bool {
        let (is_stopping, is_hasty) = match self.take_orders() {
            Orders { is_closed: true, .. } => return false,
            orders => (orders.is_stopping, orders.is_hasty),
        };
        while let Some(arrival) = self.waiting.pop_front() {
            if let Err(arrival) = self.acceptor.place(arrival) {
                self.waiting.push_front(arrival);
                break;
            }
        }
        if !self.is_blocked() {
            for event in events.iter().filter(|event| event.data() != WAKE) {
                match Doors::of_token(event.data()) {
                    Some(door) => self.accept_from(door, is_stopping, false),
                    None => self.advance(event.data() as usize),
                }
            }
            self.tend_doors(is_stopping);
        }
        let now = Instant::now();
        while self.pending.earliest().is_some_and(|earliest| is_hasty || earliest <= now) {
            if let Some(mut due) = self.pending.remove_first(&self.epoll) {
                let ending = due.expire(&mut self.scratch);
                self.finish(due, ending);
            }
        }
        let is_over = self.doors.are_all_shut() && self.pending.len() == 0 && self.waiting.is_empty();
        if is_stopping && is_over && !self.is_drained {
            self.is_drained = true;
            self.acceptor.tell(|report| report.is_drained = true);
        }
        true
    }

    /// Takes up what others want of the thread.
    fn take_orders(&mut self) -> Orders {
        let mut orders = lock(&self.acceptor.orders);
        let listeners = orders.listeners.get(self.doors.len()..).map(<[_]>::to_vec).unwrap_or_default();
        let returned = std::mem::take(&mut orders.returned);
        let Orders { is_complete, is_stopping, is_hasty, is_closed, .. } = *orders;
        drop(orders);
        for listener in listeners {
            self.doors.add(listener);
        }
        self.waiting.extend(returned);
        Orders { is_complete, is_stopping, is_hasty, is_closed, ..Orders::default() }
    }

    /// Looks after listeners that have rested, and after all of them when it stops.
    fn tend_doors(&mut self, is_stopping: bool) {
        let (opened, failure) = self.doors.open(&self.epoll);
        if let Some(errno) = failure {
            self.note_accept_failure(errno);
        }
        let all = (0..self.doors.len()).filter(|_| is_stopping);
        for door in opened.into_iter().chain(all) {
            // What waits after a rest nobody else had room for.
            self.accept_from(door, is_stopping, true);
        }
        if !is_stopping && self.is_full() {
            self.doors.leave_shared(&self.epoll);
        }
    }

    fn is_full(&self) -> bool {
        self.acceptor.active() >= self.acceptor.policy().max_connections
    }

    /// Accepts what waits at a listener, or one round's share of it.
    ///
    /// # Arguments
    /// * `is_final` - nobody can connect any more
    /// * `may_refuse` - at the limit of connections too, what waits at a shared listener is not left to others
    fn accept_from(&mut self, door: usize, is_final: bool, may_refuse: bool) {
        let begin = Instant::now();
        let is_shared = !is_final && self.doors.is_shared(door);
        let mut accepted = 0;
        while accepted < ACCEPTS_AT_ONCE && self.waiting.is_empty() && begin.elapsed() < ACCEPTING_FOR {
            if is_shared && !may_refuse && self.is_full() {
                break;
            }
            match self.doors.accept(door, is_final, &self.epoll) {
                Accepted::Connection(connection, kind) => self.receive(connection, kind),
                Accepted::Nothing => break,
                Accepted::Failed(errno) => return self.note_accept_failure(errno),
            }
            accepted += 1;
        }
        if is_shared && accepted > 0 {
            self.doors.give_turn(door, &self.epoll);
        }
    }

    /// The first look at a new connection, over which the handoff has come already as a rule.
    fn receive(&mut self, connection: Passed, kind: Kind) {
        let policy = self.acceptor.policy();
        let scratch_bytes = Handoff::scratch_bytes(&policy);
        if self.scratch.len() < scratch_bytes {
            self.scratch.resize(scratch_bytes, 0);
        }
        match Handoff::begin(connection, kind, &policy) {
            Err(errno) => {
                let refusal = Refusals { count: 1, detail: errno as u32, ..Refusals::default() };
                self.acceptor.tell_refusal(Reason::ReceiveError, refusal);
            }
            Ok(mut handoff) => match handoff.advance(&mut self.scratch) {
                Some(ending) => self.finish(handoff, ending),
                None => self.keep(handoff),
            },
        }
    }

    fn keep(&mut self, mut handoff: Handoff) {
        if self.pending.len() >= handoff.policy.max_pending {
            if !handoff.is_allowed {
                // Who may not hand off takes nobody's place.
                let ending = handoff.refuse(Reason::UidNotAllowed, handoff.uid);
                return self.finish(handoff, ending);
            }
            if let Some(mut first) = self.pending.remove_first(&self.epoll) {
                let ending = first.time_out();
                self.finish(first, ending);
            }
        }
        if let Err((mut handoff, errno)) = self.pending.insert(handoff, &self.epoll) {
            let ending = handoff.refuse(Reason::ReceiveError, errno as u32);
            self.finish(handoff, ending);
        }
    }

    /// A handoff that was not whole has said more.
    fn advance(&mut self, number: usize) {
        if !self.waiting.is_empty() {
            return;
        }
        let ending = self.pending.get_mut(number).and_then(|handoff| handoff.advance(&mut self.scratch));
        if let Some(ending) = ending {
            if let Some(handoff) = self.pending.remove(number, &self.epoll) {
                self.finish(handoff, ending);
            }
        }
    }

    /// Tells of a handoff that was refused, and brings the client to a reactor if there is one.
    fn finish(&mut self, handoff: Handoff, ending: Ending) {
        let (client, payload, refused_for) = match ending {
            Ending::Complete { client, payload } => (client, payload, 0),
            Ending::Refused { reason, detail, client } => {
                self.acceptor.tell_refusal(reason, handoff.refusal(detail));
                match client {
                    Some(client) => (client, Vec::new(), reason as u32),
                    None => return,
                }
            }
        };
        let about = About {
            is_tcp: client.is_tcp,
            came_over_stream: handoff.kind == Kind::Stream,
            reason: refused_for,
            micros: handoff.micros(),
            uid: handoff.uid,
            ..About::default()
        };
        let arrival = Arrival { socket: client.socket, about, payload };
        // Nobody overtakes those that wait.
        if !self.waiting.is_empty() {
            self.waiting.push_back(arrival);
        } else if let Err(arrival) = self.acceptor.place(arrival) {
            self.waiting.push_back(arrival);
        }
    }

    fn note_accept_failure(&mut self, errno: Errno) {
        if self.accept_failed.is_none_or(|last| last.elapsed() >= ACCEPT_FAILED_EVERY) {
            self.accept_failed = Some(Instant::now());
            self.acceptor.tell(|report| report.accept_failed = Some(errno as i32));
        }
    }
}
