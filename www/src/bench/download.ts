// How much an engine's own code weighs as it travels.

/** Bytes of files after gzip. */
export async function compressedBytes(files: string[]): Promise<number> {
  const sizes = await Promise.all(files.map(compressed));
  return sizes.reduce((sum, size) => sum + size, 0);
}

async function compressed(file: string): Promise<number> {
  const response = await fetch(file);
  if (!response.ok || !response.body) throw new Error(`the server answered ${response.status} for ${file}`);
  let bytes = 0;
  for (const reader = response.body.pipeThrough(new CompressionStream("gzip")).getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return bytes;
    bytes += value.length;
  }
}

/** Emberglass's, as the build has counted them. */
export async function ownBytes(): Promise<number> {
  const response = await fetch("bench.json");
  if (!response.ok) return Number.NaN;
  const { runtimeBytes } = (await response.json()) as { runtimeBytes?: unknown };
  return typeof runtimeBytes === "number" ? runtimeBytes : Number.NaN;
}
