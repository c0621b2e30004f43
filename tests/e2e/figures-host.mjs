// What measuring needs of this machine: a build that is served, browsers, their processes, and cores that are taken.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ISOLATION, serve } from "../../tools/serve.mjs";

const CPU_GROUPS = "/sys/fs/cgroup/cpu";
const here = new URL(".", import.meta.url).pathname;

/** A built checkout, with the measuring page and what it measures. `more` mounts further files and folders. */
export function serveBuild(checkout, more) {
  const mounts = {
    "/": join(checkout, "target/site"),
    "/pkg": join(checkout, "pkg"),
    "/figures.html": join(here, "figures.html"),
    "/figures-page.mjs": join(here, "figures-page.mjs"),
    "/wllama": join(checkout, "www/node_modules/@wllama/wllama/esm"),
    ...more,
  };
  for (const [place, path] of Object.entries(mounts)) {
    if (!existsSync(path)) throw new Error(`${path} is not there, for ${place}: build the checkout first, or leave that case out`);
  }
  return serve(mounts, ISOLATION);
}

/** Keeps one core busy until it is told to stop, or this program has ended. */
export function takeCore() {
  const other = spawn(process.execPath, ["-e", "const { ppid } = process; while (process.ppid === ppid);"]);
  return () => other.kill();
}

/** The process of the browser's page in which workers run. Only one browser of this program may be open. */
export function renderer() {
  const found = family(process.pid).filter((pid) => read(`/proc/${pid}/cmdline`).includes("--type=renderer") && workers(pid).length > 0);
  if (found.length !== 1) throw new Error(`${found.length} renderers with workers, not one`);
  return found[0];
}

/** Threads of workers in a process, in the order in which they were started. */
export function workers(pid) {
  const threads = directory(`/proc/${pid}/task`).map(Number).sort((a, b) => a - b);
  return threads.filter((thread) => read(`/proc/${pid}/task/${thread}/comm`).startsWith("DedicatedWorker"));
}

/** Resident bytes of a process: the most there ever were, and now. */
export function memory(pid) {
  const status = read(`/proc/${pid}/status`);
  const bytes = (name) => 1024 * Number(new RegExp(`^${name}:\\s*(\\d+) kB`, "m").exec(status)[1]);
  return { peak: bytes("VmHWM"), now: bytes("VmRSS") };
}

/** Lets a thread have `share` of a core in every period of so many milliseconds, until what it returns is called. */
export function hold(thread, share, period) {
  const group = `${CPU_GROUPS}/emberglass-figures-${process.pid}-${thread}`;
  if (!existsSync(`${CPU_GROUPS}/cpu.cfs_quota_us`)) throw new Error(`a held thread needs root and the cpu controller of cgroup v1 in ${CPU_GROUPS}`);
  mkdirSync(group);
  writeFileSync(`${group}/cpu.cfs_period_us`, String(Math.round(1000 * period)));
  writeFileSync(`${group}/cpu.cfs_quota_us`, String(Math.round(1000 * period * share)));
  writeFileSync(`${group}/tasks`, String(thread));
  return () => {
    for (const left of read(`${group}/tasks`).split("\n").filter(Boolean)) {
      try {
        writeFileSync(`${CPU_GROUPS}/tasks`, left);
      } catch {
        // It has ended.
      }
    }
    rmdirSync(group);
  };
}

function family(root) {
  const parents = directory("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => [Number(pid), Number(/^PPid:\s*(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1])]);
  const found = [root];
  for (let i = 0; i < found.length; i++) for (const [pid, parent] of parents) if (parent === found[i]) found.push(pid);
  return found;
}

/** Empty for what has ended meanwhile. */
function directory(path) {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function read(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
