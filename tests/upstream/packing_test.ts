import assert from "node:assert/strict";
import fc from "fast-check";
import type { H2Connection } from "../../src/upstream/h2/connection.ts";
import { Packing } from "../../src/upstream/h2/packing.ts";

/** As much of a connection as the policy looks at. */
class FakeConnection {
  room = 0;
  expectedRoom = 0;
  silent = false;

  /** As the real one: asked after a silence, it has no room until it answers. */
  trusted(): boolean {
    if (!this.silent) return true;
    this.expectedRoom = this.room;
    this.room = 0;
    return false;
  }
}

const asReal = (connection: FakeConnection): H2Connection => connection as unknown as H2Connection;

Deno.test("packing: whatever happens to the connections, the first opened with room is next", () => {
  const change = fc.record({
    which: fc.nat(5),
    room: fc.nat(3),
    doubted: fc.boolean(),
    silent: fc.boolean(),
    asks: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 60 }), (changes) => {
      const packing = new Packing();
      const opened: FakeConnection[] = [];
      for (const { which, room, doubted, silent, asks } of changes) {
        let connection = opened[which];
        if (connection === undefined) opened.push(connection = new FakeConnection());
        connection.room = doubted ? 0 : room;
        connection.expectedRoom = doubted ? room : 0;
        connection.silent = silent;
        packing.update(asReal(connection));
        const all = opened.reduce((sum, each) => sum + each.room + each.expectedRoom, 0);
        assert.equal(packing.room(Infinity), all);
        if (!asks) continue;
        const expected = opened.find((each) => each.room > 0 && !each.silent) ?? null;
        const inDoubt = opened.slice(0, expected === null ? opened.length : opened.indexOf(expected))
          .filter((each) => each.room > 0);
        assert.equal(packing.next(0), expected);
        assert.ok(
          inDoubt.every((each) => each.room === 0 && each.expectedRoom > 0),
          "those before it are asked",
        );
      }
    }),
  );
});

Deno.test("packing: room is counted no further than it is needed", () => {
  const packing = new Packing();
  const [first, second] = [new FakeConnection(), new FakeConnection()];
  first.room = 5;
  second.room = 7;
  packing.update(asReal(first));
  packing.update(asReal(second));
  assert.equal(packing.room(5), 5);
  assert.equal(packing.room(6), 12);
});
