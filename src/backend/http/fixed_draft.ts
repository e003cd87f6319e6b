/**
 * A request that is the same at each try.
 * @module
 */

import type { RequestHead } from "../../upstream/exchange.ts";
import type { Draft } from "./dialect.ts";

/** See the module. */
export class FixedDraft implements Draft {
  readonly head: RequestHead;
  readonly body: () => string;
  readonly repeatable: boolean;

  /** @param body makes it; may throw a BackendError, as {@linkcode Draft.body} says */
  constructor(head: RequestHead, body: () => string, repeatable = true) {
    this.head = head;
    this.body = body;
    this.repeatable = repeatable;
  }

  accepted(): void {}

  adapt(): boolean {
    return false;
  }
}
