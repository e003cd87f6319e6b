import assert from "node:assert/strict";
import denoJson from "../../deno.json" with { type: "json" };
import { type CliCommand, type ExitCommand, parseCli } from "../../src/cli/parse.ts";

function exit(...args: string[]): ExitCommand {
  const command: CliCommand = parseCli(args);
  assert.equal(command.command, "exit", `${args.join(" ")}: ${JSON.stringify(command)}`);
  return command as ExitCommand;
}

Deno.test("cli: without arguments the daemon starts on its defaults", () => {
  assert.deepEqual(parseCli([]), { command: "start", flags: [], benchmark: false });
});

Deno.test("cli: flags become values for configuration keys, short and long, with the file anywhere", () => {
  const expected = {
    command: "start",
    configPath: "d.toml",
    flags: [
      { key: "server.socket_path", flag: "--socket", text: "/s" },
      { key: "backend.provider", flag: "--backend", text: "mock" },
      { key: "logging.level", flag: "--debug", text: "debug" },
    ],
    benchmark: true,
  };
  assert.deepEqual(parseCli(["-s", "/s", "-b", "mock", "-d", "--benchmark", "d.toml"]), expected);
  assert.deepEqual(parseCli(["d.toml", "--debug", "--backend=mock", "--socket=/s", "--benchmark"]), expected);
});

Deno.test("cli: --check asks for a check", () => {
  assert.deepEqual(parseCli(["--check", "d.toml"]), { command: "check", configPath: "d.toml", flags: [] });
});

Deno.test("cli: permissions takes a whole command line, flags and commands included", () => {
  const expected = (...args: string[]) => ({ command: "permissions", args });
  assert.deepEqual(parseCli(["permissions"]), expected());
  assert.deepEqual(parseCli(["permissions", "-b", "openai", "d.toml"]), expected("-b", "openai", "d.toml"));
  assert.deepEqual(parseCli(["permissions", "--", "--help"]), expected("--help"));
  assert.deepEqual(parseCli(["permissions", "--", "try", "--stream"]), expected("try", "--stream"));
});

Deno.test("cli: status takes a configuration and says whether it is for programs", () => {
  assert.deepEqual(parseCli(["status"]), { command: "status", json: false });
  assert.deepEqual(parseCli(["status", "--json", "--config", "d.toml"]), {
    command: "status",
    configPath: "d.toml",
    json: true,
  });
  assert.match(exit("--debug", "status").stderr, /--debug is not for status/);
});

Deno.test("cli: try without more asks as the daemon does by default", () => {
  assert.deepEqual(parseCli(["try"]), { command: "try", stream: false, data: {}, timeoutMs: 60_000 });
});

Deno.test("cli: try takes prompt, fields, socket, configuration and timeout", () => {
  const messages = [{ role: "user", content: "hi" }];
  assert.deepEqual(
    parseCli([
      ...["try", "hello there", "--stream", "-s", "/s.stream", "--config", "d.toml", "--model", "m"],
      ...[
        "--messages",
        JSON.stringify(messages),
        "--data",
        `{"user_id":7,"model":"other"}`,
        "--timeout",
        "0.5",
      ],
    ]),
    {
      command: "try",
      configPath: "d.toml",
      socketPath: "/s.stream",
      stream: true,
      data: { user_id: 7, model: "m", prompt: "hello there", messages },
      timeoutMs: 500,
    },
  );
});

Deno.test("cli: --socket before try counts for try", () => {
  assert.deepEqual(parseCli(["-s", "/s", "try"]), {
    command: "try",
    socketPath: "/s",
    stream: false,
    data: {},
    timeoutMs: 60_000,
  });
});

Deno.test("cli: flags of the daemon alone are refused with try", () => {
  for (const flag of ["--backend=mock", "--debug", "--check", "--benchmark"]) {
    const { exitCode, stderr } = exit(flag, "try");
    assert.equal(exitCode, 2);
    assert.match(stderr, new RegExp(`^error: ${flag.replace("=mock", "")} is not for try\n`));
  }
});

Deno.test("cli: --version and -V print the version of deno.json", () => {
  for (const flag of ["--version", "-V"]) {
    assert.deepEqual(exit(flag), {
      command: "exit",
      exitCode: 0,
      stdout: `streaming-daemon-ts ${denoJson.version}\n`,
      stderr: "",
    });
  }
});

Deno.test("cli: help names every option of the contract and goes to standard output", () => {
  for (const flag of ["--help", "-h"]) {
    const { exitCode, stdout, stderr } = exit(flag);
    assert.equal(exitCode, 0);
    assert.equal(stderr, "");
    for (
      const option of [
        "-s, --socket <PATH>",
        "-b, --backend <NAME>",
        "-d, --debug",
        "--check",
        "--benchmark",
        "-h, --help",
        "-V, --version",
        "try [options] [PROMPT]",
        "CONFIG",
      ]
    ) assert(stdout.includes(option), `${option} is missing in:\n${stdout}`);
  }
  const { stdout } = exit("try", "--help");
  for (
    const option of ["--stream", "--config <PATH>", "--messages <JSON>", "--data <JSON>", "--timeout <SECS>"]
  ) {
    assert(stdout.includes(option), `${option} is missing in:\n${stdout}`);
  }
});

Deno.test("cli: bad arguments are exit code 2 with one clear message on standard error", () => {
  const cases: [args: string[], message: string][] = [
    [["--sockt", "/s"], "error: unknown option '--sockt'\n(Did you mean --socket?)"],
    [["try", "--modl", "x"], "error: unknown option '--modl'\n(Did you mean --model?)"],
    [["-s"], "error: option '-s, --socket <PATH>' argument missing"],
    [["a.toml", "b.toml"], "error: too many arguments. Expected 1 argument but got 2: a.toml, b.toml."],
    [
      ["try", "--messages", "{}"],
      "error: option '--messages <JSON>' argument '{}' is invalid. A JSON array is expected.",
    ],
    [
      ["try", "--data", "[]"],
      "error: option '--data <JSON>' argument '[]' is invalid. A JSON object is expected.",
    ],
    [
      ["try", "--timeout", "0"],
      "error: option '--timeout <SECS>' argument '0' is invalid. A number of seconds from 0.001 to 86400 is expected.",
    ],
  ];
  for (const [args, message] of cases) {
    assert.deepEqual(exit(...args), {
      command: "exit",
      exitCode: 2,
      stdout: "",
      stderr: `${message}\n(--help shows what there is)\n`,
    });
  }
  assert.match(
    exit("try", "--data", "{").stderr,
    /^error: option '--data <JSON>' argument '{' .* JSON is expected/,
  );
});

Deno.test("cli: needs no permission at all", async () => {
  const module = JSON.stringify(new URL("../../src/cli/parse.ts", import.meta.url).href);
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const script = `import { parseCli } from ${module};
    for (const args of [[], ["--help"], ["try", "-h"], ["--sockt"], ["-V"]]) parseCli(args);
    console.log("done");`;
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${dir}/cli.ts`, script);
    const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-prompt", "--no-check", "--config", config, `${dir}/cli.ts`],
    }).output();
    assert.equal(new TextDecoder().decode(stdout), "done\n", new TextDecoder().decode(stderr));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
