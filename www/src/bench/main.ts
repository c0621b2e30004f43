// The bench page: every engine on the same model and prompt, one after the other, then one table.
import { el, need } from "../dom.js";
import { readBandwidth } from "./bandwidth.js";
import { engines, type Figures } from "./engines.js";
import { cells, markdown, type Report, type Row } from "./report.js";
import { type Request, request } from "./request.js";

declare global {
  interface Window {
    /** For programs that drive the page: there when everything has run. */
    benchResult?: Report & { markdown: string };
    benchError?: string;
  }
}

/** Engines may round differently and part at a near tie, but they begin alike. */
const SAME_CHARACTERS = 8;
const PROMPT_TOKENS = 128;

void begin();

async function begin(): Promise<void> {
  const asked = await request(location).catch((error: unknown) => String((error as Error).message));
  if (typeof asked === "string") {
    fail(asked);
    return;
  }
  need("model").textContent = asked.name;
  const start = need<HTMLButtonElement>("start");
  start.disabled = false;
  if (asked.auto) await run(asked);
  else start.addEventListener("click", () => void run(asked), { once: true });
}

function fail(message: string): void {
  need("status").textContent = message;
  need("status").classList.add("failed");
  window.benchError = message;
}

async function run(asked: Request): Promise<void> {
  need<HTMLButtonElement>("start").disabled = true;
  const all = await engines(asked.onnx);
  const unknown = asked.rows?.find((id) => !all.some((engine) => engine.id === id));
  if (unknown !== undefined) {
    fail(`There is no row “${unknown}” here: there are ${all.map(({ id }) => id).join(", ")}.`);
    return;
  }
  const chosen = all.filter(({ id }) => asked.rows?.includes(id) ?? true);
  const report: Report = {
    model: asked.name,
    browser: navigator.userAgent,
    cores: navigator.hardwareConcurrency,
    isolated: crossOriginIsolated,
    readBandwidth: 0,
    tokens: asked.tokens,
    passes: asked.passes,
    rows: chosen.map(({ id, label, peer, threads }) => ({ id, label, peer, threads })),
    ok: false,
  };
  if (asked.reading) {
    say("Measuring how fast this machine reads memory…");
    report.readBandwidth = await readBandwidth();
  }
  for (const [i, engine] of chosen.entries()) {
    const row = report.rows[i]!;
    say(`${i + 1} of ${chosen.length}: ${engine.label}…`);
    show(report);
    try {
      row.figures = await engine.run({ model: asked.model, tokens: asked.tokens, passes: asked.passes });
    } catch (thrown) {
      row.failure = `failed: ${(thrown as Error).message ?? String(thrown)}`;
    }
  }
  check(report.rows);
  report.ok = report.rows.every(({ figures, failure }) => figures !== undefined && failure === undefined);
  show(report);
  say(report.ok ? "Done." : "Done; not all rows passed.");
  offer(report);
}

/** Figures of a row that computed something else do not count. */
function check(rows: Row[]): void {
  const reference = rows.find(({ figures }) => figures)?.figures;
  for (const row of rows) {
    if (!row.figures || !reference) continue;
    const wrong = difference(row, row.figures, reference);
    if (wrong !== undefined) {
      row.failure = wrong;
      delete row.figures;
    }
  }
}

function difference(row: Row, figures: Figures, reference: Figures): string | undefined {
  if (figures.promptTokens !== PROMPT_TOKENS) return `failed: the prompt had ${figures.promptTokens} tokens`;
  const alike = sameCharacters(figures.text, reference.text);
  if (alike < SAME_CHARACTERS) {
    return `failed: its text begins “${figures.text.slice(0, 20)}”, the first row's “${reference.text.slice(0, 20)}”`;
  }
  if (figures.text !== reference.text) row.alike = alike;
  return undefined;
}

function sameCharacters(a: string, b: string): number {
  let same = 0;
  while (same < a.length && a[same] === b[same]) same++;
  return same;
}

function say(text: string): void {
  need("status").textContent = text;
}

function show(report: Report): void {
  const [titles = [], ...rows] = cells(report);
  need("table").replaceChildren(
    el("thead", {}, el("tr", {}, ...titles.map((title) => el("th", { scope: "col" }, title)))),
    el("tbody", {}, ...rows.map(([label = "", ...rest]) => el("tr", {}, el("th", { scope: "row" }, label), ...rest.map((text) => el("td", {}, text))))),
  );
}

function offer(report: Report): void {
  const text = markdown(report);
  window.benchResult = { ...report, markdown: text };
  const copy = (id: string, content: string) => {
    const button = need<HTMLButtonElement>(id);
    button.hidden = false;
    button.addEventListener("click", () => {
      void navigator.clipboard.writeText(content).then(
        () => say("Copied."),
        () => say("The browser did not allow copying."),
      );
    });
  };
  copy("copy-markdown", text);
  copy("copy-json", JSON.stringify(report, null, 1));
}
