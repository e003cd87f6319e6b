//! The daemon under test: processes that run already, or that are started here and stopped again.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::handoff::{Door, knock, listen_at};
use crate::sample::with_descendants;

/// How to start a daemon.
#[derive(Debug, Clone)]
pub struct Launch {
    /// A line for sh(1): assignments, program, arguments.
    pub command: String,
    /// With a count, so many processes share one listener that is passed to them as LISTEN_FDS, and each has to say
    /// READY=1 (sd_notify(3)); without, the command binds the socket itself.
    pub instances: Option<u32>,
    /// Where its output goes; `None`: its errors to ours.
    pub log: Option<PathBuf>,
    /// How long it may take until it accepts.
    pub start_limit: Duration,
}

/// A daemon that accepts handoffs.
#[derive(Debug)]
pub struct Target {
    children: Vec<Child>,
    attached: Vec<i32>,
    shared: Option<Shared>,
}

/// What instances have in common until they are stopped.
#[derive(Debug)]
struct Shared {
    listener: OwnedFd,
    notify: UnixDatagram,
    notify_path: PathBuf,
    _files: [RemoveFile; 2],
}

impl Shared {
    fn new(door: &Door) -> io::Result<Self> {
        let path = door
            .address
            .path()
            .ok_or_else(|| io::Error::other("--instances needs a socket with a path"))?;
        let named = |e| io::Error::other(format!("cannot listen at {}: {e}", path.display()));
        // Out of the way of fd 3, where it goes in the children.
        let listener = move_up(&listen_at(door).map_err(named)?)?;
        let listener_file = RemoveFile(path.to_owned());
        let notify_path = path.with_extension("notify");
        let notify = UnixDatagram::bind(&notify_path)?;
        notify.set_nonblocking(true)?;
        let files = [listener_file, RemoveFile(notify_path.clone())];
        Ok(Shared {
            listener,
            notify,
            notify_path,
            _files: files,
        })
    }

    /// Takes all notifications that have come, so that no sender waits, and counts those that say READY=1.
    fn take_ready(&self) -> io::Result<u32> {
        let (mut ready, mut buf) = (0, [0; 4096]);
        loop {
            match self.notify.recv(&mut buf) {
                Ok(n) => {
                    ready += u32::from(buf[..n].split(|&b| b == b'\n').any(|l| l == b"READY=1"))
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(ready),
                Err(e) => return Err(e),
            }
        }
    }
}

const POLL: Duration = Duration::from_millis(10);
const STOP_LIMIT: Duration = Duration::from_secs(10);

impl Target {
    /// Processes that somebody else started, and stops.
    pub fn attach(pids: Vec<i32>) -> Self {
        Target {
            children: Vec::new(),
            attached: pids,
            shared: None,
        }
    }

    /// Starts a daemon and waits until it takes handoffs at `door`.
    pub fn start(launch: &Launch, door: &Door) -> io::Result<Self> {
        let mut target = Target {
            children: Vec::new(),
            attached: Vec::new(),
            shared: None,
        };
        let limit = Instant::now() + launch.start_limit;
        match launch.instances {
            None => {
                target.children.push(spawn(launch, None)?);
                target.wait_for_door(door, limit)?;
            }
            Some(count) => target.start_instances(launch, door, count, limit)?,
        }
        Ok(target)
    }

    fn start_instances(
        &mut self,
        launch: &Launch,
        door: &Door,
        count: u32,
        limit: Instant,
    ) -> io::Result<()> {
        let shared = self.shared.insert(Shared::new(door)?);
        for _ in 0..count {
            self.children.push(spawn(launch, Some(shared))?);
        }
        let mut ready = 0;
        while ready < count {
            // READY=1 and what else they say is taken here and in every later `check_alive`.
            ready += self.check_alive()?;
            if Instant::now() >= limit {
                return Err(io::Error::other(format!(
                    "{ready} of {count} instances said READY=1 in {:?}; with --instances the command has to adopt \
                     LISTEN_FDS and notify NOTIFY_SOCKET, as systemd's Type=notify expects",
                    launch.start_limit
                )));
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// Knocks until somebody opens. A connection that says nothing is what stays of it.
    fn wait_for_door(&mut self, door: &Door, limit: Instant) -> io::Result<()> {
        loop {
            match knock(door) {
                Ok(_) => return Ok(()),
                Err(Errno::ENOENT | Errno::ECONNREFUSED | Errno::EAGAIN)
                    if Instant::now() < limit => {}
                Err(e) => {
                    return Err(io::Error::other(format!(
                        "nobody takes handoffs at {}: {e}",
                        door.address
                    )));
                }
            }
            self.check_alive()?;
            sleep(POLL);
        }
    }

    /// The processes to measure: children of the command too, as they are now.
    pub fn pids(&self) -> Vec<i32> {
        let started = self.children.iter().map(|c| c.id() as i32);
        with_descendants(
            &self
                .attached
                .iter()
                .copied()
                .chain(started)
                .collect::<Vec<_>>(),
        )
    }

    /// An error if a process that was started here has ended. Returns how many have said READY=1 since the last call.
    pub fn check_alive(&mut self) -> io::Result<u32> {
        for child in &mut self.children {
            if let Some(status) = child.try_wait()? {
                return Err(io::Error::other(format!(
                    "the daemon (process {}) ended: {status}",
                    child.id()
                )));
            }
        }
        self.shared.as_ref().map_or(Ok(0), Shared::take_ready)
    }

    /// SIGTERM, and SIGKILL to what is still there after 10 s, to the process groups that were started here.
    fn stop(&mut self) {
        for child in &self.children {
            signal_group(child, Signal::SIGTERM);
        }
        let limit = Instant::now() + STOP_LIMIT;
        for child in &mut self.children {
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < limit {
                if let Some(Err(error)) = self.shared.as_ref().map(Shared::take_ready) {
                    eprintln!("loadgen: notifications: {error}");
                }
                sleep(POLL);
            }
            signal_group(child, Signal::SIGKILL);
            if let Err(error) = child.wait() {
                eprintln!("loadgen: process {}: {error}", child.id());
            }
        }
        self.children.clear();
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Debug)]
struct RemoveFile(PathBuf);

impl Drop for RemoveFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            eprintln!("loadgen: {}: {error}", self.0.display());
        }
    }
}

fn signal_group(child: &Child, signal: Signal) {
    // ESRCH: all of the group has ended already, which is what is wanted.
    match killpg(Pid::from_raw(child.id() as i32), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => eprintln!("loadgen: {signal} to process group {}: {error}", child.id()),
    }
}

fn move_up(fd: &OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    let high = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(10))?;
    // SAFETY: fcntl has just made this fd and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(high) })
}

/// Starts the command in a process group of its own, which SIGTERM reaches if this process dies.
fn spawn(launch: &Launch, shared: Option<&Shared>) -> io::Result<Child> {
    let mut command = Command::new("sh");
    command.stdin(Stdio::null()).process_group(0);
    match &launch.log {
        Some(path) => {
            let log = File::options().create(true).append(true).open(path)?;
            command.stdout(log.try_clone()?).stderr(log);
        }
        None => {
            command.stdout(Stdio::null());
        }
    }
    let line = &launch.command;
    let fd = match shared {
        Some(Shared {
            listener,
            notify_path,
            ..
        }) => {
            // The process id stays the same over both execs.
            command
                .arg("-c")
                .arg(format!("LISTEN_PID=$$ exec env {line}"));
            command
                .env("LISTEN_FDS", "1")
                .env("NOTIFY_SOCKET", notify_path);
            Some(listener.as_raw_fd())
        }
        None => {
            command.arg("-c").arg(format!("exec env {line}"));
            command
                .env_remove("LISTEN_FDS")
                .env_remove("LISTEN_PID")
                .env_remove("NOTIFY_SOCKET");
            None
        }
    };
    let prepare = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
        if let Some(fd) = fd {
            // SAFETY: both are plain fd numbers; fd 3 is free in the child but for close-on-exec leftovers.
            Errno::result(unsafe { libc::dup2(fd, 3) })?;
        }
        Ok(())
    };
    // SAFETY: `prepare` makes two system calls, allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
    command.spawn()
}
