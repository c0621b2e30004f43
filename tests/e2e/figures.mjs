// The figures of threads: speed and memory in Chromium with one thread, with several and with as many as are taken by default, in
// turns, on idle, busy and uneven cores, and beside other runtimes. Every result is checked before its time counts. Not a test:
//
//   node tests/e2e/figures.mjs [CASE...] [--rounds N] [--tokens N] [--quick] [--build CHECKOUT]... [--models DIR] [--ort DIR --onnx DIR]
//
// Prints Markdown, medians of the rounds; fails where a result differs. Without a CASE it runs all, with --threads 1, 2 and the default:
//
//   idle      the chat page on idle cores: an answer of so many tokens
//   busy      the same while another process keeps a core
//   uneven    the same while one helper has a share of its core (--share, --period in ms)
//   many      the same with more threads than cores
//   long      prefill of 512 and 1024 tokens, decoding behind 2048
//   caches    one thread and each type of KV cache: prefill of 256 and 4096 tokens, decoding behind 64, 2048 and 4096
//   pictures  TAEF2 to 256² and 512² pixels (--sides of latents 32,64); with --ort (onnxruntime-web's dist) and --onnx (see tools/bench-image) beside ONNX Runtime Web
//   wllama    beside wllama, for those of --formats of the default model that are in --models
//   memory    wasm memory, and the page's process above it
//   cycles    twenty models loaded and disposed: workers and memory that are left
//
// With several --build the same figures of each, in the same turns; each is a checkout with a built site and package.
import { existsSync } from "node:fs";
import { availableParallelism, cpus, loadavg } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import { launch } from "./browsers.mjs";
import { hold, memory, renderer, serveBuild, takeCore, workers } from "./figures-host.mjs";

const root = new URL("../..", import.meta.url).pathname;
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: "boolean", default: false },
    rounds: { type: "string" },
    tokens: { type: "string" },
    build: { type: "string", multiple: true, default: [root] },
    models: { type: "string", default: join(root, ".cache/models") },
    taef2: { type: "string", default: join(root, "../shared/models/taef2") },
    ort: { type: "string" },
    onnx: { type: "string" },
    threads: { type: "string", default: "1,2,default" },
    share: { type: "string", default: "0.3" },
    period: { type: "string", default: "100" },
    sides: { type: "string" },
    formats: { type: "string", default: "Q4_1,Q8_0,Q4_K_M,Q4_0" },
  },
});
const rounds = Number(options.rounds ?? (options.quick ? 1 : 3));
const tokens = Number(options.tokens ?? (options.quick ? 60 : 600));
const [share, period] = [Number(options.share), Number(options.period)];
const model = (format) => `SmolLM2-135M-Instruct.${format}.gguf`;
const FORMAT = "Q4_1";
const CYCLES = options.quick ? 5 : 20;
/** Beside another rounding. */
const SAME_CHARACTERS = 8;
const MOST_APART = 2;

const CASES = { idle, busy, uneven, many, long, caches, pictures, wllama: beside, memory: takes, cycles };
const unknown = positionals.find((name) => !(name in CASES));
if (unknown) throw new Error(`there is no case “${unknown}”: there are ${Object.keys(CASES).join(", ")}`);

const more = { "/gguf": options.models, "/taef2": options.taef2, ...(options.ort && { "/ort": options.ort, "/onnx": options.onnx }) };
const builds = [];
for (const checkout of options.build.map((path) => resolve(path))) {
  const { origin, close } = await serveBuild(checkout, more);
  builds.push({ name: checkout.split("/").filter(Boolean).at(-1), origin, close });
}
// The harness takes the site from the environment when it is imported.
Object.assign(process.env, { EMBERGLASS_URL: builds[0].origin, EMBERGLASS_PLAIN_URL: builds[0].origin, EMBERGLASS_SCREENSHOTS: "target/screenshots" });
const { openPage, PATIENCE } = await import("./harness.mjs");

let wrong = 0;
/** Situation, goal, what was measured, whether that is enough: issue 21's table. */
const goals = [];
const chosen = positionals.length > 0 ? positionals : Object.keys(CASES);
const browser = await launch();
const version = browser.version();
await browser.close();
say(`${new Date().toISOString().slice(0, 16)}, headless Chromium ${version}, ${availableParallelism()} cores of ${cpus()[0].model.trim()}, ${rounds} rounds in turns, medians.\n`);
try {
  for (const name of chosen) await CASES[name]();
  if (goals.length > 0) {
    say("### Goals\n");
    table(["situation", "goal", "measured", ""], goals);
  }
} finally {
  for (const { close } of builds) await close();
}
process.exit(wrong > 0 ? 1 : 0);

// ---- the chat page

async function idle() {
  const rows = await chats("Two idle cores, chat page", variants());
  several(rows, (row, one) => goal(`two idle cores, chat page, ${row.name}`, "× one thread", 1.5, row.speed / one.speed));
}

async function busy() {
  const end = takeCore();
  try {
    const rows = await chats("One core taken by another process, chat page", variants());
    several(rows, (row, one) => goal(`one core taken by another process, ${row.name}`, "× one thread then", 0.95, row.speed / one.speed));
  } finally {
    end();
  }
}

async function many() {
  const cores = availableParallelism();
  const rows = await chats("More threads than cores, chat page", [...variants(), { threads: 2 * cores, name: `${2 * cores} threads` }]);
  for (const row of rows.filter(({ threads }) => threads === 2 * cores)) {
    const best = Math.max(...rows.filter(({ build }) => build === row.build).map(({ speed }) => speed));
    goal(`more threads than cores, ${row.name}`, "× the best", 0.9, row.speed / best);
  }
}

/** What each core gives alone is measured with one thread, once free and once held. */
async function uneven() {
  const held = `held to ${100 * share} %`;
  const rows = await chats(`Uneven cores: one thread ${held} of a core in every ${period} ms, chat page`, [
    { name: "1 thread", threads: 1 },
    { name: `1 thread, ${held}`, threads: 1, held: 0 },
    { name: `2 threads, one ${held}`, threads: 2, held: 1 },
  ]);
  for (let i = 0; i < rows.length; i += 3) {
    const [free, slow, both] = rows.slice(i, i + 3).map(({ speed }) => speed);
    goal(`uneven cores, ${rows[i + 2].name}`, `× the sum of what the cores give alone, ${number(free)} + ${number(slow)}`, 0.9, both / (free + slow));
  }
}

function variants() {
  return options.threads.split(",").map((word) => {
    const threads = word === "default" ? undefined : Number(word);
    return { threads, name: threads === undefined ? "threads by default" : `${threads} ${threads === 1 ? "thread" : "threads"}` };
  });
}

/** Answers of the chat page, in turns; the text of each must be the first one's. */
async function chats(title, wanted) {
  const rows = acrossBuilds(wanted).map((row) => ({ ...row, seen: [] }));
  for (let round = 0; round < rounds; round++) {
    for (const row of rows) row.seen.push(await answer(row));
  }
  const expected = rows[0].seen[0].text;
  for (const row of rows) {
    row.right = row.seen.every(({ text }) => text === expected);
    row.speed = median(row.seen.map(({ speed }) => speed));
  }
  say(`### ${title}, ${tokens} tokens (load ${loadavg()[0].toFixed(1)})\n`);
  table(
    ["", "tokens/s", `× ${rows[0].name}`, "lowest to highest", "main thread, share of a core", "status line", "text"],
    rows.map((row) => {
      const speeds = row.seen.map(({ speed }) => speed).sort((a, b) => a - b);
      const main = `${Math.round(100 * median(row.seen.map(({ main }) => main)))} %`;
      return [row.name, number(row.speed), ratio(row.speed, rows[0].speed), `${speeds[0]} to ${speeds.at(-1)}`, main, row.seen[0].device, verdict(row.right)];
    }),
  );
  return rows;
}

/** In a browser of its own, so that nothing is left of the answer before. `held` is the worker that gets a share of a core. */
async function answer({ build, threads, held }) {
  const browser = await launch();
  const ends = [];
  try {
    const chat = await openPage(browser, { site: build.origin, path: "/index.html" });
    await chat.set({ temperature: 0, maxTokens: tokens, ...(threads === undefined ? {} : { threads }) });
    await chat.load();
    if (held !== undefined) {
      const thread = workers(renderer())[held];
      if (thread === undefined) throw new Error(`there is no worker ${held} to hold`);
      ends.push(hold(thread, share, period));
    }
    const client = await chat.page.context().newCDPSession(chat.page);
    await client.send("Performance.enable");
    const taken = async () => {
      const { metrics } = await client.send("Performance.getMetrics");
      const value = (name) => metrics.find((metric) => metric.name === name).value;
      return { busy: value("TaskDuration"), at: value("Timestamp") };
    };
    const before = await taken();
    const text = await chat.ask("Write a very long story about a river and a bridge, with many chapters.");
    const after = await taken();
    const status = await chat.status();
    return {
      text,
      speed: Number(/([\d.]+) tokens\/s/.exec(status)[1]),
      device: /\d+ threads?/.exec(status)[0],
      main: (after.busy - before.busy) / (after.at - before.at),
    };
  } finally {
    for (const end of ends) end();
    await browser.close();
  }
}

// ---- the package

/** Contestants of one browser, each in a page of its own. The first's results are what the others' must be. */
async function contest(rows, patience = PATIENCE) {
  const browser = await launch();
  const open = [];
  for (const row of rows) {
    const page = await browser.newPage();
    page.setDefaultTimeout(patience);
    await page.goto(`${row.build.origin}/figures.html`);
    await page.waitForFunction(() => window.begin);
    const facts = await page.evaluate(([kind, options]) => window.begin(kind, options), [row.kind, row.options]);
    open.push({ ...row, facts, run: (work) => page.evaluate((work) => window.run(work), work), page });
  }
  return { rows: open, browser };
}

/** Each contestant does the work so many times, in turns. Whatever engine, the first time is not counted. */
async function turns(rows, work, { warm = true, repeats = rounds } = {}) {
  const seen = rows.map(() => []);
  for (let round = warm ? -1 : 0; round < repeats; round++) {
    for (const [i, row] of rows.entries()) {
      const figures = await row.run(work);
      if (round >= 0) seen[i].push(figures);
      else row.warm = figures;
      // Threads that spin for work before they sleep are not to be in the next one's way.
      await pause(100);
    }
  }
  return seen;
}

async function long() {
  const [lengths, behind] = options.quick ? [[128], 256] : [[512, 1024], 2048];
  const address = `/gguf/${model(FORMAT)}`;
  const context = behind + 128;
  const wanted = variants().filter(({ threads }) => threads !== undefined);
  const { rows, browser } = await contest(acrossBuilds(wanted).map((row) => ({ ...row, kind: "text", options: { address, threads: row.threads, context } })));
  try {
    const prompt = (tokens) => rows[0].page.evaluate(([address, tokens]) => window.prompt(address, tokens), [address, tokens]);
    const measured = [];
    for (const length of lengths) {
      measured.push({ title: `prefill ${length}`, of: "prefill", seen: await turns(rows, { prompt: await prompt(length), tokens: 8 }, { warm: false }) });
    }
    const text = await prompt(behind);
    // The prompt is read once; later its keys and values are in the cache.
    for (const row of rows) await row.run({ prompt: text, tokens: 2 });
    measured.push({ title: `decode behind ${behind}`, of: "decode", seen: await turns(rows, { prompt: text, tokens: 48, fresh: false }, { warm: false }) });
    const values = speeds(`Long prompts, ${FORMAT}`, rows, measured, (a, b) => a === b);
    several(rows, (row, one) => {
      for (const { title } of measured) goal(`${title}, ${row.name}`, "× one thread", 1.7, values(row, title) / values(one, title));
    });
  } finally {
    await browser.close();
  }
}

/** Attention's share of a long prompt is what a token takes longer there than in a short one, in which it takes next to nothing. */
async function caches() {
  const [short, far] = options.quick ? [64, [64, 256]] : [256, [64, 2048, 4096]];
  const address = `/gguf/${model(FORMAT)}`;
  const types = ["f32", "f16", "q8_0"].map((kvCache) => ({ name: `${kvCache}, 1 thread`, kvCache }));
  const { rows, browser } = await contest(
    acrossBuilds(types).map((row) => ({ ...row, kind: "text", options: { address, threads: 1, context: far.at(-1) + 128, kvCache: row.kvCache } })),
  );
  try {
    const prompt = (tokens) => rows[0].page.evaluate(([address, tokens]) => window.prompt(address, tokens), [address, tokens]);
    const measured = [{ title: `prefill ${short}`, of: "prefill", seen: await turns(rows, { prompt: await prompt(short), tokens: 2 }, { warm: false }) }];
    for (const length of far) {
      const text = await prompt(length);
      const first = await turns(rows, { prompt: text, tokens: 2 }, { warm: false, repeats: 1 });
      if (length === far.at(-1)) measured.push({ title: `prefill ${length}`, of: "prefill", seen: first });
      measured.push({ title: `decode behind ${length}`, of: "decode", seen: await turns(rows, { prompt: text, tokens: 48, fresh: false }, { warm: false }) });
    }
    // Caches round differently, so that texts part after a while.
    const same = (a, b, row) => (row.kvCache === rows[0].kvCache ? a === b : a.slice(0, SAME_CHARACTERS) === b.slice(0, SAME_CHARACTERS));
    const values = speeds(`Types of KV cache, ${FORMAT}`, rows, measured, same);
    for (const row of rows) {
      goal(`decode behind ${far.at(-1)}, ${row.name}`, `× behind ${far[0]}`, 0.55, values(row, `decode behind ${far.at(-1)}`) / values(row, `decode behind ${far[0]}`));
      const rest = values(row, `prefill ${far.at(-1)}`) / values(row, `prefill ${short}`);
      goal(`prefill ${far.at(-1)}, ${row.name}`, `× prefill ${short}, so that attention is 45 %`, 0.55, rest);
      const wide = rows.find(({ build, kvCache }) => build === row.build && kvCache === "f32");
      for (const length of row.kvCache === "q8_0" ? far.slice(1) : []) {
        goal(`decode behind ${length}, ${row.name}`, "× f32", 1, values(row, `decode behind ${length}`) / values(wide, `decode behind ${length}`));
      }
    }
  } finally {
    await browser.close();
  }
}

async function beside() {
  const formats = options.formats.split(",").filter((format) => existsSync(join(options.models, model(format))));
  const [length, tokens] = options.quick ? [32, 8] : [128, 32];
  for (const format of formats) {
    const address = `/gguf/${model(format)}`;
    const counts = variants().filter(({ threads }) => threads !== undefined);
    const own = acrossBuilds(counts).map((row) => ({ ...row, kind: "text" }));
    const others = counts.map((row) => ({ ...row, build: builds[0], kind: "wllama", name: `wllama, ${row.name}` }));
    const { rows, browser } = await contest([...own, ...others].map((row) => ({ ...row, options: { address, threads: row.threads, context: 512 } })));
    try {
      const prompt = await rows[0].page.evaluate(([address, tokens]) => window.prompt(address, tokens), [address, length]);
      const seen = await turns(rows, { prompt, tokens }, { warm: false });
      const same = (a, b, row) => (row.kind === "wllama" ? a.slice(0, SAME_CHARACTERS) === b.slice(0, SAME_CHARACTERS) : a === b);
      const rival = (row) => (row.kind === "text" ? rows.findIndex(({ kind, threads }) => kind === "wllama" && threads === row.threads) : -1);
      const measured = [{ title: `prefill ${length}`, of: "prefill", seen }, { title: "decode", of: "decode", seen }];
      const values = speeds(`Beside wllama, ${format}`, rows, measured, same, { rival, what: "× wllama" });
      for (const row of rows.filter(({ kind }) => kind === "text")) {
        for (const [{ title, of }, least] of [[measured[1], 4], [measured[0], 6]]) {
          goal(`${format}, ${of}, ${row.name}`, "× wllama with the same threads", least, values(row, title) / values(rows[rival(row)], title));
        }
      }
    } finally {
      await browser.close();
    }
  }
}

async function pictures() {
  if (!existsSync(options.taef2)) return say(`Pictures: ${options.taef2} is not there.\n`);
  const counts = variants().filter(({ threads }) => threads !== undefined);
  const own = acrossBuilds(counts).map((row) => ({ ...row, kind: "picture" }));
  const others = options.ort ? counts.map((row) => ({ ...row, build: builds[0], kind: "ort", name: `ONNX Runtime Web, ${row.name}` })) : [];
  const { rows, browser } = await contest([...own, ...others].map((row) => ({ ...row, options: { threads: row.threads } })));
  try {
    for (const row of rows) if (row.threads > 1 && row.kind === "picture" && row.facts.threads === undefined) row.name += " (the package takes no such option: one)";
    const measured = [];
    for (const side of (options.sides ?? (options.quick ? "32" : "32,64")).split(",").map(Number)) {
      measured.push({ title: `${8 * side}², ms`, of: "ms", seen: await turns(rows, { side }) });
    }
    const apart = (a, b) => a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
    const same = (a, b, row) => a.length === b.length && apart(a, b) <= (row.kind === "ort" ? MOST_APART : 0);
    const rival = (row) => (row.kind === "picture" ? rows.findIndex(({ kind, threads }) => kind === "ort" && threads === row.threads) : -1);
    const values = speeds("TAEF2's decoder", rows, measured, same, { rival, what: "× ONNX Runtime Web" });
    for (const { title } of measured) {
      several(rows.filter(({ kind }) => kind === "picture"), (row, one) => goal(`TAEF2, ${title}, ${row.name}`, "× one thread", 1.7, values(one, title) / values(row, title)));
      for (const row of rows.filter((row) => rival(row) >= 0)) {
        goal(`TAEF2, ${title}, ${row.name}`, "× ONNX Runtime Web with the same threads", 2, values(rows[rival(row)], title) / values(row, title));
      }
    }
  } finally {
    await browser.close();
  }
}

/**
 * One table: every figure, how often the first row's, and how often a rival's. Times are better when smaller. Returns the median of a
 * row's figure by title.
 */
function speeds(title, rows, measured, same, { rival = () => -1, what } = {}) {
  say(`### ${title} (load ${loadavg()[0].toFixed(1)})\n`);
  const value = ({ of, seen }, i) => median(seen[i].map((figures) => figures[of]));
  const better = (measure, i, other) => {
    const [own, others] = [value(measure, i), value(measure, other)];
    return measure.of === "ms" ? ratio(others, own) : ratio(own, others);
  };
  const rated = rows.some((row) => rival(row) >= 0);
  table(
    ["", ...measured.flatMap(({ title }) => [title, `× ${rows[0].name}`, ...(rated ? [what] : [])]), "result"],
    rows.map((row, i) => {
      const cells = measured.flatMap((measure) => {
        const beside = rival(row) >= 0 ? better(measure, i, rival(row)) : "";
        return [number(value(measure, i)), better(measure, i, 0), ...(rated ? [beside] : [])];
      });
      const right = measured.every(({ seen }) => seen[i].every(({ result }) => same(result, seen[0][0].result, row)));
      return [row.name, ...cells, verdict(right)];
    }),
  );
  return (row, title) => value(measured.find((measure) => measure.title === title), rows.indexOf(row));
}

async function takes() {
  const rows = acrossBuilds(variants()).map((row) => ({ ...row, seen: [] }));
  const wasm = ({ seen }) => median(seen.map(({ wasmBytes }) => wasmBytes));
  const address = `/gguf/${model(FORMAT)}`;
  let expected;
  for (let round = 0; round < rounds; round++) {
    for (const row of rows) {
      const { rows: [page], browser } = await contest([{ ...row, kind: "text", options: { address, threads: row.threads, context: 1024 } }]);
      try {
        const { result } = await page.run({ prompt: "The river", tokens: 16 });
        expected ??= result;
        row.seen.push({ ...page.facts, ...memory(renderer()), right: result === expected });
      } finally {
        await browser.close();
      }
    }
  }
  say(`### Memory, ${FORMAT}, context of 1024 tokens, MB\n`);
  const megabytes = (bytes) => String(Math.round(bytes / 1e6));
  table(
    ["", "threads", "weights in the file", "wasm, all threads", "page's process, peak", "peak above wasm", "resident after an answer", "text"],
    rows.map(({ name, seen }) => {
      const of = (figure) => median(seen.map(figure));
      return [name, String(seen[0].threads), megabytes(seen[0].weightBytes), ...[(s) => s.wasmBytes, (s) => s.peak, (s) => s.peak - s.wasmBytes, (s) => s.now].map((figure) => megabytes(of(figure))), verdict(seen.every(({ right }) => right))];
    }),
  );
  // A stack and scratch for each helper, but no weights.
  several(rows, (row, one) => goal(`wasm memory, ${row.name}`, "one copy of the weights: one thread's ×", 0.9, wasm(one) / wasm(row)));
}

async function cycles() {
  say(`### ${CYCLES} models loaded and disposed\n`);
  const rows = [];
  for (const { build, name, threads } of acrossBuilds(variants())) {
    const browser = await launch();
    try {
      const page = await browser.newPage();
      await page.goto(`${build.origin}/figures.html`);
      await page.waitForFunction(() => window.begin);
      let [pid, first] = [];
      for (let i = 0; i < CYCLES; i++) {
        await page.evaluate((options) => window.begin("text", options), { address: `/gguf/${model(FORMAT)}`, threads, context: 512 });
        pid ??= renderer();
        await page.evaluate(() => window.run({ prompt: "The river", tokens: 2 }));
        await page.evaluate(() => window.end());
        if (i === 1) {
          await pause(1000);
          first = memory(pid).now;
        }
      }
      await pause(2000);
      rows.push([name, String(workers(pid).length), String(Math.round(first / 1e6)), String(Math.round(memory(pid).now / 1e6))]);
    } finally {
      await browser.close();
    }
  }
  table(["", "workers left", "resident after the second, MB", "after the last, MB"], rows);
}

// ---- words and numbers

/** Every row of more than one thread, or as many as are taken by default, with its build's row of one thread. */
function several(rows, see) {
  for (const row of rows) {
    const one = rows.find(({ build, threads }) => build === row.build && threads === 1);
    if (one && one !== row) see(row, one);
  }
}

function goal(situation, what, least, measured) {
  goals.push([situation, `≥ ${least} ${what}`, measured.toFixed(2), measured >= least ? "met" : "**missed**"]);
}

function acrossBuilds(rows) {
  return builds.flatMap((build) => rows.map((row) => ({ ...row, build, name: builds.length > 1 ? `${build.name}: ${row.name}` : row.name })));
}

function median(figures) {
  const sorted = [...figures].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

function number(value) {
  return value >= 100 ? String(Math.round(value)) : value.toFixed(1);
}

function ratio(a, b) {
  return (a / b).toFixed(2);
}

function verdict(right) {
  if (!right) wrong += 1;
  return right ? "same" : "**differs**";
}

function say(text) {
  console.log(text);
}

function table(head, rows) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  say(`${[line(head), `|${"---|".repeat(head.length)}`, ...rows.map(line)].join("\n")}\n`);
}
