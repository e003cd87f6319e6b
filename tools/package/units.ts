/**
 * The units of systemd(1). The template, `streaming-daemon-ts@PORT.service`, is the service again: a further process on
 * the same sockets, with its metrics at that port of loopback.
 * @module
 */

const SERVICE = "systemd/streaming-daemon-ts.service";

/** The template unit, made from the service. */
export async function templateUnit(): Promise<string> {
  let unit = await Deno.readTextFile(SERVICE);
  const change = (from: RegExp, to: string): void => {
    if (!from.test(unit)) throw new Error(`${SERVICE} has no ${from}`);
    unit = unit.replace(from, to);
  };
  change(
    /^(# .*\n)+/,
    "# One more process on the sockets of streaming-daemon-ts.socket. The instance's name is the port of its metrics on\n" +
      "# 127.0.0.1; 0 is any free one. streaming-daemon-ts-roll uses that one.\n",
  );
  change(/^Description=(.*)$/m, "Description=$1, metrics at port %i");
  // The environment file, which systemd reads later, cannot take this back.
  change(/^ExecStart=/m, "ExecStart=/usr/bin/env DAEMON_METRICS_ADDR=127.0.0.1:%i ");
  change(/^(Type=notify)$/m, "$1\nSockets=streaming-daemon-ts.socket");
  change(/^Also=.*\n/m, "");
  return unit;
}
