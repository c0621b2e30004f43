// Keeps the conversation and the unsent message over a reload. `sessionStorage` belongs to one tab, so two tabs never
// write over each other. What is stored may have been written by anything on this origin, so it is checked when read.

/** Why an answer is not whole. `reload`: the page went away while the answer came. */
export type Ending = "stopped" | "reload" | "failed" | "length" | "context-full";

/** One message of the conversation; the system prompt is a setting. */
export interface Turn {
  readonly role: "user" | "assistant";
  readonly content: string;
  /** Only of an answer; undefined where the model ended it. */
  readonly ended?: Ending;
}

/** What the page says of an answer that is not whole. */
export const ENDINGS: Readonly<Record<Ending, string>> = {
  stopped: "Stopped",
  reload: "Stopped when the page was reloaded or left",
  failed: "The answer failed",
  length: "Cut off at the longest answer allowed in Settings",
  "context-full": "The context is full: start a new chat, or load with a longer context",
};

const TURNS_KEY = "emberglass.conversation";
const DRAFT_KEY = "emberglass.draft";
/** Most characters that are stored or read. Browsers give a tab about five million. */
const MOST_CHARACTERS = 4_000_000;
/** Most messages that are stored or read: the page draws all of them. */
const MOST_TURNS = 2000;

/** The conversation of this tab; empty where none is stored, or something else. */
export function loadTurns(): Turn[] {
  try {
    const text = sessionStorage.getItem(TURNS_KEY) ?? "[]";
    const stored: unknown = text.length > MOST_CHARACTERS ? [] : JSON.parse(text);
    return Array.isArray(stored) && stored.length <= MOST_TURNS ? sound(stored) : [];
  } catch {
    return [];
  }
}

/** Stores the conversation. Returns what to tell the visitor where that is not possible. What was stored before stays. */
export function saveTurns(turns: readonly Turn[]): string | undefined {
  return store(TURNS_KEY, JSON.stringify(turns), turns.length > MOST_TURNS);
}

export function loadDraft(): string {
  try {
    const text = sessionStorage.getItem(DRAFT_KEY) ?? "";
    return text.length > MOST_CHARACTERS ? "" : text;
  } catch {
    return "";
  }
}

/** A message that is not sent yet. It is not worth a warning where it cannot be stored. */
export function saveDraft(text: string): void {
  store(DRAFT_KEY, text);
}

function store(key: string, text: string, tooMany = false): string | undefined {
  const full = "The conversation is longer than this browser keeps. A reload would lose the latest messages.";
  if (tooMany || text.length > MOST_CHARACTERS) return full;
  try {
    sessionStorage.setItem(key, text);
    return undefined;
  } catch (thrown) {
    const isFull = thrown instanceof DOMException && thrown.name === "QuotaExceededError";
    return isFull ? full : "This browser does not let the page keep the conversation. A reload would lose it.";
  }
}

/** The parts that are turns. An answer without a message before it is none. */
function sound(stored: unknown[]): Turn[] {
  const turns: Turn[] = [];
  for (const value of stored) {
    const { role, content, ended } = (value ?? {}) as Record<string, unknown>;
    if (typeof content !== "string") continue;
    if (role === "user") turns.push({ role, content });
    else if (role === "assistant" && turns.at(-1)?.role === "user") {
      turns.push(isEnding(ended) ? { role, content, ended } : { role, content });
    }
  }
  return turns;
}

function isEnding(value: unknown): value is Ending {
  return typeof value === "string" && Object.hasOwn(ENDINGS, value);
}
