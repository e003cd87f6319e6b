/** A backend of one's own: Ollama by its native API, which answers with a line of JSON for each piece. */
import type { BackendRequest, Failure, MakeBackend, StreamEvent } from "./types.ts";

const failure = (kind: Failure["kind"], message: string): Failure =>
  Object.assign(new Error(message), { kind });

async function* answer(
  url: string,
  { model, messages }: BackendRequest,
  signal: AbortSignal,
): AsyncGenerator<StreamEvent> {
  const body = JSON.stringify({ model, messages });
  const response = await fetch(url, { method: "POST", body, signal }).catch((error: Error) => {
    throw failure("unavailable", error.message);
  });
  if (!response.ok || response.body === null) {
    const kind = response.status === 404
      ? "not_found"
      : response.status < 500
      ? "bad_request"
      : "server_error";
    throw failure(kind, `Ollama answered ${response.status}: ${(await response.text()).slice(0, 200)}`);
  }
  yield { kind: "open" };
  let rest = "";
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + piece).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const { error, message, done, done_reason, prompt_eval_count, eval_count } = JSON.parse(line);
      if (error !== undefined) throw failure("stream_error", error);
      if (message?.thinking) yield { kind: "reasoning", text: message.thinking };
      if (message?.content) yield { kind: "text", text: message.content };
      if (!done) continue;
      yield { kind: "finish", reason: done_reason ?? "stop" };
      yield { kind: "usage", inputTokens: prompt_eval_count ?? 0, outputTokens: eval_count ?? 0 };
      return;
    }
  }
  throw failure("truncated", "Ollama's answer ended before its last line");
}

const make: MakeBackend = ({ url }) => {
  if (typeof url !== "string") throw new Error('options.url is missing, such as "http://127.0.0.1:11434"');
  return { stream: (request, signal) => ReadableStream.from(answer(`${url}/api/chat`, request, signal)) };
};
export default make;
