//! Flags. Every message names the flag, the value and what is expected.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use crate::flags::Flags;
use crate::handoff::{ClientKind, Door};
use crate::knock::{Kind, Knocks};
use crate::player::Job;
use crate::target::Launch;

/// What `--help` prints.
pub const HELP: &str = "\
loadgen plays Apache and its clients against a streaming daemon, and measures both.

  loadgen run   --socket PATH [OPTIONS]    n clients; prints a summary
  loadgen floor --socket PATH [OPTIONS]    serves what a daemon serves with the least work, until a signal
  loadgen probe --socket PATH [OPTIONS]    prints one answer as a plan for the floor
  loadgen knock --socket PATH [OPTIONS]    handoffs of one kind at a rate; prints what they were told
  loadgen idle  --socket PATH [OPTIONS]    how often a daemon wakes that has nothing to do

All:
  --socket PATH               the daemon's handoff socket
  --type seqpacket|stream     its type [seqpacket]
  --interval-ms N             what the backend was asked to wait between events [run: not known; others: 300]

run:
  --clients N                 how many [1000]
  --client tcp|pair           TCP over loopback or AF_UNIX socketpairs [tcp]
  --front URL                 ask this web server, http://ADDRESS:PORT/PATH, which hands over, in place of handoffs
  --rate N                    arrivals per second [2000]
  --expect-events N           events per answer with [DONE]; another count is a broken stream
  --payload JSON              the handoff data of every client, {client} being its number; empty: the NUL byte
                              [a prompt and a request id]
  --slow-readers N            of the clients, with a small receive buffer [0]
  --slow-bytes-per-sec N      what each of them reads, 0: nothing [1024]
  --slow-receive-buffer N     SO_RCVBUF of each, bytes [4096]
  --leavers N                 of the clients, who leave early [0]
  --leave-after N             after how many events [3]
  --time-limit-secs N         then what is not over is broken or lost [120]
  --processes N               players; each takes at most the fd limit of clients [1]
  --settle-secs N             from the daemon's start to its idle sample [1]
  --after-secs N              from the last client's end to the sample after [1]
  --beside LINE               runs, by sh(1), from when every client is being served; it is waited for
  --json FILE                 the report as JSON; - prints it in place of the summary

run, probe, knock and idle, the daemon:
  --daemon-pid N              measure this process and its children (may be given more than once)
  --command LINE              start it by sh(1), measure and stop it
  --instances N               start the command N times on one listening socket (LISTEN_FDS, READY=1)
  --daemon-log FILE           where its output goes
  --start-limit-secs N        how long it may take to accept [20]

floor:
  --plan FILE                 what to send, as probe prints it [the shape of the mock backend]
  --wake-ms N                 serve those who are due together, at multiples of so long [1]
  --max-clients N             leave further ones to others on the same socket [the fd limit less a reserve]

knock:
  --kind KIND                 good|gone (before the answer)|garbage (no JSON)|oversized (140 KiB)|two-fds|no-fd|
                              no-socket (a pipe)|datagram|listener|stranger (a uid of nobody; root only)|
                              silent (connections)|trickle (on STREAM: a byte and 253 fds a message, for ever) [good]
  --client tcp|pair           as for run [pair]
  --rate N                    knocks per second [20000]
  --time-ms N                 for how long [3000]
  --most N                    then no more [no limit]
  --hold N                    clients that wait for an answer, or silent connections, at the same time [4096]
  --json -                    the same as JSON

idle:
  --settle-secs N             from the daemon's start to the first look [5]
  --time-ms N                 for how long [10000]
";

/// A command line.
#[derive(Debug)]
pub enum Command {
    /// Print [`HELP`].
    Help,
    /// Play and measure.
    Run(Box<Run>),
    /// Serve.
    Floor(Floor),
    /// Watch one answer.
    Probe(Probe),
    /// Knock.
    Knock(Knock),
    /// Watch a daemon that has nothing to do.
    Idle(Idle),
}

/// Which daemon.
#[derive(Debug)]
pub enum Daemon {
    /// One that somebody else runs, perhaps with processes to measure.
    Attached(Vec<i32>),
    /// One that is started for the run.
    Started(Launch),
}

/// Options of `run`.
#[derive(Debug)]
pub struct Run {
    /// What the players do.
    pub job: Job,
    /// Against which daemon.
    pub daemon: Daemon,
    /// From the daemon's start to its idle sample.
    pub settle: Duration,
    /// From the last client's end to the last sample.
    pub rest: Duration,
    /// A line for sh(1) that runs from when every client is being served.
    pub beside: Option<String>,
    /// Where the JSON goes; `-`: standard output.
    pub json: Option<PathBuf>,
}

/// Options of `knock`.
#[derive(Debug)]
pub struct Knock {
    /// What is done.
    pub job: Knocks,
    /// Against which daemon.
    pub daemon: Daemon,
    /// Whether the outcome goes out as JSON.
    pub json: bool,
}

/// Options of `idle`.
#[derive(Debug)]
pub struct Idle {
    /// Where it takes handoffs.
    pub door: Door,
    /// Which daemon.
    pub daemon: Daemon,
    /// From its start to the first look.
    pub settle: Duration,
    /// How long it is watched.
    pub time: Duration,
}

/// Options of `floor`.
#[derive(Debug)]
pub struct Floor {
    /// Where it listens, unless a listener is passed.
    pub door: Door,
    /// Between two slots of the plan.
    pub interval: Duration,
    /// What to send; `None`: the default.
    pub plan: Option<PathBuf>,
    /// It looks at who is due at multiples of this.
    pub wake: Duration,
    /// How many clients it takes at most.
    pub max_clients: Option<usize>,
}

/// Options of `probe`.
#[derive(Debug)]
pub struct Probe {
    /// Where the handoff goes.
    pub door: Door,
    /// Between two events.
    pub interval: Duration,
    /// Which daemon.
    pub daemon: Daemon,
    /// The handoff data.
    pub payload: Option<Vec<u8>>,
    /// How long one answer may take.
    pub limit: Duration,
}

/// Reads the arguments behind the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut parser = Parser::from_args(args);
    let mut flags = Flags::default();
    let mut name: Option<String> = None;
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long(flag) => {
                let flag = flag.to_owned();
                let value = parser.value().map_err(|e| e.to_string())?;
                let value = value.string().map_err(|e| format!("--{flag}: {e}"))?;
                flags.given.push((flag, value));
            }
            Arg::Value(value) if name.is_none() => {
                name = Some(value.string().map_err(|e| e.to_string())?)
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    let command = match name.as_deref() {
        Some("run") => run(&mut flags)?,
        Some("floor") => floor(&mut flags)?,
        Some("probe") => probe(&mut flags)?,
        Some("knock") => knock(&mut flags)?,
        Some("idle") => idle(&mut flags)?,
        Some(other) => {
            return Err(format!(
                "{other:?} is not a subcommand; expected run, floor, probe, knock or idle"
            ));
        }
        None => {
            return Err(
                "a subcommand is missing; expected run, floor, probe, knock or idle (see --help)"
                    .into(),
            );
        }
    };
    match flags.given.first() {
        Some((flag, _)) => Err(format!(
            "--{flag} is not a flag of this subcommand (see --help)"
        )),
        None => Ok(command),
    }
}

fn run(flags: &mut Flags) -> Result<Command, String> {
    let door = flags.door()?;
    let payload = flags.payload()?;
    let job = Job {
        door,
        client: flags.one_of(
            "client",
            &[("tcp", ClientKind::Tcp), ("pair", ClientKind::Pair)],
        )?,
        front: flags.front()?,
        clients: flags.number("clients", 1000, 1..=10_000_000)?,
        rate: flags.number("rate", 2000, 1..=1_000_000)? as f64,
        interval_ns: flags
            .optional("interval-ms", 1..=3_600_000)?
            .map(|ms: usize| ms as u64 * 1_000_000),
        expect: flags
            .optional("expect-events", 1..=1_000_000_000)?
            .map(|n: usize| n as u32),
        payload,
        slow_readers: flags.number("slow-readers", 0, 0..=10_000_000)?,
        slow_bytes_per_sec: flags.number("slow-bytes-per-sec", 1024, 0..=160_000)?,
        slow_receive_buffer_bytes: flags.number("slow-receive-buffer", 4096, 1..=1 << 30)?,
        leavers: flags.number("leavers", 0, 0..=10_000_000)?,
        leave_after: flags.number("leave-after", 3, 1..=1_000_000_000)? as u32,
        time_limit_ns: flags.number("time-limit-secs", 120, 1..=86_400)? as u64 * 1_000_000_000,
        players: flags.number("processes", 1, 1..=64)?,
    };
    if job.slow_readers + job.leavers > job.clients {
        return Err(format!(
            "--slow-readers {} and --leavers {} are more than --clients {}",
            job.slow_readers, job.leavers, job.clients
        ));
    }
    if job.front.is_some() && job.slow_readers > 0 {
        return Err("--front and --slow-readers exclude each other".into());
    }
    if job.players > job.clients {
        return Err(format!(
            "--processes {} is more than --clients {}",
            job.players, job.clients
        ));
    }
    let settle = Duration::from_secs(flags.number("settle-secs", 1, 0..=600)? as u64);
    let rest = Duration::from_secs(flags.number("after-secs", 1, 0..=600)? as u64);
    let json = flags.take("json").map(PathBuf::from);
    Ok(Command::Run(Box::new(Run {
        job,
        beside: flags.take("beside"),
        daemon: flags.daemon()?,
        settle,
        rest,
        json,
    })))
}

fn floor(flags: &mut Flags) -> Result<Command, String> {
    Ok(Command::Floor(Floor {
        door: flags.door()?,
        interval: flags.interval()?,
        plan: flags.take("plan").map(PathBuf::from),
        wake: Duration::from_millis(flags.number("wake-ms", 1, 1..=1000)? as u64),
        max_clients: flags.optional("max-clients", 1..=10_000_000)?,
    }))
}

fn probe(flags: &mut Flags) -> Result<Command, String> {
    Ok(Command::Probe(Probe {
        door: flags.door()?,
        interval: flags.interval()?,
        payload: flags.payload()?,
        daemon: flags.daemon()?,
        limit: Duration::from_secs(flags.number("time-limit-secs", 60, 1..=86_400)? as u64),
    }))
}

fn knock(flags: &mut Flags) -> Result<Command, String> {
    let job = Knocks {
        door: flags.door()?,
        kind: flags.one_of(
            "kind",
            &[
                ("good", Kind::Good),
                ("gone", Kind::Gone),
                ("garbage", Kind::Garbage),
                ("oversized", Kind::Oversized),
                ("two-fds", Kind::TwoFds),
                ("no-fd", Kind::NoFd),
                ("no-socket", Kind::NoSocket),
                ("datagram", Kind::Datagram),
                ("listener", Kind::Listener),
                ("stranger", Kind::Stranger),
                ("silent", Kind::Silent),
                ("trickle", Kind::Trickle),
            ],
        )?,
        client: flags.one_of(
            "client",
            &[("pair", ClientKind::Pair), ("tcp", ClientKind::Tcp)],
        )?,
        rate: flags.number("rate", 20_000, 1..=10_000_000)? as f64,
        time: Duration::from_millis(flags.number("time-ms", 3000, 1..=86_400_000)? as u64),
        most: flags.number("most", usize::MAX, 1..=usize::MAX)? as u64,
        hold: flags.number("hold", 4096, 1..=1_000_000)?,
    };
    let json = match flags.take("json").as_deref() {
        None => false,
        Some("-") => true,
        Some(other) => return Err(format!("--json {other:?}: expected -")),
    };
    Ok(Command::Knock(Knock {
        job,
        daemon: flags.daemon()?,
        json,
    }))
}

fn idle(flags: &mut Flags) -> Result<Command, String> {
    Ok(Command::Idle(Idle {
        door: flags.door()?,
        daemon: flags.daemon()?,
        settle: Duration::from_secs(flags.number("settle-secs", 5, 0..=600)? as u64),
        time: Duration::from_millis(flags.number("time-ms", 10_000, 1..=86_400_000)? as u64),
    }))
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::SockType;

    use super::*;

    fn line(text: &str) -> Result<Command, String> {
        parse(text.split_ascii_whitespace().map(OsString::from))
    }

    fn refusal(text: &str) -> String {
        line(text).expect_err(text)
    }

    #[test]
    fn run_has_the_defaults_of_its_help() {
        let Ok(Command::Run(run)) = line("run --socket /s") else {
            panic!("not a run")
        };
        let Run { job, daemon, .. } = *run;
        assert_eq!((job.clients, job.rate, job.players), (1000, 2000.0, 1));
        assert_eq!(
            (job.client, job.door.kind),
            (ClientKind::Tcp, SockType::SeqPacket)
        );
        assert_eq!(
            (job.interval_ns, job.expect, job.payload),
            (None, None, None)
        );
        assert!(matches!(daemon, Daemon::Attached(pids) if pids.is_empty()));
    }

    #[test]
    fn every_flag_arrives() {
        let text = "run --socket /s --type stream --client pair --clients 7 --rate 3 --interval-ms 300 \
            --expect-events 19 --payload {} --slow-readers 1 --slow-bytes-per-sec 0 --slow-receive-buffer 99 \
            --leavers 2 --leave-after 5 --time-limit-secs 9 --processes 2 --settle-secs 3 --after-secs 4 \
            --daemon-pid 1 --daemon-pid 2 --beside true --json -";
        let Ok(Command::Run(run)) = line(text) else {
            panic!("not a run")
        };
        let Run {
            job,
            daemon,
            settle,
            rest,
            json,
            beside,
        } = *run;
        assert_eq!(beside.as_deref(), Some("true"));
        assert!(job.front.is_none());
        let Ok(Command::Run(run)) = line("run --socket /s --front http://127.0.0.1:80/x") else {
            panic!("not a run")
        };
        assert!(run.job.front.is_some());
        assert_eq!(
            (job.door.kind, job.client, job.clients),
            (SockType::Stream, ClientKind::Pair, 7)
        );
        assert_eq!(
            (job.rate, job.interval_ns, job.expect),
            (3.0, Some(300_000_000), Some(19))
        );
        assert_eq!(job.payload.as_deref(), Some(b"{}".as_slice()));
        assert_eq!(
            (
                job.slow_readers,
                job.slow_bytes_per_sec,
                job.slow_receive_buffer_bytes
            ),
            (1, 0, 99)
        );
        assert_eq!(
            (job.leavers, job.leave_after, job.time_limit_ns, job.players),
            (2, 5, 9_000_000_000, 2)
        );
        assert_eq!(
            (settle.as_secs(), rest.as_secs(), json),
            (3, 4, Some(PathBuf::from("-")))
        );
        assert!(matches!(daemon, Daemon::Attached(pids) if pids == [1, 2]));
    }

    #[test]
    fn knock_has_the_defaults_of_its_help_and_takes_every_flag() {
        let Ok(Command::Knock(Knock { job, json, .. })) = line("knock --socket /s") else {
            panic!("not a knock")
        };
        assert_eq!((job.kind, job.client), (Kind::Good, ClientKind::Pair));
        assert_eq!((job.rate, job.time.as_secs()), (20_000.0, 3));
        assert_eq!((job.most, job.hold, json), (u64::MAX, 4096, false));
        let text = "knock --socket /s --type stream --kind trickle --client tcp --rate 7 --time-ms 8 --most 9 \
            --hold 10 --json - --daemon-pid 1";
        let Ok(Command::Knock(Knock { job, json, daemon })) = line(text) else {
            panic!("not a knock")
        };
        assert_eq!((job.kind, job.client), (Kind::Trickle, ClientKind::Tcp));
        assert_eq!((job.rate, job.time.as_millis()), (7.0, 8));
        assert_eq!((job.most, job.hold, json), (9, 10, true));
        assert!(matches!(daemon, Daemon::Attached(pids) if pids == [1]));
        assert!(refusal("knock --socket /s --kind rude").contains("expected good or gone or"));
    }

    #[test]
    fn refusals_name_flag_value_and_what_is_expected() {
        assert!(refusal("run").contains("--socket is missing"));
        assert!(
            refusal("run --socket /s --clients many")
                .contains("--clients \"many\": expected a number")
        );
        assert!(refusal("run --socket /s --clients 0").contains("1 to"));
        assert!(refusal("run --socket /s --type dgram").contains("expected seqpacket or stream"));
        assert!(
            refusal("run --socket /s --front http://127.0.0.1:1/ --slow-readers 1")
                .contains("exclude each other")
        );
        assert!(
            refusal("run --socket /s --front https://h/")
                .contains("--front \"https://h/\": expected http://")
        );
        assert!(refusal("run --socket /s --speed 9").contains("--speed is not a flag"));
        assert!(refusal("floor --socket /s --clients 9").contains("--clients is not a flag"));
        assert!(refusal("fly --socket /s").contains("expected run, floor, probe, knock or idle"));
        assert!(
            refusal("run --socket /s --clients 2 --slow-readers 2 --leavers 1")
                .contains("more than --clients 2")
        );
        assert!(
            refusal("run --socket /s --clients 2 --processes 3").contains("more than --clients 2")
        );
        assert!(
            refusal("run --socket /s --command x --daemon-pid 1").contains("exclude each other")
        );
        assert!(refusal("run --socket /s --daemon-pid -1").contains("expected a process id"));
    }
}
