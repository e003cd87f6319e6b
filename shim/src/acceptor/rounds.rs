//! The acceptor's thread. Each round is bounded in count and in time, so that no sender keeps others waiting.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use streaming_daemon_border::Outcome;

use super::pending::Pending;
use super::{Acceptor, Stage};
use crate::events::Arrival;
use crate::handoff::{Ending, Handoff, Reason};
use crate::listener::Listener;
use crate::passed::{Passed, closes_keep_up};
use crate::records::REASON_SHIFT;
use crate::registry::lock;
use crate::sys;

/// Connections accepted from one listener before the others have their turn, and for how long.
const ACCEPTS_AT_ONCE: usize = 64;
const ACCEPTING_FOR: Duration = Duration::from_millis(5);
/// How long a listener rests that cannot be accepted from, or is left to other processes.
const REST: Duration = Duration::from_millis(100);
/// The shortest time between two `ACCEPT_FAILED`.
const ACCEPT_FAILED_EVERY: Duration = Duration::from_secs(1);

/// What the thread works with.
pub struct Rounds {
    acceptor: Arc<Acceptor>,
    doors: Vec<Door>,
    pending: Pending,
    /// No reactor has room for these; while there are any, nothing is accepted and nothing read.
    waiting: VecDeque<Arrival>,
    scratch: Vec<u8>,
    accept_failed: Option<Instant>,
    is_drained: bool,
}

/// A listener as the thread sees it.
struct Door {
    listener: Arc<Listener>,
    rests_until: Option<Instant>,
    /// Nobody can come through any more.
    is_shut: bool,
    /// What poll(2) said: POLLIN, and POLLHUP if somebody has shut it down.
    ready: PollFlags,
}

impl Rounds {
    pub fn new(acceptor: Arc<Acceptor>) -> Result<Rounds, Errno> {
        Ok(Rounds {
            acceptor,
            doors: Vec::new(),
            pending: Pending::new()?,
            waiting: VecDeque::new(),
            scratch: Vec::new(),
            accept_failed: None,
            is_drained: false,
        })
    }

    /// Goes on until the acceptor is closed.
    pub fn run(&mut self) -> Outcome {
        while self.round()? {
            match self.wait() {
                Err(Errno::EINTR) => {}
                waited => waited?,
            }
        }
        Ok(0)
    }

    /// Waits for something to do. poll(2) and not epoll(7): every process that shares a listener is woken, and what
    /// is not to be looked at for a while is left out.
    fn wait(&mut self) -> Result<(), Errno> {
        let bell = &self.acceptor.bell;
        let owed = bell.make_good().map(|left| Instant::now() + left);
        let mut until = [owed, self.pending.earliest()].into_iter().flatten().min();
        let mut watched = vec![PollFd::new(bell.wake.as_fd(), PollFlags::POLLIN)];
        let mut open = Vec::new();
        if !self.waiting.is_empty() {
            // Who makes room, wakes.
        } else if !closes_keep_up() {
            until = earlier(until, Some(Instant::now() + REST));
        } else {
            watched.push(PollFd::new(self.pending.epoll.0.as_fd(), PollFlags::POLLIN));
            for (index, door) in self.doors.iter().enumerate().filter(|(_, door)| !door.is_shut) {
                match door.rests_until {
                    None => {
                        open.push(index);
                        watched.push(PollFd::new(door.listener.socket.as_fd(), PollFlags::POLLIN));
                    }
                    end => until = earlier(until, end),
                }
            }
        }
        let left = until.map(|end| end.saturating_duration_since(Instant::now()));
        // Rounded up, so that the last round does not spin.
        let rounded =
            |left| PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        poll(&mut watched, left.map_or(PollTimeout::NONE, rounded))?;
        let ready: Vec<_> = watched.iter().map(|fd| fd.revents().unwrap_or(PollFlags::POLLIN)).collect();
        if !ready[0].is_empty() {
            bell.is_awake();
        }
        for (index, ready) in open.into_iter().zip(ready.into_iter().skip(2)) {
            self.doors[index].ready = ready;
        }
        Ok(())
    }

    /// Does what there is to do. Returns whether it goes on.
    fn round(&mut self) -> Result<bool, Errno> {
        let stage = self.take_orders();
        if stage == Stage::Closed {
            return Ok(false);
        }
        while let Some(arrival) = self.waiting.pop_front() {
            if let Err(arrival) = self.acceptor.place(arrival) {
                self.waiting.push_front(arrival);
                break;
            }
        }
        if !self.is_blocked() {
            for number in self.pending.ready()? {
                self.advance(number);
            }
            for index in 0..self.doors.len() {
                self.accept_from(index, stage);
            }
        }
        let now = Instant::now();
        while self.pending.earliest().is_some_and(|first| first <= now || stage == Stage::Hasty) {
            self.expire_first();
        }
        let is_over = self.doors.iter().all(|door| door.is_shut);
        let is_over = is_over && self.pending.len() == 0 && self.waiting.is_empty();
        if is_over && stage >= Stage::Stopping && !self.is_drained {
            self.is_drained = true;
            self.acceptor.tell(|report| report.drained());
        }
        Ok(true)
    }

    /// Takes up what others want of the thread.
    fn take_orders(&mut self) -> Stage {
        let mut orders = lock(&self.acceptor.orders);
        let known = self.doors.len();
        self.doors.extend(orders.listeners.iter().skip(known).map(|listener| Door {
            listener: Arc::clone(listener),
            rests_until: None,
            is_shut: false,
            ready: PollFlags::POLLIN,
        }));
        self.waiting.append(&mut orders.returned);
        orders.stage
    }

    /// Accepts what waits at a listener, or one round's share of it.
    fn accept_from(&mut self, index: usize, stage: Stage) {
        let begin = Instant::now();
        let door = &mut self.doors[index];
        let ready = std::mem::replace(&mut door.ready, PollFlags::empty());
        let has_rested = door.rests_until.take_if(|end| *end <= begin).is_some();
        // Nobody can connect any more, so that an empty backlog is the end.
        let is_final = stage >= Stage::Stopping || ready.contains(PollFlags::POLLHUP);
        let is_ready = !ready.is_empty() || has_rested || is_final;
        if door.is_shut || door.rests_until.is_some() || !is_ready {
            return;
        }
        let listener = Arc::clone(&door.listener);
        let mut accepted = 0;
        while accepted < ACCEPTS_AT_ONCE && !self.is_blocked() && begin.elapsed() < ACCEPTING_FOR {
            // What waits after a rest no other process had room for.
            if !listener.is_ours && !is_final && !has_rested && self.is_full() {
                break;
            }
            match sys::accept(listener.socket.as_fd()) {
                Ok(connection) => self.receive(connection, &listener),
                // About a connection that is gone, or about a signal.
                Err(Errno::ECONNABORTED | Errno::EINTR) => {}
                Err(Errno::EAGAIN) if !is_final => break,
                Err(Errno::EAGAIN | Errno::EINVAL) => {
                    self.doors[index].is_shut = true;
                    break;
                }
                Err(errno) => {
                    self.doors[index].rests_until = Some(begin + REST);
                    return self.note_accept_failure(errno);
                }
            }
            accepted += 1;
        }
        if is_final && !self.doors[index].is_shut {
            // Again at once: nobody tells that an adopted listener has nothing more.
            self.doors[index].rests_until = Some(begin);
        } else if !listener.is_ours && !is_final && self.is_full() {
            self.doors[index].rests_until = Some(begin + REST);
        }
    }

    /// Nothing more is received before a reactor has room and the closes have caught up.
    fn is_blocked(&self) -> bool {
        !self.waiting.is_empty() || !closes_keep_up()
    }

    fn is_full(&self) -> bool {
        self.acceptor.active() >= self.acceptor.policy().max_connections
    }

    /// The first look at a new connection, over which the handoff has come already as a rule.
    fn receive(&mut self, connection: Passed, listener: &Listener) {
        if !listener.is_ours {
            sys::pass_rights_only(connection.as_fd());
        }
        let policy = self.acceptor.policy();
        let scratch_bytes = Handoff::scratch_bytes(&policy);
        if self.scratch.len() < scratch_bytes {
            self.scratch = vec![0; scratch_bytes];
        }
        match Handoff::begin(connection, listener.kind, &policy) {
            Err(errno) => self.acceptor.refuse(Reason::ReceiveError, 0, 0, errno as u32),
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
            self.expire_first();
        }
        if let Err((mut handoff, errno)) = self.pending.insert(handoff) {
            let ending = handoff.refuse(Reason::ReceiveError, errno as u32);
            self.finish(handoff, ending);
        }
    }

    /// Ends the handoff whose time is up first.
    fn expire_first(&mut self) {
        if let Some(mut first) = self.pending.remove_first() {
            let ending = first.expire(&mut self.scratch);
            self.finish(first, ending);
        }
    }

    /// A handoff that was not whole has said more.
    fn advance(&mut self, number: usize) {
        if self.is_blocked() {
            return;
        }
        let ending = self.pending.get_mut(number).and_then(|handoff| handoff.advance(&mut self.scratch));
        if let Some(ending) = ending {
            if let Some(handoff) = self.pending.remove(number) {
                self.finish(handoff, ending);
            }
        }
    }

    /// Tells of a handoff that was refused, and brings the client to a reactor if there is one.
    fn finish(&mut self, handoff: Handoff, ending: Ending) {
        let (client, payload, refused_for) = match ending {
            Ending::Complete { client, payload } => (Some(client), payload, 0),
            Ending::Refused { reason, detail, client } => {
                self.acceptor.refuse(reason, handoff.received_bytes(), handoff.micros(), detail);
                (client, Vec::new(), reason as u32)
            }
        };
        let Some(client) = client else { return };
        let arrival = Arrival {
            socket: client.socket,
            flags: client.flags | refused_for << REASON_SHIFT,
            micros: handoff.micros(),
            uid: handoff.uid,
            payload,
        };
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
            self.acceptor.tell(|report| report.accept_failed(errno as u32));
        }
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::fd::AsRawFd;
    use std::thread;

    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
    use streaming_daemon_border::Status;

    use super::*;
    use crate::listener::Kind;
    use crate::policy::Policy;

    #[test]
    fn a_close_at_the_time_of_the_start_leaves_no_thread_behind() {
        let mut started = 0;
        for turn in 0..2000 {
            let policy = Policy::new(&[1, 1000, 1, 0, 1, 0, 0, 0], &[]).unwrap();
            let acceptor = Arc::new(Acceptor::new(policy).unwrap());
            let starting = Arc::clone(&acceptor);
            let start = thread::spawn(move || starting.start().map(sys::take_over));
            for _ in 0..turn * 20 {
                std::hint::spin_loop();
            }
            assert_eq!(acceptor.close(), Ok(0));
            match start.join().unwrap() {
                Ok(_ear) => started += 1,
                Err(status) => assert_eq!(status, Status::BAD_HANDLE),
            }
            assert!(lock(&acceptor.thread).is_none(), "turn {turn}");
        }
        assert!(started > 0);
    }

    #[test]
    fn a_thread_that_panics_is_told_and_leaves_no_path_behind() {
        let policy = || Policy::new(&[1, 1000, 1, 0, 1, 0, 0, 0], &[]).unwrap();
        let acceptor = Arc::new(Acceptor::new(policy()).unwrap());
        let path = std::env::temp_dir().join(format!("shim-panic-{}", std::process::id()));
        acceptor.add(|| Listener::bind(Kind::Stream, path.to_str().unwrap(), 0o600, "")).unwrap();
        let mut rounds = Rounds::new(Arc::clone(&acceptor)).unwrap();
        let flags = SockFlag::SOCK_CLOEXEC;
        let (sender, connection) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags).unwrap();
        send(sender.as_raw_fd(), b"{}", MsgFlags::empty()).unwrap();
        // It was never received over that, so that there is no room to read into.
        let handoff =
            Handoff::begin(Passed::accepted(connection), Kind::Stream, &Arc::new(policy())).unwrap();
        assert!(rounds.pending.insert(handoff).is_ok());
        acceptor.run(rounds);
        assert_eq!(acceptor.take(&mut [0; 288]), Err(Status::PANIC));
        assert!(!path.exists());
        assert_eq!(acceptor.close(), Ok(0));
    }
}
