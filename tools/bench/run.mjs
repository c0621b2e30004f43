// Opens the bench page in headless Chromium, once for each query, and prints what it measured: tables
// on standard error, all of it as JSON on standard output. Called by `cargo xtask bench`.
//   node run.mjs SITE QUERY...
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";

// The page tests' copy of playwright-core.
const { chromium } = createRequire(new URL("../../tests/e2e/", import.meta.url))("playwright-core");

const [site, ...wishes] = process.argv.slice(2);
const FLAGS = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
];

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const reports = [];
for (const wish of wishes) {
  const result = await measure(wish);
  // Peak memory of a tab that runs one engine only, each in a browser of its own.
  for (const row of result.rows.filter(({ figures }) => figures)) {
    row.peakMemoryBytes = await peakMemory(wish, row.id);
  }
  const memory = result.rows.map(({ label, peakMemoryBytes }) => `${label}: ${megabytes(peakMemoryBytes)}`).join("; ");
  result.markdown += `\n\nPeak memory of the tab's process: ${memory}`;
  console.error(`\n${result.markdown}\n`);
  reports.push(result);
}
console.log(JSON.stringify(reports, null, 1));

async function measure(wish) {
  const browser = await chromium.launch({ executablePath, args: FLAGS });
  try {
    return await visit(browser, wish);
  } finally {
    await browser.close();
  }
}

async function visit(browser, query) {
  const page = await browser.newPage();
  // Long prompts on a software adapter.
  page.setDefaultTimeout(5 * 3_600_000);
  page.on("pageerror", (error) => console.error(String(error)));
  const status = setInterval(() => page.locator("#status").textContent().then((text) => console.error(`  ${text}`), () => {}), 20_000);
  await page.goto(`${site}bench.html?auto=1&${query}`);
  await page.waitForFunction(() => window.benchResult ?? window.benchError);
  clearInterval(status);
  const result = await page.evaluate(() => window.benchResult ?? window.benchError);
  if (typeof result === "string") throw new Error(result);
  return result;
}

/** The most memory the tab's process ever had resident, in bytes; undefined where there is no /proc. */
async function peakMemory(wish, id) {
  const server = await chromium.launchServer({ executablePath, args: FLAGS });
  try {
    const browser = await chromium.connect(server.wsEndpoint());
    const query = new URLSearchParams(wish);
    query.set("rows", id);
    query.set("quick", "1");
    query.set("reading", "0");
    await visit(browser, query);
    return Math.max(...renderers(server.process().pid).map(peakResident));
  } finally {
    await server.close();
  }
}

/** Processes of tabs below a process. */
function renderers(root) {
  const read = (pid, file) => {
    try {
      return readFileSync(`/proc/${pid}/${file}`, "utf8");
    } catch {
      return ""; // it has ended
    }
  };
  const all = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const parent = new Map(all.map((pid) => [pid, /^PPid:\s*(\d+)/m.exec(read(pid, "status"))?.[1]]));
  const below = (pid) => pid !== undefined && (pid === String(root) || below(parent.get(pid)));
  return all.filter((pid) => below(pid) && read(pid, "cmdline").includes("--type=renderer"));
}

function peakResident(pid) {
  const kilobytes = /^VmHWM:\s*(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kilobytes) * 1024;
}

function megabytes(bytes) {
  return Number.isFinite(bytes) ? `${Math.round(bytes / 1e6)} MB` : "–";
}
