/**
 * The shim's functions as Deno calls them. The C signatures and their contract: `shim/ABI.md`.
 * @module
 */

/** The ABI this daemon was written against; `shim_abi_version` must return it. */
export const SHIM_ABI_VERSION = 6;

/** The symbol table for `Deno.dlopen`. Pointers are `buffer`s: no address ever becomes a JavaScript value. */
export const SYMBOLS = {
  // uint32_t (void)
  shim_abi_version: { parameters: [], result: "u32" },
  // int32_t (uint64_t out[2])
  shim_raise_fd_limit: { parameters: ["buffer"], result: "i32" },
  // int32_t (void)
  shim_open_fds: { parameters: [], result: "i32" },
  // int32_t (const uint8_t *address, uint32_t len, const uint8_t *state, uint32_t len)
  shim_notify: { parameters: ["buffer", "u32", "buffer", "u32"], result: "i32" },
  // int32_t (uint64_t *out)
  shim_monotonic_usec: { parameters: ["buffer"], result: "i32" },
  // int32_t (const uint8_t *local, uint32_t len, const uint8_t *peer, uint32_t len); takes a while
  shim_shut_down: { parameters: ["buffer", "u32", "buffer", "u32"], result: "i32", nonblocking: true },

  // int32_t (const uint32_t policy[8], const uint32_t *uids, uint32_t n_uids, uint32_t *out_acceptor)
  shim_acceptor_new: { parameters: ["buffer", "buffer", "u32", "buffer"], result: "i32" },
  // int32_t (uint32_t acceptor, const uint32_t policy[8], const uint32_t *uids, uint32_t n_uids)
  shim_acceptor_configure: { parameters: ["u32", "buffer", "buffer", "u32"], result: "i32" },
  // int32_t (uint32_t acceptor, uint32_t kind, const uint8_t *path, uint32_t len, uint32_t mode,
  //          const uint8_t *group, uint32_t len)
  shim_acceptor_listen: {
    parameters: ["u32", "u32", "buffer", "u32", "u32", "buffer", "u32"],
    result: "i32",
  },
  // int32_t (uint32_t acceptor, int32_t fd)
  shim_acceptor_adopt: { parameters: ["u32", "i32"], result: "i32" },
  // int32_t (uint32_t acceptor)
  shim_acceptor_start: { parameters: ["u32"], result: "i32" },
  // int32_t (uint32_t acceptor, uint8_t *buf, uint32_t cap)
  shim_acceptor_take: { parameters: ["u32", "buffer", "u32"], result: "i32" },
  // int32_t (uint32_t acceptor, uint32_t now)
  shim_acceptor_stop: { parameters: ["u32", "u32"], result: "i32" },
  // int32_t (uint32_t acceptor)
  shim_acceptor_active: { parameters: ["u32"], result: "i32" },
  // int32_t (uint32_t acceptor)
  shim_acceptor_close: { parameters: ["u32"], result: "i32" },

  // int32_t (uint32_t acceptor, uint32_t *out_reactor)
  shim_reactor_new: { parameters: ["u32", "buffer"], result: "i32" },
  // int32_t (uint32_t reactor)
  shim_reactor_start: { parameters: ["u32"], result: "i32" },
  // int32_t (uint32_t reactor, uint32_t open)
  shim_reactor_admit: { parameters: ["u32", "u32"], result: "i32" },
  // int32_t (uint32_t reactor, uint8_t *buf, uint32_t cap, uint32_t max_handoffs, uint32_t *out_left)
  shim_reactor_take: { parameters: ["u32", "buffer", "u32", "u32", "buffer"], result: "i32" },
  // int32_t (uint32_t reactor, uint32_t timeout_us); blocks
  shim_reactor_wait: { parameters: ["u32", "u32"], result: "i32" },
  // int32_t (uint32_t reactor)
  shim_reactor_close: { parameters: ["u32"], result: "i32" },

  // int32_t (uint32_t reactor, const uint32_t *entries, uint32_t n, const uint8_t *data, uint32_t len,
  //          int32_t *results)
  shim_send_batch: { parameters: ["u32", "buffer", "u32", "buffer", "u32", "buffer"], result: "i32" },
  // int32_t (uint32_t reactor, uint32_t client)
  shim_client_close: { parameters: ["u32", "u32"], result: "i32" },
  // int32_t (uint32_t reactor, uint32_t client, uint32_t to_reactor, const uint8_t *payload, uint32_t len)
  shim_client_move: { parameters: ["u32", "u32", "u32", "buffer", "u32"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** The ABI of the library that plays the other side of a handoff. */
export const TOOLS_ABI_VERSION = 1;

/** What `try`, the demo and the tests need to play Apache: no part of the daemon. `tools/handoff/ABI.md`. */
export const TOOLS_SYMBOLS = {
  // uint32_t (void)
  tools_abi_version: { parameters: [], result: "u32" },
  // int32_t (uint32_t kind, int32_t out[2])
  tools_socketpair: { parameters: ["u32", "buffer"], result: "i32" },
  // int32_t (const uint8_t *path, uint32_t len, uint32_t kind)
  tools_connect: { parameters: ["buffer", "u32", "u32"], result: "i32" },
  // int32_t (int32_t fd, const uint8_t *data, uint32_t len, const int32_t *fds, uint32_t n_fds)
  tools_sendmsg: { parameters: ["i32", "buffer", "u32", "buffer", "u32"], result: "i32" },
  // int32_t (int32_t fd, uint8_t *buf, uint32_t cap, uint32_t timeout_ms); blocks
  tools_recv: { parameters: ["i32", "buffer", "u32", "u32"], result: "i32", nonblocking: true },
  // int32_t (int32_t fd)
  tools_close_fd: { parameters: ["i32"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;
