/**
 * The shim, in Rust.
 * @module
 */
import type { FaultyFile } from "../fault.ts";

/** See the module. */
export const SHIM: readonly FaultyFile[] = [
  {
    file: "shim/src/handoff.rs",
    faults: [
      {
        id: "tcp-user-timeout-is-not-set",
        text: "set(libc::TCP_USER_TIMEOUT, self.policy.client_timeout_ms);",
        instead: "",
        cargo: ["handoff"],
      },
      {
        id: "a-corked-client-stays-corked",
        text: "            set(libc::TCP_CORK, 0);\n",
        instead: "",
        cargo: ["clients", "handoff"],
      },
      {
        id: "a-silent-client-takes-megabytes",
        text: "            set(libc::TCP_NOTSENT_LOWAT, NOT_SENT_BYTES);\n",
        instead: "",
        cargo: ["clients", "handoff"],
      },
      {
        id: "a-lingering-client-lingers",
        text: "        socket::setsockopt(&socket, sockopt::Linger, &sys::NO_LINGER).map_err(failure)?;\n",
        instead: "",
        cargo: ["handoff"],
      },
      {
        id: "two-descriptors-are-one",
        text: "if self.fds > 1 {",
        instead: "if self.fds > 2 {",
        cargo: ["refusals"],
      },
      {
        id: "a-lost-descriptor-is-none",
        text: "        if received.control_truncated {",
        instead: "        if false {",
        cargo: ["fd_limit", "attacks"],
      },
      {
        id: "a-message-that-is-cut-is-whole",
        text: "        if received.bytes > room {",
        instead: "        if false {",
        cargo: ["refusals"],
      },
      {
        id: "a-stream-s-payload-without-a-bound",
        text: "        if self.payload.len() > limit {",
        instead: "        if false {",
        cargo: ["stream", "refusals"],
      },
      {
        id: "strangers-are-waited-for",
        text: "timeout.min(PATIENCE_WITH_STRANGERS)",
        instead: "timeout",
        cargo: ["refusals"],
      },
      {
        id: "a-datagram-socket-is-a-client",
        text: "Ok(other) => return Err((Reason::NotStream, other.unsigned_abs())),",
        instead: "Ok(_) => {}",
        cargo: ["refusals"],
      },
      {
        id: "a-listener-is-a-client",
        text: "return Err((Reason::Listening, 0));",
        instead: "{}",
        cargo: ["refusals"],
      },
      {
        id: "a-person-is-not-told",
        text: "let _unsent = socket::send(self.connection.as_raw_fd(), NO_FD_LINE, flags);",
        instead: "let _unsent = flags;",
        cargo: ["refusals"],
      },
      {
        id: "strangers-may-hand-off",
        text:
          "        if !self.is_allowed {\n            return Ok(Some(self.refuse(Reason::UidNotAllowed, self.uid)));\n        }\n        if self.fds",
        instead: "        if self.fds",
        cargo: ["refusals"],
      },
      {
        id: "a-message-after-a-close-gets-lost",
        text: "if is_message && is_nothing {",
        instead: "if is_message && is_nothing && false {",
        cargo: ["handoff"],
      },
      {
        id: "a-lost-descriptor-without-data-is-nothing",
        text: " && !received.control_truncated;",
        instead: ";",
        cargo: ["fd_limit"],
      },
      {
        id: "the-client-of-two-is-told",
        text: "let passed = if self.fds == 1 { self.passed.take() } else { None };",
        instead: "let passed = self.passed.take();",
        cargo: ["refusals"],
      },
    ],
  },
  {
    file: "shim/src/framing.rs",
    faults: [
      {
        id: "a-brace-in-a-string-counts",
        text: "b'\"' => self.in_string = self.depth > 0,",
        instead: "b'\"' => self.in_string = false,",
        cargo: ["lib", "stream"],
      },
      {
        id: "an-escaped-quote-ends-a-string",
        text: "b'\\\\' => self.escaped = true,",
        instead: "b'\\\\' => self.escaped = false,",
        cargo: ["lib", "stream"],
      },
      {
        id: "a-nul-in-the-middle-is-an-end",
        text: "if !self.begun && piece.first() == Some(&0) {",
        instead: "if piece.first() == Some(&0) {",
        cargo: ["lib", "stream"],
      },
      {
        id: "the-last-brace-is-not-part-of-it",
        text: "return Some(at + 1),",
        instead: "return Some(at),",
        cargo: ["lib"],
      },
    ],
  },
  {
    file: "shim/src/listener.rs",
    faults: [
      {
        id: "another-s-path-is-removed",
        text: "found.dev() == self.device && found.ino() == self.inode",
        instead: "true",
        cargo: ["listeners"],
      },
      {
        id: "a-live-socket-is-replaced",
        text: "Ok(()) | Err(Errno::EPROTOTYPE) => Err(Status::SOCKET_LIVE),",
        instead: "Ok(()) | Err(Errno::EPROTOTYPE) => found.remove(),",
        cargo: ["listeners"],
      },
      {
        id: "a-file-is-taken-for-a-stale-socket",
        text: "Ok(_) => return Err(Status::NOT_A_SOCKET),",
        instead: "Ok(_) => {}",
        cargo: ["listeners"],
      },
      {
        id: "a-failed-listener-leaves-its-path",
        text: "                bound.remove()?;\n",
        instead: "",
        tests: ["e2e/cli_test.ts"],
      },
      {
        id: "the-umask-is-in-the-mode",
        text: "        fs::set_permissions(path, Permissions::from_mode(mode))?;\n",
        instead: "",
        cargo: ["listeners"],
      },
      {
        id: "an-adopted-socket-is-shut-down",
        text:
          "        if self.is_ours {\n            socket::shutdown(self.socket.as_raw_fd(), Shutdown::Both)?;\n        }",
        instead: "        socket::shutdown(self.socket.as_raw_fd(), Shutdown::Both)?;",
        cargo: ["listeners"],
      },
      {
        id: "an-adopted-socket-blocks",
        text: "OFlag::O_NONBLOCK))?;\n    // Whoever",
        instead: "OFlag::empty()))?;\n    // Whoever",
        cargo: ["listeners"],
        survives: "accept(2) of an adopted listener has a time-out of a millisecond besides",
      },
    ],
  },
  {
    file: "shim/src/acceptor/mod.rs",
    faults: [
      {
        id: "a-thread-that-fails-leaves-its-path",
        text: "let _stays = listener.remove_path();",
        instead: "let _stays = listener;",
        cargo: ["lib"],
      },
      {
        id: "one-client-beyond-the-limit",
        text: "fetch_add(1, Ordering::Relaxed) >= most;",
        instead: "fetch_add(1, Ordering::Relaxed) > most;",
        cargo: ["handoff"],
      },
      {
        id: "the-fullest-reactor-gets-the-next",
        text: ".min_by_key(fewest)",
        instead: ".max_by_key(fewest)",
        cargo: ["reactors"],
      },
      {
        id: "a-shut-reactor-gets-the-next",
        text: ".filter(|seat| are_all_closed || is_open(seat))",
        instead: ".filter(|_| true)",
        cargo: ["reactors"],
      },
      {
        id: "clients-are-never-counted-out",
        text: "        self.active.fetch_sub(clients, Ordering::Relaxed);\n",
        instead: "",
        cargo: ["handoff", "reactors", "clients"],
      },
      {
        id: "what-a-closed-reactor-had-is-dropped",
        text: "lock(&self.orders).returned.append(&mut untaken);",
        instead: "untaken.clear();",
        cargo: ["reactors"],
      },
      {
        id: "a-moved-handoff-keeps-its-flags",
        text: "        arrival.flags &= !(OVER_LIMIT | NO_ROOM);\n",
        instead: "",
        cargo: ["reactors", "handoff"],
      },
    ],
  },
  {
    file: "shim/src/acceptor/rounds.rs",
    faults: [
      {
        id: "drained-while-somebody-waits",
        text: " && self.waiting.is_empty();",
        instead: ";",
        cargo: ["stop"],
      },
      {
        id: "drained-while-a-handoff-is-pending",
        text: "is_over && self.pending.len() == 0 &&",
        instead: "is_over &&",
        cargo: ["stop"],
      },
      {
        id: "drained-is-said-again",
        text: "            self.is_drained = true;\n",
        instead: "",
        cargo: ["stop"],
      },
      {
        id: "the-pending-have-no-bound",
        text: "if self.pending.len() >= handoff.policy.max_pending {",
        instead: "if false {",
        cargo: ["handoff", "stream"],
      },
      {
        id: "time-stands-still-for-the-pending",
        text: ".is_some_and(|first| first <= now || stage == Stage::Hasty)",
        instead: ".is_some_and(|_| stage == Stage::Hasty)",
        cargo: ["refusals"],
      },
      {
        id: "others-have-no-share-of-a-full-daemon-s",
        text: "if !listener.is_ours && !is_final && !has_rested && self.is_full() {",
        instead: "if false {",
        cargo: ["listeners"],
      },
      {
        id: "who-waits-is-overtaken",
        text:
          "        if !self.waiting.is_empty() {\n            self.waiting.push_back(arrival);\n        } else if",
        instead: "        if",
        cargo: ["reactors"],
        survives:
          "while somebody waits nothing is received, so that nothing comes after it but refusals whose time is up",
      },
      {
        id: "a-larger-buffer-comes-with-the-next-start",
        text: "if self.scratch.len() < scratch_bytes {",
        instead: "if self.scratch.is_empty() {",
        cargo: ["handoff"],
      },
    ],
  },
  {
    file: "shim/src/clients.rs",
    faults: [
      {
        id: "a-former-client-s-events",
        text: "Some(slot) if slot.serial == serial => {",
        instead: "Some(slot) => {",
        cargo: ["clients"],
      },
      {
        id: "a-full-client-is-sent-to",
        text: "if ends && !slot.is_full &&",
        instead: "if ends &&",
        cargo: ["clients"],
      },
      {
        id: "a-word-out-of-range-is-sent",
        text: "offset + length <= data_bytes as u64 &&",
        instead: "length <= data_bytes as u64 &&",
        cargo: ["clients"],
      },
      {
        id: "a-client-s-end-is-told-again",
        text: "            self.is_gone = true;\n",
        instead: "",
        cargo: ["clients"],
      },
      {
        id: "a-client-that-had-left-is-not-seen",
        text: "poll(&mut watched, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)",
        instead: "poll(&mut watched, PollTimeout::ZERO).is_ok_and(|ready| ready > 1)",
        cargo: ["clients", "moves"],
      },
      {
        id: "a-reset-has-no-errno",
        text: "errno.unwrap_or(0).unsigned_abs()",
        instead: "0",
        cargo: ["clients"],
      },
      {
        id: "closed-the-sender-s-socket-is-watched",
        text: "        let _not_watched = epoll.delete(&self.socket);\n",
        instead: "",
        cargo: ["clients", "handoff"],
      },
      {
        id: "an-end-that-fails-is-an-end",
        text: " && *result == count(data.len())",
        instead: "",
        cargo: ["clients"],
      },
    ],
  },
  {
    file: "shim/src/passed.rs",
    faults: [
      {
        id: "a-refused-client-lingers",
        text: "socket::setsockopt(&fd, sockopt::Linger, &sys::NO_LINGER).is_ok()",
        instead: "true",
        cargo: ["attacks"],
      },
      {
        id: "what-a-client-said-costs-it-its-last-bytes",
        text: "            discard(self.as_fd());\n",
        instead: "",
        cargo: ["clients"],
      },
      {
        id: "an-end-is-left-to-the-sender",
        text: "        let _gone = socket::shutdown(self.as_raw_fd(), Shutdown::Write);\n",
        instead: "",
        cargo: ["clients"],
      },
      {
        id: "closes-that-block-without-a-bound",
        text: "lock(&self.0).fds.len() < MOST_WAITING",
        instead: "true",
        cargo: ["attacks"],
      },
    ],
  },
  {
    file: "shim/src/events.rs",
    faults: [
      {
        id: "rings-for-each-event",
        text: "was_empty && waiting.len() > 0 && !waiting.is_awaited",
        instead: "waiting.len() > 0 && !waiting.is_awaited",
        cargo: ["lib"],
      },
      {
        id: "what-waits-without-a-bound",
        text: "self.arrival_bytes < ROOM_BYTES",
        instead: "true",
        cargo: ["lib"],
      },
      {
        id: "a-handoff-does-not-end-a-wait",
        text: "        if waiting.is_awaited {\n            self.arrived.notify_one();\n        }\n",
        instead: "",
        cargo: ["reactors"],
      },
      {
        id: "what-a-handoff-took-beside-its-payload-is-never-free",
        text: "waiting.arrival_bytes -= HANDOFF_BYTES + first.payload.len();",
        instead: "waiting.arrival_bytes -= first.payload.len();",
        cargo: ["lib"],
      },
      {
        id: "after-a-wait-nobody-rings",
        text: "        waiting.is_awaited = false;\n        waiting.ended",
        instead: "        waiting.ended",
        cargo: ["lib"],
      },
    ],
  },
  {
    file: "shim/src/reactor.rs",
    faults: [
      {
        id: "all-who-have-left-in-one-take",
        text: "for _ in 0..EVENTS_PER_TAKE {",
        instead: "loop {",
        cargo: ["reactors"],
      },
      {
        id: "what-waits-is-not-told-of-a-reactor-that-opens",
        text: "        self.seat.is_open.store(is_open, Ordering::Release);\n        self.acceptor.wake();",
        instead: "        self.seat.is_open.store(is_open, Ordering::Release);",
        cargo: ["reactors"],
      },
    ],
  },
  {
    file: "shim/src/process.rs",
    faults: [
      {
        id: "the-one-that-looks-is-counted",
        text: "Ok(count(entries - 1))",
        instead: "Ok(count(entries))",
        cargo: ["border"],
      },
      {
        id: "the-limit-of-open-files-stays",
        text: "    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;\n",
        instead: "",
        cargo: ["border"],
      },
      {
        id: "nanoseconds-are-microseconds",
        text: "now.tv_nsec() as u64 / 1000",
        instead: "now.tv_nsec() as u64",
        cargo: ["border"],
      },
    ],
  },
  {
    file: "shim/src/policy.rs",
    faults: [
      {
        id: "no-uids-are-nobody",
        text: "self.uids.is_empty() || self.uids",
        instead: "self.uids",
        cargo: ["handoff"],
      },
      {
        id: "a-buffer-of-any-size",
        text: "|| !(1..=LARGEST_BUFFER_BYTES).contains(&buffer)",
        instead: "",
        cargo: ["border"],
      },
    ],
  },
  {
    file: "shim/src/registry.rs",
    faults: [
      {
        id: "a-handle-comes-again",
        text: "entries.last = entries.last.checked_add(1)",
        instead: "entries.last = (entries.live.len() as u32).checked_add(1)",
        cargo: ["lib"],
      },
    ],
  },
];
