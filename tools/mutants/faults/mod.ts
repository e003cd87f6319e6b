/**
 * All faults, by room. Where a change takes the text of one away, change the fault as well, or take it out.
 * @module
 */
import type { FaultyFile } from "../fault.ts";
import { BACKEND } from "./backend.ts";
import { CLI } from "./cli.ts";
import { DAEMON } from "./daemon.ts";
import { H1 } from "./upstream_h1.ts";
import { H2 } from "./upstream_h2.ts";
import { NATIVE } from "./native.ts";
import { OPS } from "./ops.ts";
import { PROTOCOL } from "./protocol.ts";
import { PROVIDERS } from "./providers.ts";
import { ROUTING } from "./routing.ts";
import { SHIM } from "./shim.ts";
import { STREAMS } from "./streams.ts";
import { UPSTREAM } from "./upstream.ts";
import { WORKER } from "./worker.ts";

/** See the module. */
export const FAULTS: readonly FaultyFile[] = [
  ...WORKER,
  ...STREAMS,
  ...DAEMON,
  ...OPS,
  ...PROTOCOL,
  ...BACKEND,
  ...PROVIDERS,
  ...UPSTREAM,
  ...H1,
  ...H2,
  ...NATIVE,
  ...CLI,
  ...ROUTING,
  ...SHIM,
];
