//! Sends a batch in rounds, each of which is one io_uring_enter(2) for as many clients as the ring holds.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, TryLockError};

use nix::errno::Errno;
use nix::sys::epoll::Epoll;

use super::{Entry, Slot, send_now};
use crate::border::Status;
use crate::registry::lock;
use crate::ring::{Ring, Send};

/// An entry of the round, and its place in the batch. The lock keeps the socket from being closed.
struct Waiting<'a> {
    slot: MutexGuard<'a, Slot>,
    entry: Entry<'a>,
    at: usize,
}

impl Waiting<'_> {
    fn socket(&self) -> &OwnedFd {
        self.slot.socket.as_ref().expect("it has had one since it came into the round")
    }

    fn send(&self) -> Send<'_> {
        Send { socket: self.socket().as_fd(), data: self.entry.data, flags: self.entry.flags() }
    }
}

/// A batch on its way.
pub struct Rounds<'a> {
    epoll: &'a Epoll,
    batch: u64,
    ring: &'a mut Ring,
    results: &'a mut [i32],
    /// Of one client one entry at most, so that the next one of it is looked at when this one is through.
    round: Vec<Waiting<'a>>,
    /// The clients that have ended, whose numbers are not free yet.
    ended: Vec<u32>,
}

impl<'a> Rounds<'a> {
    /// Nothing is sent yet. `batch` is the batch's number, and `results` has a place for each entry.
    pub fn new(epoll: &'a Epoll, batch: u64, ring: &'a mut Ring, results: &'a mut [i32]) -> Rounds<'a> {
        Rounds { epoll, batch, ring, results, round: Vec::with_capacity(Ring::SENDS), ended: Vec::new() }
    }

    /// Sends the entries, and calls `on_end` with each client that has ended, whose slot is not locked then.
    pub fn send(
        mut self,
        slots: &'a [Mutex<Slot>],
        entries: impl Iterator<Item = Entry<'a>>,
        on_end: impl Fn(u32),
    ) {
        for (at, entry) in entries.enumerate() {
            match slots.get(entry.client as usize) {
                None => self.results[at] = Status::BAD_HANDLE.0,
                Some(slot) => {
                    let slot = self.lock(slot, &on_end);
                    self.add(slot, entry, at);
                }
            }
            if self.round.len() == Ring::SENDS {
                self.finish_round(&on_end);
            }
        }
        self.finish_round(&on_end);
    }

    /// A locked slot is one of this round, or in somebody else's hands for a moment. Nobody is waited for with
    /// slots in hand, so that two batches cannot wait for each other.
    fn lock(&mut self, slot: &'a Mutex<Slot>, on_end: &impl Fn(u32)) -> MutexGuard<'a, Slot> {
        match slot.try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.finish_round(on_end);
                lock(slot)
            }
        }
    }

    fn add(&mut self, mut slot: MutexGuard<'a, Slot>, entry: Entry<'a>, at: usize) {
        match slot.socket_for(self.batch) {
            Err(result) => self.results[at] = result,
            Ok(_) if entry.data.is_empty() => self.conclude(Waiting { slot, entry, at }, Ok(0)),
            Ok(_) => self.round.push(Waiting { slot, entry, at }),
        }
    }

    fn conclude(&mut self, waiting: Waiting<'a>, sent: Result<usize, Errno>) {
        let Waiting { mut slot, entry, at } = waiting;
        let (result, has_ended) = slot.conclude(self.epoll, &entry, self.batch, sent);
        self.results[at] = result;
        if has_ended {
            self.ended.push(entry.client);
        }
    }

    /// Sends what the round has, which is empty then.
    fn finish_round(&mut self, on_end: &impl Fn(u32)) {
        let mut results = [0; Ring::SENDS];
        let taken = self.ring.send_all(self.round.iter().map(Waiting::send), &mut results);
        let mut round = std::mem::take(&mut self.round);
        for (n, waiting) in round.drain(..).enumerate() {
            let sent = if n < taken {
                usize::try_from(results[n]).map_err(|_| Errno::from_raw(-results[n]))
            } else {
                // The ring has failed in between.
                send_now(waiting.socket(), &waiting.entry)
            };
            self.conclude(waiting, sent);
        }
        self.round = round;
        self.ended.drain(..).for_each(on_end);
    }
}
