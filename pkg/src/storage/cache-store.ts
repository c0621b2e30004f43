// Models in the Cache API: one cache, whose entries have addresses that no server answers.
import { CHUNK_BYTES, type ChunkName, type ChunkStore, type ModelFolder, type ModelRecord } from "./chunk-store.js";
import { whileFilesRest, whileFilesStay } from "./locks.js";
import { chunkOfName, isModelId, nameOfChunk, RECORD_NAME } from "./names.js";
import { MOST_RECORD_BYTES, readRecordText, writeRecordText } from "./record.js";

const CACHE = "emberglass-models";
const PATH = "/.emberglass/";
const PROBE = "probe";

/** @throws where the browser has no Cache API, as on pages without https, or refuses it. */
export async function openCache(): Promise<ChunkStore> {
  const cache = await caches.open(CACHE);
  await probe(cache);
  return new CacheStore(cache);
}

/** Writes and reads an entry. Where only room is missing, what is stored can still be read. */
async function probe(cache: Cache): Promise<void> {
  const address = addressOf(PROBE);
  try {
    await cache.put(address, answerOf(Uint8Array.of(1)));
    // Another tab that tries it at the same time may have deleted it.
    const bytes = await (await cache.match(address))?.arrayBuffer();
    if (bytes && bytes.byteLength !== 1) throw new Error("an entry that was written has another length");
    await cache.delete(address);
  } catch (thrown) {
    if (!(thrown instanceof DOMException && thrown.name === "QuotaExceededError")) throw thrown;
  }
}

class CacheStore implements ChunkStore {
  readonly kind = "cache";
  readonly #cache: Cache;

  constructor(cache: Cache) {
    this.#cache = cache;
  }

  async ids(): Promise<string[]> {
    const ids = new Set<string>();
    for (const path of await pathsOf(this.#cache)) {
      const [id = "", name] = path.split("/");
      if (name !== undefined && isModelId(id)) ids.add(id);
    }
    return [...ids];
  }

  folder(id: string): ModelFolder {
    return new CacheFolder(id, this.#cache);
  }

  async delete(id: string): Promise<void> {
    if (!isModelId(id)) return;
    await whileFilesRest(id, async () => {
      // The record first: without it, what is left by a tab that is closed now is no model.
      await this.#cache.delete(addressOf(`${id}/${RECORD_NAME}`));
      const paths = (await pathsOf(this.#cache)).filter((path) => path.startsWith(`${id}/`));
      for (const path of paths) await this.#cache.delete(addressOf(path));
    });
  }
}

class CacheFolder implements ModelFolder {
  readonly id: string;
  readonly #cache: Cache;
  /** Once there was a record, its absence says that the model was deleted. */
  #hadRecord = false;

  constructor(id: string, cache: Cache) {
    this.id = id;
    this.#cache = cache;
  }

  async readRecord(): Promise<ModelRecord | undefined> {
    const bytes = await this.#bytes(RECORD_NAME, MOST_RECORD_BYTES);
    if (bytes) this.#hadRecord = true;
    return bytes && readRecordText(new TextDecoder().decode(bytes));
  }

  async writeRecord(record: ModelRecord): Promise<void> {
    await this.#put(RECORD_NAME, new TextEncoder().encode(writeRecordText(record)));
    this.#hadRecord = true;
  }

  async chunks(): Promise<(ChunkName & { bytes: number })[]> {
    const prefix = `${this.id}/`;
    const paths = (await pathsOf(this.#cache)).filter((path) => path.startsWith(prefix));
    const sized = await Promise.all(
      paths.map(async (path) => {
        const chunk = chunkOfName(this.id, path.slice(prefix.length));
        const answer = chunk && (await found(this.#cache.match(addressOf(path))));
        return answer && { ...chunk, bytes: lengthOf(answer) };
      }),
    );
    return sized.filter((chunk) => chunk !== undefined);
  }

  read(chunk: ChunkName): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return this.#bytes(nameOfChunk(this.id, chunk), CHUNK_BYTES);
  }

  async blob(chunk: ChunkName): Promise<Blob | undefined> {
    const answer = await this.#match(nameOfChunk(this.id, chunk), CHUNK_BYTES);
    return answer && found(answer.blob());
  }

  async write(chunk: ChunkName, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.#put(nameOfChunk(this.id, chunk), bytes);
  }

  async remove(chunk: ChunkName, when?: (bytes: Uint8Array<ArrayBuffer>) => Promise<boolean>): Promise<void> {
    await whileFilesRest(this.id, async () => {
      const bytes = when && (await this.read(chunk));
      if (when && bytes && !(await when(bytes))) return;
      await found(this.#cache.delete(this.#address(nameOfChunk(this.id, chunk))));
    });
  }

  async #put(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (!isModelId(this.id)) throw new DOMException(`${this.id} is no id of a model`, "NotFoundError");
    await whileFilesStay(this.id, async () => {
      if (this.#hadRecord && !(await this.#cache.match(this.#address(RECORD_NAME)))) {
        throw new DOMException("the model was deleted", "NotFoundError");
      }
      await this.#cache.put(this.#address(name), answerOf(bytes));
    });
  }

  async #bytes(name: string, mostBytes: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const answer = await this.#match(name, mostBytes);
    const buffer = answer && (await found(answer.arrayBuffer()));
    return buffer && new Uint8Array(buffer);
  }

  async #match(name: string, mostBytes: number): Promise<Response | undefined> {
    const answer = await found(this.#cache.match(this.#address(name)));
    return answer && lengthOf(answer) <= mostBytes ? answer : undefined;
  }

  #address(name: string): string {
    return addressOf(`${this.id}/${name}`);
  }
}

/** The origin of the page: a worker out of a text has no address of its own. */
function addressOf(path: string): string {
  return `${self.origin}${PATH}${path}`;
}

/** What comes behind {@link PATH} in the addresses of the entries. */
async function pathsOf(cache: Cache): Promise<string[]> {
  const prefix = addressOf("");
  const keys = (await found(cache.keys())) ?? [];
  return keys.filter(({ url }) => url.startsWith(prefix)).map(({ url }) => url.slice(prefix.length));
}

/** The length is noted: the answer of a cache does not tell it before it is read. */
function answerOf(bytes: Uint8Array<ArrayBuffer>): Response {
  return new Response(bytes, { headers: { "content-type": "application/octet-stream", "content-length": String(bytes.length) } });
}

/** As noted; 0 for an entry that is not ours. */
function lengthOf(answer: Response): number {
  const noted = answer.headers.get("content-length") ?? "";
  return /^[0-9]{1,15}$/.test(noted) ? Number(noted) : 0;
}

/** Undefined for what cannot be read: it cannot be used. */
async function found<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (thrown) {
    // A body that breaks off is a TypeError.
    if (thrown instanceof DOMException || thrown instanceof TypeError) return undefined;
    throw thrown;
  }
}
