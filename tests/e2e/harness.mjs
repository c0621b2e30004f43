// Opens the built page in a browser and reads it the way a visitor would.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";

export { FLAGS, launch, WEBGPU } from "./browsers.mjs";

/** Where `cargo xtask test` serves target/site, without a slash at the end. */
export const SITE = required("EMBERGLASS_URL").replace(/\/$/, "");
/** The same without the headers for shared memory, as a plain static host has it. */
export const PLAIN_SITE = required("EMBERGLASS_PLAIN_URL").replace(/\/$/, "");
/** A software adapter is slow, and slower still while another program computes. */
export const PATIENCE = 240_000;

/** The address of the engine's worker. */
export const WORKER = /assets\/emberglass-worker-.*\.js$/;

/** The hash of `body {}`, a style that Playwright inserts for a screenshot in Firefox, and that the page's policy refuses. */
const SCREENSHOT_STYLE = "sha256-YjaKGiklmzC6wjXA513HAMmzus8VE61XCOT+SmwNZWA=";
const SCREENSHOTS = required("EMBERGLASS_SCREENSHOTS");

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run these tests with \`cargo xtask test --only e2e\``);
  return value;
}

/**
 * The page, opened at `site`. Everything it asks for and complains about is kept. What a service worker answers cannot be
 * intercepted, so there is none unless a test is about it: `serviceWorkers: "allow"`. `prepare` gets the page before it is opened.
 */
export async function openPage(browser, { site = SITE, path = "/", serviceWorkers = "block", prepare = async () => {} } = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 800 }, serviceWorkers });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const requests = [];
  const complaints = [];
  const complain = (text) => {
    if (!text.includes(SCREENSHOT_STYLE)) complaints.push(text);
  };
  context.on("request", (request) => requests.push(request.url()));
  page.on("console", (message) => {
    if (message.type() === "error") complain(message.text());
  });
  page.on("pageerror", (error) => complain(String(error.stack ?? error)));
  await prepare(page);
  await page.goto(site + path);
  return new ChatPage(page, { site, requests, complaints });
}

export class ChatPage {
  constructor(page, { site, requests, complaints }) {
    this.page = page;
    this.requests = requests;
    this.complaints = complaints;
    this.site = site;
  }

  get(testId) {
    return this.page.getByTestId(testId);
  }

  async close() {
    await this.page.context().close();
  }

  /** Presses Load and waits for the model. */
  async load() {
    await this.get("load-button").click();
    await this.ready();
  }

  /** The model is loaded: the status line names the device. An error shown first fails at once. */
  async ready() {
    const error = this.get("error");
    await this.page.locator('[data-testid="status"]:is([data-device="cpu"], [data-device="webgpu"]), [data-testid="error"]').first().waitFor();
    if (await error.isVisible()) assert.fail(`loading failed: ${await error.innerText()}`);
  }

  /** The status line, on one line. */
  async status() {
    return (await this.get("status").innerText()).replaceAll("\n", " | ");
  }

  /** What the note behind the status line's “why?” says. It is closed again afterwards. */
  async why() {
    await this.get("why-device").click();
    const text = await this.get("device-note").innerText();
    await this.page.keyboard.press("Escape");
    await this.get("device-note").waitFor({ state: "hidden" });
    return text;
  }

  /** Sets values in the settings panel. */
  async set(values) {
    await this.get("settings").click();
    for (const [key, value] of Object.entries(values)) {
      const field = this.get(`setting-${key}`);
      if (key === "device") await field.selectOption(value);
      else {
        // In Firefox `fill` would put the digits behind those that are there.
        await field.clear();
        await field.fill(String(value));
      }
    }
    await this.get("settings-close").click();
  }

  /** Loads the model again, with the settings as they are. */
  async reload() {
    await this.get("settings").click();
    await this.get("reload-model").click();
    await this.page.locator('[data-testid="status"][data-device="none"]').waitFor();
    await this.ready();
  }

  /** Deletes what is stored of the one model. */
  async forget() {
    await this.get("settings").click();
    await this.get("settings-stored").click();
    await this.get("delete-stored").click();
    await this.get("confirm-delete").click();
    await this.get("stored-usage").getByText("No model is stored here").waitFor();
    await this.get("stored-close").click();
  }

  async send(text) {
    await this.get("composer").fill(text);
    await this.get("send").click();
  }

  /** The newest answer. */
  get answer() {
    return this.get("message-assistant").last();
  }

  async answerText() {
    return (await this.answer.locator(".body").innerText()).trim();
  }

  /** Waits until the newest answer is in this state, and returns its text. */
  async answered(state = "done") {
    await this.page.waitForFunction(() => {
      const newest = [...document.querySelectorAll('[data-testid="message-assistant"]')].at(-1);
      return ["done", "stopped", "error"].includes(newest?.dataset.state);
    });
    const found = await this.answer.getAttribute("data-state");
    const shown = found === state ? "" : await this.shownError();
    assert.equal(found, state, shown);
    return this.answerText();
  }

  async ask(text) {
    const before = await this.get("message-assistant").count();
    await this.send(text);
    await this.get("message-assistant").nth(before).waitFor();
    return this.answered();
  }

  /** Sends, and waits until some of the answer is there. */
  async begin(text) {
    const before = await this.get("message-assistant").count();
    await this.send(text);
    await this.get("message-assistant").nth(before).waitFor();
    await this.page.waitForFunction(() => [...document.querySelectorAll('[data-testid="message-assistant"] .body')].at(-1).textContent.length > 8);
  }

  async shownError() {
    const error = this.get("error");
    return (await error.isVisible()) ? error.innerText() : "no error is shown";
  }

  /** The code of the error that is shown, waiting for one. */
  async errorCode() {
    await this.get("error").waitFor();
    return this.get("error").getAttribute("data-code");
  }

  /** The texts of the conversation, in order. */
  async conversation() {
    const messages = this.page.locator('[data-testid="message-user"], [data-testid="message-assistant"]');
    return messages.locator(".body").allInnerTexts();
  }

  /** Every request went to the site itself. */
  assertNoStrangers() {
    const strangers = this.requests.filter((url) => !url.startsWith(`${this.site}/`) && !/^(blob|data):/.test(url));
    assert.deepEqual(strangers, []);
  }

  async screenshot(name) {
    mkdirSync(SCREENSHOTS, { recursive: true });
    await this.page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
  }
}

/**
 * Every engine's worker that the page starts from now on runs this first. The function sees nothing from around it but
 * `self.neverAnswered()`: a promise that never settles. Each shortens one timer, its limit.
 */
export async function prefaceWorkers(page, preface) {
  await page.route(WORKER, async (route) => {
    // The page may be gone before its worker has begun.
    const reply = await route.fetch().catch(() => undefined);
    const script = await reply?.text().catch(() => undefined);
    if (script !== undefined) await route.fulfill({ response: reply, body: `self.neverAnswered = ${neverAnswered};\n(${preface})();\n${script}` });
  });
}

function neverAnswered() {
  if (self.unanswered === undefined) {
    const { setTimeout } = self;
    self.unanswered = 0;
    self.setTimeout = (then, ms) => {
      const late = self.unanswered > 0;
      if (late) self.unanswered -= 1;
      return setTimeout(then, late ? 0 : ms);
    };
  }
  self.unanswered += 1;
  return new Promise(() => {});
}

/** Counts the pipelines that a worker creates, in its `pipelines`. Runs inside the worker. */
export function countPipelines() {
  self.pipelines = { sync: 0, async: 0, compiling: 0, most: 0 };
  const count = self.pipelines;
  const { createComputePipeline, createComputePipelineAsync } = GPUDevice.prototype;
  GPUDevice.prototype.createComputePipeline = function (descriptor) {
    count.sync += 1;
    return createComputePipeline.call(this, descriptor);
  };
  GPUDevice.prototype.createComputePipelineAsync = async function (descriptor) {
    // What the engine puts over the method is gone by now.
    if (Object.hasOwn(this, "createComputePipeline")) throw new Error("createComputePipeline is still overridden");
    count.async += 1;
    count.compiling += 1;
    count.most = Math.max(count.most, count.compiling);
    try {
      return await createComputePipelineAsync.call(this, descriptor);
    } finally {
      count.compiling -= 1;
    }
  };
}

/** The bytes of a canvas, which may be the worker's: by way of another one. */
export function canvasBytes(page, testId) {
  return page.evaluate(async (testId) => {
    // What the worker has drawn is there with the next frame.
    await new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)));
    const bitmap = await createImageBitmap(document.querySelector(`[data-testid="${testId}"]`));
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    return [...context.getImageData(0, 0, bitmap.width, bitmap.height).data];
  }, testId);
}

/** Watches the newest answer and the frames; runs inside the page. */
export async function watch(page) {
  await page.evaluate(() => {
    const seen = { lengths: [], early: 0, gaps: [], stop: false };
    window.__watch = seen;
    let last = performance.now();
    let newest = null;
    const frame = (now) => {
      seen.gaps.push(now - last);
      last = now;
      const answer = [...document.querySelectorAll('[data-testid="message-assistant"]')].at(-1);
      if (answer !== newest) Object.assign(seen, { lengths: [], early: 0 });
      newest = answer;
      const text = answer?.querySelector(".body").textContent ?? "";
      if (text.length !== (seen.lengths.at(-1) ?? 0)) {
        seen.lengths.push(text.length);
        if (answer.dataset.state === "streaming") seen.early += 1;
      }
      if (!seen.stop) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
}

/** What was seen: how the text grew, how often while the answer was being made, and the gaps between frames in milliseconds. */
export async function watched(page) {
  const { lengths, early, gaps } = await page.evaluate(() => {
    window.__watch.stop = true;
    return window.__watch;
  });
  const sorted = gaps.slice(1).sort((a, b) => a - b);
  return { lengths, early, frames: sorted.length, median: sorted[sorted.length >> 1], worst: sorted.at(-1) };
}
