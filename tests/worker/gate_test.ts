/** Places at a backend, and who waits for them. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { Gate, type Waiter } from "../../src/worker/gate.ts";

/** One that writes down what becomes of it. */
class Named implements Waiter {
  constructor(readonly name: string, readonly userId: string | undefined, readonly told: string[]) {}
  admitted(): void {
    this.told.push(this.name);
  }
  displaced(): void {
    this.told.push(`not ${this.name}`);
  }
}

/** A gate of one place, which is taken, and those that wait at it: `a1` is the first of the user `a`. */
function full(
  names: string,
  mostWaiting = 100,
): { gate: Gate; told: string[]; waiters: Named[]; waits: boolean[] } {
  const gate = new Gate();
  gate.set(1, mostWaiting);
  assert(gate.enter());
  const told: string[] = [];
  const waiters = names.split(" ").filter((name) => name !== "")
    .map((name) => new Named(name, name[0] === "-" ? undefined : name[0], told));
  const waits = waiters.map((waiter) => gate.wait(waiter));
  return { gate, told, waiters, waits };
}

Deno.test("gate: any number without a limit, and so many with one", () => {
  const gate = new Gate();
  for (let count = 0; count < 1000; count++) assert(gate.enter());
  const limited = new Gate();
  limited.set(2, 10);
  assert.deepEqual([limited.enter(), limited.enter(), limited.enter()], [true, true, false]);
  limited.leave();
  assert.deepEqual([limited.enter(), limited.enter()], [true, false]);
});

Deno.test("gate: the users take turns, each in its own order; those without one are one user", () => {
  const { gate, told } = full("a1 a2 a3 a4 b1 -1 -2 b2 c1");
  for (let count = 0; count < 9; count++) gate.leave();
  assert.deepEqual(told, ["a1", "b1", "-1", "c1", "a2", "b2", "-2", "a3", "a4"]);
  assert.equal(gate.waiting, 0);
});

Deno.test("gate: nobody overtakes those that wait", () => {
  const { gate } = full("a1");
  gate.set(2, 0);
  assert.equal(gate.waiting, 0);
  assert.equal(gate.enter(), false);
});

Deno.test("gate: who gives up leaves its place in the queue to the next, and may do so twice", () => {
  const { gate, told, waiters } = full("a1 a2 b1");
  for (const index of [0, 0, 2]) gate.giveUp(waiters[index] as Named);
  assert.equal(gate.waiting, 1);
  gate.leave();
  gate.leave();
  assert.deepEqual(told, ["a2"]);
  assert(gate.enter());
});

Deno.test("gate: a full queue takes nobody, but a user with fewer takes a place of the one with the most", () => {
  const { gate, told, waits } = full("a1 a2 a3 a4 b1 b2 a5 b3 c1", 4);
  assert.deepEqual(waits, [true, true, true, true, true, true, false, false, true]);
  assert.deepEqual(told, ["not a4", "not a3", "not a2"]);
  assert.equal(gate.waiting, 4);
  told.length = 0;
  for (let count = 0; count < 4; count++) gate.leave();
  assert.deepEqual(told, ["a1", "b1", "c1", "b2"]);
  assert.deepEqual(full("a1 b1", 0).waits, [false, false]);
  // Not for one that would then have the most itself.
  assert.deepEqual(full("a1 a2 b1 b2", 3).waits, [true, true, true, false]);
});

Deno.test("gate: a raised limit lets in those that wait, a lowered one nobody until there are fewer", () => {
  const { gate, told } = full("a1 a2 a3 a4");
  gate.set(3, 100);
  assert.deepEqual(told, ["a1", "a2"]);
  gate.set(1, 100);
  gate.leave();
  gate.leave();
  assert.equal(told.length, 2);
  gate.leave();
  assert.deepEqual(told, ["a1", "a2", "a3"]);
  gate.set(0, 100);
  assert.deepEqual([told.length, gate.waiting], [4, 0]);
});

Deno.test("gate: those that give their place back at once, as where a circuit has opened, are any number", () => {
  const gate = new Gate();
  gate.set(1, 1e5);
  assert(gate.enter());
  let told = 0;
  const waiter: Waiter = {
    userId: undefined,
    admitted() {
      told++;
      gate.leave();
    },
    displaced() {},
  };
  for (let count = 0; count < 1e5; count++) gate.wait({ ...waiter });
  gate.leave();
  assert.deepEqual([told, gate.waiting, gate.enter()], [1e5, 0, true]);
});

Deno.test("gate: one that is displaced may bring another one of the same user's to the queue at once", () => {
  const { gate, waiters } = full("a1 a2 a3", 3);
  const b2 = new Named("b2", "b", []);
  (waiters[2] as Named).displaced = () => void gate.wait(b2);
  const b1 = new Named("b1", "b", []);
  assert(gate.wait(b1));
  for (const each of [...waiters, b1, b2]) gate.giveUp(each);
  assert.equal(gate.waiting, 0);
});

Deno.test("gate: whatever happens, no more are inside than may be, and whoever waits is admitted or displaced once", () => {
  const step = fc.record({
    what: fc.constantFrom("come", "come", "leave", "giveUp"),
    user: fc.constantFrom("a", "b", "c", undefined),
    which: fc.nat(20),
  });
  fc.assert(fc.property(fc.array(step, { maxLength: 200 }), fc.integer({ min: 1, max: 4 }), (steps, most) => {
    const gate = new Gate();
    gate.set(most, 5);
    let inside = 0;
    const waiting = new Set<Waiter>();
    for (const { what, user, which } of steps) {
      if (what === "come") {
        if (gate.enter()) inside++;
        else {
          const waiter: Waiter = {
            userId: user,
            admitted() {
              assert(waiting.delete(waiter));
              inside++;
            },
            displaced: () => assert(waiting.delete(waiter)),
          };
          if (gate.wait(waiter)) waiting.add(waiter);
        }
      } else if (what === "leave" && inside > 0) {
        inside--;
        gate.leave();
      } else if (what === "giveUp") {
        const one = [...waiting][which];
        if (one !== undefined) {
          waiting.delete(one);
          gate.giveUp(one);
        }
      }
      assert(inside <= most);
      assert.equal(gate.waiting, waiting.size);
      assert(waiting.size === 0 || inside === most, "nobody waits while there is a place");
      assert(waiting.size <= 5);
    }
  }));
});
