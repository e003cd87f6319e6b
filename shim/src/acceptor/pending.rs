//! Handoffs that are not whole yet.

use std::collections::BTreeSet;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use slab::Slab;

use crate::handoff::Handoff;

/// Handoffs looked at before the listeners have their turn. The others come again.
const EVENTS_AT_ONCE: usize = 64;

/// The handoffs by number, and in the order in which their time is up. Each is watched.
pub struct Pending {
    pub epoll: Epoll,
    handoffs: Slab<Handoff>,
    deadlines: BTreeSet<(Instant, usize)>,
}

impl Pending {
    pub fn new() -> Result<Pending, Errno> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Pending { epoll, handoffs: Slab::new(), deadlines: BTreeSet::new() })
    }

    pub fn len(&self) -> usize {
        self.handoffs.len()
    }

    /// Keeps and watches one; or gives it back, if epoll_ctl(2) fails.
    pub fn insert(&mut self, handoff: Handoff) -> Result<(), (Handoff, Errno)> {
        let slot = self.handoffs.vacant_entry();
        let number = slot.key();
        match self.epoll.add(handoff.connection(), EpollEvent::new(EpollFlags::EPOLLIN, number as u64)) {
            Err(errno) => Err((handoff, errno)),
            Ok(()) => {
                self.deadlines.insert((handoff.deadline(), number));
                slot.insert(handoff);
                Ok(())
            }
        }
    }

    /// The numbers of some that have said more.
    pub fn ready(&self) -> Result<impl Iterator<Item = usize> + use<>, Errno> {
        let mut events = [EpollEvent::empty(); EVENTS_AT_ONCE];
        let mut ready = 0;
        if !self.handoffs.is_empty() {
            match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
                Err(Errno::EINTR) => {}
                waited => ready = waited?,
            }
        }
        Ok(events.into_iter().take(ready).map(|event| event.data() as usize))
    }

    pub fn get_mut(&mut self, number: usize) -> Option<&mut Handoff> {
        self.handoffs.get_mut(number)
    }

    pub fn remove(&mut self, number: usize) -> Option<Handoff> {
        let handoff = self.handoffs.try_remove(number)?;
        self.deadlines.remove(&(handoff.deadline(), number));
        // Its connection may be closed later than now.
        let _cannot_fail = self.epoll.delete(handoff.connection());
        Some(handoff)
    }

    /// Takes out the one whose time is up first.
    pub fn remove_first(&mut self) -> Option<Handoff> {
        let (_, number) = *self.deadlines.first()?;
        self.remove(number)
    }

    /// When the time of the first is up.
    pub fn earliest(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }
}
