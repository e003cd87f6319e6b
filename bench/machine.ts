/**
 * What the figures were measured on.
 * @module
 */

/** A machine, and when. */
export interface Machine {
  readonly date: string;
  readonly processor: string;
  readonly cores: number;
  readonly memoryGib: number;
  readonly kernel: string;
}

/** Reads it from /proc (proc(5)). */
export async function machine(): Promise<Machine> {
  const [cpu, memory, version] = await Promise.all(
    ["cpuinfo", "meminfo", "sys/kernel/osrelease"].map((file) => Deno.readTextFile(`/proc/${file}`)),
  );
  const kib = Number(/^MemTotal:\s+(\d+)/m.exec(memory ?? "")?.[1] ?? 0);
  return {
    date: new Date().toISOString().slice(0, 10),
    processor: /^model name\s*:\s*(.+)$/m.exec(cpu ?? "")?.[1] ?? "unknown processor",
    cores: navigator.hardwareConcurrency,
    memoryGib: Math.round(kib / 1024 / 1024),
    kernel: `Linux ${(version ?? "").trim()}`,
  };
}
