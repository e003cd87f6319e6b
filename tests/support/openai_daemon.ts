/**
 * The real daemon in front of the stand-in provider:
 *
 * ```ts
 * await using both = await openaiDaemon("h2c");
 * assert.equal(await answer(both.daemon, "plain"), HELLO);
 * ```
 * @module
 */
import { certificate } from "./backend_rig.ts";
import { startDaemon, type TestDaemon } from "./daemon.ts";
import { type MockLlm, mockLlm, type MockLlmOptions, type MockProtocol } from "./mock_llm.ts";
import { DONE_EVENT, errorEvent, plainResponse, STREAM_HEAD, textEvent } from "./wire.ts";

/** The key that the daemon has; not of a form by which a key is known as one. */
export const KEY = "very-secret-0123456789";

/** What a client reads when the provider says these texts and ends as it should. */
export const told = (...texts: readonly string[]): string =>
  STREAM_HEAD + texts.map(textEvent).join("") + DONE_EVENT;

/** The answer to the pattern `plain`. */
export const HELLO = told("word0 ", "word1 ", "word2 ", "word3 ", "word4 ");

/** What a client reads when the answer breaks off after these texts. */
export const broken = (texts: readonly string[], message = "Backend error"): string =>
  STREAM_HEAD + texts.map(textEvent).join("") + errorEvent(message);

/** What a client reads when there is no answer. */
export const UNAVAILABLE = plainResponse(502, "Backend unavailable");

/** A provider, what its variables begin with, and where below the stand-in its API is. */
export interface Provider {
  readonly name: string;
  readonly variables: string;
  readonly path: string;
}

/** What differs from a daemon that waits 10 s for its provider and tries no second time. */
export interface PairSetup {
  /** Default: `openai`. */
  readonly provider?: Provider;
  readonly env?: Readonly<Record<string, string>>;
  readonly mock?: Partial<MockLlmOptions>;
  /** See the daemon's own; reading the CA file is among them already. */
  readonly permissions?: readonly string[];
}

/** Both of them. The daemon is the first to end. */
export interface Pair extends AsyncDisposable {
  readonly mock: MockLlm;
  readonly daemon: TestDaemon;
}

/** Starts both. Over TLS the daemon has the certificate made for the run as its `ca_file`. */
export async function openaiDaemon(protocol: MockProtocol, setup: PairSetup = {}): Promise<Pair> {
  const secure = protocol === "h2" || protocol === "h1s";
  await using started = new AsyncDisposableStack();
  const caFile = secure ? await Deno.makeTempFile() : "";
  if (secure) {
    started.defer(() => Deno.remove(caFile));
    await Deno.writeTextFile(caFile, (await certificate()).cert);
  }
  const mock = started.use(
    await mockLlm({ protocol, ...(secure ? { certificate: await certificate() } : {}), ...setup.mock }),
  );
  const { name, variables, path } = setup.provider ?? { name: "openai", variables: "OPENAI", path: "/v1" };
  const daemon = started.use(
    await startDaemon({
      env: {
        DAEMON_BACKEND_PROVIDER: name,
        DAEMON_BACKEND_TIMEOUT_SECS: "10",
        [`${variables}_API_KEY`]: KEY,
        [`${variables}_API_BASE`]: new URL(path, mock.base).href,
        [`${variables}_MAX_RETRIES`]: "0",
        [`${variables}_CA_FILE`]: caFile,
        ...setup.env,
      },
      permissions: [
        ...setup.permissions ?? [],
        ...(secure ? [`--allow-read=config,/etc/streaming-daemon-ts,src,${caFile}`] : []),
      ],
    }),
  );
  const both = started.move();
  return { mock, daemon, [Symbol.asyncDispose]: () => both.disposeAsync() };
}

/** Plays a client from the handoff to the end of the answer. */
export async function answer(
  daemon: TestDaemon,
  testPattern: string,
  data: Readonly<Record<string, unknown>> = {},
): Promise<string> {
  using client = daemon.handOff({ prompt: "Hello", test_pattern: testPattern, ...data });
  return await client.readAll();
}
