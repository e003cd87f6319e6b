//! What came of all clients: outcomes, counts, histograms. Players fill one each, the observer adds them up.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::sse::SseCounter;

/// How a client's connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The server's FIN.
    Eof,
    /// A RST or another error on the socket.
    Reset,
    /// The run's time limit; the connection was still open.
    TimeLimit,
}

/// What a client got, as a reader of the table wants to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// `200`, every event, `[DONE]`, and an orderly end.
    Complete,
    /// An answer that began and is not whole; the text says how.
    Broken(String),
    /// Never a single byte; the text says how it ended.
    Lost(&'static str),
    /// A whole head with a status other than 200.
    Refused(u16),
}

/// Judges one ended answer. `expect` is how many events it should have had, `[DONE]` included.
pub fn judge(answer: &SseCounter, end: End, expect: Option<u32>) -> Outcome {
    if answer.bytes == 0 {
        return Outcome::Lost(match end {
            End::Eof => "closed without an answer",
            End::Reset => "reset without an answer",
            End::TimeLimit => "no answer until the time limit",
        });
    }
    match answer.status {
        Some(status) if answer.answered && status != 200 => return Outcome::Refused(status),
        Some(_) if answer.answered => {}
        _ => return Outcome::Broken("no whole response head".into()),
    }
    let done = if answer.done { "after" } else { "before" };
    match (end, answer.done, expect) {
        (End::Reset, ..) => Outcome::Broken(format!("reset {done} [DONE]")),
        (End::TimeLimit, ..) => Outcome::Broken(format!("time limit {done} [DONE]")),
        (End::Eof, false, _) => Outcome::Broken("ended without [DONE]".into()),
        (End::Eof, true, Some(n)) if n != answer.events => {
            Outcome::Broken(format!("{} events instead of {n}", answer.events))
        }
        (End::Eof, true, _) => Outcome::Complete,
    }
}

/// Times in microseconds with three significant digits; it grows as needed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Times(Histogram<u64>);

impl Clone for Times {
    fn clone(&self) -> Self {
        Times(self.0.clone())
    }
}

impl Default for Times {
    fn default() -> Self {
        Times(Histogram::new(3).expect("three significant digits are within hdrhistogram's range"))
    }
}

impl From<Vec<(u64, u64)>> for Times {
    fn from(pairs: Vec<(u64, u64)>) -> Self {
        let mut times = Times::default();
        for (value, count) in pairs {
            times.record(value, count);
        }
        times
    }
}

impl From<Times> for Vec<(u64, u64)> {
    fn from(times: Times) -> Self {
        times
            .0
            .iter_recorded()
            .map(|v| (v.value_iterated_to(), v.count_at_value()))
            .collect()
    }
}

impl Times {
    /// Records nanoseconds `count` times.
    pub fn record_ns(&mut self, ns: u64, count: u64) {
        self.record(ns / 1000, count);
    }

    fn record(&mut self, micros: u64, count: u64) {
        self.0
            .record_n(micros, count)
            .expect("the histogram grows to any u64");
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Times) {
        for v in other.0.iter_recorded() {
            self.record(v.value_iterated_to(), v.count_at_value());
        }
    }

    /// The figures for the report, in milliseconds.
    pub fn summary(&self) -> Summary {
        let at = |q: f64| self.0.value_at_quantile(q) as f64 / 1000.0;
        Summary {
            count: self.0.len(),
            mean_ms: self.0.mean() / 1000.0,
            p50_ms: at(0.50),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            max_ms: self.0.max() as f64 / 1000.0,
        }
    }
}

/// Quantiles of one kind of time, milliseconds.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// How many times were recorded.
    pub count: u64,
    /// Arithmetic mean.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// Everything the players count. All sums; two tallies add up to one.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Clients that were started.
    pub clients: u64,
    /// See [`Outcome`].
    pub complete: u64,
    /// See [`Outcome`].
    pub broken: u64,
    /// See [`Outcome`]; also handoffs that failed.
    pub lost: u64,
    /// See [`Outcome`].
    pub refused: u64,
    /// Leavers that left as asked.
    pub left: u64,
    /// Slow readers that were still open when the run ended.
    pub slow_open: u64,
    /// How often each reason for `broken`, `lost` and `refused` came.
    pub reasons: BTreeMap<String, u64>,
    /// How many handoffs were tried again, by ENOENT, ECONNREFUSED or a full backlog.
    pub handoff_retries: u64,
    /// Events received, `[DONE]` included.
    pub events: u64,
    /// Events that say `{"error"…`.
    pub error_events: u64,
    /// Bytes received, heads included.
    pub bytes: u64,
    /// TCP data segments received, of clients that ended on their own: with TCP_NODELAY one per send(2).
    pub segments: u64,
    /// Events of the clients that `segments` counts.
    pub segment_events: u64,
    /// From when a client was to arrive to the answer's first byte: what delays its handoff counts.
    pub ttfb: Times,
    /// From one event to the next of the same client, `[DONE]` left out.
    pub gap: Times,
    /// |gap − asked|.
    pub deviation: Times,
    /// The same, of the steady part only.
    pub steady_deviation: Times,
    /// CPU of the players, user and system.
    pub cpu_ns: u64,
}

impl Tally {
    /// Adds an ended client.
    pub fn record(&mut self, outcome: Outcome) {
        let reason = match outcome {
            Outcome::Complete => {
                self.complete += 1;
                return;
            }
            Outcome::Broken(how) => {
                self.broken += 1;
                how
            }
            Outcome::Lost(how) => {
                self.lost += 1;
                how.to_owned()
            }
            Outcome::Refused(status) => {
                self.refused += 1;
                format!("status {status}")
            }
        };
        *self.reasons.entry(reason).or_default() += 1;
    }

    /// Adds `events` events that one read brought `gap_ns` after the one before. Only the first of them waited; the
    /// others came with it, at a gap of zero.
    pub fn record_gap(&mut self, gap_ns: u64, events: u32, asked_ns: Option<u64>, steady: bool) {
        let more = u64::from(events.saturating_sub(1));
        for (gap, count) in [(gap_ns, 1), (0, more)] {
            if count > 0 {
                self.gap.record_ns(gap, count);
                if let Some(asked) = asked_ns {
                    self.deviation.record_ns(gap.abs_diff(asked), count);
                    if steady {
                        self.steady_deviation.record_ns(gap.abs_diff(asked), count);
                    }
                }
            }
        }
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Tally) {
        self.clients += other.clients;
        self.complete += other.complete;
        self.broken += other.broken;
        self.lost += other.lost;
        self.refused += other.refused;
        self.left += other.left;
        self.slow_open += other.slow_open;
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
        self.handoff_retries += other.handoff_retries;
        self.events += other.events;
        self.error_events += other.error_events;
        self.bytes += other.bytes;
        self.segments += other.segments;
        self.segment_events += other.segment_events;
        self.ttfb.add(&other.ttfb);
        self.gap.add(&other.gap);
        self.deviation.add(&other.deviation);
        self.steady_deviation.add(&other.steady_deviation);
        self.cpu_ns += other.cpu_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> SseCounter {
        let mut counter = SseCounter::default();
        counter.feed(text.as_bytes());
        counter
    }

    const WHOLE: &str = "HTTP/1.1 200 OK\r\n\r\ndata: a\n\ndata: [DONE]\n\n";

    #[test]
    fn complete_needs_status_done_count_and_an_orderly_end() {
        assert_eq!(judge(&answer(WHOLE), End::Eof, Some(2)), Outcome::Complete);
        assert_eq!(judge(&answer(WHOLE), End::Eof, None), Outcome::Complete);
        for (text, end, expect, how) in [
            (WHOLE, End::Eof, Some(3), "2 events instead of 3"),
            (WHOLE, End::Reset, Some(2), "reset after [DONE]"),
            (WHOLE, End::TimeLimit, Some(2), "time limit after [DONE]"),
            (
                "HTTP/1.1 200 OK\r\n\r\ndata: a\n\n",
                End::Eof,
                None,
                "ended without [DONE]",
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\ndata: a\n\n",
                End::Reset,
                None,
                "reset before [DONE]",
            ),
            (
                "HTTP/1.1 200 OK\r\n",
                End::Eof,
                None,
                "no whole response head",
            ),
            ("data: [DONE]\n\n", End::Eof, None, "no whole response head"),
        ] {
            assert_eq!(
                judge(&answer(text), end, expect),
                Outcome::Broken(how.into()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn not_a_byte_is_lost_and_another_status_is_refused() {
        assert_eq!(
            judge(&answer(""), End::Eof, None),
            Outcome::Lost("closed without an answer")
        );
        assert_eq!(
            judge(&answer(""), End::TimeLimit, None),
            Outcome::Lost("no answer until the time limit")
        );
        let refused = answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(judge(&refused, End::Eof, None), Outcome::Refused(503));
    }

    #[test]
    fn events_that_come_together_show_as_gaps_of_zero() {
        let mut tally = Tally::default();
        tally.record_gap(600_000_000, 2, Some(300_000_000), false);
        let (gap, deviation) = (tally.gap.summary(), tally.deviation.summary());
        assert_eq!((gap.count, tally.steady_deviation.summary().count), (2, 0));
        assert!((gap.max_ms - 600.0).abs() < 0.6 && gap.p50_ms == 0.0);
        assert!((deviation.p50_ms - 300.0).abs() < 0.3 && (deviation.max_ms - 300.0).abs() < 0.3);
    }

    #[test]
    fn quantiles_are_right_to_three_digits() {
        let mut times = Times::default();
        for ms in 1..=1000 {
            times.record_ns(ms * 1_000_000, 1);
        }
        let s = times.summary();
        for (got, want) in [
            (s.p50_ms, 500.0),
            (s.p95_ms, 950.0),
            (s.p99_ms, 990.0),
            (s.max_ms, 1000.0),
        ] {
            assert!((got - want).abs() <= want / 1000.0, "{got} is not {want}");
        }
    }

    #[test]
    fn a_tally_survives_its_way_through_a_pipe_and_adds_up() {
        let mut tally = Tally {
            clients: 2,
            ..Tally::default()
        };
        tally.record(Outcome::Complete);
        tally.record(Outcome::Broken("reset before [DONE]".into()));
        tally.ttfb.record_ns(250_000, 1);
        tally.ttfb.record_ns(5_000_000_000, 1);
        let text = serde_json::to_string(&tally).unwrap();
        let mut sum: Tally = serde_json::from_str(&text).unwrap();
        sum.add(&tally);
        assert_eq!((sum.clients, sum.complete, sum.broken), (4, 2, 2));
        assert_eq!(sum.reasons["reset before [DONE]"], 2);
        let (one, two) = (tally.ttfb.summary(), sum.ttfb.summary());
        assert_eq!(
            (one.p50_ms, one.max_ms, two.count),
            (two.p50_ms, two.max_ms, 4)
        );
    }
}
