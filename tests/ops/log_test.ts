import assert from "node:assert/strict";
import { fstatSync } from "node:fs";
import { BackendError } from "../../src/errors.ts";
import { type Log, type LogLevels, type OpenLog, openLog, stderrOutput } from "../../src/ops/log/log.ts";
import type { LogStyle } from "../../src/ops/log/format.ts";
import { turn } from "../support/answers.ts";

const INFO: LogLevels = { level: "info", parts: {} };

interface Captured extends OpenLog {
  /** What was written, after everything has been. */
  text(): Promise<string>;
  /** The same, each line parsed. */
  objects(): Promise<Record<string, unknown>[]>;
}

function capture(levels: LogLevels = INFO, style: LogStyle = "json"): Captured {
  const decoder = new TextDecoder();
  let written = "";
  const write = (bytes: Uint8Array): Promise<number> => {
    written += decoder.decode(bytes, { stream: true });
    return Promise.resolve(bytes.length);
  };
  const open = openLog(levels, { style, write });
  const text = async (): Promise<string> => {
    await open.close(1000);
    return written;
  };
  return {
    ...open,
    text,
    objects: async () => (await text()).split("\n").slice(0, -1).map((line) => JSON.parse(line)),
  };
}

/** The fields of the one line that `use` logs. */
async function fieldsOf(use: (log: Log) => void): Promise<unknown> {
  const captured = capture();
  use(captured.log);
  const lines = await captured.objects();
  assert.equal(lines.length, 1);
  return lines[0]?.fields;
}

Deno.test("log: JSON is one object per line with time, level, part, message and fields", async () => {
  const captured = capture();
  captured.log.info("started", { workers: 2 });
  captured.log.child("backend").warning("a {workers} message");
  const [first, second] = await captured.objects();
  assert.match(String(first?.time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert(Math.abs(Date.parse(String(first?.time)) - Date.now()) < 60_000);
  assert.deepEqual({ ...first, time: "" }, {
    time: "",
    level: "info",
    part: "daemon",
    message: "started",
    fields: { workers: 2 },
  });
  assert.deepEqual({ ...second, time: "" }, {
    time: "",
    level: "warning",
    part: "backend",
    message: "a {workers} message",
  });
});

Deno.test("log: pretty lines for a file, a terminal and journald", async () => {
  const lines: Record<string, string> = {};
  for (const style of ["plain", "colour", "journal"] as const) {
    const captured = capture({ level: "debug", parts: {} }, style);
    captured.log.error("it failed", { request_id: "r-1", text: "a b", n: 3, list: [1], empty: "" });
    captured.log.debug("detail");
    lines[style] = (await captured.text()).replaceAll(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, "TIME");
  }
  const fields = `request_id=r-1 text="a b" n=3 list=[1] empty=""`;
  assert.deepEqual(lines, {
    plain: `TIME ERROR   daemon: it failed ${fields}\nTIME DEBUG   daemon: detail\n`,
    colour: `\x1b[2mTIME\x1b[0m \x1b[31mERROR  \x1b[0m daemon: it failed ${fields}\n` +
      `\x1b[2mTIME\x1b[0m \x1b[2mDEBUG  \x1b[0m daemon: detail\n`,
    journal: `<3>daemon: it failed ${fields}\n<7>daemon: detail\n`,
  });
});

Deno.test("log: the level holds for all parts, and a part can have its own", async () => {
  const captured = capture({ level: "warning", parts: { backend: "debug", handoff: "error" } });
  const parts = [captured.log, captured.log.child("backend"), captured.log.child("handoff")];
  for (const log of parts) {
    log.debug("debug");
    log.info("info");
    log.warning("warning");
    log.error("error");
  }
  assert.deepEqual(parts.map((log) => log.enabled("info")), [false, true, false]);
  assert.deepEqual((await captured.objects()).map(({ part, message }) => `${part} ${message}`), [
    "daemon warning",
    "daemon error",
    "backend debug",
    "backend info",
    "backend warning",
    "backend error",
    "handoff error",
  ]);
});

Deno.test("log: levels change for logs that exist already", async () => {
  const captured = capture({ level: "error", parts: { backend: "debug" } });
  const backend = captured.log.child("backend");
  captured.setLevels({ level: "debug", parts: { backend: "error" } });
  captured.log.debug("shown");
  backend.warning("not shown");
  assert.deepEqual((await captured.objects()).map(({ message }) => message), ["shown"]);
});

Deno.test("log: what is off is not even looked at", async () => {
  const captured = capture();
  captured.log.debug("x", {
    get costly(): never {
      throw new Error("looked at");
    },
  });
  assert.equal(await captured.text(), "");
});

Deno.test("log: an error has its name, message, kind and chain of causes", async () => {
  const error = new BackendError("unavailable", "no answer", {
    cause: new TypeError("fetch failed", { cause: new Deno.errors.ConnectionRefused("refused") }),
  });
  const refused = Object.assign(new Error("no"), { code: "E", status: 401, other: 1 });
  assert.deepEqual(await fieldsOf((log) => log.error("x", { error: refused })), {
    error: { name: "Error", message: "no", code: "E", status: 401 },
  });
  assert.deepEqual(await fieldsOf((log) => log.error("x", { error })), {
    error: {
      name: "BackendError",
      message: "no answer",
      kind: "unavailable",
      cause: {
        name: "TypeError",
        message: "fetch failed",
        cause: { name: "ConnectionRefused", message: "refused" },
      },
    },
  });
  const captured = capture(INFO, "journal");
  captured.log.error("x", { error });
  assert.equal(
    await captured.text(),
    `<3>daemon: x error="BackendError (unavailable): no answer; caused by TypeError: fetch failed; ` +
      `caused by ConnectionRefused: refused"\n`,
  );
});

Deno.test("log: JSON for journald has the priority before it, which journald takes off", async () => {
  const captured = capture(INFO, "journal-json");
  captured.log.warning("x", { count: 1 });
  captured.log.info("y");
  const lines = (await captured.text()).split("\n").map((line) =>
    line.replace(/"time":"[^"]*"/, '"time":""')
  );
  assert.deepEqual(lines, [
    '<4>{"time":"","level":"warning","part":"daemon","message":"x","fields":{"count":1}}',
    '<6>{"time":"","level":"info","part":"daemon","message":"y"}',
    "",
  ]);
});

Deno.test("log: secrets are hidden by the name of their field, at any depth", async () => {
  const headers = new Headers({ authorization: "geheim", cookie: "geheim", accept: "text" });
  const captured = capture();
  captured.log.info("x", {
    api_key: "geheim",
    pin_secret: 1234,
    apiKey: "geheim",
    "X-Api-Key": "geheim",
    access_token: "geheim",
    password: { inner: "geheim" },
    config: { openai: { api_key: "geheim", api_base: "https://me:geheim@host/v1", organization: "org" } },
    headers,
    list: [{ client_secret: "geheim" }],
    error: new Error("x", { cause: { Authorization: "geheim" } }),
    max_tokens: 5,
    empty: { api_key: "" },
  });
  const text = await captured.text();
  assert(!text.includes("geheim"), text);
  assert.deepEqual(JSON.parse(text).fields, {
    api_key: "(hidden)",
    pin_secret: "(hidden)",
    apiKey: "(hidden)",
    "X-Api-Key": "(hidden)",
    access_token: "(hidden)",
    password: "(hidden)",
    config: { openai: { api_key: "(hidden)", api_base: "https://(hidden)@host/v1", organization: "org" } },
    headers: { accept: "text", authorization: "(hidden)", cookie: "(hidden)" },
    list: [{ client_secret: "(hidden)" }],
    error: { name: "Error", message: "x", cause: { Authorization: "(hidden)" } },
    max_tokens: 5,
    empty: { api_key: "" },
  });
});

Deno.test("log: secrets are hidden by their shape, in messages, texts and errors", async () => {
  for (const style of ["json", "plain"] as const) {
    const captured = capture(INFO, style);
    captured.log.info("authorization: bearer geheim"); // a scheme's name has no case
    captured.log.info("sent Bearer geheim.geheim to https://geheim:geheim@host/", {
      text: "key sk-geheim1234-x",
      error: new Error("Incorrect API key: sk-proj-geheim12", { cause: "authorization: Bearer geheim" }),
    });
    const text = await captured.text();
    assert(!text.includes("geheim"), text);
    assert.equal(text.match(/\(hidden\)/g)?.length, 6);
  }
});

Deno.test("log: nobody forges a line or talks to the terminal", async () => {
  const evil = "a\r\nERROR \x1b[31m\x7f\x9b2J\u2028z";
  for (const style of ["json", "journal-json", "plain", "journal"] as const) {
    const captured = capture(INFO, style);
    captured.log.info(evil, { evil, [evil]: 1, error: new Error(evil) });
    const text = await captured.text();
    assert.equal(text.split("\n").length, 2);
    // deno-lint-ignore no-control-regex -- none of them may be there
    assert.doesNotMatch(text.slice(0, -1), /[\0-\x1f\x7f-\x9f\u2028\u2029]/);
    if (style === "json") assert.equal(JSON.parse(text).message, evil, "escaped, not lost");
  }
});

Deno.test("log: any value makes a bounded line", async () => {
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  const thrower = {
    get x(): never {
      throw new Error("no");
    },
  };
  const fields = await fieldsOf((log) =>
    log.info("x", {
      big: 1n,
      nan: NaN,
      none: null,
      missing: undefined,
      code: () => 1,
      bytes: new Uint8Array(9),
      when: new Date(0),
      never: new Date(NaN),
      url: new URL("http://h/"),
      map: new Map([["k", new Set([1, undefined])]]),
      cycle,
      thrower,
    })
  );
  assert.deepEqual(fields, {
    big: "1",
    nan: "NaN",
    none: null,
    bytes: "(9 bytes)",
    when: "1970-01-01T00:00:00.000Z",
    never: "invalid date",
    url: "http://h/",
    map: { k: [1, null] },
    cycle: { self: { self: { self: { self: { self: { self: "…" } } } } } },
    thrower: "(unreadable: no)",
  });

  for (const style of ["json", "plain"] as const) {
    const many = capture(INFO, style);
    many.log.info("x", Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`f${index}`, 1])));
    const { length } = await many.text();
    assert(length < 1000, `${length} characters`);
  }
  const captured = capture();
  captured.log.info("x".repeat(100_000), { text: "y".repeat(100_000), list: Array(10_000).fill("z") });
  const text = await captured.text();
  assert(text.length < 6000, `${text.length} characters`);
  assert.match(text, /x… \(97952 characters more\)"/);
});

Deno.test("log: names that come from outside and values of any kind keep the format, in every style", async () => {
  for (const style of ["json", "plain"] as const) {
    const captured = capture(INFO, style);
    captured.log.info('say "hi" \\', {
      'a "b" c': 1,
      text: 'q"\\',
      uni: "\u{1F600}ä",
      true: true,
      none: null,
    });
    const text = await captured.text();
    if (style === "json") {
      const { message, fields } = JSON.parse(text);
      assert.equal(message, 'say "hi" \\');
      assert.deepEqual(fields, { 'a "b" c': 1, text: 'q"\\', uni: "\u{1F600}ä", true: true, none: null });
    } else {
      assert(
        text.endsWith('say "hi" \\ a "b" c=1 text="q\\"\\\\" uni="\u{1F600}ä" true=true none=null\n'),
        text,
      );
    }
  }
});

/** Messages and sums of a log, after its end. */
async function linesOf(captured: Captured): Promise<unknown[]> {
  return (await captured.objects()).map(({ message, fields }) =>
    fields === undefined ? message : [message, fields]
  );
}

Deno.test("log: of equal warnings within a second ten are written, then how many more there were", async () => {
  const captured = capture({ level: "info", parts: {} });
  const handoff = captured.log.child("handoff");
  for (let line = 0; line < 4721; line++) handoff.warning("Handoff refused", { reason: "no_fd", line });
  handoff.warning("Handoff refused", { reason: "timeout" });
  for (let line = 0; line < 12; line++) captured.log.error("failed");
  for (let line = 0; line < 20; line++) captured.log.info("told");
  const lines = await linesOf(captured);
  assert.deepEqual(lines, [
    ...Array.from({ length: 10 }, (_, line) => ["Handoff refused", { reason: "no_fd", line }]),
    ["Handoff refused", { reason: "timeout" }],
    ...Array(10).fill("failed"),
    ...Array(20).fill("told"),
    ["Handoff refused … and 4,711 more", { reason: "no_fd" }],
    "failed … and 2 more",
  ]);
});

Deno.test("log: a flood is summed up each second, and does not keep the process alive", async () => {
  const [code, , stderr] = await run(`
    const part = log.child("handoff");
    const startedAt = performance.now();
    while (performance.now() - startedAt < 1500) {
      for (let line = 0; line < 100; line++) part.warning("again");
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await close(1000);`);
  assert.equal(code, 0);
  const lines = stderr.split("\n").slice(0, -1);
  const sums = lines.filter((line) => /^<4>handoff: again … and [\d,]+ more$/.test(line));
  assert.equal(sums.length, 2, stderr);
  assert.equal(lines.length, 22);
});

Deno.test("log: warnings of ever new texts cost no memory without end, and none is lost", async () => {
  const captured = capture();
  for (let line = 0; line < 1000; line++) captured.log.warning(`text ${line}`);
  assert.equal((await captured.objects()).length, 1000);
});

Deno.test("log: of more kinds of warnings than are told apart, the first ones are told and counted anew", async () => {
  const captured = capture();
  for (let count = 0; count < 12; count++) captured.log.warning("again");
  for (let line = 0; line < 256; line++) captured.log.warning(`text ${line}`);
  const messages = (await captured.objects()).map(({ message }) => message);
  // Its sum is told as it is forgotten, which is before the last of the others.
  const sum = messages.indexOf("again … and 2 more");
  assert(sum > 0 && sum < messages.indexOf("text 255"), `${sum}`);
});

Deno.test("log: what is logged in one turn is written together, in whole lines of at most PIPE_BUF bytes", async () => {
  const writes: string[] = [];
  const { log, close } = openLog(INFO, {
    style: "journal",
    write: (bytes) => {
      writes.push(new TextDecoder().decode(bytes));
      return Promise.resolve(bytes.length);
    },
  });
  for (let i = 0; i < 200; i++) log.info(`line ${i} ${"ä".repeat(40)}`);
  log.info("long", { list: Array(60).fill("x".repeat(100)) });
  log.info("last");
  await close(1000);
  assert.match(writes.join(""), /^<6>daemon: line 0 /);
  assert.equal(writes.join("").split("\n").length, 203);
  assert(writes.length < 15, `${writes.length} writes`);
  for (const write of writes) {
    assert(write.endsWith("\n"));
    const { length } = new TextEncoder().encode(write);
    assert(length <= 4096 || write.startsWith("<6>daemon: long"), `${length} bytes`);
  }
});

/** Lets all happen that waits for no timer. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

Deno.test("log: lines that follow a write closely wait for others, the end aside", async () => {
  const writes: string[] = [];
  const first = Promise.withResolvers<void>();
  const { log, close } = openLog(INFO, {
    style: "journal",
    write: (bytes) => {
      writes.push(new TextDecoder().decode(bytes));
      first.resolve();
      return Promise.resolve(bytes.length);
    },
  });
  log.info("one");
  await first.promise;
  log.info("two");
  await turns();
  log.info("three");
  const begunMs = performance.now();
  await close(5000);
  assert.deepEqual(writes, ["<6>daemon: one\n", "<6>daemon: two\n<6>daemon: three\n"]);
  assert(performance.now() - begunMs < 4000);
});

Deno.test("log: a warning, what came before it, and what fills a write wait for no others", async () => {
  const writes: string[] = [];
  let writing: Promise<void> = Promise.resolve();
  const { log, close } = openLog(INFO, {
    style: "journal",
    write: async (bytes) => {
      writes.push(new TextDecoder().decode(bytes));
      await writing;
      return bytes.length;
    },
  });
  log.info("one");
  await turns();
  log.info("two");
  log.warning("three");
  await turns();
  assert.deepEqual(writes, ["<6>daemon: one\n", "<6>daemon: two\n<4>daemon: three\n"]);
  log.info("four");
  await turns();
  assert.equal(writes.length, 2);
  const ends = Promise.withResolvers<void>();
  writing = ends.promise;
  log.error("five");
  await turns();
  log.error("six"); // while the one before is written
  ends.resolve();
  await turns();
  assert.deepEqual(writes.splice(0).slice(2), ["<6>daemon: four\n<3>daemon: five\n", "<3>daemon: six\n"]);
  log.info("seven");
  await turns();
  for (let line = 0; line < 40; line++) log.info("x".repeat(100)); // more than one write takes
  await turns();
  assert.equal(writes.length, 2);
  await close(5000);
});

Deno.test("log: a reader who is slow gets each byte once, in order", async () => {
  let written = "";
  let calls = 0;
  const { log, close } = openLog(INFO, {
    style: "journal",
    write: (bytes) => {
      if (++calls === 2) return Promise.reject(new Deno.errors.WouldBlock("full"));
      written += new TextDecoder().decode(bytes.subarray(0, 5));
      return Promise.resolve(Math.min(5, bytes.length));
    },
  });
  log.info("one");
  log.info("two");
  await close(5000);
  assert.equal(written, "<6>daemon: one\n<6>daemon: two\n");
});

/** A log whose reader reads nothing until `read`. */
function unreadLog() {
  const gate = Promise.withResolvers<void>();
  let written = "";
  const { log, close } = openLog(INFO, {
    style: "journal",
    write: async (bytes) => {
      await gate.promise;
      written += new TextDecoder().decode(bytes);
      return bytes.length;
    },
  });
  return {
    log,
    /** All that is told by the log's end. */
    async read(): Promise<string> {
      gate.resolve();
      await close(5000);
      return written;
    },
  };
}

Deno.test("log: what a reader has taken makes room: with one that keeps up no line is ever lost", async () => {
  const captured = capture();
  for (let i = 0; i < 3000; i++) {
    captured.log.info("x".repeat(1000)); // in all three times what may wait
    if (i % 100 === 99) await turn();
  }
  assert.equal((await captured.objects()).length, 3000);
});

Deno.test("log: with a reader who stops, memory is bounded and the loss is told once there is room", async () => {
  const { log, read } = unreadLog();
  const total = 3000;
  const text = "x".repeat(1000);
  for (let i = 0; i < total; i++) log.info(text);
  const written = await read();
  const lines = written.split("\n").slice(0, -1);
  const kept = lines.filter((line) => line.endsWith(text)).length;
  assert(written.length < 1_100_000, `${written.length} bytes were kept`);
  assert(kept > 900, `${kept} lines were kept`);
  assert.equal(
    lines.at(-1),
    `<4>log: lines were dropped, since nobody reads the log fast enough count=${total - kept}`,
  );
});

Deno.test("log: how many lines were lost is told, too, where others have taken what room there was", async () => {
  const { log, read } = unreadLog();
  const texts = ["short", ...new Array(1100).fill("x".repeat(1000)), ...new Array(200).fill("short")];
  for (const [index, text] of texts.entries()) {
    log.info(text);
    if (index === 0) await turn(); // it is written alone
  }
  const written = await read();
  const lines = written.split("\n").slice(0, -1);
  const lost = lines.map((line) => Number(/ were dropped.* count=(\d+)$/.exec(line)?.[1] ?? 0));
  const kept = lines.filter((line) => line.startsWith("<6>")).length;
  assert.equal(lost.reduce((sum, count) => sum + count), texts.length - kept);
});

Deno.test("log: close does not wait for a reader who never comes back", async () => {
  const never = Promise.withResolvers<number>();
  const { log, close } = openLog(INFO, { style: "journal", write: () => never.promise });
  log.info("x");
  await close(1);
});

Deno.test("log: standard error that is gone does not hurt", async () => {
  let calls = 0;
  const { log, close } = openLog(INFO, {
    style: "journal",
    write: () => {
      calls++;
      return Promise.reject(new Deno.errors.BrokenPipe("gone"));
    },
  });
  log.info("a");
  await close(1000);
  log.info("b");
  await close(1000);
  assert.equal(calls, 1);
});

/** Starts a program that has `log` and `close`, as strict as the sandbox can be, apart from `permissions`. */
async function withProgram(
  program: string,
  permissions: (dir: string) => string[],
  use: (child: Deno.ChildProcess) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    const module = JSON.stringify(new URL("../../src/ops/log/log.ts", import.meta.url).href);
    await Deno.writeTextFile(
      `${dir}/main.ts`,
      `import { fstatSync } from "node:fs";
      import { openLog, stderrOutput } from ${module};
      const { dev, ino } = fstatSync(2);
      const output = stderrOutput("pretty", (name) => name === "JOURNAL_STREAM" ? dev + ":" + ino : undefined);
      const { log, close } = openLog({ level: "info", parts: {} }, output);
      ${program}`,
    );
    const config = new URL("../../deno.json", import.meta.url).pathname;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-prompt", "--no-check", "--config", config, ...permissions(dir), `${dir}/main.ts`],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    await use(child);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const NO_PERMISSIONS = (_dir: string): string[] => [];

/** Code, standard output and standard error of a program that reads nothing. */
async function run(program: string, permissions = NO_PERMISSIONS): Promise<[number, string, string]> {
  let result: [number, string, string] | undefined;
  await withProgram(program, permissions, async (child) => {
    await child.stdin.close();
    const { code, stdout, stderr } = await child.output();
    result = [code, new TextDecoder().decode(stdout), new TextDecoder().decode(stderr)];
  });
  assert(result);
  return result;
}

Deno.test("log: the last lines before the exit arrive, and logging needs no permission", async () => {
  const [code, , stderr] = await run(`
    for (let i = 0; i < 5000; i++) log.info("line " + i);
    await close(5000);
    Deno.exit(7);`);
  assert.equal(stderr, Array.from({ length: 5000 }, (_, i) => `<6>daemon: line ${i}\n`).join(""));
  assert.equal(code, 7);
});

Deno.test("log: a process ends by itself after its last line", async () => {
  assert.deepEqual(await run(`log.info("bye");`), [0, "", "<6>daemon: bye\n"]);
});

Deno.test("log: each worker has its own, and their lines do not mix", async () => {
  const program = `
    const inWorker = typeof WorkerGlobalScope !== "undefined";
    const part = log.child(inWorker ? "stream" : "daemon");
    const worker = inWorker ? undefined : new Worker(import.meta.url, { type: "module" });
    const ended = worker && new Promise((resolve) => worker.onmessage = resolve);
    for (let i = 0; i < 500; i++) {
      part.info("x".repeat(i));
      if (i % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
    }
    await close(5000);
    if (inWorker) self.postMessage("done");
    await ended;
    worker?.terminate();`;
  const source = new URL("../../src/", import.meta.url).pathname;
  const [code, , stderr] = await run(program, (dir) => [`--allow-read=${dir},${source}`]);
  assert.equal(code, 0, stderr);
  const expected = ["daemon", "stream"].flatMap((part) =>
    Array.from({ length: 500 }, (_, i) => `<6>${part}: ${"x".repeat(i)}`)
  );
  assert.deepEqual(stderr.split("\n").slice(0, -1).sort(), expected.sort());
});

Deno.test("log: a process whose standard error is closed goes on", async () => {
  const program = `
    await Deno.stdin.read(new Uint8Array(1)); // ends when the reader of standard error has gone
    for (let i = 0; i < 3; i++) {
      log.info("x");
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    await close(5000);
    console.log("alive");`;
  await withProgram(program, NO_PERMISSIONS, async (child) => {
    await child.stderr.cancel();
    await child.stdin.close();
    assert.equal(await new Response(child.stdout).text(), "alive\n");
    assert.equal((await child.status).code, 0);
  });
});

Deno.test("log: the style follows the format and what standard error is", () => {
  const { dev, ino } = fstatSync(2);
  const styles = (journalStream?: string) =>
    (["pretty", "json"] as const).map((format) =>
      stderrOutput(format, (name) => name === "JOURNAL_STREAM" ? journalStream : undefined).style
    );
  assert.deepEqual(styles(`${dev}:${ino}`), ["journal", "journal-json"]);
  const [pretty, json] = styles();
  assert.equal(json, "json");
  assert.deepEqual(styles(`${dev}:${ino + 1}`), [pretty, json], "what it was before somebody redirected it");
});

Deno.test("log: colours are for a terminal alone, and not for one that wants none", async () => {
  const module = JSON.stringify(new URL("../../src/ops/log/log.ts", import.meta.url).href);
  const path = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(
    path,
    `import { stderrOutput } from ${module}; console.log("it is " + stderrOutput("pretty", () => undefined).style);`,
  );
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const command = [Deno.execPath(), "run", "--no-prompt", "--no-check", "--config", config, path];
  const styleOf = async (command: readonly string[], noColor: string): Promise<string | undefined> => {
    const { stdout } = await new Deno.Command(command[0] as string, {
      args: command.slice(1),
      env: { NO_COLOR: noColor },
      stdin: "null",
    }).output();
    return /it is (\w+)/.exec(new TextDecoder().decode(stdout))?.[1];
  };
  const onTerminal = ["script", "--quiet", "--command", command.join(" "), "/dev/null"];
  assert.equal(await styleOf(command, ""), "plain");
  assert.equal(await styleOf(onTerminal, ""), "colour");
  assert.equal(await styleOf(onTerminal, "1"), "plain");
  await Deno.remove(path);
});
