// Tables out of what was measured: for the page, as Markdown, as JSON.
import type { GpuRates } from "emberglass";
import type { Figures, Point } from "./contest.js";
import { DECODED, LENGTHS } from "./prompt.js";

export interface Row {
  id: string;
  label: string;
  rival?: string;
  gpu: boolean;
  /** How many characters its text and the first row's begin alike, where they part first. */
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
  gpu?: GpuRates;
  tokens: number;
  passes: number;
  /** What was not measured, and why. */
  leftOut?: string;
  rows: Row[];
  ok: boolean;
}

export interface Table {
  title: string;
  /** How to read it. */
  note?: string;
  /** The titles first. */
  cells: string[][];
}

/** The longest prompt is there for what comes after it. */
const PREFILLED = LENGTHS.slice(0, -1);

const number = (value: number | undefined, digits = 1) => (value === undefined || !Number.isFinite(value) ? "–" : value.toFixed(digits));
/** Three digits, as far as that needs decimals. */
const rate = (value: number | undefined) => number(value, !value || value >= 100 ? 0 : value >= 10 ? 1 : 2);
const mega = (bytes: number | undefined, digits = 0) => (bytes ? number(bytes / 1e6, digits) : "–");
const share = (part: number) => (Number.isFinite(part) ? ` (${number(part * 100, part < 0.095 ? 1 : 0)} %)` : "");

const at = (row: Row | undefined, tokens: number): Point | undefined =>
  row?.figures?.points.find(({ promptTokens }) => promptTokens === tokens);

/** A figure, and how often it is the rival's. */
function beside(row: Row, { rows }: Report, figure: (row: Row | undefined) => number | undefined): string {
  const own = figure(row);
  const other = row.rival === undefined ? undefined : figure(rows.find(({ id }) => id === row.rival));
  return rate(own) + (own && other ? ` (${number(own / other)}×)` : "");
}

function check({ figures, failure, alike }: Row): string {
  if (failure !== undefined || !figures) return failure ?? "…";
  return alike === undefined ? "ok" : `ok, text parts after ${alike} characters`;
}

function summary(report: Report): Table {
  return {
    title: "In short",
    note: "“again” is a second load, when the browser's HTTP cache may have the file. “runtime” is the engine's own code as it travels.",
    cells: [
      ["", "first token after 32, ms", "load, s", "again, s", "wasm heap, MB", "GPU, MB", "runtime, MB gzip", "check"],
      ...report.rows.map((row) => [
        row.label,
        number(at(row, 32)?.firstTokenMs, 0),
        number(row.figures?.loadSeconds),
        number(row.figures?.loadAgainSeconds),
        mega(row.figures?.wasmBytes),
        mega(row.figures?.gpuBytes),
        mega(row.figures?.runtimeBytes, 2),
        check(row),
      ]),
    ],
  };
}

function speeds(report: Report, title: string, lengths: number[], figure: (point: Point | undefined) => number | undefined): Table {
  const measured = lengths.filter((tokens) => report.rows.some((row) => figure(at(row, tokens)) !== undefined));
  return {
    title,
    cells: [
      ["", ...measured.map(String)],
      ...report.rows
        .filter(({ figures }) => figures)
        .map((row) => [row.label, ...measured.map((tokens) => beside(row, report, (other) => figure(at(other, tokens))))]),
    ],
  };
}

/** GB/s of weights while decoding, and the share of what the memory gives: read by one thread, or copied by the GPU. */
function weights(row: Row, { readBandwidth, gpu }: Report, point: Point): string {
  if (!point.traffic?.weightBytes || !point.decodeTokensPerSecond) return "–";
  const bytes = point.traffic.weightBytes * point.decodeTokensPerSecond;
  const ceiling = row.gpu ? gpu?.copyBytesPerSecond : readBandwidth * 1e9;
  return rate(bytes / 1e9) + (ceiling ? share(bytes / ceiling) : "");
}

/** GFLOP/s of the layers at the best of the prompts, and the share of the GPU's fused multiply-adds. */
function arithmetic(row: Row, { gpu }: Report): string {
  const { layerParameters, points } = row.figures!;
  const best = Math.max(...points.map(({ prefillTokensPerSecond }) => prefillTokensPerSecond));
  if (!layerParameters) return "–";
  return rate((2 * layerParameters * best) / 1e9) + (row.gpu && gpu ? share((layerParameters * best) / gpu.fmaPerSecond) : "");
}

function costs(report: Report): Table {
  const rows = report.rows.flatMap((row) => {
    const point = at(row, DECODED[0]!);
    return point?.traffic ? [[row, point] as const] : [];
  });
  return {
    title: "Cost",
    note:
      "For each token decoded after 32. In brackets: weights, of what one thread reads (CPU) or a copy reads and writes (GPU); " +
      "prefill, the layers' multiplications at the best of the prompts, of the GPU's fused multiply-adds.",
    cells: [
      ["", "dispatches", "submits", "readbacks", "weights, MB", "weights, GB/s", "prefill, GFLOP/s"],
      ...rows.map(([row, point]) => {
        const { dispatches, submits, readbacks, weightBytes } = point.traffic!;
        const counts = row.gpu ? [dispatches, submits, readbacks].map((count) => number(count, count % 1 ? 1 : 0)) : ["–", "–", "–"];
        return [row.label, ...counts, mega(weightBytes), weights(row, report, point), arithmetic(row, report)];
      }),
    ],
  };
}

export function tables(report: Report): Table[] {
  return [
    summary(report),
    speeds(report, "Prefill, tokens a second, for prompts of", PREFILLED, (point) => point?.prefillTokensPerSecond),
    speeds(report, "Decode, tokens a second, after prompts of", DECODED, (point) => point?.decodeTokensPerSecond),
    costs(report),
  ];
}

/** Where and how it was measured, a sentence each. */
export function circumstances({ model, tokens, passes, readBandwidth, gpu, cores, isolated, browser, leftOut }: Report): string[] {
  return [
    `${model}; ${tokens} tokens decoded, greedy; median of at most ${passes}; one engine after the other.`,
    `${cores} cores${isolated ? "" : ", page not isolated: one thread"}${readBandwidth ? `; one thread reads ${number(readBandwidth)} GB/s` : ""}.`,
    ...(gpu
      ? [
          `GPU: ${gpu.adapter}${gpu.isFallbackAdapter ? ", software" : ""}; copies ${rate(gpu.copyBytesPerSecond / 1e9)} GB/s, ` +
            `${rate((2 * gpu.fmaPerSecond) / 1e9)} GFLOP/s of fused multiply-adds.`,
        ]
      : []),
    ...(leftOut === undefined ? [] : [leftOut]),
    browser,
  ];
}

export function markdown(report: Report): string {
  const line = (row: string[]) => `| ${row.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [
    circumstances(report).join("\n"),
    ...tables(report).flatMap(({ title, note, cells: [titles = [], ...rows] }) => [
      `**${title}**${note === undefined ? "" : `\n${note}`}`,
      [line(titles), line(titles.map(() => "---")), ...rows.map(line)].join("\n"),
    ]),
  ].join("\n\n");
}
