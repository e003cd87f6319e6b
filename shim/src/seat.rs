//! The part of a reactor that the acceptor knows.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::bell::Bell;
use crate::events::Events;

/// See the module.
pub struct Seat {
    pub events: Events,
    pub bell: Bell,
    clients: AtomicU32,
    is_open: AtomicBool,
}

impl Seat {
    /// An open one without clients.
    pub fn new(bell: Bell) -> Seat {
        Seat { events: Events::default(), bell, clients: AtomicU32::new(0), is_open: AtomicBool::new(true) }
    }

    /// Clients of the reactor, those that wait in its queue included.
    pub fn clients(&self) -> u32 {
        self.clients.load(Ordering::Relaxed)
    }

    /// Counts one client in.
    pub fn enter(&self) {
        self.clients.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts clients out.
    pub fn leave(&self, clients: u32) {
        self.clients.fetch_sub(clients, Ordering::Relaxed);
    }

    /// Whether it takes handoffs that another could take as well.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Opens it, or closes it.
    pub fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Release);
    }
}
