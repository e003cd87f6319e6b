/**
 * `deno task mock-llm`: the stand-in provider of the tests, for trying the daemon by hand.
 * @module
 */

import process from "node:process";
import { Command, InvalidArgumentError, Option } from "commander";
import { PLAIN_OUTPUT } from "../src/cli/parse.ts";
import { makeCertificate, mockLlm, type MockProtocol } from "../tests/support/mock_llm.ts";
import { PATTERNS } from "../tests/support/mock_llm_patterns.ts";
import { VOICE_PATTERNS } from "../tests/support/mock_llm_voices.ts";

const wholeNumber = (text: string): number => {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("Expected a whole number.");
  return Number(text);
};

const patterns = Object.entries({ ...PATTERNS, ...VOICE_PATTERNS }).map(([name, what]) =>
  `  ${name.padEnd(24)}${what}`
).join("\n");

const { protocol, port, socket, maxStreams, events, delayMs, certFile } = new Command("deno task mock-llm")
  .configureOutput(PLAIN_OUTPUT)
  .description(
    "A stand-in for providers: chat completions, and by the path Anthropic's messages, OpenAI's responses, LangGraph's runs.",
  )
  .addOption(
    new Option("--protocol <name>", "h1s and h2 are over TLS").choices(["h1", "h1s", "h2c", "h2"]).default(
      "h2c",
    ),
  )
  .option("--port <number>", "TCP port on 127.0.0.1", wholeNumber, 8_000)
  .option("--socket <path>", "a Unix socket in place of TCP")
  .option("--max-streams <number>", "HTTP/2: streams per connection", wholeNumber, 100)
  .option("--events <number>", "words of an answer", wholeNumber, 19)
  .option("--delay-ms <number>", "pause between words", wholeNumber, 300)
  .option(
    "--cert-file <path>",
    "where the certificate made for the run is written (for ca_file)",
    "mock-llm.pem",
  )
  .addHelpText(
    "after",
    `\nWhat it answers, by the request's X-Test-Pattern (in a handoff: test_pattern):\n${patterns}`,
  )
  .parse()
  .opts<{
    protocol: MockProtocol;
    port: number;
    socket?: string;
    maxStreams: number;
    events: number;
    delayMs: number;
    certFile: string;
  }>();

const secure = protocol === "h1s" || protocol === "h2";
const certificate = secure ? await makeCertificate() : undefined;
if (certificate !== undefined) await Deno.writeTextFile(certFile, certificate.cert);
const inUse = (error: unknown): never => {
  if ((error as { code?: string }).code !== "EADDRINUSE") throw error;
  const place = socket ?? `port ${port}`;
  process.stderr.write(`mock-llm: ${place} is in use; --port or --socket names another one\n`);
  process.exit(1);
};
const mock = await mockLlm({
  protocol,
  port,
  maxStreams,
  events,
  delayMs,
  ...(socket === undefined ? {} : { socketPath: socket }),
  ...(certificate === undefined ? {} : { certificate }),
}).catch(inUse);
process.stdout.write(
  `${protocol} at ${socket ?? mock.base}${secure ? `, certificate in ${certFile}` : ""}\n`,
);

const stopped = Promise.withResolvers<"stopped">();
const stop = (): void => stopped.resolve("stopped");
const signals = ["SIGINT", "SIGTERM"] as const;
for (const signal of signals) Deno.addSignalListener(signal, stop);
while (true) {
  const before = mock.requests.length;
  if (await Promise.race([mock.received(before + 1), stopped.promise]) === "stopped") break;
  for (const { httpVersion, path, headers } of mock.requests.slice(before)) {
    const { "x-request-id": id, "x-test-pattern": pattern } = headers;
    process.stdout.write(`HTTP/${httpVersion} ${path} ${id ?? ""} ${pattern ?? ""}\n`);
  }
}
// A listener would keep the process alive; the next signal ends it at once.
for (const signal of signals) Deno.removeSignalListener(signal, stop);
await mock.close();
