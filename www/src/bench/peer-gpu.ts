// What ONNX Runtime Web does with the GPU. It runs on this page, where its calls can be counted; Emberglass has a worker
// of its own, which none of this reaches.

/** So far, since {@link watchGpu}. */
export const seen = { dispatches: 0, submits: 0, readbacks: 0, bufferBytes: 0, mostBufferBytes: 0 };

/** TypeScript's library does not have WebGPU's types yet. */
type Method = (this: object, ...args: never[]) => unknown;
type Class = { prototype: Record<string, Method> };
const classOf = (name: string): Class => (globalThis as unknown as Record<string, Class>)[name]!;

function before(name: string, method: string, note: (self: object, args: never[]) => void): void {
  const { prototype } = classOf(name);
  const original = prototype[method]!;
  prototype[method] = function (...args) {
    note(this, args);
    return original.apply(this, args);
  };
}

let watching = false;

/** Counts from now on. */
export function watchGpu(): void {
  if (watching) return;
  watching = true;
  before("GPUComputePassEncoder", "dispatchWorkgroups", () => seen.dispatches++);
  before("GPUComputePassEncoder", "dispatchWorkgroupsIndirect", () => seen.dispatches++);
  before("GPUQueue", "submit", () => seen.submits++);
  before("GPUBuffer", "mapAsync", () => seen.readbacks++);
  before("GPUDevice", "createBuffer", (_, [descriptor]) => {
    seen.bufferBytes += (descriptor as unknown as { size: number }).size;
    seen.mostBufferBytes = Math.max(seen.mostBufferBytes, seen.bufferBytes);
  });
  const freed = new WeakSet();
  before("GPUBuffer", "destroy", (buffer) => {
    if (freed.has(buffer)) return;
    freed.add(buffer);
    seen.bufferBytes -= (buffer as { size: number }).size;
  });
}

/**
 * Makes adapters look as if they had no subgroups. With SwiftShader's, which are four lanes wide, ONNX Runtime's flash
 * attention computes wrong numbers from 32 prompt tokens on (tools/bench-onnx/README.md). `subgroup-size-control` goes
 * too: it implies the other.
 */
export function withholdSubgroups(): void {
  const { prototype } = classOf("GPUAdapter");
  const { get } = Object.getOwnPropertyDescriptor(prototype, "features")!;
  Object.defineProperty(prototype, "features", {
    configurable: true,
    get(this: object) {
      const features = new Set(get!.call(this) as Iterable<string>);
      features.delete("subgroups");
      features.delete("subgroup-size-control");
      return features;
    },
  });
}
