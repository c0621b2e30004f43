// Llama files of any shape and size, with noise for weights: for measuring, where answers do not matter. The header can be had
// alone, of a model that nobody could store.
import { randomFillSync } from "node:crypto";
import { text, u32, u64 } from "./tiny-model.mjs";

const [U32, F32, STRING, ARRAY] = [4, 6, 8, 9];
const ALIGNMENT = 32;
const FLOATS = { code: 0, block: 1, bytes: 4 };
/** By name: its code in the file, weights and bytes of a block, whose first two bytes are its f16 scale. */
const TYPES = { Q4_0: { code: 2, block: 32, bytes: 18 }, Q8_0: { code: 8, block: 32, bytes: 34 } };
/** A small scale, 2^-9. */
const SCALE = 0x1800;

/** `head` is the file up to its weights, `bytes` the size of the whole file. */
export function madeUpHeader({ width, ffn, layers, heads, kvHeads, type, tokens = 96, contextLength = 2048 }) {
  const kvWidth = (width / heads) * kvHeads;
  const block = (i) => [
    [`blk.${i}.attn_norm.weight`, [width], FLOATS],
    [`blk.${i}.attn_q.weight`, [width, width]],
    [`blk.${i}.attn_k.weight`, [width, kvWidth]],
    [`blk.${i}.attn_v.weight`, [width, kvWidth]],
    [`blk.${i}.attn_output.weight`, [width, width]],
    [`blk.${i}.ffn_norm.weight`, [width], FLOATS],
    [`blk.${i}.ffn_gate.weight`, [width, ffn]],
    [`blk.${i}.ffn_up.weight`, [width, ffn]],
    [`blk.${i}.ffn_down.weight`, [ffn, width]],
  ];
  const blocks = Array.from({ length: layers }, (_, i) => block(i)).flat();
  const tensors = [["token_embd.weight", [width, tokens]], ["output_norm.weight", [width], FLOATS], ...blocks];
  const directory = [];
  const places = [];
  let offset = 0;
  for (const [name, dims, format = TYPES[type]] of tensors) {
    const bytes = (dims.reduce((a, b) => a * b) / format.block) * format.bytes;
    directory.push(text(name), u32(dims.length), ...dims.map(u64), u32(format.code), u64(offset));
    places.push({ offset, bytes, format });
    offset = Math.ceil((offset + bytes) / ALIGNMENT) * ALIGNMENT;
  }
  const word = (key, value) => Buffer.concat([text(key), u32(STRING), text(value)]);
  const whole = (key, value) => Buffer.concat([text(key), u32(U32), u32(value)]);
  const eps = Buffer.alloc(4);
  eps.writeFloatLE(1e-5);
  const values = [
    word("general.architecture", "llama"),
    whole("llama.context_length", contextLength),
    whole("llama.embedding_length", width),
    whole("llama.feed_forward_length", ffn),
    whole("llama.block_count", layers),
    whole("llama.attention.head_count", heads),
    whole("llama.attention.head_count_kv", kvHeads),
    Buffer.concat([text("llama.attention.layer_norm_rms_epsilon"), u32(F32), eps]),
    word("tokenizer.ggml.model", "llama"),
    Buffer.concat([text("tokenizer.ggml.tokens"), u32(ARRAY), u32(STRING), u64(tokens), ...pieces(tokens).map(text)]),
  ];
  const start = Buffer.concat([Buffer.from("GGUF"), u32(3), u64(tensors.length), u64(values.length), ...values, ...directory]);
  const head = Buffer.concat([start, Buffer.alloc(-start.length & (ALIGNMENT - 1))]);
  return { head, places, bytes: head.length + offset };
}

/** The whole file. */
export function madeUpModel(shape) {
  const { head, places, bytes } = madeUpHeader(shape);
  const file = Buffer.alloc(bytes);
  head.copy(file);
  for (const { offset, bytes, format } of places) {
    const weights = file.subarray(head.length + offset, head.length + offset + bytes);
    // A copy of the unit repeats whole blocks.
    weights.fill(format === FLOATS ? floatOne() : noise(format));
  }
  return file;
}

function floatOne() {
  const one = Buffer.alloc(4);
  one.writeFloatLE(1);
  return one;
}

function noise({ bytes }) {
  const unit = randomFillSync(Buffer.alloc(bytes * 4096));
  for (let at = 0; at < unit.length; at += bytes) unit.writeUInt16LE(SCALE, at);
  return unit;
}

/** Letters, and words that no text has. */
function pieces(count) {
  const letters = Array.from({ length: 92 }, (_, i) => String.fromCharCode(33 + i));
  const all = ["<unk>", "<s>", "<x>", "\u2581", ...letters];
  return all.concat(Array.from({ length: Math.max(0, count - all.length) }, (_, i) => `~${i}~`)).slice(0, count);
}
