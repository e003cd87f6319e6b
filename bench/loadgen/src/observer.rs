//! One measured run: samples the daemon before, during and after what the players do to it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe};

use crate::board::{Slot, Totals, shared_slots, totals};
use crate::clock::{now_ns, own_cpu_ns};
use crate::player::{Job, play};
use crate::sample::{
    CpuSplit, Snapshot, cpu_ns, cpu_split, machine, machine_used_kib, rss_kib, snapshot,
};
use crate::tally::Tally;
use crate::target::Target;

/// What the daemon spent and held.
#[derive(Debug, Default)]
pub struct Daemon {
    /// How many processes.
    pub processes: usize,
    /// Before the first handoff.
    pub idle: Snapshot,
    /// When every client was being served, or when the run was over if that was never so.
    pub peak: Snapshot,
    /// The largest resident set that was seen, KiB.
    pub rss_max_kib: u64,
    /// Some time after the last client had gone.
    pub after: Snapshot,
    /// CPU from idle until the last client was over.
    pub cpu_ns: u64,
    /// The same, by ticks.
    pub cpu_split: CpuSplit,
    /// The part in which all clients were connected and none had ended, if it was long enough.
    pub steady: Option<Steady>,
}

/// The steady part of a run.
#[derive(Debug, Clone, Copy)]
pub struct Steady {
    /// How long it was.
    pub ns: u64,
    /// The daemon's CPU in it.
    pub cpu_ns: u64,
    /// Events that the clients received in it.
    pub events: u64,
}

/// The outcome of a run.
#[derive(Debug)]
pub struct Measured {
    /// From the first start to the last end.
    pub run_ns: u64,
    /// What the clients saw.
    pub tally: Tally,
    /// CPU that neither the daemon nor this tool used, or that the hypervisor took, in percent of all processors.
    /// Without a daemon to look at, its CPU is in it.
    pub others_percent: f64,
    /// By how much the whole machine's memory in use grew from idle to the peak, KiB.
    pub machine_grown_kib: u64,
    /// What the daemon spent; `None` without a process to look at.
    pub daemon: Option<Daemon>,
}

/// A steady part that is shorter says nothing.
const STEADY_AT_LEAST_NS: u64 = 300_000_000;
const TICK: Duration = Duration::from_millis(20);

#[derive(Clone, Copy)]
struct Moment {
    ns: u64,
    cpu_ns: u64,
    events: u64,
}

/// Plays `job` against `target`. `settle` passes before the idle sample, `rest` before the one after. `beside` is a line
/// for sh(1) that runs from when every client is being served; it is waited for.
pub fn run(
    job: &Job,
    target: &mut Target,
    settle: Duration,
    rest: Duration,
    beside: Option<&str>,
) -> io::Result<Measured> {
    let slots = shared_slots(NonZeroUsize::new(job.players).unwrap_or(NonZeroUsize::MIN))?;
    sleep(settle);
    let pids = target.pids();
    let mut daemon = Daemon {
        processes: pids.len(),
        ..Daemon::default()
    };
    daemon.idle = snapshot(&pids)?;
    daemon.rss_max_kib = daemon.idle.rss_kib;
    let (cpu_before, split_before) = (cpu_ns(&pids)?, cpu_split(&pids)?);

    let used_before_kib = machine_used_kib()?;
    let mut used_peak_kib = None;
    let (machine_before, own_before) = (machine()?, own_cpu_ns());
    let began = now_ns();
    let mut players = Players::start(job, slots)?;
    let (mut from, mut to): (Option<Moment>, Option<Moment>) = (None, None);
    let mut besides = None;
    while !players.over()? {
        sleep(TICK);
        target.check_alive()?;
        let Totals {
            answered,
            ended,
            events,
            ..
        } = totals(slots);
        let moment = Moment {
            ns: now_ns(),
            cpu_ns: cpu_ns(&pids)?,
            events,
        };
        daemon.rss_max_kib = daemon.rss_max_kib.max(rss_kib(&pids)?);
        let is_steady = ended == 0 && answered == job.clients as u64;
        slots
            .iter()
            .for_each(|slot| slot.steady.store(is_steady, Ordering::Relaxed));
        if is_steady {
            if from.is_none() {
                daemon.peak = snapshot(&pids)?;
                used_peak_kib = Some(machine_used_kib()?);
                besides = beside.map(Beside::start).transpose()?;
            }
            from = from.or(Some(moment));
            to = Some(moment);
        }
    }
    let run_ns = now_ns() - began;
    if let Some(beside) = besides {
        beside.wait()?;
    }
    let used_peak_kib = used_peak_kib.map_or_else(machine_used_kib, Ok)?;
    daemon.cpu_ns = cpu_ns(&pids)? - cpu_before;
    let (machine_after, own_ns) = (machine()?, own_cpu_ns() - own_before);
    let split = cpu_split(&pids)?;
    daemon.cpu_split = CpuSplit {
        user_ms: split.user_ms - split_before.user_ms,
        system_ms: split.system_ms - split_before.system_ms,
    };
    if from.is_none() {
        daemon.peak = snapshot(&pids)?;
    }
    daemon.steady = from.zip(to).map(|(from, to)| Steady {
        ns: to.ns - from.ns,
        cpu_ns: to.cpu_ns - from.cpu_ns,
        events: to.events - from.events,
    });
    daemon.steady = daemon
        .steady
        .filter(|s| s.ns >= STEADY_AT_LEAST_NS && s.events > 0);
    let tally = players.collect()?;
    let all_ns = machine_after.processors * run_ns;
    let used_ns = all_ns.saturating_sub(machine_after.idle_ns - machine_before.idle_ns);
    let others_ns = used_ns.saturating_sub(daemon.cpu_ns + tally.cpu_ns + own_ns);
    let others_percent = others_ns as f64 / all_ns.max(1) as f64 * 100.0;
    sleep(rest);
    daemon.after = snapshot(&pids)?;
    Ok(Measured {
        run_ns,
        tally,
        others_percent,
        machine_grown_kib: used_peak_kib.saturating_sub(used_before_kib),
        daemon: (!pids.is_empty()).then_some(daemon),
    })
}

/// What runs while all clients are being served.
struct Beside(Child);

impl Beside {
    fn start(line: &str) -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).stdin(Stdio::null());
        Ok(Beside(command.spawn()?))
    }

    fn wait(mut self) -> io::Result<()> {
        let status = self.0.wait()?;
        match status.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!("--beside ended with {status}"))),
        }
    }
}

/// The players' processes. They send their tally through a pipe and end.
struct Players {
    running: Vec<(Pid, File, Vec<u8>)>,
}

impl Players {
    fn start(job: &Job, slots: &'static [Slot]) -> io::Result<Self> {
        let mut players = Players {
            running: Vec::new(),
        };
        for (number, slot) in slots.iter().enumerate() {
            let (theirs, ours) = pipe()?;
            // SAFETY: this process has one thread, so that the child may do whatever it may.
            match unsafe { fork()? } {
                ForkResult::Parent { child } => {
                    players
                        .running
                        .push((child, non_blocking(theirs)?, Vec::new()))
                }
                ForkResult::Child => {
                    drop(theirs);
                    std::process::exit(child_main(job, number, slot, ours));
                }
            }
        }
        Ok(players)
    }

    /// Takes what the pipes hold; true once every player has closed its own.
    fn over(&mut self) -> io::Result<bool> {
        let mut over = true;
        for (_, pipe, text) in &mut self.running {
            match pipe.read_to_end(text) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => over = false,
                Err(e) => return Err(e),
            }
        }
        Ok(over)
    }

    fn collect(mut self) -> io::Result<Tally> {
        let mut sum = Tally::default();
        for (pid, _, text) in std::mem::take(&mut self.running) {
            waitpid(pid, None)?;
            let tally: Result<Tally, String> = serde_json::from_slice(&text)
                .map_err(|e| io::Error::other(format!("a player died: {e}")))?;
            sum.add(&tally.map_err(io::Error::other)?);
        }
        Ok(sum)
    }
}

impl Drop for Players {
    fn drop(&mut self) {
        for (pid, ..) in &self.running {
            if let Err(error) = kill(*pid, Signal::SIGKILL).and_then(|()| waitpid(*pid, None)) {
                eprintln!("loadgen: player {pid}: {error}");
            }
        }
    }
}

fn non_blocking(fd: OwnedFd) -> io::Result<File> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(File::from(fd))
}

fn child_main(job: &Job, number: usize, slot: &Slot, ours: OwnedFd) -> i32 {
    if let Err(error) = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL) {
        eprintln!("loadgen: player {number}: {error}");
    }
    let tally = play(job, number, slot).map_err(|e| format!("player {number}: {e}"));
    let written = serde_json::to_vec(&tally)
        .map_err(io::Error::other)
        .and_then(|t| File::from(ours).write_all(&t));
    match written {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("loadgen: player {number}: {error}");
            1
        }
    }
}
