// SHA-256 of a whole file whose bytes come piece by piece. Browsers digest only what lies in memory as a whole, so this is a
// library's; it costs about as much time as it takes to read the file from a disk, and is made once for each file.
import { createSHA256 } from "hash-wasm";

export class WholeDigest {
  readonly #hasher: Awaited<ReturnType<typeof createSHA256>>;
  #position = 0;

  private constructor(hasher: Awaited<ReturnType<typeof createSHA256>>) {
    this.#hasher = hasher;
  }

  static async make(): Promise<WholeDigest> {
    return new WholeDigest(await createSHA256());
  }

  /** All bytes before this one are in the digest. */
  get position(): number {
    return this.#position;
  }

  /** Takes what follows on the bytes so far; leaves out what is in already, and what is further on. */
  take(offset: number, bytes: Uint8Array): void {
    const from = this.#position - offset;
    if (from < 0 || from >= bytes.length) return;
    this.#hasher.update(bytes.subarray(from));
    this.#position = offset + bytes.length;
  }

  /** As 64 hexadecimal digits. Nothing can be taken afterwards. */
  end(): string {
    return this.#hasher.digest("hex");
  }
}
