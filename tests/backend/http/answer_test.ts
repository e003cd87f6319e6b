import assert from "node:assert/strict";
import { ask, type Asked, type BackendRig, backendRig, PROTOCOLS } from "../../support/backend_rig.ts";
import { collected } from "../../support/collected.ts";

/** Asks, and keeps no more of the conversation than a reference that holds nothing. */
function asked(rig: BackendRig): { readonly answer: Asked; readonly messages: WeakRef<object> } {
  const messages = [{ role: "user", content: "Hello" }];
  return { answer: rig.ears.ask(ask("gate", { messages })), messages: new WeakRef(messages) };
}

for (const protocol of PROTOCOLS) {
  Deno.test(`http over ${protocol}: after the head a request is let go of, while its answer goes on`, async () => {
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    await using rig = await backendRig({ protocol, gate });
    const { answer, messages } = asked(rig);
    await answer.until(2);
    assert.deepEqual(answer.heard, ["open", '"first "']);
    const isLetGo = await collected(messages);
    open();
    assert.equal((await answer.all()).at(-1), "end");
    assert.ok(isLetGo);
  });
}
