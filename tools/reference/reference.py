#!/usr/bin/env python3
"""Reference logits of a Llama GGUF, in float64 numpy. Shares nothing with Emberglass: see README.md."""

import argparse
import hashlib
import json
import os
import struct
import sys
import time
from pathlib import Path

# Two BLAS threads that wait for each other on a busy machine are slower than one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from gguf import GGUFReader, dequantize

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = Path(__file__).resolve().parent / "prompts.json"
GRID = 2.0**-12  # logits are stored as multiples of this
NEW_TOKENS = 64


class Llama:
    """Config and weights of the file. Each matrix has one row per output, as stored."""

    def __init__(self, path, split):
        reader = GGUFReader(path)
        field = lambda key: reader.fields[key].contents()
        if field("general.architecture") != "llama":
            sys.exit(f"{path}: the architecture is not llama")
        if any(key.startswith("llama.rope.scaling") for key in reader.fields):
            sys.exit(f"{path}: RoPE scaling is not implemented here")
        self.split = split
        self.n_layers = field("llama.block_count")
        self.n_heads = field("llama.attention.head_count")
        self.n_kv_heads = field("llama.attention.head_count_kv")
        self.dim = field("llama.embedding_length")
        self.head_dim = self.dim // self.n_heads
        self.eps = field("llama.attention.layer_norm_rms_epsilon")
        self.eos = field("tokenizer.ggml.eos_token_id")
        self.pieces = field("tokenizer.ggml.tokens")
        self.weights = {t.name: dequantize(t.data, t.tensor_type).astype(np.float64) for t in reader.tensors}
        if field("llama.rope.dimension_count") != self.head_dim or "rope_freqs.weight" in self.weights:
            sys.exit(f"{path}: partial or frequency-scaled RoPE is not implemented here")
        pairs = np.arange(self.head_dim // 2, dtype=np.float64)
        self.rope_freqs = float(field("llama.rope.freq_base")) ** (-2.0 * pairs / self.head_dim)

    def linear(self, x, name):
        """x @ W^T; with `split`, summed in pieces of that many inputs, which only changes the order of the sums."""
        w = self.weights[name]
        if not self.split:
            return x @ w.T
        return sum(x[:, i : i + self.split] @ w[:, i : i + self.split].T for i in range(0, w.shape[1], self.split))

    def norm(self, x, name):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.eps) * self.weights[name]

    def rope(self, x, positions):
        """Rotates the adjacent pairs of x [tokens, heads, head_dim]: GGUF stores Q and K permuted for that."""
        angle = positions[:, None, None] * self.rope_freqs
        cos, sin = np.cos(angle), np.sin(angle)
        even, odd = x[..., 0::2], x[..., 1::2]
        out = np.empty_like(x)
        out[..., 0::2] = even * cos - odd * sin
        out[..., 1::2] = even * sin + odd * cos
        return out

    def attention(self, q, keys, values, positions):
        """q [tokens, heads, head_dim] against keys and values [context, kv_heads, head_dim], causal."""
        out = np.empty_like(q)
        hidden = np.arange(len(keys))[None, :] > positions[:, None]
        for head in range(self.n_heads):
            kv = head // (self.n_heads // self.n_kv_heads)
            scores = q[:, head] @ keys[:, kv].T / np.sqrt(self.head_dim)
            scores[hidden] = -np.inf
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out[:, head] = weights @ values[:, kv] / weights.sum(axis=-1, keepdims=True)
        return out

    def forward(self, tokens, cache):
        """Logits [tokens, vocab] of the tokens that follow what `cache` (a list of K, V per layer) holds; extends it."""
        start = len(cache[0][0]) if cache else 0
        positions = np.arange(start, start + len(tokens), dtype=np.float64)
        heads = lambda y: y.reshape(len(tokens), -1, self.head_dim)
        x = self.weights["token_embd.weight"][tokens]
        for layer in range(self.n_layers):
            p = f"blk.{layer}."
            h = self.norm(x, p + "attn_norm.weight")
            q = self.rope(heads(self.linear(h, p + "attn_q.weight")), positions)
            k = self.rope(heads(self.linear(h, p + "attn_k.weight")), positions)
            v = heads(self.linear(h, p + "attn_v.weight"))
            if start:
                k, v = np.concatenate([cache[layer][0], k]), np.concatenate([cache[layer][1], v])
                cache[layer] = (k, v)
            else:
                cache.append((k, v))
            x = x + self.linear(self.attention(q, k, v, positions).reshape(len(tokens), -1), p + "attn_output.weight")
            h = self.norm(x, p + "ffn_norm.weight")
            gate = self.linear(h, p + "ffn_gate.weight")
            x = x + self.linear(gate / (1.0 + np.exp(-gate)) * self.linear(h, p + "ffn_up.weight"), p + "ffn_down.weight")
        x = self.norm(x, "output_norm.weight")
        head = "output.weight" if "output.weight" in self.weights else "token_embd.weight"
        return self.linear(x, head)

    def text(self, tokens):
        """The text of ordinary byte-level BPE tokens; special tokens as they are spelled."""
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [b for b in range(256) if b not in printable]
        byte_of = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
        return bytes(byte_of[c] for t in tokens for c in self.pieces[t]).decode("utf-8", "replace")


def on_grid(x):
    """x as multiples of GRID, without negative zeros."""
    return np.rint(x / GRID) * GRID + 0.0


def logits_file(tokens, logits):
    """The bytes of logits.bin, and how far the nearest logit is from being rounded the other way."""
    if not np.all(np.abs(logits) < 4096.0):  # also catches NaN; below this, multiples of GRID are exact in f32
        sys.exit("a logit is not finite or too large for the file")
    steps = logits / GRID
    guard = float(np.min(np.abs(np.abs(steps - np.rint(steps)) - 0.5))) * GRID
    header = b"EGLG" + struct.pack("<III", 1, *logits.shape)
    return header + np.asarray(tokens, "<u4").tobytes() + on_grid(logits).astype("<f4").tobytes(), guard


def greedy(model, prompt):
    """NEW_TOKENS tokens of argmax, the winner's logit and its distance from the second at each step."""
    cache, rows = [], []
    row = model.forward(prompt, cache)[-1]
    output = []
    while True:
        rows.append(row)
        output.append(int(np.argmax(row)))
        if len(output) == NEW_TOKENS:
            break
        row = model.forward(output[-1:], cache)[-1]
    # One pass over the whole must give what the cached steps gave.
    whole = model.forward(prompt + output[:-1], [])[len(prompt) - 1 :]
    difference = float(np.max(np.abs(whole - rows)))
    if not difference < 1e-9:
        sys.exit(f"cached and whole forward differ by {difference}")
    top = np.sort(np.partition(whole, -2)[:, -2:])
    return output, on_grid(top[:, 1]).tolist(), on_grid(top[:, 1] - top[:, 0]).tolist()


def compute(model, model_path):
    prompts = json.loads(PROMPTS.read_text("utf-8"))
    tokens = prompts["sequence"]["ids"]
    logits = model.forward(tokens, [])
    data, guard = logits_file(tokens, logits)
    chats = []
    for chat in prompts["chats"]:
        output, winners, margins = greedy(model, chat["ids"])
        chats.append({
            "name": chat["name"],
            "messages": chat["messages"],
            "prompt": chat["ids"],
            "output": output,
            "first_eos": output.index(model.eos) if model.eos in output else None,
            "logits": winners,
            "margins": margins,
            "text": model.text(output),
        })
    result = {
        "model": {"file": Path(model_path).name, "sha256": hashlib.sha256(Path(model_path).read_bytes()).hexdigest()},
        "grid": GRID,
        "logits": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "positions": len(tokens), "vocab": logits.shape[1]},
        "tokens": tokens,
        "chats": chats,
    }
    return result, data, logits, guard


def differences(expected, actual, where=""):
    """The paths at which two JSON values differ."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        keys = sorted(expected.keys() | actual.keys())
        return [d for k in keys for d in differences(expected.get(k), actual.get(k), f"{where}.{k}")]
    return [] if expected == actual else [where or "."]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="the GGUF file")
    parser.add_argument("--out", default=ROOT / ".cache/reference", type=Path, metavar="DIR", help="where logits.bin goes")
    parser.add_argument("--json", default=ROOT / "tests/data/reference.json", type=Path, metavar="FILE", help="where the summary goes")
    parser.add_argument("--check", type=Path, metavar="FILE", help="compare with this summary and write no other; exit 1 if they differ")
    parser.add_argument("--split", type=int, default=0, metavar="N", help="sum matrix products in pieces of N inputs: another order, the same digest")
    parser.add_argument("--raw", type=Path, metavar="FILE", help="also write the unrounded logits here (.npy)")
    args = parser.parse_args()

    started = time.monotonic()
    result, data, logits, guard = compute(Llama(args.model, args.split), args.model)
    print(f"logits {result['logits']['positions']} x {result['logits']['vocab']}, sha256 {result['logits']['sha256']}")
    print(f"nearest rounding boundary {guard:.3e}; {time.monotonic() - started:.1f} s")
    for chat in result["chats"]:
        print(f"{chat['name']}: first EOS {chat['first_eos']}, smallest margin {min(chat['margins']):.4f}, {json.dumps(chat['text'])}")
    if args.raw:
        np.save(args.raw, logits)

    # JSON has one spelling of each value, so compare what would be read back.
    result = json.loads(json.dumps(result))
    if args.check:
        changed = differences(json.loads(args.check.read_text("utf-8")), result)
        if changed:
            sys.exit(f"differs from {args.check} at: {', '.join(changed)}")
        print(f"matches {args.check}")
    else:
        lines = lambda items: "[\n" + ",\n".join("    " + json.dumps(item, ensure_ascii=False) for item in items) + "\n  ]"
        fields = [f"  {json.dumps(k)}: {lines(v) if k == 'chats' else json.dumps(v)}" for k, v in result.items()]
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text("{\n" + ",\n".join(fields) + "\n}\n", "utf-8")
        print(f"wrote {args.json}")
    args.out.mkdir(parents=True, exist_ok=True)
    partial = args.out / "logits.bin.partial"
    partial.write_bytes(data)
    os.replace(partial, args.out / "logits.bin")
    print(f"wrote {args.out / 'logits.bin'}")


if __name__ == "__main__":
    main()
