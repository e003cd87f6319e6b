/** The rules of the house that a machine can check: who imports whom, and what has only one home. */
import assert from "node:assert/strict";

const PURE = ["errors", "handoff_request", "sse", "response"];
const MIDDLE = ["outbox", "client_sink", "connection", "drain", "deadlines", "coalescing"];
const TOP = ["service", "worker", "worker_isolate", "isolated_worker", "worker_pool", "daemon"];
// Everything else in src/ is an edge.

interface Module {
  /** Path below `src/`, without its ending. */
  readonly name: string;
  readonly source: string;
  readonly imports: readonly { readonly target: string; readonly typeOnly: boolean }[];
}

function* typescriptFiles(folder: URL): Generator<URL> {
  for (const entry of Deno.readDirSync(folder)) {
    if (entry.isDirectory) yield* typescriptFiles(new URL(`${entry.name}/`, folder));
    else if (entry.name.endsWith(".ts")) yield new URL(entry.name, folder);
  }
}

const src = new URL("../src/", import.meta.url);
const modules: Module[] = [...typescriptFiles(src)].map((file) => {
  const source = Deno.readTextFileSync(file);
  const imports = [
    ...source.matchAll(/^(?:import|export)\s+(type\s+)?((?:[^'";]|\n)*?)\s*from\s+"([^"]+)"/gm),
  ];
  return {
    name: nameOf(file.href),
    source,
    imports: imports.map(([, type, names, target]) => ({
      target: (target as string).startsWith(".")
        ? nameOf(new URL(target as string, file).href)
        : target as string,
      // `import { type A, type B }` is erased as well.
      typeOnly: type !== undefined ||
        (names as string).replace(/[{}]/g, "").split(",").every((each) => /^\s*(type\s|$)/.test(each)),
    })),
  };
});

function nameOf(href: string): string {
  return href.startsWith(src.href) ? href.slice(src.href.length).replace(/\.ts$/, "") : href;
}

function isEdge(name: string): boolean {
  return ![...PURE, ...MIDDLE, ...TOP].includes(name);
}

function violations(check: (module: Module) => Iterable<string>): string[] {
  return modules.flatMap((module) => [...check(module)].map((what) => `src/${module.name}.ts: ${what}`));
}

/** The file without comments, so that a word in a sentence is not a use. */
function code({ source }: Module): string {
  return source.replace(/\/\*[^]*?\*\//g, "").replace(/(^|\s)\/\/.*$/gm, "");
}

Deno.test("the rules read the modules", () => {
  for (const name of [...PURE, ...MIDDLE, ...TOP, "native/reactor", "backend/mock"]) {
    assert(modules.some((module) => module.name === name), `${name} is gone`);
  }
  const connection = modules.find((module) => module.name === "connection");
  assert(connection?.imports.some(({ target, typeOnly }) => target === "backend/backend" && typeOnly));
  assert(connection?.imports.some(({ target, typeOnly }) => target === "response" && !typeOnly));
});

Deno.test("pure modules import only one another, and use neither Deno nor a clock", () => {
  assert.deepEqual(
    violations(function* (module) {
      if (!PURE.includes(module.name)) return;
      for (const { target } of module.imports) if (!PURE.includes(target)) yield `imports ${target}`;
      const impure = /\b(Deno|Date|performance|crypto|Math\.random|setTimeout|fetch|process)\b/.exec(
        code(module),
      );
      if (impure) yield `uses ${impure[0]}`;
    }),
    [],
  );
});

Deno.test("edges import pure modules, types, and what is in their own room", () => {
  assert.deepEqual(
    violations(function* (module) {
      if (!isEdge(module.name)) return;
      const room = module.name.split("/")[0] as string;
      for (const { target, typeOnly } of module.imports) {
        const local = modules.some(({ name }) => name === target);
        if (!local || typeOnly || PURE.includes(target) || target.split("/")[0] === room) continue;
        if (room === "backend" && target.startsWith("upstream/")) continue;
        if (module.name === "try" && target.startsWith("native/")) continue; // it plays the other side
        yield `imports ${target}`;
      }
    }),
    [],
  );
});

Deno.test("the middle gets its edges handed in", () => {
  assert.deepEqual(
    violations(function* (module) {
      if (!MIDDLE.includes(module.name)) return;
      for (const { target, typeOnly } of module.imports) {
        if (!typeOnly && ![...PURE, ...MIDDLE].includes(target)) yield `imports ${target}`;
      }
    }),
    [],
  );
});

const HOMES: readonly [RegExp, string, RegExp][] = [
  [/\bDeno\.dlopen\b/, "Deno.dlopen", /^native\//],
  [/\bDeno\.exit\b/, "Deno.exit", /^$/],
  [/\bconsole\b/, "console", /^log/],
  [/\bDeno\.stderr\b/, "Deno.stderr", /^log/],
  // The CA file is read when a backend is made, at the start and at a reload.
  [/\bDeno\.\w+Sync\b/, "synchronous I/O", /^backend\/openai$/],
  [/\bDeno\.serve\b/, "Deno.serve", /^admin_server$/],
];
for (const [use, name, home] of HOMES) {
  Deno.test(`one home for ${name}`, () => {
    assert.deepEqual(
      violations(function* (module) {
        if (use.test(code(module)) && !home.test(module.name)) yield `uses ${name}`;
      }),
      [],
    );
  });
}

for (
  const [dependency, home] of [["prom-client", "metrics"], ["smol-toml", "config"], [
    "commander",
    "cli",
  ]] as const
) {
  Deno.test(`one home for ${dependency}`, () => {
    const users = modules.filter(({ imports }) => imports.some(({ target }) => target === dependency));
    assert.deepEqual(users.map(({ name }) => name), [home]);
  });
}

Deno.test("an fd is a number only in native/", () => {
  assert.deepEqual(
    violations(function* (module) {
      if (!module.name.startsWith("native/") && /\bfd: number\b/.test(code(module))) {
        if (module.name !== "systemd") yield "knows fds"; // LISTEN_FDS are counted from 3 up
      }
    }),
    [],
  );
});

Deno.test("no import has side effects, the isolate's entry aside", () => {
  assert.deepEqual(
    violations(function* (module) {
      if (module.name === "worker_isolate") return;
      // A statement at the left margin that is neither a declaration nor the rest of one.
      const statement =
        /^(?!import|export|const|let|function|async function|class|interface|type|declare|[\s})\]/@]|$).+/m
          .exec(code(module));
      if (statement) yield `runs ${statement[0]}`;
    }),
    [],
  );
});

Deno.test("durations and sizes have their unit in the name", () => {
  assert.deepEqual(
    violations(function* (module) {
      if (module.name === "cli") return; // its names are those of the flags
      const named = /\b(\w*(?:[tT]imeout|[dD]uration|[dD]elay|[iI]nterval))\b\??: number\b/.exec(
        code(module),
      );
      if (named) yield `${named[1]} has no unit`;
    }),
    [],
  );
});
