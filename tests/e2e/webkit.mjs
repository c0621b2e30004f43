// WebKitGTK's browser behind the part of Playwright's interface that harness.mjs uses: Playwright drives no WebKit but a
// build of its own. Selenium speaks to Debian's WebKitWebDriver. It tells neither the requests of a page nor what a page
// writes to the console, so `requests` and `complaints` of a page stay empty here.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import http from "node:http";
import { Builder, Capabilities, Key } from "selenium-webdriver";

/** Between two looks at the page. */
const POLL_MS = 50;

/**
 * Starts the driver on a virtual display. A browser has one page: WebDriver's session.
 *
 * @param environment Variables of WebKit's processes. WebKitGTK takes a process that may share memory only where
 * `JSC_useSharedArrayBuffer=1` is set: unlike Safari it does not change to another process for an isolated page.
 */
export async function launchWebKit(environment = { JSC_useSharedArrayBuffer: "1" }) {
  const port = await freePort();
  const driver = spawn("xvfb-run", ["--auto-servernum", "--server-args=-screen 0 1400x1000x24", "WebKitWebDriver", `--port=${port}`], {
    // A group of its own, so that the display and the browser end with it.
    detached: true,
    stdio: "ignore",
    // The sandbox of WebKit's processes needs user namespaces, which containers often lack.
    env: { ...process.env, ...environment, WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: "1" },
  });
  const end = () => process.kill(-driver.pid);
  try {
    await answers(port);
    const capabilities = new Capabilities().setBrowserName("MiniBrowser");
    const session = await new Builder().usingServer(`http://127.0.0.1:${port}`).withCapabilities(capabilities).build();
    await session.manage().setTimeouts({ script: 600_000, pageLoad: 120_000 });
    return new WebKit(session, (await session.getCapabilities()).getBrowserVersion(), end);
  } catch (error) {
    end();
    throw error;
  }
}

class WebKit {
  #session;
  #version;
  #end;

  constructor(session, version, end) {
    this.#session = session;
    this.#version = version;
    this.#end = end;
  }

  version() {
    return this.#version;
  }

  async newContext({ viewport: { width, height } }) {
    await this.#session.manage().window().setRect({ x: 0, y: 0, width, height });
    const context = { on() {}, close: () => this.#session.get("about:blank"), newPage: async () => new Page(this.#session, context) };
    return context;
  }

  async close() {
    await this.#session.quit().catch(() => {});
    this.#end();
  }
}

class Page {
  #session;
  #context;
  patience = 30_000;
  keyboard;

  constructor(session, context) {
    this.#session = session;
    this.#context = context;
    this.keyboard = { press: (key) => session.actions().sendKeys(Key[key.toUpperCase()]).perform() };
  }

  on() {}

  context() {
    return this.#context;
  }

  setDefaultTimeout(ms) {
    this.patience = ms;
  }

  goto(url) {
    return this.#session.get(url);
  }

  reload() {
    return this.#session.navigate().refresh();
  }

  evaluate(script, argument) {
    return this.#session.executeScript(`return (${script})(...arguments)`, argument);
  }

  async waitForFunction(script, argument) {
    await this.until(() => this.evaluate(script, argument), String(script));
  }

  waitForTimeout(ms) {
    return new Promise((resolve) => setTimeout(resolve, ms));
  }

  locator(css) {
    return new Locator(this, [css]);
  }

  getByTestId(id) {
    return this.locator(`[data-testid="${id}"]`);
  }

  async screenshot({ path }) {
    await writeFile(path, await this.#session.takeScreenshot(), "base64");
  }

  /** Asks until the answer is true. */
  async until(condition, what) {
    const end = Date.now() + this.patience;
    while (!(await condition())) {
      if (Date.now() > end) assert.fail(`timeout: ${what}`);
      await this.waitForTimeout(POLL_MS);
    }
  }
}

/** Elements of a page: selectors, one within the other, and numbers, which take one element of those found so far. */
class Locator {
  #page;
  #path;

  constructor(page, path) {
    this.#page = page;
    this.#path = path;
  }

  locator(css) {
    return new Locator(this.#page, [...this.#path, css]);
  }

  nth(index) {
    return new Locator(this.#page, [...this.#path, index]);
  }

  first() {
    return this.nth(0);
  }

  last() {
    return this.nth(-1);
  }

  /** Runs in the page, over the elements. */
  #over(use, argument) {
    const find = (path) =>
      path.reduce((found, step) => (typeof step === "number" ? found.slice(step, step + 1 || undefined) : found.flatMap((at) => [...at.querySelectorAll(step)])), [document]);
    return this.#page.evaluate(`([path, argument]) => (${use})((${find})(path), argument)`, [this.#path, argument]);
  }

  async #ready() {
    await this.waitFor();
    return this.#over(([element]) => {
      element.scrollIntoView({ block: "nearest" });
      return element;
    });
  }

  count() {
    return this.#over((found) => found.length);
  }

  isVisible() {
    return this.#over(([element]) => element?.checkVisibility({ visibilityProperty: true }) ?? false);
  }

  async waitFor({ state = "visible" } = {}) {
    await this.#page.until(async () => (await this.isVisible()) === (state === "visible"), `${this.#path.join(" ")} is not ${state}`);
  }

  async click() {
    await (await this.#ready()).click();
  }

  async clear() {
    await (await this.#ready()).clear();
  }

  async fill(text) {
    await this.clear();
    await (await this.#ready()).sendKeys(text);
  }

  async selectOption(value) {
    const element = await this.#ready();
    await this.#page.evaluate(
      ([select, value]) => {
        select.value = value;
        select.dispatchEvent(new Event("change", { bubbles: true }));
      },
      [element, value],
    );
  }

  async innerText() {
    await this.waitFor();
    return this.#over(([element]) => element.innerText);
  }

  allInnerTexts() {
    return this.#over((found) => found.map((element) => element.innerText));
  }

  async getAttribute(name) {
    return this.#over(([element], name) => element.getAttribute(name), name);
  }
}

async function freePort() {
  const server = http.createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Waits until the driver listens. */
async function answers(port) {
  const end = Date.now() + 60_000;
  for (;;) {
    try {
      await fetch(`http://127.0.0.1:${port}/status`);
      return;
    } catch (error) {
      if (Date.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}
