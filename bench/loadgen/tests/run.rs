//! The program as users run it: against its own floor, where nothing may be lost, and against a daemon that loses,
//! cuts and refuses, which it has to show.

use std::io::{IoSliceMut, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread;

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept4,
    bind, listen, recvmsg, setsockopt, socket, sockopt,
};
use serde_json::Value;

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");

struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("loadgen-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        TempDir(path)
    }

    fn socket(&self) -> String {
        self.0.join("s").to_str().unwrap().to_owned()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A process that ends with its test.
struct Running(Child);

impl Running {
    fn stop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn loadgen(args: &[&str]) -> Output {
    Command::new(LOADGEN).args(args).output().unwrap()
}

fn report(args: &[&str]) -> Value {
    let output = loadgen(
        &[
            args,
            &["--json", "-", "--settle-secs", "0", "--after-secs", "0"],
        ]
        .concat(),
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn against_the_floor_every_stream_is_whole_and_every_count_exact() {
    let dir = TempDir::new("floor");
    for (kind, client) in [
        ("seqpacket", "tcp"),
        ("seqpacket", "pair"),
        ("stream", "tcp"),
        ("stream", "pair"),
    ] {
        let socket = format!("{}-{kind}-{client}", dir.socket());
        let floor = format!("{LOADGEN} floor --socket {socket} --type {kind} --interval-ms 10");
        let r = report(&[
            "run",
            "--socket",
            &socket,
            "--type",
            kind,
            "--client",
            client,
            "--clients",
            "50",
            "--rate",
            "2000",
            "--interval-ms",
            "10",
            "--expect-events",
            "19",
            "--command",
            &floor,
        ]);
        let streams = &r["streams"];
        assert_eq!(streams["complete"], 50, "{kind} {client}: {streams}");
        for other in ["broken", "lost", "refused", "left", "slow_open"] {
            assert_eq!(streams[other], 0, "{kind} {client}: {streams}");
        }
        assert_eq!(r["events"], 50 * 19);
        assert_eq!(r["ttfb"]["count"], 50);
        assert_eq!(r["gap"]["count"], 50 * 17);
        assert_eq!(r["deviation"]["count"], 50 * 17);
        assert_eq!(
            r["sends_per_event"].as_f64(),
            (client == "tcp").then_some(1.0)
        );
        let daemon = &r["daemon"];
        assert_eq!(daemon["processes"], 1);
        assert_eq!(
            daemon["after"]["fds"], daemon["idle"]["fds"],
            "the floor leaks fds"
        );
        assert!(daemon["cpu_us_per_event"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn several_players_and_several_floors_on_one_socket_add_up() {
    let dir = TempDir::new("many");
    let floor = format!("{LOADGEN} floor --socket {} --interval-ms 20", dir.socket());
    let r = report(&[
        "run",
        "--socket",
        &dir.socket(),
        "--clients",
        "60",
        "--rate",
        "5000",
        "--interval-ms",
        "20",
        "--processes",
        "3",
        "--instances",
        "2",
        "--expect-events",
        "19",
        "--command",
        &floor,
    ]);
    assert_eq!(
        (&r["streams"]["complete"], &r["events"]),
        (&60.into(), &(60 * 19).into())
    );
    assert_eq!(
        (&r["daemon"]["processes"], &r["processes"]),
        (&2.into(), &3.into())
    );
    assert_eq!(r["daemon"]["after"]["fds"], r["daemon"]["idle"]["fds"]);
}

#[test]
fn leavers_leave_and_slow_readers_stay() {
    let dir = TempDir::new("roles");
    let floor = format!("{LOADGEN} floor --socket {} --interval-ms 10", dir.socket());
    let r = report(&[
        "run",
        "--socket",
        &dir.socket(),
        "--clients",
        "40",
        "--rate",
        "2000",
        "--interval-ms",
        "10",
        "--leavers",
        "10",
        "--leave-after",
        "4",
        "--slow-readers",
        "5",
        "--slow-bytes-per-sec",
        "20000",
        "--command",
        &floor,
    ]);
    assert_eq!(
        (&r["streams"]["left"], &r["streams"]["complete"]),
        (&10.into(), &30.into()),
        "{}",
        r["streams"]
    );
    assert_eq!(r["events"], 30 * 19 + 10 * 4);
}

#[test]
fn probe_makes_a_plan_that_the_floor_plays_alike() {
    let dir = TempDir::new("probe");
    let probe = |socket: &str, floor: &str| {
        let output = loadgen(&[
            "probe",
            "--socket",
            socket,
            "--interval-ms",
            "40",
            "--command",
            floor,
        ]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    };
    let (one, two) = (format!("{}1", dir.socket()), format!("{}2", dir.socket()));
    let first = probe(
        &one,
        &format!("{LOADGEN} floor --socket {one} --interval-ms 40"),
    );
    let plan = dir.0.join("plan.json");
    std::fs::write(&plan, &first).unwrap();
    let again = probe(
        &two,
        &format!(
            "{LOADGEN} floor --socket {two} --interval-ms 40 --plan {}",
            plan.display()
        ),
    );
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let (first, again) = (read(&first), read(&again));
    let sends = |plan: &Value| plan["sends"].as_array().unwrap().clone();
    let texts =
        |plan: &Value| -> Vec<Value> { sends(plan).iter().map(|s| s["text"].clone()).collect() };
    assert_eq!(texts(&first).len(), 19);
    assert_eq!(texts(&first), texts(&again));
    // A machine that is busy makes gaps longer and the next ones shorter, but not the whole.
    for plan in [first, again] {
        let slots: Vec<u64> = sends(&plan)
            .iter()
            .map(|s| s["slot"].as_u64().unwrap())
            .collect();
        assert!(
            slots.is_sorted() && slots[0] == 0 && slots[18] >= 15,
            "{slots:?}"
        );
    }
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

/// Treats the nth client in one of six ways, five of which are faults.
fn faulty_daemon(path: &Path, clients: usize) -> thread::JoinHandle<()> {
    let listener = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    listen(&listener, Backlog::MAXCONN).unwrap();
    thread::spawn(move || {
        let mut silent = Vec::new();
        for nth in 0..clients {
            let mut client = TcpStream::from(receive(&listener));
            match nth % 6 {
                0 => client
                    .write_all(&[HEAD, b"data: a\n\ndata: b\n\ndata: [DONE]\n\n"].concat())
                    .unwrap(),
                1 => {}
                2 => client.write_all(&[HEAD, b"data: a\n\n"].concat()).unwrap(),
                3 => client
                    .write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
                    .unwrap(),
                4 => {
                    client
                        .write_all(&[HEAD, b"data: a\n\ndata: b\n\n"].concat())
                        .unwrap();
                    // The close becomes a RST.
                    let linger = nix::libc::linger {
                        l_onoff: 1,
                        l_linger: 0,
                    };
                    setsockopt(&client, sockopt::Linger, &linger).unwrap();
                }
                _ => {
                    client
                        .write_all(&[HEAD, b"data: a\n\ndata: [DONE]\n\n"].concat())
                        .unwrap();
                }
            }
            if nth == clients - 1 {
                silent.push(client);
            }
        }
        // Only the last one is kept open, until the load generator has given it up.
        thread::sleep(std::time::Duration::from_millis(2500));
    })
}

fn receive(listener: &OwnedFd) -> OwnedFd {
    let connection = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC).unwrap();
    // SAFETY: accept4 has just made this fd.
    let connection = unsafe { OwnedFd::from_raw_fd(connection) };
    let (mut control, mut data) = (cmsg_space!(RawFd), [0; 4096]);
    let mut parts = [IoSliceMut::new(&mut data)];
    let message = recvmsg::<()>(
        connection.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .unwrap();
    let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().unwrap().next() else {
        panic!("no fd")
    };
    // SAFETY: the kernel has just installed this fd.
    unsafe { OwnedFd::from_raw_fd(fds[0]) }
}

#[test]
fn a_daemon_that_loses_cuts_and_refuses_is_shown_to() {
    let dir = TempDir::new("faulty");
    let daemon = faulty_daemon(Path::new(&dir.socket()), 61);
    let r = report(&[
        "run",
        "--socket",
        &dir.socket(),
        "--clients",
        "61",
        "--rate",
        "2000",
        "--expect-events",
        "3",
        "--time-limit-secs",
        "2",
    ]);
    daemon.join().unwrap();
    let streams = &r["streams"];
    let reasons = &streams["reasons"];
    assert_eq!(
        (&streams["complete"], &streams["broken"]),
        (&10.into(), &31.into()),
        "{streams}"
    );
    assert_eq!(
        (&streams["lost"], &streams["refused"]),
        (&10.into(), &10.into()),
        "{streams}"
    );
    assert_eq!(reasons["closed without an answer"], 10);
    assert_eq!(reasons["ended without [DONE]"], 10);
    assert_eq!(reasons["status 503"], 10);
    assert_eq!(reasons["reset before [DONE]"], 10);
    assert_eq!(reasons["2 events instead of 3"], 10);
    assert_eq!(reasons["time limit after [DONE]"], 1);
    assert!(r["daemon"].is_null());
}

#[test]
fn a_command_that_ends_or_never_accepts_is_an_error() {
    let dir = TempDir::new("dead");
    let run = |command: &str| {
        loadgen(&[
            "run",
            "--socket",
            &dir.socket(),
            "--start-limit-secs",
            "1",
            "--command",
            command,
        ])
    };
    for (command, says) in [("false", "ended"), ("sleep 20", "nobody takes handoffs")] {
        let output = run(command);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(says),
            "{output:?}"
        );
    }
    assert_eq!(
        loadgen(&["run", "--socket", "/s", "--clients", "x"])
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn knocking_counts_what_clients_are_told_and_what_did_not_get_through() {
    let dir = TempDir::new("knock");
    let mut floor = Running(
        Command::new(LOADGEN)
            .args(["floor", "--interval-ms", "1000", "--socket", &dir.socket()])
            .spawn()
            .unwrap(),
    );
    let knock = |kind: &str, most: &str, more: &[&str]| -> Value {
        let socket = dir.socket();
        let args = [
            "knock", "--socket", &socket, "--kind", kind, "--most", most, "--json", "-",
        ];
        let output = loadgen(&[&args, more].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    while !Path::new(&dir.socket()).exists() {
        thread::yield_now();
    }
    for client in ["pair", "tcp"] {
        let good = knock("good", "300", &["--client", client, "--hold", "10"]);
        assert_eq!(
            (&good["knocks"], &good["answers"]["200"]),
            (&300.into(), &300.into()),
            "{good}"
        );
        assert_eq!(good["failed"], serde_json::json!({}));
    }
    // The floor serves the first of two.
    let two = knock("two-fds", "20", &[]);
    assert_eq!(two["answers"], serde_json::json!({ "200": 20 }));
    for kind in ["gone", "no-fd", "no-socket", "datagram", "silent"] {
        let told = knock(kind, "20", &["--hold", "5"]);
        assert_eq!(
            (&told["knocks"], &told["answers"]),
            (&20.into(), &serde_json::json!({})),
            "{kind}"
        );
    }
    let slow = knock("no-fd", "1000000", &["--rate", "1000", "--time-ms", "200"]);
    let knocks = slow["knocks"].as_u64().unwrap();
    assert!((100..=200).contains(&knocks), "{knocks} of 200");
    floor.stop();
    let nobody = knock("good", "5", &[]);
    assert_eq!(
        nobody["failed"],
        serde_json::json!({ "Connection refused": 5 })
    );
    let wrong = loadgen(&["knock", "--socket", &dir.socket(), "--kind", "trickle"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("needs --type stream"));
}

#[test]
fn a_command_beside_runs_while_all_are_served_and_its_failure_is_one() {
    let dir = TempDir::new("beside");
    let floor = format!(
        "{LOADGEN} floor --socket {} --interval-ms 100",
        dir.socket()
    );
    let run = |beside: &str| {
        let socket = dir.socket();
        let args = [
            "run",
            "--socket",
            &socket,
            "--clients",
            "20",
            "--settle-secs",
            "0",
            "--after-secs",
            "0",
        ];
        loadgen(&[&args[..], &["--command", &floor, "--beside", beside]].concat())
    };
    let mark = dir.0.join("mark");
    assert!(run(&format!("touch {}", mark.display())).status.success());
    assert!(mark.exists());
    let failed = run("exit 3");
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&failed.stderr).contains("--beside ended"),
        "{failed:?}"
    );
}

#[test]
fn a_floor_without_clients_sleeps() {
    let dir = TempDir::new("idle");
    let floor = format!("{LOADGEN} floor --socket {}", dir.socket());
    let output = loadgen(&[
        "idle",
        "--socket",
        &dir.socket(),
        "--time-ms",
        "500",
        "--command",
        &floor,
    ]);
    let idle: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&idle["processes"], &idle["threads"]),
        (&1.into(), &1.into())
    );
    assert!(idle["wakeups_per_sec"].as_f64().unwrap() < 4.0, "{idle}");
}
