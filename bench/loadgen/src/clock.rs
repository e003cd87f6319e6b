//! CLOCK_MONOTONIC in nanoseconds: the same for all processes of a run.

use nix::time::ClockId;

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now_ns() -> u64 {
    ns(ClockId::CLOCK_MONOTONIC)
}

/// CPU nanoseconds of this process, all threads.
pub fn own_cpu_ns() -> u64 {
    ns(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn ns(clock: ClockId) -> u64 {
    let time = clock.now().expect("a clock that every Linux has");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}
