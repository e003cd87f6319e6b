/** A backend of the site's own, loaded by its path; and the types that its author has. */
import assert from "node:assert/strict";
import type * as Own from "../../examples/backend/types.ts";
import type { BackendRequest, StreamEvent } from "../../src/backend/backend.ts";
import { moduleBackend, tryModule } from "../../src/backend/module.ts";
import type { BACKEND_FAILURES } from "../../src/errors.ts";
import { Heard, requestFor } from "../support/answers.ts";
import { FakeRecipient } from "../support/fake_clients.ts";
import { TestFolder } from "../support/folders.ts";
import { until } from "../support/until.ts";

/** A module in a file of its own, which is gone with the test. */
function moduleOf(folder: TestFolder, source: string): { path: string; options: Record<string, unknown> } {
  const path = `${folder.path}/own-${crypto.randomUUID()}.ts`;
  Deno.writeTextFileSync(path, source);
  return { path, options: { greeting: "Hello" } };
}
const MORE = { allowNet: [], allowRead: [] };

/** All events of one answer. */
async function answer(source: string, request: Partial<BackendRequest> = {}): Promise<StreamEvent[]> {
  using folder = new TestFolder();
  const backend = moduleBackend({ ...moduleOf(folder, source), ...MORE });
  const heard = new Heard(backend);
  const recipient = new FakeRecipient(1);
  backend.ask({ ...requestFor("Hi"), ...request }, recipient);
  const last = () => heard.of(recipient.id).at(-1)?.kind;
  await heard.until(() => last() === "end" || last() === "error");
  await backend.close();
  return heard.of(recipient.id) as StreamEvent[];
}

const stream = (body: string): string =>
  `export default (options) => ({ stream: (request, signal) => ReadableStream.from((async function* () { ${body} })()) });`;

Deno.test("own backend: texts are strings or events, and the end of the stream is the end", async () => {
  const events = await answer(
    stream(
      `yield { kind: "open" }; yield options.greeting; yield ""; yield { kind: "text", text: " " + request.messages[1].content };
      yield { kind: "finish", reason: "stop" }; yield { kind: "usage", inputTokens: 1, outputTokens: 2 };`,
    ),
  );
  assert.deepEqual(events, [
    { kind: "open" },
    { kind: "text", text: "Hello" },
    { kind: "text", text: " Hi" },
    { kind: "finish", reason: "stop" },
    { kind: "usage", inputTokens: 1, outputTokens: 2 },
    { kind: "end" },
  ]);
});

Deno.test("own backend: stream() and the function may be asynchronous", async () => {
  const source = `export default async () => ({ stream: async () => ReadableStream.from(["a"]) });`;
  assert.deepEqual(await answer(source), [{ kind: "text", text: "a" }, { kind: "end" }]);
});

Deno.test("own backend: what the client has not asked for is left out", async () => {
  const source = stream(
    `yield { kind: "reasoning", text: "hm" }; yield { kind: "tool_call", index: 0, id: "c", arguments: "{}" };
     yield { kind: "source", url: "https://x/" }; yield { kind: "chunk", data: "{}" };`,
  );
  const kinds = async (request: Partial<BackendRequest>) =>
    (await answer(source, request)).map(({ kind }) => kind);
  assert.deepEqual(await kinds({}), ["end"]);
  assert.deepEqual(await kinds({ include: ["reasoning"] }), ["reasoning", "end"]);
  assert.deepEqual(await kinds({ include: ["tool_calls"] }), ["tool_call", "end"]);
  assert.deepEqual(await kinds({ format: "ai-sdk" }), ["source", "end"]);
  assert.deepEqual(await kinds({ format: "openai" }), ["reasoning", "tool_call", "chunk", "end"]);
});

Deno.test("own backend: whatever goes wrong is an event with its kind", async (t) => {
  const bad = (value: string) => stream(`yield "a"; yield ${value};`);
  const cases: readonly [source: string, kind: string, message: RegExp][] = [
    [stream(`throw new Error("a bug")`), "other", /^a bug$/],
    [stream(`throw Object.assign(new Error("busy"), { kind: "rate_limited" })`), "rate_limited", /^busy$/],
    [stream(`throw Object.assign(new Error("x"), { kind: "made_up" })`), "other", /^x$/],
    [stream(`throw "a text"`), "other", /^a text$/],
    [stream(`throw undefined`), "other", /^undefined$/],
    [`export default () => ({ stream: () => { throw new Error("at once"); } });`, "other", /^at once$/],
    [
      `export default () => ({ stream: () => "no stream" });`,
      "malformed",
      /gave string, expected a ReadableStream/,
    ],
    [`export default () => ({ stream: () => undefined });`, "malformed", /gave undefined/],
    [bad("7"), "malformed", /gave what is no event: number$/],
    [bad("null"), "malformed", /no event: null$/],
    [
      bad(`{ kind: "txt", text: "secret" }`),
      "malformed",
      /^its stream gave what is no event: kind "txt" with kind, text$/,
    ],
    [bad(`{ kind: "text" }`), "malformed", /kind "text" with kind$/],
    [bad(`{ kind: "usage", inputTokens: -1, outputTokens: 0 }`), "malformed", /kind "usage"/],
    [bad(`{ kind: "finish", reason: 1 }`), "malformed", /kind "finish"/],
    [bad(`{ kind: "tool_call", index: 0 }`), "malformed", /kind "tool_call"/],
    [bad(`{ kind: "source", url: 1 }`), "malformed", /kind "source"/],
    [bad(`{ kind: "chunk", data: "a\\nb" }`), "malformed", /kind "chunk"/],
    [bad(`{ kind: "reasoning" }`), "malformed", /kind "reasoning"/],
    [bad(`{ kind: "error", error: new Error("said") }`), "other", /^said$/],
  ];
  for (const [source, kind, message] of cases) {
    await t.step(source, async () => {
      const last = (await answer(source)).at(-1);
      assert.equal(last?.kind, "error");
      assert.equal(last.error.kind, kind);
      assert.match(last.error.message, message);
    });
  }
});

Deno.test("own backend: nobody wants the answer any more: its signal and its stream hear of it, also before it has one", async () => {
  using folder = new TestFolder();
  const told: string[] = [];
  Object.assign(globalThis, { toldOfOwnBackend: (what: string) => void told.push(what) });
  const backend = moduleBackend({
    ...moduleOf(
      folder,
      `export default () => ({
        stream: async (request, signal) => {
          signal.addEventListener("abort", () => toldOfOwnBackend("signal"));
          if (request.model === "slow") toldOfOwnBackend("slow");
          if (request.model === "slow") await new Promise((resolve) => signal.addEventListener("abort", resolve));
          return new ReadableStream({
            pull: (controller) => { toldOfOwnBackend("pull"); controller.enqueue("a"); return new Promise(() => {}); },
            cancel: () => toldOfOwnBackend("cancel"),
          }, { highWaterMark: 0 });
        },
        close: () => toldOfOwnBackend("close"),
      });`,
    ),
    ...MORE,
  });
  const heard = new Heard(backend);
  const recipient = new FakeRecipient(1);
  const answer = backend.ask(requestFor("Hi"), recipient);
  await until("the first piece", () => heard.of(recipient.id).length === 1);
  answer.cancel();
  await until("the end", () => told.includes("cancel"));
  const slow = backend.ask({ ...requestFor("Hi"), model: "slow" }, recipient);
  await until("it is asked", () => told.filter((each) => each === "slow").length === 1);
  slow.cancel();
  await until("the end of both", () => told.filter((each) => each === "cancel").length === 2);
  await backend.close();
  assert.deepEqual(told.filter((each) => each !== "pull" && each !== "slow"), [
    "signal",
    "cancel",
    "signal",
    "cancel",
    "close",
  ]);
  assert.equal(heard.of(recipient.id).length, 1);
});

Deno.test("own backend: what cannot be one is named with its key, and why", async () => {
  using folder = new TestFolder();
  const cases: readonly [source: string | undefined, message: RegExp][] = [
    [undefined, /: the module cannot be loaded: Module not found/],
    ["this is no module", /: the module cannot be loaded: /],
    [`throw new Error("no luck")`, /: the module cannot be loaded: no luck$/],
    [
      "export const other = 1;",
      /: the module's default export is undefined, expected a function that makes a backend$/,
    ],
    ["export default 7;", /: the module's default export is number, expected/],
    [`export default () => { throw new Error("no url"); };`, /: the module's function failed: no url$/],
    [
      "export default () => {};",
      /: the module's function gave no backend, expected { stream\(request, signal\) }$/,
    ],
    ["export default () => ({ stream: 1 });", /gave no backend/],
    [
      `export default () => ({ stream() {}, close() { throw new Error("no"); } });`,
      /: the module's close\(\) failed: no$/,
    ],
  ];
  for (const [source, message] of cases) {
    const options = source === undefined
      ? { path: `${folder.path}/none.ts`, options: {} }
      : moduleOf(folder, source);
    await assert.rejects(tryModule({ ...options, ...MORE }), (error: Error) => {
      assert.equal(error.name, "ConfigError");
      assert(error.message.startsWith(`backend.module.path = "${options.path}": `), error.message);
      assert.match(error.message, message);
      return true;
    });
  }
});

Deno.test("own backend: one that is never made, or never closed, does not hold up the start or a reload for ever", async () => {
  using folder = new TestFolder();
  for (
    const source of [
      "export default () => new Promise(() => {});",
      "export default () => ({ stream() {}, close: () => new Promise(() => {}) });",
    ]
  ) {
    await assert.rejects(
      tryModule({ ...moduleOf(folder, source), ...MORE }, 50),
      { name: "ConfigError", message: /: the module is not loaded, made and closed within 50 ms$/ },
    );
  }
});

/** Fails the type check where the types that an author has are others than the daemon's. */
type Same<A, B> = [A] extends [B] ? [B] extends [A] ? true : false : false;
Deno.test("own backend: the types for authors are the daemon's", () => {
  const same: readonly [
    Same<Own.StreamEvent, Exclude<StreamEvent, { kind: "error" } | { kind: "chunk" }>>,
    Same<Own.BackendRequest, Pick<BackendRequest, keyof Own.BackendRequest>>,
    Same<Own.Failure["kind"], typeof BACKEND_FAILURES[number]>,
  ] = [true, true, true];
  assert(same.every((each) => each));
});
