// What the visitor has set. A sampling option that is left empty takes the model's default.
import type { DeviceChoice, GenerateOptions, ModelInfo, SamplingOrigin } from "emberglass";
import { isDevice } from "./device-choice.js";

/** Every numeric setting, in the order the panel shows them. Those without a placeholder have a default of the model. */
export const NUMBER_FIELDS = [
  { key: "temperature", label: "Temperature", hint: "0 always takes the likeliest token", min: 0, max: 5, step: 0.05 },
  { key: "topK", label: "Top-k", hint: "Keep the k likeliest; 0 keeps all", min: 0, max: 1000, step: 1 },
  { key: "topP", label: "Top-p", hint: "Keep this share of probability", min: 0, max: 1, step: 0.01 },
  { key: "minP", label: "Min-p", hint: "Drop below this share of the best", min: 0, max: 1, step: 0.01 },
  { key: "repetitionPenalty", label: "Repetition penalty", hint: "1 is off", min: 0.1, max: 4, step: 0.05 },
  { key: "presencePenalty", label: "Presence penalty", hint: "0 is off", min: -2, max: 2, step: 0.1 },
  { key: "frequencyPenalty", label: "Frequency penalty", hint: "0 is off", min: -2, max: 2, step: 0.1 },
  { key: "maxTokens", label: "Longest answer", hint: "Tokens", placeholder: "1024", min: 1, max: 131072, step: 1 },
  { key: "seed", label: "Seed", hint: "The same seed, the same text", placeholder: "random", min: 0, max: 4294967295, step: 1 },
] as const;

export type NumberKey = (typeof NUMBER_FIELDS)[number]["key"];

export type Settings = { [K in NumberKey]?: number } & {
  system: string;
  /** One stop string per line; `\n` stands for a line break. */
  stop: string;
  // These take effect when a model is loaded.
  /** Tokens. */
  contextLength?: number;
  device?: DeviceChoice;
  /** Instead of `device`, as the page's address asks; not stored. */
  deviceThisVisit?: DeviceChoice;
  /** On the CPU. */
  threads?: number;
};

const ORIGINS: Record<SamplingOrigin, string> = {
  file: "from the model’s file",
  option: "recommended for this model",
  engine: "Emberglass’s own",
};

/** The default of a sampling option and where it comes from; undefined for other settings. */
export function modelDefault(key: string, model: Pick<ModelInfo, "sampling"> | undefined): { value: string; origin: string } | undefined {
  const sampling: Partial<Record<string, { value: number; from: SamplingOrigin }>> = model?.sampling ?? {};
  const found = sampling[key];
  return found && { value: String(found.value), origin: ORIGINS[found.from] };
}

const STORAGE_KEY = "emberglass.settings";
/** Small models can ramble on for ever. */
const DEFAULT_MAX_TOKENS = 1024;

export function loadSettings(): Settings {
  const settings: Settings = { system: "", stop: "" };
  let stored: Record<string, unknown> = {};
  try {
    stored = JSON.parse(localStorage.getItem(STORAGE_KEY) ?? "{}") as Record<string, unknown>;
  } catch {
    // Storage may be forbidden or hold something else: the defaults do.
  }
  for (const key of ["system", "stop"] as const) {
    if (typeof stored?.[key] === "string") settings[key] = stored[key];
  }
  for (const key of [...NUMBER_FIELDS.map((field) => field.key), "contextLength", "threads"] as const) {
    const value = stored?.[key];
    if (typeof value === "number" && Number.isFinite(value)) settings[key] = value;
  }
  if (isDevice(stored?.["device"])) settings.device = stored["device"];
  return settings;
}

export function saveSettings({ deviceThisVisit: _, ...settings }: Settings): void {
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify(settings));
  } catch {
    // Private windows may refuse: the settings then last as long as the page.
  }
}

export function generateOptions(settings: Settings): GenerateOptions {
  const { system: _system, contextLength: _c, device: _d, deviceThisVisit: _v, threads: _t, stop, ...numbers } = settings;
  const stops = stop
    .split("\n")
    .map((line) => line.replaceAll("\\n", "\n"))
    .filter((line) => line !== "");
  return { maxTokens: DEFAULT_MAX_TOKENS, ...numbers, ...(stops.length > 0 ? { stop: stops } : {}) };
}
