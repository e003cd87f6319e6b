//! Handoffs that are not whole yet.

use std::collections::BTreeSet;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use slab::Slab;

use crate::handoff::Handoff;

/// The handoffs by number, and in the order in which their time is up. Each is watched.
#[derive(Default)]
pub struct Pending {
    handoffs: Slab<Handoff>,
    deadlines: BTreeSet<(Instant, usize)>,
}

impl Pending {
    /// Keeps and watches one; its number is the token.
    ///
    /// # Errors
    /// epoll_ctl(2), and the handoff.
    pub fn insert(&mut self, handoff: Handoff, epoll: &Epoll) -> Result<(), (Handoff, Errno)> {
        let slot = self.handoffs.vacant_entry();
        if let Err(errno) =
            epoll.add(handoff.connection(), EpollEvent::new(EpollFlags::EPOLLIN, slot.key() as u64))
        {
            return Err((handoff, errno));
        }
        self.deadlines.insert((handoff.deadline(), slot.key()));
        slot.insert(handoff);
        Ok(())
    }

    /// The one of that number, if it is still there.
    pub fn get_mut(&mut self, number: usize) -> Option<&mut Handoff> {
        self.handoffs.get_mut(number)
    }

    /// Takes out the one of that number.
    pub fn remove(&mut self, number: usize, epoll: &Epoll) -> Option<Handoff> {
        let handoff = self.handoffs.try_remove(number)?;
        self.deadlines.remove(&(handoff.deadline(), number));
        // Its connection may be closed later than now.
        let _cannot_fail = epoll.delete(handoff.connection());
        Some(handoff)
    }

    /// Takes out the one whose time is up first.
    pub fn remove_first(&mut self, epoll: &Epoll) -> Option<Handoff> {
        let (_, number) = *self.deadlines.first()?;
        self.remove(number, epoll)
    }

    /// When the time of the first is up.
    pub fn earliest(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.handoffs.len()
    }
}
