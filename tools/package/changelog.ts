/**
 * The package's changelog, from which its version and its date come (deb-changelog(5)).
 * @module
 */
import denoJson from "../../deno.json" with { type: "json" };

/** Its text. */
export const CHANGELOG = "tools/package/debian/changelog";

/**
 * The newest entry's version and date (in seconds since 1970).
 *
 * @throws {Error} if the version is another than that of deno.json
 */
export function changelog(): { readonly version: string; readonly dateSecs: number } {
  const text = Deno.readTextFileSync(CHANGELOG);
  const version = /^streaming-daemon-ts \(([^)]+)\)/.exec(text)?.[1];
  if (version !== denoJson.version) {
    throw new Error(
      `${CHANGELOG} begins with version ${version}; expected ${denoJson.version}, as in deno.json`,
    );
  }
  const date = /^ -- .* {2}(.*)$/m.exec(text)?.[1] ?? "";
  const dateSecs = Date.parse(date) / 1000;
  if (Number.isNaN(dateSecs)) throw new Error(`${CHANGELOG}: "${date}" is not a date of RFC 5322`);
  return { version, dateSecs };
}
