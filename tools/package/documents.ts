/**
 * What is installed besides the program: commands, units, configuration, man pages, examples, and what the law asks for.
 * @module
 */
import { CHANGELOG, changelog } from "./changelog.ts";
import { bashCompletion } from "./completion.ts";
import { copyright } from "./copyright.ts";
import { configurationPage, programPage, rollPage } from "./man.ts";
import { copy, filesBelow, gzip, put } from "./run.ts";
import { templateUnit } from "./units.ts";

const DOC = "usr/share/doc/streaming-daemon-ts";
const UNITS = "usr/lib/systemd/system";

/** Puts them below `root`, where the program's folder is already. */
export async function documents(root: string): Promise<void> {
  await copy("tools/package/streaming-daemon-ts", `${root}/usr/bin/streaming-daemon-ts`, 0o755);
  await copy("tools/package/streaming-daemon-ts-roll", `${root}/usr/sbin/streaming-daemon-ts-roll`, 0o755);
  for (const unit of ["streaming-daemon-ts.service", "streaming-daemon-ts.socket"]) {
    await copy(`systemd/${unit}`, `${root}/${UNITS}/${unit}`);
  }
  await put(`${root}/${UNITS}/streaming-daemon-ts@.service`, await templateUnit());
  await put(`${root}/etc/streaming-daemon-ts/daemon.toml`, await configuration());
  const { dateSecs } = changelog();
  const man = {
    "man8/streaming-daemon-ts.8": programPage(dateSecs),
    "man8/streaming-daemon-ts-roll.8": rollPage(dateSecs),
    "man5/daemon.toml.5": await configurationPage(dateSecs),
  };
  for (const [name, page] of Object.entries(man)) {
    await put(`${root}/usr/share/man/${name}.gz`, await gzip(page));
  }
  await put(`${root}/usr/share/bash-completion/completions/streaming-daemon-ts`, bashCompletion());
  const pages = ["README.md", "SECURITY.md", ...filesBelow("docs"), ...filesBelow("examples")];
  for (const path of pages) await copy(path, `${root}/${DOC}/${path}`);
  await put(`${root}/${DOC}/changelog.gz`, await gzip(await Deno.readTextFile(CHANGELOG)));
  await put(`${root}/${DOC}/copyright`, await copyright(`${root}/usr/lib/streaming-daemon-ts`));
  await copy(
    "tools/package/debian/lintian-overrides",
    `${root}/usr/share/lintian/overrides/streaming-daemon-ts`,
  );
}

/** `config/daemon.toml`, with the path of the socket unit, which `try` and other commands then find. */
async function configuration(): Promise<string> {
  const text = await Deno.readTextFile("config/daemon.toml");
  const socket = /^#socket_path = .*\n(?=[^]*^#stream_socket_path)/m;
  const stream = /^#stream_socket_path = .*$/m;
  if (!socket.test(text) || !stream.test(text)) throw new Error("config/daemon.toml has no socket paths");
  const path = "/run/streaming-daemon-ts/daemon.sock";
  return text
    .replace(
      socket,
      `# Here: where streaming-daemon-ts.socket listens. The daemon that it starts does not look at this key.\nsocket_path = "${path}"\n`,
    )
    .replace(stream, `#stream_socket_path = "${path}.stream"`);
}
