// Answers of several threads go on where nobody looks: behind another tab, and after the browser has frozen the page. Playwright
// keeps every page visible, so a WebDriver drives Chromium here.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { Builder } from "selenium-webdriver";
import chrome from "selenium-webdriver/chrome.js";
import { FLAGS, PATIENCE, SITE } from "./harness.mjs";
import { packageServer } from "./package-server.mjs";
import { tinyModel } from "./tiny-model.mjs";

const TOKENS = 1500;
/** Some seconds for an answer. */
const SLOW = tinyModel({ contextLength: 2048, ffn: 4096 });
const FROZEN_MS = 1500;

let driver, server;

before(async () => {
  server = await packageServer(SITE, {
    answer(request, response) {
      if (request.url !== "/package/slow.gguf") return false;
      response.writeHead(200, { "content-type": "application/octet-stream" }).end(SLOW);
      return true;
    },
  });
  const options = new chrome.Options().addArguments(...FLAGS, "--headless=new", "--disable-gpu");
  options.setChromeBinaryPath(process.env.CHROMIUM ?? "/usr/bin/chromium");
  const service = new chrome.ServiceBuilder(process.env.CHROMEDRIVER ?? "/usr/bin/chromedriver");
  driver = await new Builder().forBrowser("chrome").setChromeOptions(options).setChromeService(service).build();
  await driver.manage().setTimeouts({ script: PATIENCE });
});
after(async () => {
  await driver?.quit();
  await server?.close();
});

// What the test before made hidden stays so.
beforeEach(() => driver.switchTo().newWindow("tab"));

/** Runs in the page, as an async function whose result is returned. */
const run = (code, ...args) =>
  driver.executeAsyncScript(`const done = arguments[arguments.length - 1]; (async () => { ${code} })().then(done, (error) => done({ error: String(error?.stack ?? error) }));`, ...args);

/** Opens the package, lets one thread answer, and resolves in the middle of the same answer with two. */
async function begin() {
  await driver.get(`${server.site}/package/`);
  const { error, expected, threads } = await run(
    `while (!window.emberglass) await new Promise((resolve) => setTimeout(resolve, 50));
    const load = (threads) => emberglass.loadTextModel("slow.gguf", { device: "cpu", contextLength: 2048, threads });
    const greedy = { temperature: 0, maxTokens: ${TOKENS} };
    const alone = await load(1);
    const { text: expected } = await alone.generate("a", greedy).result;
    await alone.dispose();
    window.seen = [];
    for (const type of ["visibilitychange", "freeze", "resume"]) {
      document.addEventListener(type, () => seen.push(type === "visibilitychange" ? document.visibilityState : type));
    }
    window.model = await load(2);
    window.generation = model.generate("a", greedy);
    window.outcome = generation.result.then(
      ({ text }) => ({ text, hidden: document.hidden }),
      ({ code, message }) => ({ text: generation.text, error: code + ": " + message }),
    );
    while (generation.text.length < 20) await new Promise((resolve) => setTimeout(resolve, 1));
    return { expected, threads: model.info.device.threads };`,
  );
  assert.equal(error, undefined);
  assert.equal(threads, 2);
  return expected;
}

/** Opens another tab of the same site in front of the page, for as long as something runs there. */
async function behindAnotherTab(address, whileBehind) {
  const first = await driver.getWindowHandle();
  await driver.switchTo().newWindow("tab");
  try {
    await driver.get(address);
    return await whileBehind();
  } finally {
    await driver.close();
    await driver.switchTo().window(first);
  }
}

/** Waits for what the first tab writes. */
const STORED = `while (!localStorage.outcome) await new Promise((resolve) => setTimeout(resolve, 100)); return JSON.parse(localStorage.outcome);`;

test("the answer goes on behind another tab", { timeout: PATIENCE }, async () => {
  const expected = await begin();
  await run(`localStorage.clear(); outcome.then((value) => (localStorage.outcome = JSON.stringify(value))); `);
  const { text, hidden, error } = await behindAnotherTab(`${server.site}/favicon.svg`, () => run(STORED));
  assert.equal(error, undefined);
  assert.equal(text, expected);
  assert.equal(hidden, true, "the other tab was in front");
});

test("the answer goes on after the page was frozen", { timeout: PATIENCE }, async () => {
  const expected = await begin();
  await driver.sendDevToolsCommand("Page.setWebLifecycleState", { state: "frozen" });
  await new Promise((resolve) => setTimeout(resolve, FROZEN_MS));
  await driver.sendDevToolsCommand("Page.setWebLifecycleState", { state: "active" });
  const { text, error, seen } = await run(`return { ...(await outcome), seen };`);
  assert.equal(error, undefined);
  assert.equal(text, expected);
  assert.deepEqual(seen.slice(0, 3), ["hidden", "freeze", "resume"], "the page was frozen");
  const again = await run(`const { text } = await model.generate("a", { temperature: 0, maxTokens: ${TOKENS} }).result; await model.dispose(); return text;`);
  assert.equal(again, expected, "and the model computes as before");
});

test("the chat page finishes an answer behind another tab", { timeout: PATIENCE }, async () => {
  await driver.get(SITE);
  await run(
    `const at = (id) => document.querySelector('[data-testid="' + id + '"]');
    const until = async (condition) => { while (!condition()) await new Promise((resolve) => setTimeout(resolve, 50)); };
    localStorage.removeItem("outcome");
    await until(() => at("load-button") && !at("load-button").disabled);
    const type = (field, text) => { field.value = text; field.dispatchEvent(new Event("input", { bubbles: true })); field.dispatchEvent(new Event("change", { bubbles: true })); };
    at("settings").click();
    type(at("setting-maxTokens"), "120");
    type(at("setting-threads"), "2");
    at("settings-close").click();
    at("load-button").click();
    await until(() => at("status").dataset.device === "cpu");
    type(at("composer"), "Write a story about a river.");
    at("send").click();
    const newest = () => [...document.querySelectorAll('[data-testid="message-assistant"]')].at(-1);
    await until(() => newest()?.querySelector(".body").textContent.length > 8);
    setInterval(() => {
      const answer = newest();
      if (document.hidden && answer.dataset.state !== "streaming") localStorage.outcome = JSON.stringify({ state: answer.dataset.state });
    }, 100);`,
  );
  const { state } = await behindAnotherTab(`${SITE}/favicon.svg`, () => run(STORED));
  assert.equal(state, "done");
  const answers = await driver.executeScript(`return [...document.querySelectorAll('[data-testid="message-assistant"] .body')].map((body) => body.textContent)`);
  assert.ok(answers.at(-1).length > 100, "the answer is on the page");
});
