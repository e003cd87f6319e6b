/**
 * HTTP/2 to providers.
 * @module
 */
import type { FaultyFile } from "../fault.ts";

/** See the module. */
export const H2: readonly FaultyFile[] = [
  {
    file: "src/upstream/h2/connection.ts",
    faults: [
      {
        id: "a-page-is-read-as-frames",
        text: " || buffer[0] === FIRST_OF_HTML",
        instead: "",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "who-wants-http1-does-not-get-it",
        text: "if (!this.#settled && code === h2.HTTP_1_1_REQUIRED)",
        instead: "if (false)",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "after-an-error-answers-are-waited-for",
        text: " || (code !== h2.NO_ERROR && !exchange.headSeen);",
        instead: ";",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "a-smaller-table-is-not-agreed-to",
        text: "    else if (setting === h2.SETTINGS_HEADER_TABLE_SIZE) this.#sender.tableBytes = value;\n",
        instead: "",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "http2-providers-are-never-paused",
        text: "else if (!exchange.paused) this.#sender",
        instead: "else this.#sender",
        tests: ["upstream/h2_connection_test.ts", "backend/openai/openai_test.ts"],
      },
      {
        id: "a-resumed-provider-gets-no-credit",
        text: "if (stream !== undefined) this.#sender.credit(stream.id, this.#flow.creditOn(stream));",
        instead: "",
        tests: ["upstream/h2_connection_test.ts", "backend/openai/openai_test.ts"],
      },
      {
        id: "data-beyond-a-window-is-taken",
        text: "if (!this.#flow.receiveOn(stream, flowBytes)) {",
        instead: "if (!this.#flow.receiveOn(stream, flowBytes) && false) {",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "less-data-than-its-length-is-whole",
        text: "    if (stream.leftBytes > 0) {",
        instead: "    if (false) {",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "what-had-its-head-is-sent-again",
        text: "if (code === h2.REFUSED_STREAM && !exchange.headSeen) {",
        instead: "if (code === h2.REFUSED_STREAM) {",
        tests: ["upstream/pool_test.ts", "upstream/h2_connection_test.ts"],
      },
      {
        id: "goaway-sends-back-one-too-many",
        text: "const isOver = stream.id > lastId ||",
        instead: "const isOver = stream.id >= lastId ||",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "a-ping-has-no-answer",
        text: "if (!ack) return this.#sender.answerPing(payload);",
        instead: "if (!ack) return;",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "settings-are-not-acknowledged",
        text: "    this.#sender.acknowledgeSettings();\n",
        instead: "",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "streams-without-a-limit-of-its-own",
        text: "this.#maxStreams = Math.min(value, MAX_STREAMS);",
        instead: "this.#maxStreams = value;",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "a-larger-window-wakes-no-body",
        text: "    this.#sender.bodies();\n    this.#owner.changed(this);",
        instead: "    this.#owner.changed(this);",
        tests: ["upstream/h2_connection_test.ts", "upstream/flow_test.ts"],
        survives:
          "the acknowledgement that goes out before has the queue drained, after which bodies go on as well",
      },
      {
        id: "data-before-a-head-is-taken",
        text:
          '    if (!exchange.headSeen) return this.#violated(stream, h2.PROTOCOL_ERROR, "data before the head");\n',
        instead: "",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "cancelling-resets-nothing",
        text: "if (stream !== undefined) this.#endStream(stream, h2.CANCEL);",
        instead: "if (stream !== undefined) this.#endStream(stream, null);",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "a-refused-connection-does-not-rest",
        text: "      this.#restUntilMs = performance.now() + REFUSED_REST_MS;\n",
        instead: "",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "a-lonely-goaway-keeps-the-connection",
        text:
          "    if (this.#streams.size === 0) this.#end(why, h2.NO_ERROR);\n    else this.#owner.changed(this);",
        instead: "    this.#owner.changed(this);",
        tests: ["upstream/h2_connection_test.ts", "upstream/pool_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/h2/frame_reader.ts",
    faults: [
      {
        id: "continuations-without-a-bound",
        text: "if (++this.#continuations > MAX_CONTINUATIONS) {",
        instead: "if (false) {",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "a-dropped-head-without-a-bound",
        text: "if (this.#blockBytes > MAX_DROPPED_BYTES) {",
        instead: "if (false) {",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "frames-of-any-length",
        text: "if (length > h2.MAX_FRAME_BYTES) throw frameSize(`a frame of ${length} bytes`);",
        instead: "",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "padding-as-long-as-its-frame",
        text: "if (length >= end - at) throw",
        instead: "if (length > end - at) throw",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "a-ping-on-a-stream",
        text: '        if (id !== 0) throw protocol("PING on a stream");\n',
        instead: "",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "pushes-are-passed-over",
        text: '        throw protocol("PUSH_PROMISE, though push is off");',
        instead: "        return;",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "a-server-may-enable-push",
        text: "if (setting === h2.SETTINGS_ENABLE_PUSH && value !== 0) {",
        instead: "if (false) {",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "a-head-may-be-interrupted",
        text: "if (this.#headId !== 0 && (type !== h2.CONTINUATION || id !== this.#headId)) {",
        instead: "if (false) {",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "windows-grow-by-nothing",
        text: "if (increment > 0) return",
        instead: "if (increment >= 0) return",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "a-first-frame-of-any-type",
        text: "        if (type !== h2.SETTINGS || (flags & h2.FLAG_ACK) !== 0) {",
        instead: "        if (false) {",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "a-long-head-is-kept",
        text: "const block = this.#blockBytes > MAX_BLOCK_BYTES ? null :",
        instead: "const block = false ? null :",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "a-settings-frame-of-any-length",
        text: 'if ((end - start) % 6 !== 0) throw frameSize("SETTINGS of a wrong length");',
        instead: "",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "all-heads-have-one-bound-together",
        text: "    this.#continuations = 0;\n",
        instead: "",
        tests: ["upstream/frames_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/h2/flow.ts",
    faults: [
      {
        id: "data-beyond-the-connection-s-window",
        text: "return this.#heldBytes <= CONNECTION_WINDOW_BYTES;",
        instead: "return true;",
        tests: ["upstream/flow_test.ts"],
      },
      {
        id: "windows-beyond-the-bound",
        text: "    if (bytes > MAX_WINDOW_BYTES) return false;\n",
        instead: "",
        tests: ["upstream/flow_test.ts", "upstream/h2_connection_test.ts"],
      },
      {
        id: "a-changed-first-window-is-for-new-streams",
        text: "      stream.sendBytes += change;\n",
        instead: "",
        tests: ["upstream/flow_test.ts"],
      },
      {
        id: "bodies-ignore-the-connection-s-window",
        text: "Math.min(stream.sendBytes, this.#sendBytes)",
        instead: "stream.sendBytes",
        tests: ["upstream/flow_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/h2/hpack.ts",
    faults: [
      {
        id: "a-table-s-size-within-a-block",
        text: '      if (begun) throw wrong("a change of the table\'s size within a block");\n',
        instead: "",
        tests: ["upstream/hpack_test.ts"],
      },
      {
        id: "the-last-entry-of-the-table",
        text: "if (index > STATIC_TABLE.length ||",
        instead: "if (index >= STATIC_TABLE.length ||",
        tests: ["upstream/hpack_test.ts"],
      },
      {
        id: "an-integer-s-second-byte-counts-too-little",
        text: "      value += (byte & 127) << shift;",
        instead: "      value += (byte & 127) << Math.max(0, shift - 1);",
        tests: ["upstream/hpack_test.ts"],
      },
      {
        id: "what-nobody-reads-is-decoded",
        text: "    } else if (wanted) listener.value(reader.text());\n    else reader.skipText();",
        instead: "    } else if (wanted) listener.value(reader.text());\n    else reader.text();",
        tests: ["upstream/hpack_test.ts"],
      },
      {
        id: "keys-go-into-tables",
        text: "NEVER_INDEXED.has(name) ? 0x10 : 0",
        instead: "0",
        tests: ["upstream/hpack_test.ts"],
      },
      {
        id: "a-string-beyond-its-block",
        text: "if (start + length > this.#block.length) throw",
        instead: "if (false) throw",
        tests: ["upstream/hpack_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/h2/huffman.ts",
    faults: [
      {
        id: "any-padding-ends-a-string",
        text: "return ENDS[node] === 1 ? length : -1;",
        instead: "return length;",
        tests: ["upstream/hpack_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/h2/liveness.ts",
    faults: [
      {
        id: "a-dead-server-is-never-found",
        text: 'nowMs - this.#askedMs >= this.#waitMs ? "dead" : "alive"',
        instead: '"alive"',
        tests: ["upstream/h2_connection_test.ts", "upstream/pool_test.ts"],
      },
      {
        id: "a-silent-connection-is-trusted",
        text: "return this.#intervalMs > 0 && nowMs - this.#heardMs >=",
        instead: "return false && nowMs - this.#heardMs >=",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "a-long-silence-is-not-doubted",
        text: "const DOUBT_AFTER_MS = 5_000;",
        instead: "const DOUBT_AFTER_MS = 5_000_000;",
        tests: ["upstream/liveness_test.ts"],
      },
      {
        id: "a-doubted-server-has-half-an-hour-to-answer",
        text: "const DOUBT_MS = 2_000;",
        instead: "const DOUBT_MS = 2_000_000;",
        tests: ["upstream/liveness_test.ts"],
      },
      {
        id: "a-ping-is-given-up-after-an-hour",
        text: "const ANSWER_MS = 5_000;",
        instead: "const ANSWER_MS = 5_000_000;",
        tests: ["upstream/liveness_test.ts"],
      },
      {
        id: "an-interval-of-0-pings-always",
        text: "this.#intervalMs === 0 || ",
        instead: "",
        tests: ["upstream/liveness_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/h2/request_frames.ts",
    faults: [
      {
        id: "a-long-head-goes-on-in-headers",
        text: "    type = h2.CONTINUATION;\n",
        instead: "",
        tests: ["upstream/request_frames_test.ts"],
      },
      {
        id: "a-head-that-goes-on-ends-the-stream-again",
        text: "    flags = 0;\n",
        instead: "",
        tests: ["upstream/request_frames_test.ts"],
      },
      {
        id: "each-part-of-a-long-head-is-its-end",
        text: "end === block.length ? h2.FLAG_END_HEADERS : 0",
        instead: "h2.FLAG_END_HEADERS",
        tests: ["upstream/request_frames_test.ts"],
      },
      {
        id: "an-address-s-query-is-lost-over-http2",
        text: "url.pathname + url.search",
        instead: "url.pathname",
        tests: ["upstream/pool_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/h2/response_head.ts",
    faults: [
      {
        id: "a-101-over-http2",
        text: ' || status === "101")',
        instead: ")",
        tests: ["upstream/h2_connection_test.ts", "upstream/hpack_test.ts"],
      },
      {
        id: "fields-of-http1-are-passed-over",
        text: "if (known !== null && CONNECTION_FIELDS.includes(known)) {",
        instead: "if (false) {",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "two-lengths-over-http2",
        text: "(contentLength >= 0 && Number(value) !== contentLength)",
        instead: "false",
        tests: ["upstream/h2_connection_test.ts", "upstream/hpack_test.ts"],
      },
      {
        id: "a-second-status",
        text: '      if (this.status !== null) this.wrong ??= "a second :status";\n',
        instead: "",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "names-that-are-none",
        text: "if (known === null && !isName(name, length))",
        instead: "if (false)",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "what-says-not-to-try-again-is-not-read",
        text: '  "x-should-retry",\n',
        instead: "",
        tests: ["upstream/hpack_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/h2/sender.ts",
    faults: [
      {
        id: "replies-that-nobody-reads-without-a-bound",
        text: "if (this.#writer.replyBytes > MAX_UNREAD_REPLY_BYTES) {",
        instead: "if (false) {",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "bodies-fill-the-queue",
        text: "this.#writer.pendingBytes >= MAX_QUEUED_BYTES",
        instead: "false",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "a-body-goes-on-after-its-stream",
        text: "    this.#sending.delete(stream);\n    stream.unsent = null;",
        instead: "    stream.unsent = stream.unsent;",
        tests: ["upstream/h2_connection_test.ts", "upstream/flow_test.ts"],
      },
      {
        id: "frames-longer-than-the-server-takes",
        text: "= Math.min(bytes, LONGEST_FRAME_BYTES);",
        instead: "= LONGEST_FRAME_BYTES;",
        tests: ["upstream/flow_test.ts"],
      },
      {
        id: "the-longest-frame-never-becomes-shorter",
        text: "= Math.min(bytes, LONGEST_FRAME_BYTES);",
        instead: "= Math.max(this.#maxFrameBytes, Math.min(bytes, LONGEST_FRAME_BYTES));",
        tests: ["upstream/flow_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/h2/answer_rules.ts",
    faults: [
      {
        id: "more-data-than-its-length-is-taken",
        text: "if (bytes > answer.leftBytes) return false;",
        instead: "",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "interim-heads-of-http2-without-a-bound",
        text: "if (++answer.interimHeads > MAX_INTERIM_HEADS) {",
        instead: "if (false) {",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "a-second-head-is-trailers",
        text: 'endStream ? readTrailers(block) : "a second head"',
        instead: "endStream ? readTrailers(block) : null",
        tests: ["upstream/h2_connection_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/h2/stream_table.ts",
    faults: [
      {
        id: "a-frame-on-a-stream-that-never-was",
        text: "if (stream === undefined && (id % 2 === 0 || id >= this.#nextId)) {",
        instead: "if (false) {",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "streams-beyond-the-last-id",
        text: "return this.#nextId > h2.MAX_WINDOW_BYTES;",
        instead: "return false;",
        tests: ["upstream/h2_connection_test.ts"],
        survives: "it takes a thousand million requests over one connection",
      },
    ],
  },
  {
    file: "src/upstream/h2/packing.ts",
    faults: [
      {
        id: "no-room-ahead",
        text: "return 1 + Math.floor(maxStreams / 10);",
        instead: "return 0;",
        tests: ["upstream/pool_test.ts"],
      },
    ],
  },
];
