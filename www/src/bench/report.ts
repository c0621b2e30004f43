// One table out of what was measured: for the page, as Markdown, as JSON.
import type { Figures } from "./engines.js";

export interface Row {
  id: string;
  label: string;
  peer: boolean;
  threads: number;
  /** How many characters its text and the first row's begin alike, where they part. */
  alike?: number;
  /** None while it waits, or when it failed. */
  figures?: Figures;
  /** Why there are no figures, or why they do not count. */
  failure?: string;
}

export interface Report {
  model: string;
  browser: string;
  cores: number;
  isolated: boolean;
  /** GB/s that one thread reads. */
  readBandwidth: number;
  tokens: number;
  passes: number;
  rows: Row[];
  ok: boolean;
}

type Cell = (row: Row, report: Report) => string;

const number = (value: number | undefined, digits = 1) => (value === undefined || !Number.isFinite(value) ? "–" : value.toFixed(digits));
const mega = (bytes: number | undefined) => (bytes ? String(Math.round(bytes / 1e6)) : "–");

/** GB/s of weights while decoding. */
export function weightRate({ figures }: Row): number | undefined {
  if (!figures?.weightBytesPerToken) return undefined;
  return (figures.weightBytesPerToken * figures.decodeTokensPerSecond) / 1e9;
}

/** How often a row's figure is that of llama.cpp with as many threads. */
function times(row: Row, { rows }: Report, figure: "prefillTokensPerSecond" | "decodeTokensPerSecond"): string {
  const peer = rows.find((other) => other.peer && other.threads === row.threads)?.figures;
  if (row.peer || !peer || !row.figures) return "";
  return ` (${(row.figures[figure] / peer[figure]).toFixed(1)}×)`;
}

const COLUMNS: [title: string, cell: Cell][] = [
  ["", ({ label }) => label],
  ["load s", ({ figures }) => number(figures?.loadSeconds)],
  ["prefill tok/s", (row, report) => number(row.figures?.prefillTokensPerSecond) + times(row, report, "prefillTokensPerSecond")],
  ["decode tok/s", (row, report) => number(row.figures?.decodeTokensPerSecond) + times(row, report, "decodeTokensPerSecond")],
  ["first token ms", ({ figures }) => number(figures?.firstTokenMs, 0)],
  ["wasm MB", ({ figures }) => mega(figures?.wasmBytes)],
  ["GPU MB", ({ figures }) => mega(figures?.gpuBytes)],
  ["weights MB/token", ({ figures }) => mega(figures?.weightBytesPerToken)],
  ["GB/s (share of reading)", (row, { readBandwidth }) => {
    const rate = weightRate(row);
    return rate === undefined ? "–" : `${rate.toFixed(1)} (${Math.round((rate / readBandwidth) * 100)} %)`;
  }],
  ["dispatches / submits / readbacks a token", ({ figures }) =>
    figures?.dispatchesPerToken
      ? [figures.dispatchesPerToken, figures.submitsPerToken, figures.readbacksPerToken].map((n) => number(n, 0)).join("/")
      : "–"],
  ["check", ({ figures, failure, alike }) => {
    if (failure !== undefined || !figures) return failure ?? "…";
    return `ok${figures.passes === 1 ? ", 1 pass" : ""}${alike === undefined ? "" : `, text parts after ${alike} characters`}`;
  }],
];

/** Cells as text, the titles first. */
export function cells(report: Report): string[][] {
  return [COLUMNS.map(([title]) => title), ...report.rows.map((row) => COLUMNS.map(([, cell]) => cell(row, report)))];
}

export function markdown(report: Report): string {
  const [titles = [], ...rows] = cells(report).map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const line = (row: string[]) => `| ${row.join(" | ")} |`;
  return [
    `${report.model}: ${report.tokens} tokens after a prompt of 128, median of ${report.passes}; one thread reads ${report.readBandwidth.toFixed(1)} GB/s; ${report.cores} cores; ${report.browser}`,
    "",
    line(titles),
    line(titles.map(() => "---")),
    ...rows.map(line),
  ].join("\n");
}
