// One download for all tabs. The tab that holds the model's lock downloads and writes; the others hear what it has stored. When it
// ends, however that comes, the browser gives the lock to the next.
import type { FileVersion } from "./answer-head.js";
import type { ChunkName } from "./chunk-store.js";
import { downloadLock } from "./locks.js";

/** What tabs tell each other of a model. */
export type TabMessage =
  /** Asks the downloading tab for its state. */
  | { kind: "hello" }
  /** What is stored belongs to these versions of the files; null for one that nothing is known of yet. */
  | { kind: "state"; files: (FileVersion | null)[] }
  | { kind: "stored"; chunk: ChunkName }
  /** Bytes that came from the network so far: the tab is alive. */
  | { kind: "bytes"; loaded: number }
  /** The tab goes on without storing. */
  | { kind: "stopped" }
  /** The file changed on the server: what is stored was deleted. */
  | { kind: "changed" };

/** What of the browser tabs need; without locks each tab is alone. */
export interface TabsHost {
  locks: Pick<LockManager, "request"> | undefined;
  channel: (name: string) => Pick<BroadcastChannel, "postMessage" | "close" | "onmessage">;
}

export function tabsHere(): TabsHost {
  return { locks: globalThis.navigator?.locks, channel: (name) => new BroadcastChannel(name) };
}

/** `leads` downloads and writes; `follows` waits for the one that does; `alone` downloads by itself and writes nothing. */
export type Role = "none" | "leads" | "follows" | "alone";

export class Tabs {
  role: Role = "none";
  readonly #id: string;
  readonly #host: TabsHost;
  readonly #onMessage: (message: TabMessage) => void;
  readonly #onLead: () => Promise<boolean>;
  readonly #end = new AbortController();
  #release: () => void = () => {};
  #channel: ReturnType<TabsHost["channel"]> | undefined;
  #joined: Promise<void> | undefined;
  #waiting = new Set<() => void>();

  /** `onLead` runs when the lock comes from another tab, before this one is said to lead, and says whether it does. */
  constructor(id: string, host: TabsHost, onMessage: (message: TabMessage) => void, onLead: () => Promise<boolean>) {
    this.#id = id;
    this.#host = host;
    this.#onMessage = onMessage;
    this.#onLead = onLead;
  }

  /** Takes a role; the same for every call. */
  join(): Promise<void> {
    return (this.#joined ??= this.#join());
  }

  async #join(): Promise<void> {
    const name = downloadLock(this.#id);
    this.#channel = this.#host.channel(name);
    this.#channel.onmessage = ({ data }) => this.#hear(data as unknown);
    const { locks } = this.#host;
    if (!locks) {
      this.role = "leads";
      return;
    }
    const released = new Promise<void>((resolve) => (this.#release = resolve));
    const isFree = await new Promise<boolean>((resolve) => {
      const hold = (lock: Lock | null) => {
        resolve(lock !== null);
        return lock === null ? undefined : released;
      };
      // Refused in documents that have no storage either.
      locks.request(name, { ifAvailable: true }, hold).catch(() => resolve(true));
    });
    this.role = isFree ? "leads" : "follows";
    if (isFree) return;
    const lead = async () => {
      if (!(await this.#onLead())) return undefined;
      this.role = "leads";
      this.#wake();
      return released;
    };
    // Rejects when this load ends first.
    locks.request(name, { signal: this.#end.signal }, lead).catch(() => {});
  }

  tell(message: TabMessage): void {
    this.#channel?.postMessage(message);
  }

  #hear(data: unknown): void {
    const message = readMessage(data);
    if (!message) return;
    this.#onMessage(message);
    if (message.kind !== "hello") this.#wake();
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** This tab goes on by itself. It leads all the same once the lock is free. */
  goAlone(): void {
    if (this.role !== "follows") return;
    this.role = "alone";
    this.#wake();
  }

  /** Waits until another tab tells something, or this one's role changes: true; or nothing does for so long: false. */
  async change(limitMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (heard: boolean) => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve(heard);
      };
      const wake = () => end(true);
      const timer = setTimeout(() => end(false), limitMs);
      this.#waiting.add(wake);
    });
  }

  /** The lock is not waited for any more, and what other tabs tell is not heard. */
  stopListening(): void {
    this.#end.abort();
    if (this.#channel) this.#channel.onmessage = null;
    this.#wake();
  }

  /** Gives the lock to the next. */
  leave(): void {
    this.#channel?.close();
    this.#release();
  }
}

/** Any script of this site can send anything. */
function readMessage(data: unknown): TabMessage | undefined {
  if (typeof data !== "object" || data === null) return undefined;
  const { kind, chunk, files } = data as { kind?: unknown; chunk?: Partial<ChunkName>; files?: unknown };
  switch (kind) {
    case "hello":
    case "bytes":
    case "stopped":
    case "changed":
      return data as TabMessage;
    case "stored":
      return Number.isSafeInteger(chunk?.file) && Number.isSafeInteger(chunk?.index) && /^[0-9a-f]{64}$/.test(String(chunk?.sha256))
        ? (data as TabMessage)
        : undefined;
    case "state":
      return Array.isArray(files) && files.every(isVersion) ? (data as TabMessage) : undefined;
    default:
      return undefined;
  }
}

function isVersion(value: unknown): boolean {
  if (value === null) return true;
  if (typeof value !== "object") return false;
  const { bytes, etag, lastModified } = value as Record<string, unknown>;
  const isText = (text: unknown) => text === undefined || typeof text === "string";
  return (bytes === undefined || (Number.isSafeInteger(bytes) && (bytes as number) >= 0)) && isText(etag) && isText(lastModified);
}
