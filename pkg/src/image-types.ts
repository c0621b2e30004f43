import type { DeviceChoice, DeviceInfo, EngineAddresses, LoadProgress, NetworkOptions, SourceOptions, StorageReport } from "./types.js";

/** Latents of one picture, channels outermost, as files and PyTorch have them. */
export interface Latents {
  channels: number;
  /** Rows. */
  height: number;
  /** Columns. */
  width: number;
  /** (channels, height, width) finite floats. */
  data: Float32Array;
}

/** How pictures inside a network, and its weights, are stored on the GPU; arithmetic is f32 either way. */
export type Precision = "f32" | "f16";

/** What was loaded, and what it runs on. */
export interface ImageDecoderInfo {
  /** Family of the network: `"TAESD"` or `"AutoencoderKL"`. */
  architecture: string;
  /** Channels of the latents. */
  latentChannels: number;
  /** Pixels for each latent position and side: 8 for most. */
  scale: number;
  /** Whether the files held a decoder. */
  decodes: boolean;
  /** Whether the files held an encoder. */
  encodes: boolean;
  /** Whether {@link ImageDecoder.sample} knows how latents are distributed. Else it draws standard normals. */
  hasPrior: boolean;
  /** Side of the pictures it was trained on, where a config says so. */
  sampleSize?: number | undefined;
  /** `scaling_factor` of the config: see {@link DecodeOptions.scaled}. */
  scalingFactor?: number | undefined;
  /** `shift_factor` of the config. */
  shiftFactor?: number | undefined;
  /** Bytes of the weights in memory. */
  weightBytes: number;
  /** GPU memory of this model alone, in bytes: weights and the pictures of the last size; 0 on the CPU. */
  gpuBytes: number;
  /** Of the pictures inside the network: `"f32"` on the CPU, and once a value did not fit into f16. */
  precision: Precision;
  device: DeviceInfo;
  /** Where the files came from, and where they are kept. */
  storage: StorageReport;
}

/** Options of `loadImageDecoder`. */
export interface ImageLoadOptions extends NetworkOptions, EngineAddresses, SourceOptions {
  /** Called on every change of phase, else at most ten times a second. */
  onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** Cancels loading; the promise rejects with an `AbortError` and nothing is left behind. */
  signal?: AbortSignal | undefined;
  /** What to compute on. Default `"auto"`: a real GPU where there is one, else the CPU. */
  device?: DeviceChoice | undefined;
  /** Threads on the CPU, as for {@link LoadOptions.threads}. */
  threads?: number | undefined;
  /**
   * Default `"f32"`. `"f16"` halves the GPU memory of weights and pictures, so that tiles are larger; pictures differ
   * by a byte here and there. Where a value does not fit, the picture is computed again in f32, and so are all later
   * ones. The CPU always computes in f32. `info.precision` and the statistics of each decode say what was used.
   */
  precision?: Precision | undefined;
}

/** How to decode. */
export interface DecodeOptions {
  /** Cancels; the promise rejects with an `AbortError`. The decoder goes on. */
  signal?: AbortSignal | undefined;
  /**
   * Bytes that the pictures inside the network may take, default 256 MiB. What is larger is computed in tiles, with the
   * same result but for rounding. Less memory takes more time. Where it is too little for any plan, an `invalid-option`
   * says how much is needed: attention always runs over the whole picture.
   */
  memoryBytes?: number | undefined;
  /**
   * The latents are a diffusion model's: the config's scaling and shift, or FLUX.2's statistics in the file, are undone
   * first. `invalid-option` where an AutoencoderKL has neither. Default false.
   */
  scaled?: boolean | undefined;
  /** Called once with a coarse, smaller picture before large latents are decoded. */
  onPreview?: ((preview: { readonly width: number; readonly height: number; readonly image: ImageData }) => void) | undefined;
  /** Called after each run of a tile; where a network has norms, tiles run several times. */
  onTile?: ((done: number, total: number) => void) | undefined;
}

/** How a decode went. */
export interface DecodeStats {
  /** Milliseconds in the engine, readback included. */
  ms: number;
  /** GPU dispatches; 0 on the CPU. */
  dispatches: number;
  /** Runs of tiles; 1 when the picture was computed at once. */
  tiles: number;
  /** GPU memory of this model afterwards, in bytes; 0 on the CPU. */
  gpuBytes: number;
  /** How the pictures inside the network were stored. */
  precision: Precision;
}

/** A picture that a canvas shows. */
export interface ShownPicture {
  /** Columns. */
  width: number;
  /** Rows. */
  height: number;
  /** How the decode went. */
  stats: DecodeStats;
}

/** How to encode. */
export interface EncodeOptions {
  signal?: AbortSignal | undefined;
  /** Draws latents from the Gaussian that an AutoencoderKL's encoder gives. Default: its mean. */
  seed?: number | undefined;
  /** Most pixels of the longer side, at least `scale`; larger pictures are made smaller first. Default 512. */
  maxSide?: number | undefined;
  /** As for decoding: what is larger is computed in tiles. */
  memoryBytes?: number | undefined;
  /** Called after each run of a tile; where a network has norms, tiles run several times. */
  onTile?: ((done: number, total: number) => void) | undefined;
}
