/** The rules of the house that a machine can check: who imports whom, and what has only one home. */
import assert from "node:assert/strict";

/** The rooms of `src/`, the ground floor first: a room imports from itself and from those before it. */
const FLOORS = [
  "errors",
  "places",
  "timing",
  "protocol",
  "native",
  "config",
  "ops",
  "upstream",
  "store",
  "backend",
  "worker",
  "daemon",
  "cli",
];
const PURE = ["errors", "protocol"];

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

function roomOf(name: string): string {
  return name.split("/")[0] as string;
}

function violations(check: (module: Module) => Iterable<string>): string[] {
  return modules.flatMap((module) => [...check(module)].map((what) => `src/${module.name}.ts: ${what}`));
}

/** The file without comments, so that a word in a sentence is not a use. */
function code({ source }: Module): string {
  return source.replace(/\/\*[^]*?\*\//g, "").replace(/(^|\s)\/\/.*$/gm, "");
}

Deno.test("the rules read the modules", () => {
  assert.deepEqual([...new Set(modules.map(({ name }) => roomOf(name)))].sort(), FLOORS.toSorted());
  const connection = modules.find(({ name }) => name === "worker/connection");
  assert(connection?.imports.some(({ target, typeOnly }) => target === "backend/backend" && typeOnly));
  assert(connection?.imports.some(({ target, typeOnly }) => target === "errors" && !typeOnly));
});

Deno.test("a room imports from itself and from the rooms below it, types included", () => {
  assert.deepEqual(
    violations(function* ({ name, imports }) {
      for (const { target } of imports) {
        const floor = FLOORS.indexOf(roomOf(target));
        if (floor > FLOORS.indexOf(roomOf(name))) yield `imports ${target}`;
      }
    }),
    [],
  );
});

Deno.test("no modules import each other in a circle, types included", () => {
  const importsOf = new Map(modules.map(({ name, imports }) => [name, imports.map(({ target }) => target)]));
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (name: string, path: readonly string[]): void => {
    if (path.includes(name)) circles.push([...path.slice(path.indexOf(name)), name].join(" > "));
    if (done.has(name) || path.includes(name)) return;
    for (const target of importsOf.get(name) ?? []) visit(target, [...path, name]);
    done.add(name);
  };
  for (const name of importsOf.keys()) visit(name, []);
  assert.deepEqual(circles, []);
});

Deno.test("pure rooms import only one another, and use neither Deno nor a clock", () => {
  assert.deepEqual(
    violations(function* (module) {
      if (!PURE.includes(roomOf(module.name))) return;
      for (const { target } of module.imports) if (!PURE.includes(roomOf(target))) yield `imports ${target}`;
      const impure = /\b(Deno|Date|performance|crypto|Math\.random|setTimeout|fetch|process)\b/.exec(
        code(module),
      );
      if (impure) yield `uses ${impure[0]}`;
    }),
    [],
  );
});

const HOMES: readonly [RegExp, string, RegExp][] = [
  [/\bDeno\.dlopen\b/, "Deno.dlopen", /^native\//],
  [/\bDeno\.exit\b/, "Deno.exit", /^$/],
  [/\bconsole\b/, "console", /^ops\/log/],
  [/\bDeno\.stderr\b/, "Deno.stderr", /^ops\/log/],
  // The CA file is read when a backend is made, at the start and at a reload.
  [/\bDeno\.\w+Sync\b/, "synchronous I/O", /^backend\/http\//],
  [/\bDeno\.serve\b/, "Deno.serve", /^ops\/admin_server$/],
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
  const [dependency, home] of [["prom-client", "ops/metrics"], ["smol-toml", "config"], [
    "commander",
    "cli",
  ]] as const
) {
  Deno.test(`one home for ${dependency}`, () => {
    const users = modules.filter(({ imports }) => imports.some(({ target }) => target === dependency));
    assert(
      users.length > 0 && users.every(({ name }) => name.startsWith(`${home}/`)),
      `${users.map(({ name }) => name)}`,
    );
  });
}

Deno.test("an fd is a number only in native/", () => {
  assert.deepEqual(
    violations(function* (module) {
      if (!module.name.startsWith("native/") && /\bfd: number\b/.test(code(module))) {
        if (module.name !== "ops/systemd") yield "knows fds"; // LISTEN_FDS are counted from 3 up
      }
    }),
    [],
  );
});

Deno.test("no import has side effects, the isolate's entry aside", () => {
  assert.deepEqual(
    violations(function* (module) {
      if (module.name === "daemon/worker_thread") return;
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
      if (module.name === "cli/parse") return; // its names are those of the flags
      const named = /\b(\w*(?:[tT]imeout|[dD]uration|[dD]elay|[iI]nterval))\b\??: number\b/.exec(
        code(module),
      );
      if (named) yield `${named[1]} has no unit`;
    }),
    [],
  );
});

Deno.test("no worker imports the SDK, which costs an isolate 12 MiB", () => {
  const users = modules.filter(({ imports }) => imports.some(({ target }) => target === "openai"));
  assert.deepEqual(users.map(({ name }) => name), ["backend/openai/template"]);
  const loaders = modules.filter(({ imports }) => imports.some(({ target }) => target === "@redis/client"));
  assert.deepEqual(loaders.map(({ name }) => name), ["store/redis_client"]);
  assert(
    !modules.some(({ imports }) =>
      imports.some(({ target, typeOnly }) => target === "store/redis_client" && !typeOnly)
    ),
  );
  // It is loaded at run time, by the daemon's isolate alone.
  const importers = modules.filter(({ imports }) =>
    imports.some(({ target, typeOnly }) => target === "backend/openai/template" && !typeOnly)
  );
  assert.deepEqual(importers, []);
});

Deno.test("of the other providers' SDKs nothing but types is used", () => {
  const used = modules.flatMap(({ name, imports }) =>
    imports.filter(({ target }) => /^@(anthropic-ai|langchain)\//.test(target))
      .map(({ typeOnly }) => ({ name, typeOnly }))
  );
  assert(used.length > 0);
  assert.deepEqual(used.filter(({ typeOnly }) => !typeOnly), []);
});

Deno.test("a worker loads no library that only the daemon's start, or some of its configurations, need", () => {
  const reached = new Set(["daemon/worker_thread"]);
  for (const name of reached) {
    for (const { target, typeOnly } of modules.find((module) => module.name === name)?.imports ?? []) {
      if (!typeOnly) reached.add(target);
    }
  }
  assert(reached.has("worker/worker"));
  const libraries = [...reached].filter((name) => !modules.some((module) => module.name === name));
  const dear = ["zod", "smol-toml", "commander", "openai", "@redis/client"];
  assert.deepEqual(libraries.filter((name) => dear.some((each) => name.startsWith(each))), []);
});
