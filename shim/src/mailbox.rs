//! What reaches a reactor from outside of its own thread.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::records::About;
use crate::registry::lock;

/// A new client for a reactor.
pub struct Arrival {
    pub socket: OwnedFd,
    pub about: About,
    pub payload: Vec<u8>,
}

/// The part of a reactor that the intake and the other reactors know.
pub struct Mailbox {
    /// Clients of the reactor, those on their way to it included.
    clients: AtomicU32,
    /// Clients of all reactors of the intake.
    active: Arc<AtomicU32>,
    /// `None`: nothing can be given to this reactor any more.
    queue: Mutex<Option<VecDeque<Arrival>>>,
    /// Readable when somebody wants the reactor to look. Watched edge-triggered and never read.
    pub wake: EventFd,
    news: AtomicBool,
}

impl Mailbox {
    /// # Errors
    /// eventfd(2).
    pub fn new(active: Arc<AtomicU32>) -> Result<Mailbox, Errno> {
        Ok(Mailbox {
            clients: AtomicU32::new(0),
            active,
            queue: Mutex::new(Some(VecDeque::new())),
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            news: AtomicBool::new(true),
        })
    }

    /// How many clients the reactor has.
    pub fn clients(&self) -> u32 {
        self.clients.load(Ordering::Relaxed)
    }

    /// Counts a client in. Returns how many the intake had before.
    pub fn enter(&self) -> u32 {
        self.clients.fetch_add(1, Ordering::Relaxed);
        self.active.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts `clients` out.
    pub fn leave(&self, clients: u32) {
        self.clients.fetch_sub(clients, Ordering::Relaxed);
        self.active.fetch_sub(clients, Ordering::Relaxed);
    }

    /// Lays an arrival in, or gives it back if the mailbox is closed.
    pub fn give(&self, arrival: Arrival) -> Result<(), Arrival> {
        let mut queue = lock(&self.queue);
        let Some(open) = queue.as_mut() else {
            return Err(arrival);
        };
        open.push_back(arrival);
        let was_empty = open.len() == 1;
        drop(queue);
        if was_empty {
            self.wake_up();
        }
        Ok(())
    }

    /// The arrival that has waited longest.
    pub fn next(&self) -> Option<Arrival> {
        lock(&self.queue).as_mut()?.pop_front()
    }

    /// Takes no more arrivals from now on, if none is there. Returns whether it is closed.
    pub fn close_if_empty(&self) -> bool {
        let mut queue = lock(&self.queue);
        if queue.as_ref().is_some_and(VecDeque::is_empty) {
            *queue = None;
        }
        queue.is_none()
    }

    /// Takes no more arrivals; those that are there are closed.
    pub fn close(&self) {
        let dropped = lock(&self.queue).take();
        self.leave(dropped.map_or(0, |queue| queue.len() as u32));
    }

    /// Makes the reactor look at its intake again.
    pub fn poke(&self) {
        self.news.store(true, Ordering::Release);
        self.wake_up();
    }

    /// Whether the intake is to be looked at again; true once per poke.
    pub fn take_news(&self) -> bool {
        self.news.swap(false, Ordering::Acquire)
    }

    fn wake_up(&self) {
        // A write fails only where the counter would overflow; it is not zero then, and the reactor awake.
        let _overflow = self.wake.write(1);
    }
}
