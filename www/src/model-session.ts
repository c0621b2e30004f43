// The one model of the page: loads, cancels, replaces and lets go of it.
import { type DeviceChoice, type LoadOptions, type LoadProgress, loadTextModel, type ModelSource, type TextModel } from "emberglass";
import { coded } from "./coded.js";

export interface ModelRequest {
  source: ModelSource;
  name: string;
  /** The model's defaults of the sampling options, where somebody has chosen them. */
  sampling?: LoadOptions["sampling"];
  /** Instead of the device that is set: for going on after another has failed. */
  device?: DeviceChoice;
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
   * Loads, after letting go of what was loaded: two models may not fit. Undefined if it was cancelled.
   *
   * @throws EmberglassError of any code but `aborted`.
   */
  async load(
    request: ModelRequest,
    options: Pick<LoadOptions, "contextLength" | "device" | "threads">,
    onProgress: (progress: LoadProgress) => void,
  ): Promise<TextModel | undefined> {
    this.cancel();
    const loading = new AbortController();
    this.#loading = loading;
    this.#last = request;
    try {
      await this.release();
      const model = await loadTextModel(request.source, {
        onProgress,
        signal: loading.signal,
        ...options,
        ...(request.sampling === undefined ? {} : { sampling: request.sampling }),
        ...(request.device === undefined ? {} : { device: request.device }),
      });
      this.#model = model;
      return model;
    } catch (thrown) {
      const error = coded(thrown);
      if (error.code === "aborted") return undefined;
      throw error;
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
