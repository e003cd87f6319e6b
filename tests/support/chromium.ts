/**
 * Debian's Chromium, headless, with an empty profile, driven over its debugging pipe. Needs chromium.
 * @module
 */
import { type Browser, chromium, type Page } from "playwright-core";

const EXECUTABLE = "/usr/bin/chromium";
const WAIT_MS = 20_000;

/** Starts a browser; `await using` ends it. It reaches nothing but what a test opens. */
export async function startBrowser(): Promise<Browser> {
  return await chromium.launch({
    executablePath: EXECUTABLE,
    timeout: WAIT_MS,
    args: [
      "--headless",
      "--no-sandbox", // as root there is none; the pages are ours
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** A page that has been opened, and what went wrong in it: console errors and warnings, exceptions, failed requests. */
export interface WatchedPage {
  readonly page: Page;
  readonly complaints: readonly string[];
}

/** Opens a page of a user who likes this colour scheme. */
export async function openPage(
  browser: Browser,
  url: string,
  scheme: "light" | "dark",
): Promise<WatchedPage> {
  const page = await browser.newPage({ colorScheme: scheme, viewport: { width: 1280, height: 860 } });
  page.setDefaultTimeout(WAIT_MS);
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  await page.goto(url);
  return { page, complaints };
}
