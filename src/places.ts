/**
 * Where the files lie that the program opens by name. In a checkout that is where they are made; in the package, whose
 * modules are bundled to plain JavaScript, they lie beside the bundle (tools/package/).
 * @module
 */
const inCheckout = import.meta.url.endsWith(".ts");

function place(checkout: string, bundle: string): string {
  return decodeURIComponent(new URL(inCheckout ? checkout : bundle, import.meta.url).pathname);
}

/** The variable that names another place for the shim. */
export const SHIM_VARIABLE = "DAEMON_SHIM_PATH";
/** The folder of the native libraries, with a slash at its end. */
export const LIBRARIES: string = place("../target/release/", "./");
/** The folder of all modules, which a worker thread has to be allowed to read; with a slash at its end. */
export const MODULES: string = place("./", "./");
/** The module that a worker thread begins with. */
export const WORKER_MODULE: string = place("./daemon/worker_thread.ts", "./src/daemon/worker_thread.js");
