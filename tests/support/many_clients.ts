/** Many clients at once. */
import type { TestClient } from "./clients.ts";
import type { TestDaemon } from "./daemon.ts";

/** So many handoffs of the same data. */
export async function askMany(
  daemon: TestDaemon,
  count: number,
  data: Readonly<Record<string, unknown>>,
): Promise<TestClient[]> {
  const clients: TestClient[] = [];
  for (let i = 0; i < count; i++) {
    clients.push(daemon.handOff({ prompt: "the same for all", ...data }));
    // Now and then the provider, which may be in this process, has its turn.
    if (i % 50 === 0) await new Promise((next) => setTimeout(next, 0));
  }
  return clients;
}

/** What they read, each other answer once, with its count. */
export async function answers(clients: readonly TestClient[]): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const client of clients) {
    const answer = await client.readAll();
    client.close();
    counts[answer] = (counts[answer] ?? 0) + 1;
  }
  return counts;
}
