/**
 * Other programs, and the files they work on.
 * @module
 */

/**
 * Runs a program to its end.
 *
 * @returns its standard output
 * @throws {Error} if it is not there, or fails; with what it said
 */
export async function run(
  command: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const [program = "", ...args] = command;
  const { success, stdout, stderr } = await new Deno.Command(program, { args, env: { ...env } }).output();
  const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  if (!success) throw new Error(`${command.join(" ")} failed:\n${text(stdout)}${text(stderr)}`);
  return text(stdout);
}

/** Writes a file, its folders included, with the mode that a package wants. */
export async function put(path: string, content: string | Uint8Array, mode = 0o644): Promise<void> {
  await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  await Deno.writeFile(path, typeof content === "string" ? new TextEncoder().encode(content) : content);
  await Deno.chmod(path, mode); // a mode for writeFile would go through the umask
}

/** Copies a file, its folders included. */
export async function copy(from: string, to: string, mode = 0o644): Promise<void> {
  await put(to, await Deno.readFile(from), mode);
}

/** The files below a folder, by path, sorted. */
export function* filesBelow(folder: string): Generator<string> {
  const entries = [...Deno.readDirSync(folder)].sort((a, b) => a.name < b.name ? -1 : 1);
  for (const { name, isDirectory } of entries) {
    if (isDirectory) yield* filesBelow(`${folder}/${name}`);
    else yield `${folder}/${name}`;
  }
}

/** Text compressed as a package's documents are: `gzip -9n`, without name and time. */
export async function gzip(text: string): Promise<Uint8Array> {
  const process = new Deno.Command("gzip", { args: ["-9n"], stdin: "piped", stdout: "piped" }).spawn();
  const writer = process.stdin.getWriter();
  const [{ stdout, success }] = await Promise.all([
    process.output(),
    writer.write(new TextEncoder().encode(text)).then(() => writer.close()),
  ]);
  if (!success) throw new Error("gzip failed");
  return stdout;
}
