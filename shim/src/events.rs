//! What waits for the caller of a reactor: events of its clients, and handoffs. The reactor's thread and the acceptor
//! put them in; they share nothing else with the caller.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

#[cfg(all(test, loom))]
use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(all(test, loom)))]
use std::sync::{Condvar, Mutex, MutexGuard};

use streaming_daemon_border::{Outcome, Status};

use crate::passed::Passed;
use crate::records::{HEAD_BYTES, padded};

/// So much may wait as handoffs, plus one handoff.
const ROOM_BYTES: usize = if cfg!(loom) { 1 } else { 4 * 1024 * 1024 };
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
        Ok(self.take_in(&mut waiting, arrival))
    }

    /// Makes a handoff and puts it in, if there is room. Returns whether to ring, or nothing if none was made.
    pub fn add_arrival_if_room(&self, make: impl FnOnce() -> Arrival) -> Option<bool> {
        let mut waiting = self.lock();
        (waiting.ended.is_none() && waiting.has_room()).then(|| self.take_in(&mut waiting, make()))
    }

    fn take_in(&self, waiting: &mut Waiting, arrival: Arrival) -> bool {
        let was_empty = waiting.len() == 0;
        waiting.arrival_bytes += HANDOFF_BYTES + arrival.payload.len();
        waiting.arrivals.push_back(arrival);
        if waiting.is_awaited {
            self.arrived.notify_one();
        }
        was_empty && !waiting.is_awaited
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

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(payload_bytes: usize) -> Arrival {
        Arrival { socket: Passed::nothing(), flags: 0, micros: 0, uid: 0, payload: vec![0; payload_bytes] }
    }

    fn event(token: u64) -> Event {
        Event { token, flags: 0 }
    }

    #[cfg(not(loom))]
    mod one_thread {
        use super::*;

        #[test]
        fn it_rings_only_for_what_comes_to_an_empty_queue() {
            let events = Events::default();
            assert!(!events.add([].into_iter()));
            assert!(events.add([event(1), event(2)].into_iter()));
            assert!(!events.add([event(3)].into_iter()));
            assert_eq!(events.add_arrival(arrival(0)).ok(), Some(false));
            assert_eq!([events.next(), events.next()], [Some(event(1)), Some(event(2))]);
            assert!(!events.add([event(4)].into_iter()));
            while events.next().is_some() {}
            assert!(events.next_arrival(24).unwrap().is_some());
            assert_eq!((events.len(), events.add_arrival(arrival(0)).ok()), (0, Some(true)));
            assert!(events.next_arrival(24).unwrap().is_some());
            assert_eq!(events.wait(Duration::ZERO), Ok(0));
            assert_eq!(events.add_arrival(arrival(0)).ok(), Some(true));
        }

        #[test]
        fn room_is_bounded_in_bytes_and_its_return_is_told_once() {
            let events = Events::default();
            let large = ROOM_BYTES / 2;
            for _ in 0..2 {
                assert!(events.has_room());
                assert!(events.add_arrival(arrival(large)).is_ok());
            }
            assert!(!events.has_room());
            assert_eq!(events.next_arrival(HEAD_BYTES + large - 1).err(), Some(Status::TOO_SMALL));
            let told = || events.next_arrival(usize::MAX).unwrap().map(|(_, is_room_wanted)| is_room_wanted);
            assert_eq!([told(), told(), told()], [Some(true), Some(false), None]);
        }

        #[test]
        fn what_a_handoff_takes_beside_its_payload_counts() {
            let events = Events::default();
            let mut waiting = 0;
            while events.has_room() {
                assert!(events.add_arrival(arrival(30_000)).is_ok());
                waiting += 1;
            }
            assert_eq!(waiting, ROOM_BYTES.div_ceil(HANDOFF_BYTES + 30_000));
            while events.next_arrival(usize::MAX).unwrap().is_some() {}
            assert_eq!(events.lock().arrival_bytes, 0);
        }

        #[test]
        fn after_the_end_nothing_comes_in_and_what_waited_is_given_back() {
            let events = Events::default();
            events.add([event(1)].into_iter());
            assert!(events.add_arrival(arrival(7)).is_ok());
            assert_eq!(events.wait(Duration::ZERO), Ok(1));
            assert_eq!(events.end(Status::PANIC).len(), 1);
            assert_eq!(events.end(Status::BAD_HANDLE).len(), 0);
            assert!(events.add_arrival(arrival(0)).is_err() && !events.has_room());
            assert_eq!(events.wait(Duration::from_secs(60)), Err(Status::PANIC));
            assert_eq!((events.check(), events.len()), (Err(Status::PANIC), 0));
        }
    }

    /// Every way in which the threads can take turns. A ring that is lost is a deadlock.
    #[cfg(loom)]
    mod all_turns {
        use super::*;
        use ::loom::sync::Arc;
        use ::loom::{model, thread};

        /// Stands in for a socket or an eventfd: whoever waits sleeps until it is rung.
        #[derive(Default)]
        struct Bell(Mutex<bool>, Condvar);

        impl Bell {
            fn ring(&self) {
                *self.0.lock().unwrap() = true;
                self.1.notify_one();
            }

            fn hear(&self) {
                let mut has_rung = self.0.lock().unwrap();
                while !std::mem::take(&mut *has_rung) {
                    has_rung = self.1.wait(has_rung).unwrap();
                }
            }
        }

        fn take_all(events: &Events) -> usize {
            let mut taken = 0;
            while events.len() > 0 {
                taken += usize::from(events.next().is_some());
                taken += usize::from(events.next_arrival(usize::MAX).unwrap().is_some());
            }
            taken
        }

        #[test]
        fn whoever_takes_all_when_it_rings_misses_nothing() {
            model(|| {
                let shared = Arc::new((Events::default(), Bell::default()));
                let (watcher, acceptor) = (Arc::clone(&shared), Arc::clone(&shared));
                thread::spawn(move || {
                    if watcher.0.add([event(1)].into_iter()) {
                        watcher.1.ring();
                    }
                });
                thread::spawn(move || {
                    if acceptor.0.add_arrival(arrival(0)).is_ok_and(|rings| rings) {
                        acceptor.1.ring();
                    }
                });
                let mut taken = 0;
                while taken < 2 {
                    shared.1.hear();
                    taken += take_all(&shared.0);
                }
            });
        }

        #[test]
        fn a_handoff_ends_a_wait_and_what_came_during_it_is_there_afterwards() {
            model(|| {
                let shared = Arc::new((Events::default(), Bell::default()));
                let (watcher, acceptor) = (Arc::clone(&shared), Arc::clone(&shared));
                let rings = thread::spawn(move || watcher.0.add([event(1)].into_iter()));
                thread::spawn(move || acceptor.0.add_arrival(arrival(0)).is_ok());
                // Loom knows no time: only the handoff ends it.
                assert_eq!(shared.0.wait(Duration::from_secs(3600)), Ok(1));
                let taken = take_all(&shared.0);
                // The event was taken with it, or comes later and rings.
                assert!(taken == 2 || rings.join().unwrap());
            });
        }

        #[test]
        fn an_acceptor_that_waits_for_room_is_told() {
            model(|| {
                let shared = Arc::new((Events::default(), Bell::default(), Bell::default()));
                let acceptor = Arc::clone(&shared);
                thread::spawn(move || {
                    for _ in 0..2 {
                        while !acceptor.0.has_room() {
                            acceptor.2.hear();
                        }
                        if acceptor.0.add_arrival(arrival(0)).is_ok_and(|rings| rings) {
                            acceptor.1.ring();
                        }
                    }
                });
                let mut taken = 0;
                while taken < 2 {
                    shared.1.hear();
                    while let Some((_, is_room_wanted)) = shared.0.next_arrival(usize::MAX).unwrap() {
                        taken += 1;
                        if is_room_wanted {
                            shared.2.ring();
                        }
                    }
                }
            });
        }

        #[test]
        fn the_end_reaches_who_waits_and_no_handoff_is_lost_in_it() {
            model(|| {
                let events = Arc::new(Events::default());
                let (acceptor, closer) = (Arc::clone(&events), Arc::clone(&events));
                let given_back =
                    thread::spawn(move || usize::from(acceptor.add_arrival(arrival(0)).is_err()));
                let untaken = thread::spawn(move || closer.end(Status::BAD_HANDLE).len());
                let waited = events.wait(Duration::from_secs(3600));
                assert!(waited == Ok(1) || waited == Err(Status::BAD_HANDLE));
                let taken = usize::from(events.next_arrival(usize::MAX).unwrap().is_some());
                assert_eq!(taken + given_back.join().unwrap() + untaken.join().unwrap(), 1);
            });
        }
    }
}
