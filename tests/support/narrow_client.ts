/** Run by a test under the daemon's permissions: asks the address given once, and prints what it heard. */

import { openaiBackend } from "../../src/backend/openai/openai.ts";
import { ask, heard, noAbort } from "./backend_rig.ts";
import { openaiOptions } from "./openai_options.ts";

const [apiBase = "", caFile = "", insecure = "", apiSocket = ""] = Deno.args;
const backend = openaiBackend(
  openaiOptions({ apiBase, caFile, apiSocket, insecureSsl: insecure !== "", maxRetries: 0 }),
);
// deno-lint-ignore no-console -- its output is what the test reads
console.log(JSON.stringify(await heard(backend.stream(ask("burst-2"), noAbort()))));
await backend.close();
