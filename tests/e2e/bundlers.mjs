// Builds each set-up of examples/bundlers with the packed npm package, and asks a tiny model in Chromium.
// node bundlers.mjs WORK TARBALL [NAME…]; `cargo xtask bundlers` runs it.
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { basename, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { chromium } from "playwright-core";
import { BUNDLERS } from "../../examples/bundlers/bundlers.mjs";
import { tinyModel } from "./tiny-model.mjs";

const HERE = fileURLToPath(new URL("../../examples/bundlers/", import.meta.url));
const [work, tarball, ...names] = process.argv.slice(2);
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".css": "text/css" };
const ISOLATION = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp", "cross-origin-resource-policy": "same-origin" };
const PATIENCE = 120_000;

const unknown = names.filter((name) => !BUNDLERS.some((bundler) => bundler.name === name));
if (unknown.length > 0) throw new Error(`there is no set-up ${unknown}; there are ${BUNDLERS.map(({ name }) => name).join(", ")}`);
install();
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const failed = [];
for (const bundler of BUNDLERS) {
  if (names.length > 0 && !names.includes(bundler.name)) continue;
  try {
    console.log(`${bundler.name.padEnd(22)} ${await tried(bundler)}`);
  } catch (error) {
    failed.push(bundler.name);
    console.log(`${bundler.name.padEnd(22)} FAILED: ${error.message}`);
  }
}
await browser.close();
if (failed.length > 0) {
  console.error(`failed: ${failed.join(", ")}`);
  process.exit(1);
}

/** Puts the bundlers, as the lock file has them, and the packed package into the work folder. */
function install() {
  mkdirSync(work, { recursive: true });
  const lock = readFileSync(join(HERE, "package-lock.json"));
  const stamp = join(work, "node_modules/.installed-from");
  if (!existsSync(stamp) || !readFileSync(stamp).equals(lock)) {
    for (const file of ["package.json", "package-lock.json", ".npmrc"]) cpSync(join(HERE, file), join(work, file));
    execFileSync("npm", ["ci", "--no-audit", "--no-fund"], { cwd: work, stdio: ["ignore", "ignore", "inherit"] });
    writeFileSync(stamp, lock);
  }
  const installed = join(work, "node_modules/emberglass");
  rmSync(installed, { recursive: true, force: true });
  mkdirSync(installed);
  execFileSync("tar", ["-xzf", tarball, "-C", installed, "--strip-components=1"]);
}

async function tried(bundler) {
  const { build, dev, cdn, serve = ".", page = "page.html", script, app, alone = false } = bundler;
  copyProject(app);
  const begun = performance.now();
  let server, upstream;
  if (cdn) {
    // The page finds the package on another origin, which hosts do allow.
    server = await hosted({ root: join(work, "node_modules"), headers: { "access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin" } });
  } else if (dev) {
    upstream = 20_000 + Math.floor(Math.random() * 20_000);
    // In a group of its own: servers start processes.
    const { pid } = spawn("sh", ["-c", `exec ${dev} ${upstream}`], { cwd: work, stdio: "ignore", env: clean(), detached: true });
    server = { close: () => process.kill(-pid) };
    await reachable(upstream);
  } else {
    const { status, stdout, stderr } = spawnSync("sh", ["-c", build], { cwd: work, encoding: "utf8", env: clean() });
    if (status !== 0) throw new Error(`\`${build}\` failed:\n${stdout}${stderr}`);
    if (process.env.VERBOSE) console.log(stdout + stderr);
  }
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  try {
    const notes = [];
    for (const isolated of [false, true]) {
      const site = await hosted({ root: dev ? undefined : join(work, serve), upstream, script, cdn: server?.url, headers: isolated ? ISOLATION : {} });
      try {
        notes.push(await asked(`${site.url}/${page}`, { isolated, alone, packed: bundler.packed ?? false }));
      } finally {
        site.close();
      }
    }
    return `${seconds} s  ${notes.join("; ")}${build === undefined ? "" : `; ${sizes(join(work, serve))}`}`;
  } finally {
    server?.close();
  }
}

/** Puts this folder's files beside the installed packages, as a project of its own, in place of the one before. */
function copyProject(app) {
  const kept = new Set(["node_modules", "package.json", "package-lock.json", ".npmrc"]);
  for (const name of readdirSync(work)) if (!kept.has(name)) rmSync(join(work, name), { recursive: true, force: true, maxRetries: 10, retryDelay: 200 });
  const left = new Set([...kept, "README.md", "bundlers.mjs"]);
  cpSync(HERE, work, { recursive: true, filter: (path) => !left.has(basename(path)) });
  if (app) cpSync(join(HERE, app), work, { recursive: true });
}

/** Opens a page, and checks what it answers. */
async function asked(address, { isolated, alone, packed }) {
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    const said = [];
    const loaded = [];
    context.on("console", (message) => said.push(message.text()));
    page.on("pageerror", (error) => said.push(String(error)));
    page.on("response", async (response) => loaded.push(response));
    await page.goto(`${address}?threads=2`);
    const output = page.locator("output");
    await output.filter({ hasText: "{" }).waitFor({ timeout: PATIENCE }).catch(() => assert.fail(`no answer; the page says ${said.join(" | ")}`));
    const shown = JSON.parse(await output.innerText());
    assert.ok(shown.text, `${JSON.stringify(shown)}; the page says ${said.join(" | ")}`);
    const threads = isolated && !alone ? 2 : 1;
    assert.equal(shown.threads, threads, `${shown.reason}; the page says ${said.join(" | ")}`);
    const note = said.find((text) => text.includes("copy inside the package"));
    if (packed !== undefined && !alone) assert.equal(note !== undefined, packed, `the page says ${said.join(" | ")}`);
    return `${isolated ? "isolated" : "plain"}: ${threads} thread${threads > 1 ? "s" : ""}${note ? ", packed copy" : ""}`;
  } finally {
    await context.close();
  }
}

/** Serves a folder, or passes requests on to a development server; the model is beside it. */
async function hosted({ root, upstream, script, cdn, headers }) {
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    if (pathname === "/tiny.gguf") return response.writeHead(200, headers).end(tinyModel());
    if (pathname === "/page.html" || pathname === "/cdn.html") {
      const text = (await readFile(join(HERE, pathname === "/cdn.html" ? "cdn.html" : "index.html"), "utf8"))
        .replace("./main.js", `./${script}`)
        .replace("https://cdn.example", cdn);
      return response.writeHead(200, { "content-type": "text/html", ...headers }).end(text);
    }
    if (upstream) return pass(request, response, upstream, headers);
    const file = join(root, decodeURIComponent(pathname));
    if (!existsSync(file) || statSync(file).isDirectory()) return response.writeHead(404, headers).end();
    response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream", ...headers }).end(await readFile(file));
  });
  await new Promise((resolve) => server.listen(0, "localhost", resolve));
  return {
    url: `http://localhost:${server.address().port}`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

function pass(request, response, port, headers) {
  const sent = { ...request.headers, host: `localhost:${port}` };
  delete sent.origin;
  const onward = http.request({ host: "localhost", port, path: request.url, method: request.method, headers: sent }, (reply) => {
    response.writeHead(reply.statusCode, { ...reply.headers, ...headers });
    reply.pipe(response);
  });
  onward.on("error", () => response.destroy());
  request.pipe(onward);
}

async function reachable(port) {
  for (const end = Date.now() + PATIENCE; Date.now() < end; ) {
    const up = await fetch(`http://localhost:${port}/`).then(() => true, () => false);
    if (up) return;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error("the development server does not answer");
}

/** What the bundler wrote, in kB after gzip: scripts, and wasm. */
function sizes(folder) {
  const sum = (ending) => {
    const files = readdirSync(folder, { recursive: true }).filter((file) => file.endsWith(ending));
    return Math.round(files.reduce((total, file) => total + gzipSync(readFileSync(join(folder, file))).length, 0) / 1000);
  };
  return `gzip: js ${sum(".js")} kB, wasm ${sum(".wasm")} kB`;
}

/** Without what npm sets for scripts, so that each tool behaves as from a shell. */
function clean() {
  const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith("npm_")));
  return { ...env, NEXT_TELEMETRY_DISABLED: "1", PARCEL_WORKERS: "0", CI: "1" };
}
