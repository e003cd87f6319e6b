/**
 * Clients without a kernel: sockets that a test fills and drains, and the sender that writes to them.
 * @module
 */
import { type Client, ClientSink, type Sender, type Socket } from "../../src/worker/client_sink.ts";
import type { StreamFailure } from "../../src/errors.ts";
import { Deadlines } from "../../src/timing/timer_wheel.ts";
import { FakeTiming } from "./fake_timing.ts";

/** A socket that takes `room` bytes and remembers them. Behaves towards the sender as `shim/ABI.md` says. */
export class FakeSocket implements Socket {
  readonly id: number;
  events: Socket["events"];
  received = "";
  room = Infinity;
  /** What send(2) fails with, as a negative status. */
  failure: number | undefined;
  closes = 0;
  endedInOrder = false;
  blocked = false;

  constructor(id: number) {
    this.id = id;
  }

  close(): void {
    this.closes++;
    this.events = undefined;
  }

  closedByEnd(): void {
    this.closes++;
    this.endedInOrder = true;
    this.events = undefined;
  }

  /** Makes room, and says so as the reactor does. */
  drain(room: number): void {
    this.room = room;
    this.blocked = false;
    this.events?.writable();
  }
}

/** Sends to {@linkcode FakeSocket}s by number. */
export class FakeSender implements Sender {
  readonly sockets = new Map<number, FakeSocket>();
  batches = 0;

  send({ entries, count, data }: Parameters<Sender["send"]>[0]): Int32Array {
    this.batches++;
    const results = new Int32Array(count);
    for (let index = 0; index < count; index++) {
      const [id, offset, length, end] = entries.subarray(index * 4, index * 4 + 4) as unknown as number[];
      const socket = this.sockets.get(id as number);
      if (socket === undefined) throw new RangeError(`no socket ${id}`);
      if (socket.closes > 0) throw new Error(`socket ${id} is closed`);
      if (socket.blocked) continue;
      if (socket.failure !== undefined) {
        results[index] = socket.failure;
        continue;
      }
      const taken = Math.min(length as number, socket.room);
      const bytes = data.subarray(offset as number, (offset as number) + taken);
      socket.received += new TextDecoder("latin1").decode(bytes);
      socket.room -= taken;
      socket.blocked = taken < (length as number);
      results[index] = taken;
      if (end === 1 && !socket.blocked) this.sockets.delete(id as number);
    }
    return results;
  }
}

/** A sink over fake sockets, with its own time. */
export function fakeClients(writeTimeoutMs = 1000): {
  timing: FakeTiming;
  sender: FakeSender;
  sink: ClientSink;
  deadlines: Deadlines;
  traffic: { bytes: number };
  socket(id: number): FakeSocket;
  client(socket: FakeSocket): { client: Client; ends: (StreamFailure | undefined)[] };
} {
  const timing = new FakeTiming();
  const deadlines = new Deadlines(1, timing);
  const sender = new FakeSender();
  const traffic = { bytes: 0 };
  const sink = new ClientSink({
    sender,
    deadlines,
    traffic: { bytesSent: (bytes) => void (traffic.bytes += bytes) },
    writeTimeoutMs: () => writeTimeoutMs,
  });
  return {
    timing,
    sender,
    sink,
    deadlines,
    traffic,
    socket(id): FakeSocket {
      const socket = new FakeSocket(id);
      sender.sockets.set(id, socket);
      return socket;
    },
    client(socket) {
      const ends: (StreamFailure | undefined)[] = [];
      return { client: sink.adopt(socket, { clientEnded: (failure) => void ends.push(failure) }), ends };
    },
  };
}
