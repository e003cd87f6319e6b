import assert from "node:assert/strict";
import { ask, backendRig, HELLO } from "../../support/backend_rig.ts";

/** Of what was sent, the limits. */
const limits = (requests: readonly { readonly body: object }[]): unknown[] =>
  requests.map(({ body }) => Object.fromEntries(Object.entries(body).filter(([name]) => /^max_/.test(name))));

Deno.test("openai: a limit of the configuration goes out under the name that the model takes", async (t) => {
  await t.step("max_tokens, and the handoff's own limit after it", async () => {
    await using rig = await backendRig({ protocol: "h2c" }, { body: { max_tokens: 5 } });
    const requests = [{}, {}, { maxTokens: 3 }];
    for (const each of requests) {
      assert.deepEqual(await rig.ears.hear(ask("refuses-max_tokens", each)), HELLO);
    }
    assert.deepEqual(limits(rig.mock.requests), [
      { max_tokens: 5 },
      { max_completion_tokens: 5 },
      { max_completion_tokens: 5 },
      { max_completion_tokens: 3 },
    ]);
  });
  await t.step("max_completion_tokens", async () => {
    await using rig = await backendRig({ protocol: "h2c" }, { body: { max_completion_tokens: 5 } });
    const request = (): ReturnType<typeof ask> => ask("refuses-max_completion_tokens");
    assert.deepEqual(await rig.ears.hear(request()), HELLO);
    assert.deepEqual(await rig.ears.hear(request()), HELLO);
    assert.deepEqual(limits(rig.mock.requests), [
      { max_completion_tokens: 5 },
      { max_tokens: 5 },
      { max_tokens: 5 },
    ]);
  });
  await t.step("both: the one that is taken", async () => {
    await using rig = await backendRig({ protocol: "h2c" }, {
      body: { max_tokens: 5, max_completion_tokens: 6 },
    });
    assert.deepEqual(await rig.ears.hear(ask("refuses-max_tokens")), HELLO);
    assert.deepEqual(limits(rig.mock.requests), [
      { max_tokens: 5, max_completion_tokens: 6 },
      { max_completion_tokens: 6 },
    ]);
  });
  await t.step("a value that no name makes right", async () => {
    await using rig = await backendRig({ protocol: "h2c" }, { body: { max_tokens: 5 } });
    const [end] = await rig.ears.hear(ask("refuses-max_tokens-max_completion_tokens"));
    assert.match(end ?? "", /^bad_request: /);
    assert.equal(rig.mock.requests.length, 2);
  });
});

Deno.test("openai: stream_options of the configuration that a model refuses are not sent again as they were", async () => {
  await using rig = await backendRig({ protocol: "h2c" }, {
    body: { stream_options: { include_usage: true } },
  });
  const [end] = await rig.ears.hear(ask("refuses-stream_options"));
  assert.match(end ?? "", /^bad_request: .*stream_options/);
  assert.equal(rig.mock.requests.length, 1);
});
