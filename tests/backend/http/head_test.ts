import assert from "node:assert/strict";
import { jsonHead } from "../../../src/backend/http/head.ts";

Deno.test("head: the provider's fields, and those of the configuration, which win", () => {
  const { method, url, headers } = jsonHead(
    { apiBase: "https://llm.example/v1", headers: { "X-Version": "2", "X-Team": "web" } },
    "/messages",
    [["x-version", "1"], ["x-api-key", "k"]],
  );
  assert.equal(method, "POST");
  assert.equal(url.href, "https://llm.example/v1/messages");
  assert.deepEqual(headers, [
    ["accept", "text/event-stream"],
    ["accept-encoding", "identity"],
    ["content-type", "application/json"],
    ["user-agent", "streaming-daemon-ts"],
    ["x-version", "2"],
    ["x-api-key", "k"],
    ["x-team", "web"],
  ]);
});

Deno.test("head: a base may end with a slash; what is empty is not sent", () => {
  const { url, headers } = jsonHead({ apiBase: "http://h/", headers: {} }, "/runs/stream", [[
    "x-api-key",
    "",
  ]]);
  assert.equal(url.href, "http://h/runs/stream");
  assert.deepEqual(headers.filter(([name]) => name === "x-api-key"), []);
});
