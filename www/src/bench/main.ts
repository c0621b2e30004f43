// The bench page: every engine on the same model and prompts, one after the other, then the tables.
import { measureGpu } from "emberglass";
import { copyText } from "../clipboard.js";
import { el, need } from "../dom.js";
import { readBandwidth } from "./bandwidth.js";
import { check } from "./check.js";
import { type Engine, measure } from "./contest.js";
import { type Adapter, engines, findAdapter } from "./engines.js";
import { DECODED, LENGTHS, LONG, prompts } from "./prompt.js";
import { circumstances, markdown, type Report, tables } from "./report.js";
import { type Request, request } from "./request.js";

declare global {
  interface Window {
    /** For programs that drive the page: there when everything has run. */
    benchResult?: Report & { markdown: string };
    benchError?: string;
  }
}

void begin();

async function begin(): Promise<void> {
  try {
    const asked = await request(location);
    const adapter = await findAdapter();
    const chosen = choose(engines(adapter, asked.onnx), asked.rows);
    need("model").textContent = asked.name;
    const long = need<HTMLInputElement>("long");
    long.checked = asked.long;
    need("long-wish").hidden = !adapter?.software;
    const start = need<HTMLButtonElement>("start");
    start.disabled = false;
    if (!asked.auto) await new Promise((resolve) => start.addEventListener("click", resolve, { once: true }));
    start.disabled = true;
    long.disabled = true;
    await run({ ...asked, long: long.checked }, chosen, adapter);
  } catch (error) {
    fail((error as Error).message);
  }
}

function choose(all: Engine[], rows: string[] | undefined): Engine[] {
  const unknown = rows?.find((id) => !all.some((engine) => engine.id === id));
  if (unknown !== undefined) {
    throw new Error(`There is no row “${unknown}” here: there are ${all.map(({ id }) => id).join(", ")}.`);
  }
  return all.filter(({ id }) => rows?.includes(id) ?? true);
}

function fail(message: string): void {
  need("status").textContent = message;
  need("status").classList.add("failed");
  window.benchError = message;
}

async function run(asked: Request, chosen: Engine[], adapter: Adapter | undefined): Promise<void> {
  const short = LENGTHS.filter((tokens) => tokens < LONG);
  const lengthsOf = ({ slow }: Engine) => (asked.quick || (slow && !asked.long) ? short : LENGTHS);
  const report: Report = {
    model: asked.name,
    browser: navigator.userAgent,
    cores: navigator.hardwareConcurrency,
    isolated: crossOriginIsolated,
    readBandwidth: 0,
    tokens: asked.tokens.decoded,
    passes: asked.passes,
    rows: chosen.map(({ id, label, rival, gpu }) => ({ id, label, gpu, ...(rival === undefined ? {} : { rival }) })),
    ok: false,
  };
  const slow = chosen.some((engine) => engine.slow);
  if (slow) {
    report.leftOut =
      `The GPU is a software adapter: there ${Math.min(asked.tokens.slow, asked.tokens.decoded)} tokens are decoded` +
      (asked.quick || asked.long ? "." : `, and prompts of ${LONG} tokens and more are left out, which take minutes each; long=1 runs them.`);
  }
  if (asked.reading) {
    say("Measuring how fast this machine reads memory…");
    report.readBandwidth = await readBandwidth();
    if (adapter && chosen.some(({ gpu }) => gpu)) {
      say("Measuring the GPU…");
      report.gpu = await measureGpu();
    }
  }
  say("Cutting the prompts…");
  const all = await prompts(asked.model, [...new Set(chosen.flatMap(lengthsOf))]);
  for (const [i, engine] of chosen.entries()) {
    const row = report.rows[i]!;
    say(`${i + 1} of ${chosen.length}: ${engine.label}…`);
    show(report);
    const lengths = lengthsOf(engine);
    const { decoded, others, slow: few } = asked.tokens;
    try {
      row.figures = await measure(engine, {
        model: fresh(asked.model),
        prompts: all.filter(({ tokens }) => lengths.includes(tokens)),
        tokens: { decoded: engine.slow ? Math.min(few, decoded) : decoded, others },
        decoded: DECODED,
        passes: asked.passes,
        twice: !asked.quick,
      });
    } catch (thrown) {
      row.failure = `failed: ${(thrown as Error).message ?? String(thrown)}`;
    }
  }
  check(report.rows, new Map(chosen.map((engine) => [engine.id, lengthsOf(engine)])));
  report.ok = report.rows.every(({ figures, failure }) => figures !== undefined && failure === undefined);
  show(report);
  say(report.ok ? "Done." : "Done; not all rows passed.");
  offer(report);
}

/** An address that is new to the HTTP cache, so that the first load of each row is one. */
function fresh(model: string): string {
  const address = new URL(model);
  address.searchParams.set("bench", crypto.randomUUID());
  return address.href;
}

function say(text: string): void {
  need("status").textContent = text;
}

function show(report: Report): void {
  need("circumstances").replaceChildren(...circumstances(report).map((sentence) => el("div", {}, sentence)));
  need("tables").replaceChildren(
    ...tables(report).map(({ title, note, cells: [titles = [], ...rows] }) =>
      el(
        "section",
        {},
        el("h2", {}, title),
        el(
          "div",
          { class: "scroll" },
          el(
            "table",
            {},
            el("thead", {}, el("tr", {}, ...titles.map((cell) => el("th", { scope: "col" }, cell)))),
            el(
              "tbody",
              {},
              ...rows.map(([label = "", ...rest]) => el("tr", {}, el("th", { scope: "row" }, label), ...rest.map((cell) => el("td", {}, cell)))),
            ),
          ),
        ),
        ...(note === undefined ? [] : [el("p", { class: "note" }, note)]),
      ),
    ),
  );
}

function offer(report: Report): void {
  const text = markdown(report);
  window.benchResult = { ...report, markdown: text };
  const copy = (id: string, content: string) => {
    const button = need<HTMLButtonElement>(id);
    button.hidden = false;
    button.addEventListener("click", () => void copyText(content, button));
  };
  copy("copy-markdown", text);
  copy("copy-json", JSON.stringify(report, null, 1));
}
