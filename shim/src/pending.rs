//! Handoffs that are not whole yet.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Instant;

use crate::handoff::Handoff;

/// The handoffs by number, in the order of their accepts.
#[derive(Default)]
pub struct Pending {
    last_id: u64,
    handoffs: BTreeMap<u64, Handoff>,
    /// No deadline lies before this. Where the timeout was always the same it is that of the first; it is
    /// looked for among all only when it has passed, since the timeout can be configured anew.
    earliest: Option<Instant>,
}

impl Pending {
    /// A number that no other handoff of the reactor has.
    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Keeps `handoff` under `id`.
    pub fn insert(&mut self, id: u64, handoff: Handoff) {
        let deadline = handoff.deadline();
        self.earliest = Some(self.earliest.map_or(deadline, |other| other.min(deadline)));
        self.handoffs.insert(id, handoff);
    }

    /// Takes out the one of that number, if it is still there.
    pub fn remove(&mut self, id: u64) -> Option<Handoff> {
        let removed = self.handoffs.remove(&id);
        if self.handoffs.is_empty() {
            self.earliest = None;
        }
        removed
    }

    /// Takes out the one that was accepted first.
    pub fn remove_oldest(&mut self) -> Option<Handoff> {
        let (&id, _) = self.handoffs.first_key_value()?;
        self.remove(id)
    }

    /// Takes out one whose deadline has passed.
    pub fn remove_due(&mut self) -> Option<Handoff> {
        let earliest = self.earliest?;
        let now = Instant::now();
        if now < earliest {
            return None;
        }
        let due = self.handoffs.iter().find(|(_, handoff)| handoff.deadline() <= now).map(|(&id, _)| id);
        if due.is_none() {
            self.earliest = self.handoffs.values().map(Handoff::deadline).min();
        }
        self.remove(due?)
    }

    /// When [`Pending::remove_due`] is worth a try again.
    pub fn earliest(&self) -> Option<Instant> {
        self.earliest
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.handoffs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.handoffs.is_empty()
    }
}
