//! What waits for the caller of a reactor: events of its clients, and handoffs. The reactor's thread and the acceptor
//! put them in; they share nothing else with the caller.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

#[cfg(loom)]
use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
use std::sync::{Condvar, Mutex, MutexGuard};

use streaming_daemon_border::{Outcome, Status};

use crate::passed::Passed;
use crate::records::{HEAD_BYTES, padded};

/// So much may wait as handoffs, plus one handoff.
const ROOM_BYTES: usize = 4 * 1024 * 1024;
/// What a handoff takes of it beside its payload.
const HANDOFF_BYTES: usize = 512;

/// What epoll has said, as it said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub token: u64,
    pub flags: i32,
}

/// A client that has come, and is not watched yet.
pub struct Arrival {
    pub socket: Passed,
    /// The words of its record that go by these names.
    pub flags: u32,
    pub micros: u32,
    pub uid: u32,
    pub payload: Vec<u8>,
}

/// See the module. What is put in tells whether to ring for it.
#[derive(Default)]
pub struct Events {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    arrivals: VecDeque<Arrival>,
    arrival_bytes: usize,
    /// The caller rests until an arrival comes, and looks at everything afterwards.
    is_awaited: bool,
    /// The acceptor waits until there is room.
    is_room_wanted: bool,
    ended: Option<Status>,
}

impl Waiting {
    fn len(&self) -> usize {
        self.events.len() + self.arrivals.len()
    }

    fn has_room(&self) -> bool {
        self.arrival_bytes < ROOM_BYTES
    }
}

impl Events {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in what epoll has said. Returns whether to ring.
    pub fn add(&self, events: impl Iterator<Item = Event>) -> bool {
        let mut waiting = self.lock();
        let was_empty = waiting.len() == 0;
        waiting.events.extend(events);
        was_empty && waiting.len() > 0 && !waiting.is_awaited
    }

    /// Whether one more handoff may be put in. Where there is no room, [`Events::next_arrival`] will tell when.
    pub fn has_room(&self) -> bool {
        let mut waiting = self.lock();
        waiting.is_room_wanted = !waiting.has_room();
        waiting.has_room() && waiting.ended.is_none()
    }

    /// Puts in a handoff. Returns whether to ring, or gives it back if all has ended.
    pub fn add_arrival(&self, arrival: Arrival) -> Result<bool, Arrival> {
        let mut waiting = self.lock();
        if waiting.ended.is_some() {
            return Err(arrival);
        }
        let was_empty = waiting.len() == 0;
        waiting.arrival_bytes += HANDOFF_BYTES + arrival.payload.len();
        waiting.arrivals.push_back(arrival);
        if waiting.is_awaited {
            self.arrived.notify_one();
        }
        Ok(was_empty && !waiting.is_awaited)
    }

    /// Takes out the event that has waited longest.
    pub fn next(&self) -> Option<Event> {
        self.lock().events.pop_front()
    }

    /// Takes out the handoff that has waited longest, and tells whether the acceptor waits for the room. `TOO_SMALL`:
    /// its record does not fit into `room_bytes`.
    pub fn next_arrival(&self, room_bytes: usize) -> Result<Option<(Arrival, bool)>, Status> {
        let mut waiting = self.lock();
        let Some(first) = waiting.arrivals.pop_front() else { return Ok(None) };
        if HEAD_BYTES + padded(first.payload.len()) > room_bytes {
            waiting.arrivals.push_front(first);
            return Err(Status::TOO_SMALL);
        }
        waiting.arrival_bytes -= HANDOFF_BYTES + first.payload.len();
        let is_room_wanted = waiting.is_room_wanted && waiting.has_room();
        waiting.is_room_wanted &= !is_room_wanted;
        Ok(Some((first, is_room_wanted)))
    }

    /// How many wait. Where there are some, nobody rings for more.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Blocks until a handoff waits (1), or for so long (0), or until the end: its status.
    pub fn wait(&self, timeout: Duration) -> Outcome {
        let deadline = Instant::now() + timeout;
        let mut waiting = self.lock();
        waiting.is_awaited = true;
        while waiting.arrivals.is_empty() && waiting.ended.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            (waiting, _) = self.arrived.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.is_awaited = false;
        waiting.ended.map_or(Ok(i32::from(!waiting.arrivals.is_empty())), Err)
    }

    /// Ends it with the status that every call gives from now on, unless it has ended before. Returns the handoffs
    /// that wait.
    pub fn end(&self, status: Status) -> VecDeque<Arrival> {
        let mut waiting = self.lock();
        waiting.ended.get_or_insert(status);
        waiting.events.clear();
        waiting.arrival_bytes = 0;
        self.arrived.notify_one();
        std::mem::take(&mut waiting.arrivals)
    }

    /// The status of [`Events::end`], if it has ended.
    pub fn check(&self) -> Result<(), Status> {
        self.lock().ended.map_or(Ok(()), Err)
    }
}
