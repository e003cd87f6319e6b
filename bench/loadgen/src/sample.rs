//! What /proc says about the daemon's processes. All figures are sums over the processes.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use serde::Serialize;

/// Memory, fds and threads at one moment.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Snapshot {
    /// Resident set, KiB.
    pub rss_kib: u64,
    /// Proportional set: pages shared between processes counted once, KiB.
    pub pss_kib: u64,
    /// Private anonymous memory, which is what allocation costs, KiB.
    pub anonymous_kib: u64,
    /// Open fds.
    pub fds: u64,
    /// The fewest that one of the processes has open: how evenly they share.
    pub fds_least: u64,
    /// The most.
    pub fds_most: u64,
    /// Threads.
    pub threads: u64,
    /// Voluntary and involuntary context switches so far, of the threads that live.
    pub context_switches: u64,
}

/// User and system CPU, by the kernel's ticks.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuSplit {
    /// Milliseconds in user mode.
    pub user_ms: u64,
    /// Milliseconds in the kernel.
    pub system_ms: u64,
}

/// `pids` and all their descendants.
pub fn with_descendants(pids: &[i32]) -> Vec<i32> {
    let mut found: BTreeSet<i32> = BTreeSet::new();
    let mut open: Vec<i32> = pids.to_vec();
    while let Some(pid) = open.pop() {
        if !found.insert(pid) {
            continue;
        }
        // proc(5): the children of each thread; a process that has just ended has none.
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            open.extend(
                children
                    .split_ascii_whitespace()
                    .filter_map(|c| c.parse::<i32>().ok()),
            );
        }
    }
    found.into_iter().collect()
}

/// CPU nanoseconds of all threads, ended ones too. The kernel's per-process clock (clock_getcpuclockid(3)) is exact
/// where /proc/pid/stat counts ticks of 10 ms.
pub fn cpu_ns(pids: &[i32]) -> io::Result<u64> {
    let mut sum = 0;
    for &pid in pids {
        let time = clock_getcpuclockid(Pid::from_raw(pid))
            .and_then(|clock| clock.now())
            .map_err(|e| gone(pid, e))?;
        sum += time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64;
    }
    Ok(sum)
}

/// User and system milliseconds from /proc/pid/stat.
pub fn cpu_split(pids: &[i32]) -> io::Result<CpuSplit> {
    let mut split = CpuSplit::default();
    for &pid in pids {
        let stat = read(pid, "stat")?;
        // The command's name may hold blanks; the fields count from behind its bracket: utime is the 14th of proc(5).
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_ascii_whitespace()
            .collect();
        let ticks = |i: usize| {
            fields
                .get(i)
                .and_then(|f| f.parse::<u64>().ok())
                .unwrap_or(0)
        };
        // USER_HZ is 100 on every Linux.
        split.user_ms += ticks(11) * 10;
        split.system_ms += ticks(12) * 10;
    }
    Ok(split)
}

/// The machine's processors, to see whether somebody else disturbed a run.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// How many there are.
    pub processors: u64,
    /// Since the system's start, summed over them. Idle time is exact where busy time counts ticks, which short
    /// bursts of work slip through.
    pub idle_ns: u64,
}

/// Idle time from /proc/stat.
pub fn machine() -> io::Result<Machine> {
    let stat = fs::read_to_string("/proc/stat")?;
    let mut lines = stat.lines().take_while(|line| line.starts_with("cpu"));
    let all = lines.next().unwrap_or_default();
    // proc(5): cpu user nice system idle iowait …, in USER_HZ.
    let idle = all
        .split_ascii_whitespace()
        .skip(4)
        .take(2)
        .filter_map(|f| f.parse::<u64>().ok())
        .sum::<u64>();
    Ok(Machine {
        processors: lines.count() as u64,
        idle_ns: idle * 10_000_000,
    })
}

/// Memory of the whole machine that is in use, KiB: also what the kernel holds for sockets, whoever has them.
pub fn machine_used_kib() -> io::Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    Ok(field(&meminfo, "MemTotal:").saturating_sub(field(&meminfo, "MemAvailable:")))
}

/// The resident set only, KiB: cheap enough to watch.
pub fn rss_kib(pids: &[i32]) -> io::Result<u64> {
    let mut pages = 0;
    for &pid in pids {
        let statm = read(pid, "statm")?;
        pages += statm
            .split_ascii_whitespace()
            .nth(1)
            .and_then(|f| f.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(pages * 4)
}

/// Everything; walks the page tables of the processes.
pub fn snapshot(pids: &[i32]) -> io::Result<Snapshot> {
    let mut sum = Snapshot::default();
    let mut fds_least = None;
    for &pid in pids {
        let rollup = read(pid, "smaps_rollup")?;
        sum.rss_kib += field(&rollup, "Rss:");
        sum.pss_kib += field(&rollup, "Pss:");
        sum.anonymous_kib += field(&rollup, "Anonymous:");
        let fds = fs::read_dir(format!("/proc/{pid}/fd"))
            .map_err(|e| gone(pid, e))?
            .count() as u64;
        sum.fds += fds;
        sum.fds_most = sum.fds_most.max(fds);
        fds_least = Some(fds_least.map_or(fds, |least: u64| least.min(fds)));
        for task in fs::read_dir(format!("/proc/{pid}/task"))
            .map_err(|e| gone(pid, e))?
            .flatten()
        {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            sum.threads += 1;
            sum.context_switches += field(&status, "voluntary_ctxt_switches:");
            sum.context_switches += field(&status, "nonvoluntary_ctxt_switches:");
        }
    }
    sum.fds_least = fds_least.unwrap_or(0);
    Ok(sum)
}

fn read(pid: i32, file: &str) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).map_err(|e| gone(pid, e))
}

fn gone(pid: i32, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(
        error.kind(),
        format!("the daemon's process {pid} cannot be read: {error}"),
    )
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<i32> {
        vec![std::process::id() as i32]
    }

    #[test]
    fn own_figures_are_there_and_grow() {
        let before = cpu_ns(&own()).unwrap();
        let ballast = std::hint::black_box(vec![1u8; 8 << 20]);
        let snapshot = snapshot(&own()).unwrap();
        assert!(
            snapshot.anonymous_kib >= 8192
                && snapshot.pss_kib > 0
                && snapshot.rss_kib >= snapshot.anonymous_kib
        );
        assert!(snapshot.fds >= 3 && snapshot.threads >= 1);
        assert_eq!(
            (snapshot.fds_least, snapshot.fds_most),
            (snapshot.fds, snapshot.fds)
        );
        assert!(rss_kib(&own()).unwrap() >= 8192);
        assert!(cpu_ns(&own()).unwrap() > before);
        drop(ballast);
    }

    #[test]
    fn the_fewest_and_the_most_fds_are_those_of_single_processes() {
        let mut child = std::process::Command::new("sleep")
            .arg("5")
            .stdin(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let _more: Vec<fs::File> = (0..20)
            .map(|_| fs::File::open("/dev/null").unwrap())
            .collect();
        let both = [own()[0], child.id() as i32];
        let snapshot = snapshot(&both);
        child.kill().unwrap();
        child.wait().unwrap();
        let Snapshot {
            fds,
            fds_least,
            fds_most,
            ..
        } = snapshot.unwrap();
        assert!(fds_least + 20 <= fds_most, "{fds_least} and {fds_most}");
        assert_eq!(fds_least + fds_most, fds);
    }

    #[test]
    fn the_machine_s_memory_in_use_holds_ours_and_is_not_all() {
        let ballast = std::hint::black_box(vec![1u8; 64 << 20]);
        let used_kib = machine_used_kib().unwrap();
        assert!(used_kib >= 64 << 10);
        drop(ballast);
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
        assert!(used_kib < field(&meminfo, "MemTotal:"));
    }

    #[test]
    fn a_process_that_has_ended_is_an_error() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        child.wait().unwrap();
        assert!(cpu_ns(&[pid]).is_err());
        assert!(
            snapshot(&[pid])
                .unwrap_err()
                .to_string()
                .contains(&pid.to_string())
        );
    }

    #[test]
    fn children_are_found() {
        let mut child = std::process::Command::new("sleep")
            .arg("5")
            .spawn()
            .unwrap();
        let found = with_descendants(&own());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&(child.id() as i32)) && found.contains(&own()[0]));
    }
}
