// Starts Chromium or Firefox. Playwright drives both, Debian's Firefox by WebDriver BiDi; webkit.mjs starts WebKit.
// Playwright stays at 1.64: version 1.65 sends a command that Firefox 153 lacks.
import assert from "node:assert/strict";
import { chromium, firefox } from "playwright-core";

export const FLAGS = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
/** Turns on Chromium's software adapter, as webdriver.json does for wasm-bindgen-test. Without it there is no WebGPU here. */
export const WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
/** The same for Firefox, whose adapter is Mesa's llvmpipe. */
const FIREFOX_WEBGPU = { "dom.webgpu.enabled": true, "gfx.webgpu.ignore-blocklist": true, "dom.webgpu.allow-software-adapter": true };
/** The browser of tests that do not name one. `EMBERGLASS_BROWSER=firefox` runs them in Firefox. */
const BROWSER = process.env.EMBERGLASS_BROWSER ?? "chromium";

/**
 * A browser of its own, with an empty profile: as it comes, so the CPU computes. `flags` are Chromium's; Firefox knows
 * {@link WEBGPU} only.
 */
export async function launch(flags = [], browser = BROWSER) {
  if (browser === "chromium") {
    return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: [...FLAGS, ...flags] });
  }
  assert.equal(browser, "firefox");
  const others = flags.filter((flag) => !WEBGPU.includes(flag));
  assert.deepEqual(others, [], "Firefox has no such flags");
  const firefoxUserPrefs = flags.length > 0 ? FIREFOX_WEBGPU : {};
  return firefox.launch({ channel: "moz-firefox", executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr", firefoxUserPrefs });
}
