// The one model of the page: loads, cancels, replaces and lets go of it.
import { type DeviceChoice, type LoadOptions, type LoadProgress, loadTextModel, type ModelSource, readModelHeader, type TextModel } from "emberglass";
import { coded } from "./coded.js";

/** `name`: the file's, or that of the offer. */
export interface ModelRequest extends Pick<LoadOptions, "sha256" | "accessToken" | "storage"> {
  source: ModelSource;
  name: string;
  /** The model's defaults of the sampling options, where somebody has chosen them. */
  sampling?: LoadOptions["sampling"];
  /** So many of its first bytes are on this device; `Infinity` for all. */
  hereBytes?: number;
  /** Instead of the device that is set: for going on after another has failed. */
  device?: DeviceChoice;
}

export interface LoadSteps {
  onProgress: (progress: LoadProgress) => void;
  /** The new file's header is good, and the model that is there goes now. */
  onReplace: () => Promise<void>;
}

export class ModelSession {
  #model: TextModel | undefined;
  #last: ModelRequest | undefined;
  #loading: AbortController | undefined;

  get model(): TextModel | undefined {
    return this.#model;
  }

  /** What was loaded last, or tried. */
  get last(): ModelRequest | undefined {
    return this.#last;
  }

  get isLoading(): boolean {
    return this.#loading !== undefined;
  }

  /**
   * Loads. Two models may not fit into memory, so the one that is there goes first, but not before the new file's header
   * is known to be that of a model that runs. Undefined if it was cancelled.
   *
   * @throws EmberglassError of any code but `aborted`.
   */
  async load(
    request: ModelRequest,
    options: Pick<LoadOptions, "contextLength" | "device" | "threads">,
    { onProgress, onReplace }: LoadSteps,
  ): Promise<TextModel | undefined> {
    this.cancel();
    const loading = new AbortController();
    this.#loading = loading;
    const { signal } = loading;
    const { source, sha256, accessToken, storage, sampling, device = options.device } = request;
    const files = { sha256, accessToken, storage };
    try {
      if (this.#model) await readModelHeader(source, { signal, onProgress, ...files, contextLength: options.contextLength });
      signal.throwIfAborted();
      await onReplace();
      this.#last = request;
      await this.release();
      const model = await loadTextModel(source, { onProgress, signal, ...options, ...files, sampling, device });
      this.#model = model;
      return model;
    } catch (thrown) {
      if (signal.aborted) return undefined;
      throw coded(thrown);
    } finally {
      if (this.#loading === loading) this.#loading = undefined;
    }
  }

  cancel(): void {
    this.#loading?.abort();
  }

  /** Frees the memory. */
  async release(): Promise<void> {
    const model = this.#model;
    this.#model = undefined;
    await model?.dispose();
  }
}
