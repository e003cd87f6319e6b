//! Counters in shared memory: the players write, the observer reads. One flag goes the other way.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

/// One player's counters. Aligned so that no two players share a cache line.
#[repr(align(128))]
#[derive(Debug)]
pub struct Slot {
    /// Handoffs that were sent.
    pub handed: AtomicU64,
    /// Clients that got their first byte.
    pub answered: AtomicU64,
    /// Clients whose answer has ended; leavers are not counted.
    pub ended: AtomicU64,
    /// Events received.
    pub events: AtomicU64,
    /// Set by the observer while all clients are being served and none has ended.
    pub steady: AtomicBool,
}

/// Sums over all slots at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// See [`Slot::handed`].
    pub handed: u64,
    /// See [`Slot::answered`].
    pub answered: u64,
    /// See [`Slot::ended`].
    pub ended: u64,
    /// See [`Slot::events`].
    pub events: u64,
}

/// Maps `count` slots that stay shared over fork(2), for the rest of the process's life.
pub fn shared_slots(count: NonZeroUsize) -> nix::Result<&'static [Slot]> {
    let bytes =
        count.saturating_mul(NonZeroUsize::new(size_of::<Slot>()).unwrap_or(NonZeroUsize::MIN));
    let flags = MapFlags::MAP_SHARED;
    // SAFETY: a fresh anonymous mapping overlaps nothing that Rust knows of.
    let start = unsafe {
        mmap_anonymous(
            None,
            bytes,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            flags,
        )?
    };
    // SAFETY: the mapping is page-aligned, long enough, zeroed (valid atomics) and never unmapped.
    Ok(unsafe { std::slice::from_raw_parts(start.cast::<Slot>().as_ptr(), count.get()) })
}

/// Adds up what the players have written.
pub fn totals(slots: &[Slot]) -> Totals {
    let mut sum = Totals::default();
    for slot in slots {
        sum.handed += slot.handed.load(Ordering::Relaxed);
        sum.answered += slot.answered.load(Ordering::Relaxed);
        sum.ended += slot.ended.load(Ordering::Relaxed);
        sum.events += slot.events.load(Ordering::Relaxed);
    }
    sum
}
