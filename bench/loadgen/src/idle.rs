//! What a daemon costs that has nothing to do.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use serde::Serialize;

use crate::clock::now_ns;
use crate::sample::{cpu_ns, snapshot};
use crate::target::Target;

/// What was seen.
#[derive(Debug, Serialize)]
pub struct Idle {
    processes: usize,
    threads: u64,
    /// Context switches of all threads: each wake-up ends in one.
    wakeups_per_sec: f64,
    cpu_us_per_sec: f64,
    rss_kib: u64,
}

/// Watches for `time`, after a start that goes on in the background for a while: compilation, garbage.
pub fn watch(target: &mut Target, settle: Duration, time: Duration) -> io::Result<Idle> {
    sleep(settle);
    let pids = target.pids();
    let (before, cpu_before, began) = (snapshot(&pids)?, cpu_ns(&pids)?, now_ns());
    sleep(time);
    let secs = (now_ns() - began) as f64 / 1e9;
    let (after, cpu_after) = (snapshot(&pids)?, cpu_ns(&pids)?);
    target.check_alive()?;
    let switches = after
        .context_switches
        .saturating_sub(before.context_switches);
    Ok(Idle {
        processes: pids.len(),
        threads: after.threads,
        wakeups_per_sec: switches as f64 / secs,
        cpu_us_per_sec: (cpu_after - cpu_before) as f64 / 1e3 / secs,
        rss_kib: after.rss_kib,
    })
}
