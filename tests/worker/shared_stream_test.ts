/** Streams that have an id: who watches them, and what is kept. */
import assert from "node:assert/strict";
import { SharedStreams } from "../../src/worker/shared_streams.ts";
import { turn } from "../support/answers.ts";
import {
  failed,
  type FakeWorker,
  fakeWorker,
  listLog,
  only,
  type ScriptedAnswer,
} from "../support/connections.ts";
import type { FakeSocket } from "../support/fake_clients.ts";
import { plainResponse, STREAM_HEAD } from "../support/wire.ts";

const GONE = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
const CONTINUE = { stream_id: "s", on_disconnect: "continue" };

/** The events of an answer, each with its id, from a number on. */
function events(pieces: readonly string[], first = 1): string {
  return pieces.map((piece, index) => {
    const id = first + index;
    const data = piece.startsWith("{") || piece === "[DONE]" ? piece : `{"content":"${piece}"}`;
    return `${id === 1 ? "retry: 1000\n" : ""}id: ${id}\ndata: ${data}\n\n`;
  }).join("");
}

async function begin(worker: FakeWorker, data: object = {}): Promise<[FakeSocket, ScriptedAnswer]> {
  const socket = await worker.open({ stream_id: "s", ...data });
  return [socket, worker.backend.answers.at(-1) as ScriptedAnswer];
}

/** The calls that say what became of a handoff. */
const outcomes = ({ calls }: FakeWorker) => only(calls, "streamAskedFor").map(([, outcome]) => outcome);

Deno.test("a stream with an id is as any other, but that its events have ids", async () => {
  const worker = fakeWorker();
  const [client, answer] = await begin(worker, { request_id: "r", user_id: 7 });
  assert.equal(client.received, "");
  answer.emit("a");
  await turn();
  assert.equal(client.received, STREAM_HEAD + events(["a"]));
  answer.emit("b", { kind: "usage", inputTokens: 1, outputTokens: 2 });
  answer.end();
  await turn();
  assert.equal(client.received, STREAM_HEAD + events(["a", "b", "[DONE]"]));
  assert.deepEqual([client.closed, worker.connections.size, worker.held.bytes], ["in order", 0, 0]);
  assert.deepEqual(worker.calls, [
    ["connectionOpened"],
    ["streamAskedFor", "begun"],
    ["backendRequest", "scripted"],
    ["streamStarted"],
    ["eventSent"],
    ["backendFirstEvent"],
    ["eventSent"],
    ["backendDone"],
    ["tokensUsed", "default-model", 1, 2],
    ["streamEnded"],
  ]);
  const said = worker.lines.map((
    { message, fields },
  ) => [message, fields["request_id"], fields["stream_id"]]);
  assert.deepEqual(said, [["Answer complete", "r", "s"], ["Stream complete", "r", "s"]]);
  assert.equal(worker.traffic.bytes, client.received.length);
});

Deno.test("open writes the head before there is any text", async () => {
  const [client, answer] = await begin(fakeWorker());
  answer.emit({ kind: "open" });
  await turn();
  assert.equal(client.received, STREAM_HEAD);
});

Deno.test("whoever comes later gets all from the beginning, then the same as the others, to the end", async () => {
  const worker = fakeWorker();
  const [first, answer] = await begin(worker);
  answer.emit("a", "b");
  await turn();
  const second = await worker.open({ stream_id: "s", prompt: "another one" });
  assert.equal(worker.backend.answers.length, 1);
  assert.equal(second.received, STREAM_HEAD + events(["a", "b"]));
  answer.emit("c");
  answer.end();
  await turn();
  assert.equal(second.received, STREAM_HEAD + events(["a", "b", "c", "[DONE]"]));
  assert.equal(first.received, second.received);
  const third = await worker.open({ stream_id: "s" });
  assert.deepEqual([third.received, third.closed], [first.received, "in order"]);
  assert.deepEqual(outcomes(worker), ["begun", "watched", "watched"]);
});

Deno.test("after an event's id comes the next one: live, and after the end", async () => {
  const worker = fakeWorker();
  const [, answer] = await begin(worker);
  answer.emit("a", "b");
  await turn();
  const live = await worker.open({ stream_id: "s", last_event_id: "1" });
  const atTheEdge = await worker.open({ stream_id: "s", last_event_id: "2" });
  const fromTheStart = await worker.open({ stream_id: "s", last_event_id: "0" });
  assert.equal(live.received, STREAM_HEAD + events(["b"], 2));
  assert.equal(atTheEdge.received, STREAM_HEAD);
  answer.emit("c");
  answer.end();
  await turn();
  assert.equal(live.received, STREAM_HEAD + events(["b", "c", "[DONE]"], 2));
  assert.equal(atTheEdge.received, STREAM_HEAD + events(["c", "[DONE]"], 3));
  assert.equal(fromTheStart.received, STREAM_HEAD + events(["a", "b", "c", "[DONE]"]));
  const late = await worker.open({ stream_id: "s", last_event_id: "3" });
  assert.deepEqual([late.received, late.closed], [STREAM_HEAD + events(["[DONE]"], 4), "in order"]);
  assert.deepEqual(outcomes(worker), ["begun", "resumed", "resumed", "resumed", "resumed"]);
});

Deno.test("nothing to go on with is a 204: all had, an unknown id, no such stream, forgotten", async () => {
  const worker = fakeWorker();
  const [, answer] = await begin(worker);
  answer.emit("a");
  answer.end();
  await turn();
  for (const data of [{ stream_id: "s", last_event_id: "2" }, { stream_id: "s", last_event_id: "3" }]) {
    const client = await worker.open(data);
    assert.deepEqual([client.received, client.closed], [GONE, "in order"]);
  }
  const unknown = await worker.open({ stream_id: "other", last_event_id: "0" });
  assert.equal(unknown.received, GONE);
  worker.timing.advance(10_001);
  const forgotten = await worker.open({ stream_id: "s", last_event_id: "1" });
  assert.equal(forgotten.received, GONE);
  assert.deepEqual(outcomes(worker), ["begun", "nothing", "nothing", "nothing", "nothing"]);
  const told = worker.lines.filter(({ message }) => message === "Nothing to go on with, client answered 204");
  assert.deepEqual(told.map(({ fields }) => fields["stream_id"]), ["s", "s", "other", "s"]);
  assert.deepEqual([worker.backend.answers.length, worker.reactor.open, worker.timing.pending], [1, 0, 0]);
  await begin(worker); // the id is free
  assert.equal(worker.backend.answers.length, 2);
});

Deno.test("each watcher has the response headers of its own handoff, in a 204 as well", async () => {
  const worker = fakeWorker();
  const own = (value: string) => ({ stream_id: "s", response_headers: { "X-A": value } });
  const head = (value: string) => STREAM_HEAD.replace(/\r\n$/, `X-A: ${value}\r\n\r\n`);
  const [first, answer] = await begin(worker, own("1"));
  answer.emit("a");
  answer.end();
  await turn();
  const second = await worker.open(own("2"));
  const third = await worker.open({ ...own("3"), last_event_id: "2" });
  assert.equal(first.received, head("1") + events(["a", "[DONE]"]));
  assert.equal(second.received, head("2") + events(["a", "[DONE]"]));
  assert.equal(third.received, GONE.replace(/\r\n$/, "X-A: 3\r\n\r\n"));
});

Deno.test("cancel: the last one who leaves ends it at once; what it said is kept, and that it broke off", async () => {
  const worker = fakeWorker();
  const [first, answer] = await begin(worker);
  const second = await worker.open({ stream_id: "s" });
  answer.emit("a");
  await turn();
  first.owner?.gone(0);
  assert.deepEqual(answer.told, []);
  second.owner?.gone(0);
  assert.deepEqual(answer.told, ["cancel"]);
  await turn();
  assert.equal(worker.connections.size, 0);
  const late = await worker.open({ stream_id: "s", last_event_id: "0" });
  assert.equal(late.received, STREAM_HEAD + events(["a", '{"error":"Client disconnected"}']));
  const reasons = worker.lines.map(({ message, fields }) => [message, fields["reason"]]);
  assert.deepEqual(reasons.at(-2), ["Answer ended early", "client_disconnected"]);
});

Deno.test("continue: it goes on without anybody, at its own pace, and is there for who comes back", async () => {
  const worker = fakeWorker();
  const [client, answer] = await begin(worker, CONTINUE);
  answer.emit("a");
  await turn();
  client.owner?.gone(0);
  answer.emit("b");
  await turn();
  assert.deepEqual(answer.told, []);
  const back = await worker.open({ ...CONTINUE, last_event_id: "1" });
  answer.emit("c");
  await turn();
  back.owner?.gone(0);
  answer.end();
  await turn();
  assert.equal(back.received, STREAM_HEAD + events(["b", "c"], 2));
  const late = await worker.open({ ...CONTINUE, last_event_id: "3" });
  assert.equal(late.received, STREAM_HEAD + events(["[DONE]"], 4));
  assert.deepEqual(answer.told, []);
});

Deno.test("a failure before the first event has its status, for all, and leaves the id free", async () => {
  for (const data of [{}, CONTINUE]) {
    const worker = fakeWorker();
    const [first, answer] = await begin(worker, data);
    const second = await worker.open({ stream_id: "s" });
    answer.fail("unavailable");
    await turn();
    for (const { received, closed } of [first, second]) {
      assert.deepEqual([received, closed], [plainResponse(502, "Backend unavailable"), "in order"]);
    }
    assert.deepEqual(only(worker.calls, "streamEnded").length, 2);
    const [, again] = await begin(worker);
    assert.notEqual(again, answer);
    assert.equal((await worker.open({ stream_id: "other", last_event_id: "0" })).received, GONE);
  }
});

Deno.test("a failure after it is the last event, for who comes later as well", async () => {
  const worker = fakeWorker();
  const [client, answer] = await begin(worker);
  answer.emit("a");
  answer.fail("truncated");
  await turn();
  const all = STREAM_HEAD + events(["a", '{"error":"Backend error"}']);
  assert.deepEqual([client.received, client.closed], [all, "in order"]);
  assert.equal((await worker.open({ stream_id: "s" })).received, all);
  assert.deepEqual(only(worker.calls, "streamEnded"), [
    ["streamEnded", "backend_error"],
    ["streamEnded", "backend_error"],
  ]);
});

Deno.test("stop ends it at the provider, and tells all who watch; the second time there is none", async () => {
  const worker = fakeWorker();
  const [client, answer] = await begin(worker, CONTINUE);
  answer.emit("a");
  await turn();
  const stopper = await worker.open({ stream_id: "s", action: "stop", request_id: "r-2" });
  assert.deepEqual(answer.told, ["cancel"]);
  assert.deepEqual([stopper.received, stopper.closed], [plainResponse(200, "Stopped"), "in order"]);
  assert.equal(client.received, STREAM_HEAD + events(["a", '{"error":"Stopped"}']));
  assert.equal((await worker.open(CONTINUE)).received, client.received);
  for (const id of ["s", "other"]) {
    const { received } = await worker.open({ stream_id: id, action: "stop" });
    assert.equal(received, plainResponse(404, "No such stream is under way"));
  }
  assert.equal(worker.backend.answers.length, 1);
  assert.deepEqual(outcomes(worker), ["begun", "stopped", "watched", "nothing_to_stop", "nothing_to_stop"]);
  const line = worker.lines.find(({ message }) => message === "Stream stopped");
  assert.deepEqual(line?.fields, { request_id: "r-2", stream_id: "s" });
  assert.deepEqual(only(worker.calls, "streamEnded").at(0), ["streamEnded", "stopped"]);
});

Deno.test("stopped before it said anything, it says so in the stream", async () => {
  const worker = fakeWorker();
  const [client] = await begin(worker);
  await worker.open({ stream_id: "s", action: "stop" });
  assert.equal(client.received, STREAM_HEAD + events(['{"error":"Stopped"}']));
});

Deno.test("one that is slow holds nobody up, and misses nothing; when all are, the answer waits", async () => {
  const worker = fakeWorker();
  const slow = await worker.open({ stream_id: "s" }, { room: 200 });
  const [answer] = worker.backend.answers as [ScriptedAnswer];
  const quick = await worker.open({ stream_id: "s" });
  const pieces = Array.from({ length: 30 }, (_, index) => `piece-${index}`);
  for (const piece of pieces.slice(0, 15)) {
    answer.emit(piece);
    await turn();
  }
  assert.equal(slow.received.length, 200);
  assert.equal(quick.received, STREAM_HEAD + events(pieces.slice(0, 15)));
  assert.deepEqual(answer.told, []);
  quick.room = 10;
  answer.emit(pieces[15] as string);
  await turn();
  assert.deepEqual(answer.told, ["pause"]);
  slow.drain(Infinity);
  assert.deepEqual(answer.told, ["pause", "resume"]);
  assert.equal(slow.received, STREAM_HEAD + events(pieces.slice(0, 16)));
  quick.drain(Infinity);
  answer.emit(...pieces.slice(16));
  answer.end();
  await turn();
  const all = STREAM_HEAD + events([...pieces, "[DONE]"]);
  assert.deepEqual([slow.received, quick.received], [all, all]);
  assert.deepEqual([slow.closed, quick.closed], ["in order", "in order"]);
});

Deno.test("the quick one leaves: the answer waits for those that are slow", async () => {
  const worker = fakeWorker();
  await worker.open({ stream_id: "s" }, { room: 10 });
  const [answer] = worker.backend.answers as [ScriptedAnswer];
  const quick = await worker.open({ stream_id: "s" });
  answer.emit("a");
  await turn();
  assert.deepEqual(answer.told, []);
  quick.owner?.gone(0);
  assert.deepEqual(answer.told, ["pause"]);
});

Deno.test("who comes late and reads slowly is given no more than it takes, however much there is", async () => {
  const streams = new SharedStreams({ keepMs: 10_000, maxStreamBytes: 1e7, maxTotalBytes: 1e8 }, listLog([]));
  const worker = fakeWorker({ streams });
  const [first, answer] = await begin(worker);
  for (let count = 0; count < 5; count++) {
    answer.emit("x".repeat(1_000_000)); // all together is more than is kept for one client
    await turn();
  }
  const late = await worker.open({ stream_id: "s" }, { room: 10 });
  late.drain(Infinity);
  answer.end();
  await turn();
  assert.deepEqual([late.closed, late.received === first.received], ["in order", true]);
});

Deno.test("one that leaves while the store is asked does not watch what is found", async () => {
  const streams = new SharedStreams(
    { keepMs: 10_000, maxStreamBytes: 4096, maxTotalBytes: 65_536 },
    listLog([]),
  );
  const worker = fakeWorker({ streams });
  const [client, answer] = await begin(worker);
  const asked = Promise.withResolvers<void>();
  const watch = streams.watch.bind(streams);
  streams.watch = (who) => asked.promise.then(() => watch(who));
  const left = await worker.open({ stream_id: "s" });
  left.owner?.gone(0);
  asked.resolve();
  await turn();
  client.owner?.gone(0);
  assert.deepEqual(answer.told, ["cancel"]);
});

Deno.test("one that leaves in the turn in which it came changes nothing for those who stay", async () => {
  const worker = fakeWorker();
  const [client, answer] = await begin(worker);
  const sockets: FakeSocket[] = [];
  const accept = worker.reactor.accept.bind(worker.reactor);
  worker.reactor.accept = (room) => {
    sockets.push(accept(room));
    return sockets[0] as FakeSocket;
  };
  const opened = worker.open({ stream_id: "s" });
  sockets[0]?.owner?.gone(0);
  await opened;
  client.room = 10;
  answer.emit("a");
  await turn();
  assert.deepEqual(answer.told, ["pause"]);
  client.drain(Infinity);
  assert.deepEqual(answer.told, ["pause", "resume"]);
});

Deno.test("one that breaks while it is given what it has missed of a stream that is forgotten ends there", async () => {
  const streams = new SharedStreams({ keepMs: 0, maxStreamBytes: 1e6, maxTotalBytes: 1e7 }, listLog([]));
  const worker = fakeWorker({ streams });
  const client = await worker.open({ stream_id: "s" }, { room: 10 });
  const [answer] = worker.backend.answers as [ScriptedAnswer];
  for (let count = 0; count < 3; count++) {
    answer.emit("x".repeat(100_000)); // more than it is given at a time
    await turn();
  }
  answer.end();
  await turn();
  let sends = 0;
  Object.defineProperty(client, "failure", { get: () => sends++ === 0 ? undefined : -104 });
  client.drain(Infinity);
  assert.equal(client.closed, "at once");
  assert.deepEqual([streams.stats.bytes, worker.connections.size, worker.timing.pending], [0, 0, 0]);
});

Deno.test("past max_stream_bytes the beginning is lost to who comes later, and nothing to who watches", async () => {
  const worker = fakeWorker(); // 4096 bytes a stream
  const slow = await worker.open({ stream_id: "s" }, { room: 10 });
  const [answer] = worker.backend.answers as [ScriptedAnswer];
  const quick = await worker.open({ stream_id: "s" });
  const pieces = Array.from({ length: 40 }, (_, index) => `${index}`.padEnd(400, "."));
  for (const piece of pieces) {
    answer.emit(piece);
    await turn();
  }
  assert.equal((await worker.open({ stream_id: "s" })).received, GONE);
  assert.equal((await worker.open({ stream_id: "s", last_event_id: "5" })).received, GONE);
  const back = await worker.open({ stream_id: "s", last_event_id: "38" });
  answer.end();
  slow.drain(Infinity);
  await turn();
  const all = STREAM_HEAD + events([...pieces, "[DONE]"]);
  assert.deepEqual([slow.received, quick.received], [all, all]);
  assert.equal(back.received, STREAM_HEAD + events([...pieces.slice(38), "[DONE]"], 39));
});

Deno.test("more for a watcher at once than there may be of a stream goes to it all the same", async () => {
  const worker = fakeWorker();
  const [client, answer] = await begin(worker);
  answer.emit("a");
  await turn();
  answer.emit("x".repeat(10_000), "b");
  answer.end();
  await turn();
  assert.equal(client.received, STREAM_HEAD + events(["a", "x".repeat(10_000), "b", "[DONE]"]));
});

Deno.test("max_total_bytes: the oldest that have ended go first; without room a stream is its watchers' alone", async () => {
  const streams = new SharedStreams(
    { keepMs: 10_000, maxStreamBytes: 100_000, maxTotalBytes: 6000 },
    listLog([]),
  );
  const worker = fakeWorker({ streams });
  const run = async (id: string, bytes: number): Promise<void> => {
    await worker.open({ stream_id: id });
    worker.backend.answers.at(-1)?.emit("x".repeat(bytes));
    worker.backend.answers.at(-1)?.end();
    await turn();
  };
  const kept = async (id: string): Promise<boolean> =>
    (await worker.open({ stream_id: id, last_event_id: "1" })).received !== GONE;
  await run("a", 1000);
  await run("b", 1000);
  assert.deepEqual([await kept("a"), await kept("b")], [true, true]);
  await run("c", 2000);
  assert.deepEqual([await kept("a"), await kept("b"), await kept("c")], [false, true, true]);
  assert.deepEqual([streams.stats.evicted, streams.stats.live, streams.stats.kept], [1, 0, 2]);
  assert(streams.stats.bytes <= 6000);
  await run("d", 20_000);
  assert(streams.stats.bytes <= 6000);
  worker.timing.advance(10_001);
  const { live, kept: ended, bytes } = streams.stats;
  assert.deepEqual([live, ended, bytes], [0, 0, 0]);
});

Deno.test("what is given again needs no more room than it has bytes, once it has ended", async () => {
  const streams = new SharedStreams({ keepMs: 10_000, maxStreamBytes: 1e6, maxTotalBytes: 1e7 }, listLog([]));
  const [client, answer] = await begin(fakeWorker({ streams }));
  for (const piece of ["a", "b", "c"]) {
    answer.emit(piece.repeat(500));
    await turn();
  }
  answer.end();
  await turn();
  assert.equal(streams.stats.bytes, 1024 + client.received.length - STREAM_HEAD.length);
});

Deno.test("one that has ended and is still read stays: to forget it makes no room", async () => {
  const streams = new SharedStreams(
    { keepMs: 10_000, maxStreamBytes: 100_000, maxTotalBytes: 6000 },
    listLog([]),
  );
  const worker = fakeWorker({ streams });
  for (const [id, bytes, room] of [["read", 1000, 10], ["old", 1000], ["new", 2000]] as const) {
    await worker.open({ stream_id: id }, room === undefined ? {} : { room });
    worker.backend.answers.at(-1)?.emit("x".repeat(bytes));
    worker.backend.answers.at(-1)?.end();
    await turn();
  }
  const found = async (id: string) => (await worker.open({ stream_id: id, last_event_id: "1" })).received;
  assert.deepEqual([await found("read") !== GONE, await found("old") === GONE], [true, true]);
});

Deno.test("without any room the watchers get all, nobody joins them, and it ends with the last of them", async () => {
  const streams = new SharedStreams({ keepMs: 10_000, maxStreamBytes: 4096, maxTotalBytes: 0 }, listLog([]));
  const worker = fakeWorker({ streams });
  const slow = await worker.open(CONTINUE, { room: 30 });
  const [answer] = worker.backend.answers as [ScriptedAnswer];
  for (const piece of ["a", "b", "c"]) {
    answer.emit(piece);
    await turn();
  }
  assert.equal((await worker.open({ ...CONTINUE, last_event_id: "1" })).received, GONE);
  slow.drain(Infinity);
  answer.end();
  await turn();
  assert.equal(slow.received, STREAM_HEAD + events(["a", "b", "c", "[DONE]"]));
  const [gone, next] = await begin(worker, CONTINUE);
  gone.owner?.gone(0);
  assert.deepEqual(next.told, ["cancel"]);
  await turn();
  assert.deepEqual([streams.stats.bytes, worker.connections.size, worker.timing.pending], [0, 0, 0]);
});

Deno.test("keep_secs 0: once it has ended there is nothing", async () => {
  const streams = new SharedStreams({ keepMs: 0, maxStreamBytes: 4096, maxTotalBytes: 65_536 }, listLog([]));
  const worker = fakeWorker({ streams });
  const [client, answer] = await begin(worker);
  answer.emit("a");
  answer.end();
  await turn();
  assert.equal(client.received, STREAM_HEAD + events(["a", "[DONE]"]));
  assert.equal((await worker.open({ stream_id: "s", last_event_id: "1" })).received, GONE);
  assert.equal(streams.stats.bytes, 0);
});

Deno.test("one that reads on when the time is over gets the rest", async () => {
  const worker = fakeWorker({ writeTimeoutMs: 60_000 });
  const slow = await worker.open({ stream_id: "s" }, { room: 10 });
  const [answer] = worker.backend.answers as [ScriptedAnswer];
  answer.emit("a");
  await turn();
  answer.emit("b");
  answer.end();
  await turn();
  worker.timing.advance(10_001);
  assert.equal((await worker.open({ stream_id: "s", last_event_id: "0" })).received, GONE);
  slow.drain(Infinity);
  assert.deepEqual([slow.received, slow.closed], [STREAM_HEAD + events(["a", "b", "[DONE]"]), "in order"]);
});

Deno.test("a backend's silence ends it for all; while all are full its time stands still", async () => {
  const worker = fakeWorker({ writeTimeoutMs: 12_000 });
  const client = await worker.open({ stream_id: "s" }, { room: 100 });
  const [answer] = worker.backend.answers as [ScriptedAnswer];
  answer.emit("x".repeat(500));
  await turn();
  worker.timing.advance(10_000);
  assert.deepEqual(answer.told, ["pause"]);
  client.drain(Infinity);
  worker.timing.advance(4900); // past the time-out of writing, too, which is over
  await turn();
  assert.deepEqual(answer.told, ["pause", "resume"]);
  worker.timing.advance(102);
  await turn();
  assert.deepEqual(answer.told, ["pause", "resume", "cancel"]);
  assert.equal(client.received, STREAM_HEAD + events(["x".repeat(500), '{"error":"Backend timeout"}']));
});

Deno.test("a watcher that takes nothing is given up, and the others go on", async () => {
  const worker = fakeWorker();
  const stuck = await worker.open({ stream_id: "s" }, { room: 10 });
  const [answer] = worker.backend.answers as [ScriptedAnswer];
  const other = await worker.open({ stream_id: "s" });
  answer.emit("a");
  await turn();
  worker.timing.advance(1002);
  assert.equal(stuck.closed, "at once");
  answer.end();
  await turn();
  assert.equal(other.received, STREAM_HEAD + events(["a", "[DONE]"]));
  assert.deepEqual(only(worker.calls, "streamEnded"), [["streamEnded", "write_timeout"], ["streamEnded"]]);
});

Deno.test("signs of life are each watcher's own, and nobody's who comes later", async () => {
  const worker = fakeWorker({ heartbeatMs: 1000, writeTimeoutMs: 20_000 });
  const [client, answer] = await begin(worker);
  worker.timing.advance(1002);
  await turn();
  assert.equal(client.received, STREAM_HEAD + ":\n\n");
  worker.timing.advance(600);
  answer.emit("a");
  await turn();
  worker.timing.advance(600);
  await turn();
  assert.equal(client.received, STREAM_HEAD + ":\n\n" + events(["a"])); // a second of silence, not each second
  worker.timing.advance(402);
  await turn();
  worker.timing.advance(1000);
  await turn();
  answer.fail("truncated");
  await turn();
  const error = '{"error":"Backend error"}';
  assert.equal(
    client.received,
    STREAM_HEAD + ":\n\n" + events(["a"]) + ":\n\n:\n\n" + events([error], 2),
  );
  const late = await worker.open({ stream_id: "s" });
  assert.equal(late.received, STREAM_HEAD + events(["a", error]));
});

Deno.test("a sign of life that is due with the end of the backend's time is not sent to whoever has that socket's number next", async () => {
  const worker = fakeWorker({ heartbeatMs: 1000, writeTimeoutMs: 20_000 });
  const [client, answer] = await begin(worker);
  answer.emit("a");
  await turn();
  for (let passedMs = 0; passedMs < 4000; passedMs += 1000) {
    worker.timing.advance(1000);
    await turn();
  }
  worker.timing.advance(1002);
  await turn();
  assert.deepEqual(answer.told, ["cancel"]);
  assert.match(client.received, /"a"}\n\n(:\n\n)+id: 2\ndata: {"error":"Backend timeout"}\n\n$/);
  assert.equal(client.closed, "in order");
});

Deno.test("what fails after a sign of life and before the first event fails in the stream", async () => {
  const worker = fakeWorker({ heartbeatMs: 1000 });
  const [client, answer] = await begin(worker);
  worker.timing.advance(1002);
  await turn();
  answer.fail("unavailable");
  await turn();
  assert.equal(client.received, STREAM_HEAD + ":\n\n" + failed("Backend error"));
});

Deno.test("a shutdown and a longest life end it for all who watch", async () => {
  for (
    const [end, error] of [
      [({ connections }: FakeWorker) => connections.shutDown(), "Server is shutting down"],
      [
        ({ connections }: FakeWorker) => connections.outlive(Infinity),
        "The answer took longer than is allowed",
      ],
    ] as const
  ) {
    const worker = fakeWorker();
    const [first, answer] = await begin(worker);
    const second = await worker.open({ stream_id: "s" });
    answer.emit("a");
    await turn();
    end(worker);
    await turn();
    assert.deepEqual(answer.told, ["cancel"]);
    for (const { received, closed } of [first, second]) {
      assert.deepEqual([received, closed], [STREAM_HEAD + events(["a", `{"error":"${error}"}`]), "in order"]);
    }
    assert.equal(worker.connections.size, 0);
  }
});

Deno.test("while the daemon ends, what nobody watches is not waited for", async () => {
  const streams = new SharedStreams(
    { keepMs: 10_000, maxStreamBytes: 4096, maxTotalBytes: 65_536 },
    listLog([]),
  );
  const worker = fakeWorker({ streams });
  const [left, unwatched] = await begin(worker, CONTINUE);
  left.owner?.gone(0);
  const watching = await worker.open({ ...CONTINUE, stream_id: "t" });
  const watched = worker.backend.answers.at(-1);
  streams.end();
  await turn();
  assert.deepEqual([unwatched.told, watched?.told], [["cancel"], []]);
  watching.owner?.gone(0);
  await turn();
  assert.deepEqual([watched?.told, worker.connections.size], [["cancel"], 0]);
  streams.close();
  assert.deepEqual([streams.stats.bytes, worker.timing.pending], [0, 0]);
});

Deno.test("the last resort: closed without a word, nothing left", async () => {
  const streams = new SharedStreams(
    { keepMs: 10_000, maxStreamBytes: 4096, maxTotalBytes: 65_536 },
    listLog([]),
  );
  const worker = fakeWorker({ streams });
  const [client, answer] = await begin(worker, CONTINUE);
  answer.emit("a");
  await turn();
  worker.connections.close();
  assert.deepEqual([client.closed, answer.told, worker.connections.size], ["at once", ["cancel"], 0]);
  streams.close();
  assert.deepEqual([streams.stats.bytes, worker.timing.pending, worker.reactor.open], [0, 0, 0]);
});

Deno.test("a client that had left before it was taken: its stream is made where it is to go on", async () => {
  for (const [on_disconnect, told] of [["continue", []], ["cancel", ["cancel"]]] as const) {
    const worker = fakeWorker();
    const client = await worker.open({ stream_id: "s", on_disconnect }, { gone: true });
    assert.deepEqual([client.closed, client.received], ["at once", ""]);
    const [answer] = worker.backend.answers;
    assert.deepEqual([worker.backend.answers.length, answer?.told], [1, told]);
  }
});

Deno.test("a stream that is at another worker: its client goes there, and is nothing here any more", async () => {
  const worker = fakeWorker({ homeOf: (id) => id === "s" ? 7 : 1 });
  const data = { stream_id: "s", prompt: "ü" };
  await worker.open(data);
  assert.deepEqual(worker.reactor.moved, [[7, JSON.stringify(data)]]);
  assert.deepEqual(
    [worker.connections.size, worker.reactor.open, worker.backend.answers.length, worker.timing.pending],
    [0, 0, 0, 0],
  );
  assert.deepEqual(worker.calls, [["connectionOpened"]]);
});

Deno.test("a client that has come from another worker is served here, and was counted there", async () => {
  const worker = fakeWorker();
  const client = await worker.open({ stream_id: "s" }, { moved: true });
  worker.backend.answers[0]?.emit("a");
  await turn();
  assert.equal(client.received, STREAM_HEAD + events(["a"]));
  assert.deepEqual(only(worker.calls, "connectionOpened"), []);
});

Deno.test("where the other worker does not take it, or it has gone about already, the client is told", async () => {
  for (const [moves, moved] of [[false, false], [true, true]] as const) {
    const worker = fakeWorker({ homeOf: () => 7 });
    worker.reactor.moves = moves;
    const client = await worker.open({ stream_id: "s" }, { moved });
    assert.deepEqual([client.received, client.closed], [
      plainResponse(503, "Too many requests at a time"),
      "in order",
    ]);
    assert.deepEqual(only(worker.calls, "connectionRejected").length, 1);
    assert.deepEqual([worker.reactor.moved.length, worker.connections.size], [0, 0]);
  }
});
