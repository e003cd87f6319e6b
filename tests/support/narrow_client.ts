/** Run by a test under the daemon's permissions: asks the address given once, and prints what it heard. */

import { ask, Ears, makeOpenAi } from "./backend_rig.ts";

const [apiBase = "", caFile = "", insecure = "", apiSocket = ""] = Deno.args;
const backend = await makeOpenAi({ apiBase, caFile, apiSocket, insecureSsl: insecure !== "", maxRetries: 0 });
const ears = new Ears(backend);
// deno-lint-ignore no-console -- its output is what the test reads
console.log(JSON.stringify(await ears.hear(ask("burst-2"))));
await backend.close();
await ears.ended;
