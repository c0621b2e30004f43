// A visitor without WebGPU is told so, and what to do.
import assert from "node:assert/strict";
import { test } from "node:test";
import { launch, openPage, PATIENCE, SITE, WEBGPU } from "./harness.mjs";

// Browsers hide navigator.gpu from pages that came over plain http from elsewhere.
const INSECURE = "emberglass.test";

test("a browser that offers no adapter", { timeout: PATIENCE }, () => refused({ flags: [], code: "no-adapter" }));

test("a page where there is no WebGPU at all", { timeout: PATIENCE }, () =>
  refused({
    flags: [...WEBGPU, `--host-resolver-rules=MAP ${INSECURE} 127.0.0.1`],
    site: SITE.replace("localhost", INSECURE),
    code: "no-webgpu",
  }));

async function refused({ flags, site = SITE, code }) {
  const browser = await launch(flags);
  try {
    const chat = await openPage(browser, { site });
    await chat.get("no-webgpu").waitFor();
    const text = await chat.get("no-webgpu").innerText();
    assert.ok(text.includes(code), text);
    assert.match(text, /What you can do/);
    assert.equal(await chat.get("load-button").count(), 0);
    assert.equal(await chat.get("composer").isVisible(), false);
    await chat.screenshot(code);
    assert.deepEqual(chat.complaints, []);
    chat.assertNoStrangers();
  } finally {
    await browser.close();
  }
}
