//! The report of a run: JSON for programs, a few lines for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::handoff::ClientKind;
use crate::observer::{Daemon, Measured};
use crate::player::Job;
use crate::sample::Snapshot;
use crate::tally::Summary;

/// The JSON of `--json`. Names carry their units.
#[derive(Debug, Serialize)]
pub struct Report {
    clients: usize,
    client: &'static str,
    rate_per_sec: f64,
    interval_ms: Option<f64>,
    processes: usize,
    run_ms: f64,
    streams: Streams,
    events: u64,
    error_events: u64,
    bytes: u64,
    /// Data segments per event as the clients' kernel counted them: below 1, events travelled together.
    sends_per_event: Option<f64>,
    handoff_retries: u64,
    ttfb: Summary,
    gap: Summary,
    deviation: Option<Summary>,
    steady_deviation: Option<Summary>,
    load_cpu_us_per_event: f64,
    /// CPU that neither the daemon nor this tool used, of all processors: above a few percent, measure again.
    others_percent: f64,
    /// The whole machine's memory in use at the peak less that when idle: the daemon's, this tool's and the kernel's.
    machine_grown_kib: u64,
    daemon: Option<DaemonReport>,
}

#[derive(Debug, Serialize)]
struct Streams {
    complete: u64,
    broken: u64,
    lost: u64,
    refused: u64,
    left: u64,
    slow_open: u64,
    reasons: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct DaemonReport {
    processes: usize,
    cpu_ms: f64,
    cpu_user_ms: u64,
    cpu_system_ms: u64,
    /// CPU from idle to the last client's end, over all events received.
    cpu_us_per_event: f64,
    steady: Option<SteadyReport>,
    idle: Snapshot,
    peak: Snapshot,
    after: Snapshot,
    rss_max_kib: u64,
    /// (largest RSS − idle RSS) / clients.
    rss_kib_per_connection: f64,
    /// (anonymous memory at the peak − idle) / clients.
    anonymous_kib_per_connection: f64,
    context_switches: u64,
}

#[derive(Debug, Serialize)]
struct SteadyReport {
    ms: f64,
    events: u64,
    events_per_sec: f64,
    cpu_us_per_event: f64,
    cpu_percent: f64,
}

impl Report {
    /// Makes the figures of what was measured.
    pub fn new(job: &Job, measured: Measured) -> Self {
        let Measured {
            run_ns,
            tally,
            others_percent,
            machine_grown_kib,
            daemon,
        } = measured;
        let events = tally.events;
        Report {
            clients: job.clients,
            client: if job.client == ClientKind::Tcp {
                "tcp"
            } else {
                "pair"
            },
            rate_per_sec: job.rate,
            interval_ms: job.interval_ns.map(|ns| ns as f64 / 1e6),
            processes: job.players,
            run_ms: run_ns as f64 / 1e6,
            streams: Streams {
                complete: tally.complete,
                broken: tally.broken,
                lost: tally.lost,
                refused: tally.refused,
                left: tally.left,
                slow_open: tally.slow_open,
                reasons: tally.reasons,
            },
            events,
            error_events: tally.error_events,
            bytes: tally.bytes,
            sends_per_event: (tally.segment_events > 0 && tally.segments > 0)
                .then(|| tally.segments as f64 / tally.segment_events as f64),
            handoff_retries: tally.handoff_retries,
            ttfb: tally.ttfb.summary(),
            gap: tally.gap.summary(),
            deviation: job.interval_ns.map(|_| tally.deviation.summary()),
            steady_deviation: job.interval_ns.map(|_| tally.steady_deviation.summary()),
            load_cpu_us_per_event: tally.cpu_ns as f64 / 1e3 / events.max(1) as f64,
            others_percent,
            machine_grown_kib,
            daemon: daemon.map(|d| daemon_report(&d, job.clients, events)),
        }
    }

    /// A summary in a few lines.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut out);
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let s = &self.streams;
        writeln!(
            out,
            "{} {} clients, {} per second, {:.1} s: {} complete, {} broken, {} lost, {} refused, {} left, {} slow and open",
            self.clients,
            self.client,
            self.rate_per_sec,
            self.run_ms / 1e3,
            s.complete,
            s.broken,
            s.lost,
            s.refused,
            s.left,
            s.slow_open
        )?;
        for (reason, count) in &s.reasons {
            writeln!(out, "  {count} × {reason}")?;
        }
        let per_event = self.bytes as f64 / self.events.max(1) as f64;
        write!(out, "events {}, {per_event:.1} bytes each", self.events)?;
        if let Some(sends) = self.sends_per_event {
            write!(out, ", {sends:.3} sends per event")?;
        }
        writeln!(
            out,
            ", {} errors; handoffs tried again {}",
            self.error_events, self.handoff_retries
        )?;
        let times = [
            ("first byte", Some(&self.ttfb)),
            ("gap", Some(&self.gap)),
            ("|gap − asked|", self.deviation.as_ref()),
            ("… steady", self.steady_deviation.as_ref()),
        ];
        for (name, t) in times {
            let Some(t) = t else { continue };
            writeln!(
                out,
                "{name:<14} ms  p50 {:.3}  p95 {:.3}  p99 {:.3}  max {:.3}  mean {:.3}",
                t.p50_ms, t.p95_ms, t.p99_ms, t.max_ms, t.mean_ms
            )?;
        }
        writeln!(
            out,
            "load generator: {:.2} µs of CPU per event; others took {:.1} % of the machine",
            self.load_cpu_us_per_event, self.others_percent
        )?;
        writeln!(
            out,
            "the machine's memory in use grew by {} KiB",
            self.machine_grown_kib
        )?;
        let Some(d) = &self.daemon else { return Ok(()) };
        writeln!(
            out,
            "daemon, {} process(es): {:.2} µs of CPU per event over the whole run ({:.0} ms; user {}, system {})",
            d.processes, d.cpu_us_per_event, d.cpu_ms, d.cpu_user_ms, d.cpu_system_ms
        )?;
        match &d.steady {
            Some(s) => writeln!(
                out,
                "  steady for {:.1} s: {:.2} µs per event, {:.0} events/s, {:.0} % of a core",
                s.ms / 1e3,
                s.cpu_us_per_event,
                s.events_per_sec,
                s.cpu_percent
            )?,
            None => writeln!(
                out,
                "  no steady part: not all clients were served at the same time for long enough"
            )?,
        }
        writeln!(
            out,
            "  per connection over idle: {:.2} KiB resident, {:.2} KiB anonymous; {} context switches",
            d.rss_kib_per_connection, d.anonymous_kib_per_connection, d.context_switches
        )?;
        for (name, s) in [("idle", &d.idle), ("peak", &d.peak), ("after", &d.after)] {
            writeln!(
                out,
                "  {name:<6} RSS {:>7} KiB  PSS {:>7}  anonymous {:>7}  fds {:>6} ({} to {} in one process)  threads {}",
                s.rss_kib, s.pss_kib, s.anonymous_kib, s.fds, s.fds_least, s.fds_most, s.threads
            )?;
        }
        writeln!(out, "  largest RSS {} KiB", d.rss_max_kib)
    }
}

fn daemon_report(d: &Daemon, clients: usize, events: u64) -> DaemonReport {
    let per_connection = |now: u64, idle: u64| (now as f64 - idle as f64) / clients as f64;
    DaemonReport {
        processes: d.processes,
        cpu_ms: d.cpu_ns as f64 / 1e6,
        cpu_user_ms: d.cpu_split.user_ms,
        cpu_system_ms: d.cpu_split.system_ms,
        cpu_us_per_event: d.cpu_ns as f64 / 1e3 / events.max(1) as f64,
        steady: d.steady.map(|s| SteadyReport {
            ms: s.ns as f64 / 1e6,
            events: s.events,
            events_per_sec: s.events as f64 / (s.ns as f64 / 1e9),
            cpu_us_per_event: s.cpu_ns as f64 / 1e3 / s.events as f64,
            cpu_percent: s.cpu_ns as f64 / s.ns as f64 * 100.0,
        }),
        idle: d.idle,
        peak: d.peak,
        after: d.after,
        rss_max_kib: d.rss_max_kib,
        rss_kib_per_connection: per_connection(d.rss_max_kib, d.idle.rss_kib),
        anonymous_kib_per_connection: per_connection(d.peak.anonymous_kib, d.idle.anonymous_kib),
        context_switches: d
            .after
            .context_switches
            .saturating_sub(d.idle.context_switches),
    }
}
