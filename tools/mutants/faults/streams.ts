/**
 * Streams with an id: who watches them, what is kept, and the store in which daemons meet.
 * @module
 */
import type { FaultyFile } from "../fault.ts";

/** See the module. */
export const STREAMS: readonly FaultyFile[] = [
  {
    file: "src/worker/byte_log.ts",
    faults: [
      {
        id: "the-event-before-a-log-is-not-known",
        text: "return isNext ? this.#start : undefined;",
        instead: "return undefined;",
        tests: ["worker/byte_log_test.ts"],
      },
      {
        id: "a-log-that-could-not-be-kept-has-no-id",
        text: "this.#goneId = lastIdIn(latin1.decode(bytes)) ?? this.#goneId;",
        instead: "",
        tests: ["worker/byte_log_test.ts"],
      },
      {
        id: "a-log-is-copied-at-each-event",
        text: "Math.max(held + (held >> 3), neededBytes)",
        instead: "neededBytes",
        tests: ["worker/byte_log_test.ts"],
      },
    ],
  },
  {
    file: "src/store/stream_reader.ts",
    faults: [
      {
        id: "many-streams-are-read-without-a-pause",
        text: "if (streams !== null && read.size >= MANY_STREAMS) await pause(GATHER_MS);",
        instead: "",
        tests: ["store/stream_reader_test.ts"],
      },
      {
        id: "of-a-stream-elsewhere-one-page-is-told",
        text: "        if (page.length < PAGE_ENTRIES) break;",
        instead: "        break;",
        tests: ["store/stream_reader_test.ts"],
      },
      {
        id: "who-follows-waits-for-the-read-under-way",
        text: "if (this.#waitingId !== undefined) {",
        instead: "if (this.#waitingId === -1) {",
        tests: ["store/stream_reader_test.ts"],
      },
      {
        id: "what-is-asked-of-a-worker-is-done-again-and-again",
        text: "    this.#asked = String(entryId);\n",
        instead: "",
        tests: ["store/stream_reader_test.ts"],
      },
      {
        id: "a-stream-that-the-store-has-lost-is-waited-for",
        text: "      if (about === 0) this.#lose(id);\n      else if",
        instead: "      if",
        tests: ["store/stream_reader_test.ts"],
      },
    ],
  },
  {
    file: "src/store/redis_store.ts",
    faults: [
      {
        id: "a-store-that-keeps-one-waiting-holds-up-the-end",
        text: "await inTime(this.#reading).catch(() => {});",
        instead: "await this.#reading;",
        tests: ["store/redis_store_test.ts"],
      },
      {
        id: "what-is-asked-of-the-dead-stays",
        text: '      this.#link.send("PEXPIRE", asked, String(LEASE_MS)), // its',
        instead: "      // its",
        tests: ["real/redis_test.ts"],
      },
      {
        id: "a-store-that-went-without-a-word-stays-away",
        text: 'this.#link.sendProbe("SET"',
        instead: 'this.#link.send("SET"',
        tests: ["store/redis_store_test.ts"],
      },
      {
        id: "each-daemon-has-an-id-for-its-own",
        text: '"NX", "EX"',
        instead: '"EX"',
        tests: ["real/redis_test.ts"],
      },
    ],
  },
  {
    file: "src/store/redis_link.ts",
    faults: [
      {
        id: "silence-is-no-reason-to-connect-again",
        text: "      this.#openAnew();\n",
        instead: "      void this.#openAnew;\n",
        tests: ["store/redis_store_test.ts"],
      },
    ],
  },
  {
    file: "src/worker/shared_stream.ts",
    faults: [
      {
        id: "the-answer-runs-on-for-those-that-are-slow",
        text: "} else if (this.watched) this.#keepPace();\n    else this.deserted();",
        instead: "} else if (!this.watched) this.deserted();",
        tests: ["worker/shared_stream_test.ts"],
      },
      {
        id: "the-backend-s-time-does-not-begin-anew-after-a-pause",
        text: "      this.waitForBackend();\n      this.answer.resume();",
        instead: "      this.answer.resume();",
        tests: ["worker/shared_stream_test.ts"],
      },
      {
        id: "who-comes-late-is-given-all-at-once",
        text: "while (!this.paused && !this.#left && this.#position",
        instead: "while (!this.#left && this.#position",
        tests: ["worker/shared_stream_test.ts"],
      },
      {
        id: "what-is-kept-needs-more-room-than-it-has-bytes",
        text: "    this.log.trim();\n",
        instead: "",
        tests: ["worker/shared_stream_test.ts"],
      },
      {
        id: "a-stream-is-kept-for-ever",
        text: "      this.parts.wheel.set(this, this.#home.keepMs);\n",
        instead: "",
        tests: ["worker/shared_stream_test.ts"],
      },
      {
        id: "stopped-before-a-word-is-a-502",
        text: 'failure !== undefined && failure !== "stopped" &&',
        instead: "failure !== undefined &&",
        tests: ["worker/shared_stream_test.ts"],
      },
    ],
  },
  {
    file: "src/worker/shared_streams.ts",
    faults: [
      {
        id: "what-is-still-read-is-forgotten-for-others",
        text: "      if (stream.watched) continue;\n",
        instead: "",
        tests: ["worker/shared_stream_test.ts"],
      },
      {
        id: "who-has-all-comes-back-for-ever",
        text: "position === undefined || (lastEventId !== undefined && stream.endsAt(position))",
        instead: "position === undefined",
        tests: ["worker/shared_stream_test.ts"],
      },
      {
        id: "keep-secs-of-the-store-is-not-reloaded",
        text: "    if (this.#store !== undefined) this.#store.writer.keepMs = limits.keepMs;\n",
        instead: "",
        tests: ["store/redis_store_test.ts"],
      },
    ],
  },
  {
    file: "src/worker/remote_stream.ts",
    faults: [
      {
        id: "a-beginning-that-the-store-has-no-more-is-a-gap",
        text: "    if (this.log.end === 0) this.log.beginAt(start);\n",
        instead: "",
        tests: ["worker/remote_stream_test.ts"],
      },
      {
        id: "how-a-stream-ended-elsewhere-is-lost",
        text: "    if (end) this.#over(failure);\n",
        instead: "    if (end) this.#over(undefined);\n",
        tests: ["worker/remote_stream_test.ts"],
      },
      {
        id: "a-deserted-stream-is-read-on",
        text: '    this.#leave();\n    this.#over("client_disconnected");',
        instead: '    this.#over("client_disconnected");',
        tests: ["worker/remote_stream_test.ts"],
      },
      {
        id: "the-words-of-the-gone-begin-their-format-anew",
        text: '    if (this.log.end > 0) format.text("");\n',
        instead: "",
        tests: ["worker/remote_stream_test.ts"],
      },
      {
        id: "a-gap-of-a-stream-elsewhere-is-passed-over",
        text: '    if (start !== this.log.end) return this.cut("other");\n',
        instead: "",
        tests: ["worker/remote_stream_test.ts"],
      },
    ],
  },
  {
    file: "src/store/stream_writer.ts",
    faults: [
      {
        id: "a-long-stream-goes-from-the-store-before-its-end",
        text: "else if (start === 0 || performance.now() - saved.expiryMs > EXPIRE_EACH_MS) {",
        instead: "else if (start === 0) {",
        tests: ["store/stream_writer_test.ts"],
      },
      {
        id: "what-the-store-has-taken-makes-no-room",
        text: "      this.#unsentBytes -= COMMAND_BYTES + bytes\n",
        instead: "      this.#unsentBytes -= 0\n",
        tests: ["store/stream_writer_test.ts"],
      },
      {
        id: "the-store-keeps-what-has-no-beginning",
        text: "if (position - saved.trimmed > this.#maxStreamBytes + this.#maxStreamBytes / 4) {",
        instead: "if (false as boolean) {",
        tests: ["store/stream_writer_test.ts"],
      },
    ],
  },
];
