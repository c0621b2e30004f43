// A GGUF file small enough for a software adapter: two layers of noise, whose tokens are letters. Its answers mean
// nothing, and are the same every time. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
const [WIDTH, LAYERS] = [64, 2];
const LETTERS = Array.from({ length: 92 }, (_, i) => String.fromCharCode(33 + i));
const TOKENS = ["<unk>", "<s>", "<x>", "\u2581", ...LETTERS];
const [U32, I32, F32, STRING] = [4, 5, 6, 8];
const ALIGNMENT = 32;

/** One that takes messages has this chat template. */
const TEMPLATE = "{% for message in messages %}{{ message.content }}~{% endfor %}";

/**
 * The bytes of the file. `more` are further metadata: [key, number or text]; a whole number is an INT32, as llama.cpp writes it.
 * With a larger `ffn` the file is larger: 1536 bytes for each.
 */
export function tinyModel({ contextLength = 256, chats = false, more = [], ffn = 128 } = {}) {
  return file(shapes(ffn), metadata(contextLength, chats, ffn), more);
}

/** The same model in so many files, as llama.cpp splits one. */
export function splitTinyModel({ files, contextLength = 256, ffn = 128 }) {
  const tensors = shapes(ffn);
  const [whole, each] = [metadata(contextLength, false, ffn), Math.ceil(tensors.length / files)];
  return Array.from({ length: files }, (_, no) => {
    const more = [["split.no", no], ["split.count", files], ["split.tensors.count", tensors.length]];
    return file(tensors.slice(no * each, (no + 1) * each), no === 0 ? whole : [], more, no * each);
  });
}

/** `first` is the number of the first tensor among those of the model. */
function file(tensors, metadata, more, first = 0) {
  const directory = [];
  let offset = 0;
  for (const [name, dims] of tensors) {
    const bytes = 4 * dims.reduce((a, b) => a * b);
    directory.push(text(name), u32(dims.length), ...dims.map(u64), u32(0), u64(offset));
    offset += bytes; // All are multiples of the alignment.
  }
  const values = [...metadata, ...more.map(([key, value]) => Buffer.concat([text(key), ...typed(value)]))];
  const head = Buffer.concat([Buffer.from("GGUF"), u32(3), u64(tensors.length), u64(values.length), ...values, ...directory]);
  const gap = Buffer.alloc(-head.length & (ALIGNMENT - 1));
  return Buffer.concat([head, gap, ...tensors.map(([name, dims], i) => weights(name, dims.reduce((a, b) => a * b), first + i))]);
}

function shapes(ffn) {
  const block = (i) => [
    [`blk.${i}.attn_norm.weight`, [WIDTH]],
    ...["q", "k", "v", "output"].map((name) => [`blk.${i}.attn_${name}.weight`, [WIDTH, WIDTH]]),
    [`blk.${i}.ffn_norm.weight`, [WIDTH]],
    ...["gate", "up"].map((name) => [`blk.${i}.ffn_${name}.weight`, [WIDTH, ffn]]),
    [`blk.${i}.ffn_down.weight`, [ffn, WIDTH]],
  ];
  const blocks = Array.from({ length: LAYERS }, (_, i) => block(i)).flat();
  return [["token_embd.weight", [WIDTH, TOKENS.length]], ["output_norm.weight", [WIDTH]], ...blocks];
}

function metadata(contextLength, chats, ffn) {
  const word = (key, value) => Buffer.concat([text(key), u32(STRING), text(value)]);
  const whole = (key, value) => Buffer.concat([text(key), u32(U32), u32(value)]);
  const eps = Buffer.alloc(4);
  eps.writeFloatLE(1e-5);
  return [
    word("general.architecture", "llama"),
    whole("llama.context_length", contextLength),
    whole("llama.embedding_length", WIDTH),
    whole("llama.feed_forward_length", ffn),
    whole("llama.block_count", LAYERS),
    whole("llama.attention.head_count", 2),
    Buffer.concat([text("llama.attention.layer_norm_rms_epsilon"), u32(F32), eps]),
    word("tokenizer.ggml.model", "llama"),
    Buffer.concat([text("tokenizer.ggml.tokens"), u32(9), u32(STRING), u64(TOKENS.length), ...TOKENS.map(text)]),
    ...(chats ? [word("tokenizer.chat_template", TEMPLATE)] : []),
  ];
}

/** Norms are ones; all else is noise from a generator of its own, so that the file is the same every time. */
function weights(name, count, seed) {
  let state = seed;
  const noise = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 31 - 1) / 4;
  };
  return Buffer.from(Float32Array.from({ length: count }, name.endsWith("norm.weight") ? () => 1 : noise).buffer);
}

function typed(value) {
  if (typeof value === "string") return [u32(STRING), text(value)];
  const bytes = Buffer.alloc(4);
  if (Number.isInteger(value)) bytes.writeInt32LE(value);
  else bytes.writeFloatLE(value);
  return [u32(Number.isInteger(value) ? I32 : F32), bytes];
}

export function u32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function u64(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

export function text(value) {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}
