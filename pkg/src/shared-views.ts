// The engine's memory is shared, and some functions of browsers refuse views of shared memory. Those that Rust crates call
// with such views get a copy.

interface Queue {
  writeBuffer(buffer: unknown, bufferOffset: number, data: ArrayBuffer | ArrayBufferView, dataOffset?: number, size?: number): void;
}

/** The part of a worker's global scope that is used. */
export interface ViewScope {
  crypto: { getRandomValues(view: Uint8Array): unknown };
  GPUQueue?: { prototype: Queue };
}

/** Call once, before the engine starts. */
export function copySharedViews({ crypto, GPUQueue }: ViewScope): void {
  const getRandomValues = crypto.getRandomValues.bind(crypto);
  crypto.getRandomValues = (view) => {
    if (!isShared(view)) return getRandomValues(view);
    const copy = new Uint8Array(view.byteLength);
    getRandomValues(copy);
    new Uint8Array(view.buffer, view.byteOffset, view.byteLength).set(copy);
    return view;
  };
  if (!GPUQueue) return;
  const { writeBuffer } = GPUQueue.prototype;
  GPUQueue.prototype.writeBuffer = function (this: Queue, buffer, bufferOffset, data, ...range) {
    writeBuffer.call(this, buffer, bufferOffset, data instanceof Uint8Array && isShared(data) ? data.slice() : data, ...range);
  };
}

/** Where a page is not isolated, there is such memory and no name for its class. */
function isShared({ buffer }: Uint8Array): boolean {
  return !(buffer instanceof ArrayBuffer);
}
