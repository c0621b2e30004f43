// Runs a wasm test binary in Firefox: wasm-bindgen's runner serves its page, Firefox opens it, and what the page prints is
// printed here. Cargo calls it as the runner of wasm32 tests (xtask/src/test.rs). wasm-bindgen's runner could drive
// Firefox itself, by geckodriver, which Debian does not have.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { launch, WEBGPU } from "./browsers.mjs";

const LIMIT_MS = 1000 * Number(process.env.WASM_BINDGEN_TEST_TIMEOUT ?? 900);

const [runner, ...args] = process.argv.slice(2);
const environment = { ...process.env, NO_HEADLESS: "1", WASM_BINDGEN_TEST_ADDRESS: "127.0.0.1:0" };
const server = spawn(runner, args, { env: environment, stdio: ["ignore", "pipe", "inherit"] });
try {
  const address = await served();
  process.exitCode = address === undefined ? await ended() : (await passes(address)) ? 0 : 1;
} finally {
  server.kill();
}

/** The address of the page; undefined if no test matches, so that nothing is served. */
async function served() {
  for await (const line of createInterface(server.stdout)) {
    const [address] = /http:\/\/\S+/.exec(line) ?? [];
    if (address) return address;
    console.log(line);
  }
  return undefined;
}

function ended() {
  return server.exitCode ?? new Promise((resolve) => server.on("exit", (code) => resolve(code ?? 1)));
}

/** Opens the page and prints its output until the result is there. */
async function passes(address) {
  const browser = await launch(WEBGPU, "firefox");
  try {
    const page = await (await browser.newContext()).newPage();
    page.on("pageerror", (error) => console.error(String(error)));
    await page.goto(address);
    const end = Date.now() + LIMIT_MS;
    let printed = 0;
    for (;;) {
      const output = await page.evaluate(() => document.getElementById("output").textContent);
      process.stdout.write(output.slice(printed));
      printed = Math.max(printed, output.length);
      const [result] = /^test result: .*$/m.exec(output) ?? [];
      if (result) return result.startsWith("test result: ok.");
      if (/^Worker error: /m.test(output)) return false;
      if (Date.now() > end) {
        console.error(`the tests did not end within ${LIMIT_MS / 1000} seconds`);
        return false;
      }
      await page.waitForTimeout(200);
    }
  } finally {
    await browser.close();
  }
}
