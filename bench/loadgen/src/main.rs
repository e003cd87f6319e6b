//! Load generator for daemons that take client sockets by SCM_RIGHTS and stream Server-Sent Events. See `--help`.

mod args;
mod board;
mod clock;
mod flags;
mod floor;
mod handoff;
mod idle;
mod knock;
mod observer;
mod plan;
mod player;
mod probe;
mod report;
mod sample;
mod sse;
mod tally;
mod target;

use std::fs;
use std::io;
use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use args::{Command, Daemon};
use handoff::{Door, listen_at};
use plan::Plan;
use report::Report;
use target::Target;

/// fds that a process needs beside its clients'.
const FD_RESERVE: usize = 64;

fn main() -> ExitCode {
    let command = match args::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(message) => {
            eprintln!("loadgen: {message}");
            return ExitCode::from(2);
        }
    };
    match execute(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> io::Result<()> {
    match command {
        Command::Help => print!("{}", args::HELP),
        Command::Run(run) => {
            let room = fd_limit()?.saturating_sub(FD_RESERVE);
            if run.job.clients.div_ceil(run.job.players) > room {
                return Err(io::Error::other(format!(
                    "{} clients in {} processes are more than the fd limit allows, {room} each; use --processes",
                    run.job.clients, run.job.players
                )));
            }
            let args::Run {
                job,
                daemon,
                settle,
                rest,
                beside,
                json,
            } = *run;
            let mut target = target(daemon, &job.door)?;
            let measured = observer::run(&job, &mut target, settle, rest, beside.as_deref())?;
            drop(target);
            let report = Report::new(&job, measured);
            let text = serde_json::to_string_pretty(&report)? + "\n";
            match json {
                Some(path) if path.as_os_str() == "-" => print!("{text}"),
                Some(path) => {
                    fs::write(path, text)?;
                    print!("{}", report.text());
                }
                None => print!("{}", report.text()),
            }
        }
        Command::Floor(options) => {
            let plan = match &options.plan {
                Some(path) => Plan::from_json(&fs::read_to_string(path)?)
                    .map_err(|e| named(&path.display().to_string(), e))?,
                None => Plan::default(),
            };
            let room = fd_limit()?.saturating_sub(FD_RESERVE);
            let listener = match floor::passed_listener() {
                Some(listener) => listener,
                None => listen_at(&options.door)
                    .map_err(|e| named(&options.door.address.to_string(), e))?,
            };
            let interval_ns = options.interval.as_nanos() as u64;
            let wake_ns = options.wake.as_nanos() as u64;
            floor::serve(
                listener,
                &plan,
                interval_ns,
                wake_ns,
                options.max_clients.unwrap_or(room).min(room),
            )?;
        }
        Command::Probe(options) => {
            let target = target(options.daemon, &options.door)?;
            let probed = probe::probe(
                &options.door,
                options.payload.as_deref(),
                options.interval,
                options.limit,
            )?;
            drop(target);
            eprintln!(
                "{} events in {} sends",
                probed.events,
                probed.plan.sends.len()
            );
            println!("{}", serde_json::to_string_pretty(&probed.plan)?);
        }
        Command::Knock(args::Knock { job, daemon, json }) => {
            let room = fd_limit()?.saturating_sub(FD_RESERVE);
            if job.hold > room {
                return Err(io::Error::other(format!(
                    "--hold {} is more than the fd limit allows, {room}",
                    job.hold
                )));
            }
            let mut target = target(daemon, &job.door)?;
            let knocked = knock::run(&job, &mut target)?;
            drop(target);
            match json {
                true => println!("{}", serde_json::to_string_pretty(&knocked)?),
                false => print!("{}", knocked.text()),
            }
        }
        Command::Idle(options) => {
            let mut target = target(options.daemon, &options.door)?;
            let idle = idle::watch(&mut target, options.settle, options.time)?;
            drop(target);
            println!("{}", serde_json::to_string_pretty(&idle)?);
        }
    }
    Ok(())
}

fn target(daemon: Daemon, door: &Door) -> io::Result<Target> {
    match daemon {
        Daemon::Attached(pids) => Ok(Target::attach(pids)),
        Daemon::Started(launch) => Target::start(&launch, door),
    }
}

/// Raises the soft limit of open files to the hard one and returns it.
fn fd_limit() -> io::Result<usize> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(usize::try_from(hard).unwrap_or(usize::MAX))
}

fn named(what: &str, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{what}: {error}"))
}
