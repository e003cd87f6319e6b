/** The package's file itself. */
import { host, PACKAGE } from "./machine.ts";

Deno.test("lintian finds no error in the package", async () => {
  await host(`lintian --allow-root --fail-on=error dist/${PACKAGE}`);
});
