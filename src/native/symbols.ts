/**
 * The shim's functions as Deno calls them. The C signatures and their contract: `shim/ABI.md`.
 * @module
 */

/** The ABI this daemon was written against; `shim_abi_version` must return it. */
export const SHIM_ABI_VERSION = 2;

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

  // int32_t (const uint32_t policy[8], const uint32_t *uids, uint32_t n_uids, uint32_t *out_intake)
  shim_intake_new: { parameters: ["buffer", "buffer", "u32", "buffer"], result: "i32" },
  // int32_t (uint32_t intake, const uint32_t policy[8], const uint32_t *uids, uint32_t n_uids)
  shim_intake_configure: { parameters: ["u32", "buffer", "buffer", "u32"], result: "i32" },
  // int32_t (uint32_t intake, uint32_t kind, const uint8_t *path, uint32_t len, uint32_t mode,
  //          const uint8_t *group, uint32_t len)
  shim_intake_listen: { parameters: ["u32", "u32", "buffer", "u32", "u32", "buffer", "u32"], result: "i32" },
  // int32_t (uint32_t intake, int32_t fd)
  shim_intake_adopt: { parameters: ["u32", "i32"], result: "i32" },
  // int32_t (uint32_t intake)
  shim_intake_stop: { parameters: ["u32"], result: "i32" },
  // int32_t (uint32_t intake)
  shim_intake_active: { parameters: ["u32"], result: "i32" },
  // int32_t (uint32_t intake)
  shim_intake_close: { parameters: ["u32"], result: "i32" },

  // int32_t (uint32_t intake, uint32_t *out_reactor)
  shim_reactor_new: { parameters: ["u32", "buffer"], result: "i32" },
  // int32_t (uint32_t reactor)
  shim_reactor_start: { parameters: ["u32"], result: "i32" },
  // int32_t (uint32_t reactor, uint8_t *buf, uint32_t cap)
  shim_reactor_take: { parameters: ["u32", "buffer", "u32"], result: "i32" },
  // int32_t (uint32_t reactor, uint32_t timeout_us); blocks
  shim_reactor_wait: { parameters: ["u32", "u32"], result: "i32" },
  // int32_t (uint32_t reactor)
  shim_reactor_close: { parameters: ["u32"], result: "i32" },

  // int32_t (uint32_t reactor, const uint32_t *entries, uint32_t n, const uint8_t *data, uint32_t len,
  //          int32_t *results)
  shim_send_batch: { parameters: ["u32", "buffer", "u32", "buffer", "u32", "buffer"], result: "i32" },
  // int32_t (uint32_t reactor, uint32_t client)
  shim_client_close: { parameters: ["u32", "u32"], result: "i32" },

  // int32_t (uint32_t kind, int32_t out[2])
  shim_socketpair: { parameters: ["u32", "buffer"], result: "i32" },
  // int32_t (const uint8_t *path, uint32_t len, uint32_t kind)
  shim_connect: { parameters: ["buffer", "u32", "u32"], result: "i32" },
  // int32_t (int32_t fd, const uint8_t *data, uint32_t len, const int32_t *fds, uint32_t n_fds)
  shim_sendmsg: { parameters: ["i32", "buffer", "u32", "buffer", "u32"], result: "i32" },
  // int32_t (int32_t fd, uint8_t *buf, uint32_t cap, uint32_t timeout_ms); blocks
  shim_recv: { parameters: ["i32", "buffer", "u32", "u32"], result: "i32", nonblocking: true },
  // int32_t (int32_t fd)
  shim_close_fd: { parameters: ["i32"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;
