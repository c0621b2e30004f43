#!/usr/bin/env python3
"""What llama.cpp answers with the models of `cargo xtask real-models`: `tests/data/real-models.json`.

    npm pack @node-llama-cpp/linux-x64@3.22.1 && tar xf node-llama-cpp-linux-x64-3.22.1.tgz
    LLAMA_CPP_LIB=package/bins/linux-x64 python3 answers.py ../../.cache/models > ../../tests/data/real-models.json

Needs numpy, 2 GB of disk in the folder TMPDIR and 4 GB of memory; takes a quarter of an hour. README.md says what the fields mean.
"""

import ctypes as c
import glob
import json
import os
import sys
import tempfile

import numpy as np

LIB = os.environ["LLAMA_CPP_LIB"]
STEPS, POSITIONS, CHUNK, TOP, TIE = 64, 384, 64, 20, 0.02
MODELS = {
    "gemma3": {
        "file": "gemma-3-270m-q4_k_m.gguf",
        "prompts": [{"text": "Once upon a time,"}, {"text": "The capital of France is"}, {"text": "def fibonacci(n):\n"}],
    },
    "qwen2": {
        "file": "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        "prompts": [
            {"text": "def quicksort(values):\n"},
            {
                "messages": [
                    {"role": "system", "content": "You are a helpful assistant."},
                    {"role": "user", "content": "Write a Python function that tells whether a number is prime."},
                ],
                "text": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
                "Write a Python function that tells whether a number is prime.<|im_end|>\n<|im_start|>assistant\n",
            },
            {"text": "The three longest rivers of Europe are"},
        ],
    },
}  # fmt: skip


class ModelParams(c.Structure):
    """`struct llama_model_params` of llama.h."""

    _fields_ = [
        ("devices", c.c_void_p), ("overrides", c.c_void_p), ("n_gpu_layers", c.c_int32), ("split_mode", c.c_int),
        ("load_mode", c.c_int), ("lazy_mode", c.c_int), ("main_gpu", c.c_int32), ("tensor_split", c.c_void_p),
        ("progress", c.c_void_p), ("progress_data", c.c_void_p), ("kv_overrides", c.c_void_p), ("vocab_only", c.c_bool),
        ("check_tensors", c.c_bool), ("use_extra_bufts", c.c_bool), ("no_host", c.c_bool), ("no_alloc", c.c_bool),
        ("load_mtp", c.c_bool),
    ]  # fmt: skip


class ContextParams(c.Structure):
    """`struct llama_context_params` of llama.h."""

    _fields_ = [
        ("n_ctx", c.c_uint32), ("n_batch", c.c_uint32), ("n_ubatch", c.c_uint32), ("n_seq_max", c.c_uint32),
        ("n_rs_seq", c.c_uint32), ("n_outputs_max", c.c_uint32), ("n_outputs_max_per_seq", c.c_uint32),
        ("n_threads", c.c_int32), ("n_threads_batch", c.c_int32), ("ctx_type", c.c_int), ("rope_scaling", c.c_int),
        ("pooling", c.c_int), ("attention", c.c_int), ("flash_attn", c.c_int), ("rope_freq_base", c.c_float),
        ("rope_freq_scale", c.c_float), ("yarn_ext", c.c_float), ("yarn_attn", c.c_float), ("yarn_fast", c.c_float),
        ("yarn_slow", c.c_float), ("yarn_orig_ctx", c.c_uint32), ("defrag", c.c_float), ("cb_eval", c.c_void_p),
        ("cb_eval_data", c.c_void_p), ("type_k", c.c_int), ("type_v", c.c_int), ("abort", c.c_void_p),
        ("abort_data", c.c_void_p), ("embeddings", c.c_bool), ("offload_kqv", c.c_bool), ("no_perf", c.c_bool),
        ("op_offload", c.c_bool), ("swa_full", c.c_bool), ("kv_unified", c.c_bool), ("samplers", c.c_void_p),
        ("n_samplers", c.c_size_t), ("other", c.c_void_p),
    ]  # fmt: skip


class QuantizeParams(c.Structure):
    """`struct llama_model_quantize_params` of llama.h."""

    _fields_ = [
        ("nthread", c.c_int32), ("ftype", c.c_int), ("output_type", c.c_int), ("embedding_type", c.c_int),
        ("allow_requantize", c.c_bool), ("quantize_output", c.c_bool), ("only_copy", c.c_bool), ("pure", c.c_bool),
        ("keep_split", c.c_bool), ("dry_run", c.c_bool), ("imatrix", c.c_void_p), ("kv_overrides", c.c_void_p),
        ("tt_overrides", c.c_void_p), ("prune_layers", c.c_void_p), ("max_buf_size", c.c_size_t),
    ]  # fmt: skip


class Batch(c.Structure):
    """`struct llama_batch` of llama.h."""

    _fields_ = [
        ("n_tokens", c.c_int32), ("token", c.POINTER(c.c_int32)), ("embd", c.c_void_p), ("pos", c.POINTER(c.c_int32)),
        ("n_seq_id", c.POINTER(c.c_int32)), ("seq_id", c.POINTER(c.POINTER(c.c_int32))), ("logits", c.POINTER(c.c_int8)),
    ]  # fmt: skip


base = c.CDLL(f"{LIB}/libggml-base.so", c.RTLD_GLOBAL)
# Their names have a version.
ggml, llama = [c.CDLL(glob.glob(f"{LIB}/lib{stem}.*so*")[0], c.RTLD_GLOBAL) for stem in ("ggml", "llama")]
for name, result, arguments in [
    ("llama_version", c.c_char_p, []),
    ("llama_model_default_params", ModelParams, []),
    ("llama_context_default_params", ContextParams, []),
    ("llama_model_quantize_default_params", QuantizeParams, []),
    ("llama_model_quantize", c.c_uint32, [c.c_char_p, c.c_char_p, c.POINTER(QuantizeParams)]),
    ("llama_model_load_from_file", c.c_void_p, [c.c_char_p, ModelParams]),
    ("llama_model_free", None, [c.c_void_p]),
    ("llama_init_from_model", c.c_void_p, [c.c_void_p, ContextParams]),
    ("llama_free", None, [c.c_void_p]),
    ("llama_model_get_vocab", c.c_void_p, [c.c_void_p]),
    ("llama_vocab_n_tokens", c.c_int32, [c.c_void_p]),
    ("llama_tokenize", c.c_int32, [c.c_void_p, c.c_char_p, c.c_int32, c.POINTER(c.c_int32), c.c_int32, c.c_bool, c.c_bool]),
    ("llama_detokenize", c.c_int32, [c.c_void_p, c.POINTER(c.c_int32), c.c_int32, c.c_char_p, c.c_int32, c.c_bool, c.c_bool]),
    ("llama_get_memory", c.c_void_p, [c.c_void_p]),
    ("llama_memory_clear", None, [c.c_void_p, c.c_bool]),
    ("llama_decode", c.c_int32, [c.c_void_p, Batch]),
    ("llama_get_logits_ith", c.POINTER(c.c_float), [c.c_void_p, c.c_int32]),
    ("llama_log_set", None, [c.c_void_p, c.c_void_p]),
]:  # fmt: skip
    function = getattr(llama, name)
    function.restype, function.argtypes = result, arguments
base.ggml_commit.restype = base.ggml_version.restype = c.c_char_p
ggml.ggml_backend_load_all_from_path.argtypes = [c.c_char_p]
# llama.cpp's log is as long as a novel; its errors are seen by what it returns.
SILENT = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)(lambda _level, _text, _data: None)


def say(text):
    print(text, file=sys.stderr, flush=True)


class Model:
    """A file in llama.cpp: CPU only, F32 KV cache, no flash attention, no repacked weights."""

    def __init__(self, path):
        params = llama.llama_model_default_params()
        params.n_gpu_layers, params.load_mode, params.use_extra_bufts = 0, 0, False
        self.model = llama.llama_model_load_from_file(path.encode(), params)
        assert self.model, path
        self.vocab = llama.llama_model_get_vocab(self.model)
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = 512, CHUNK, CHUNK
        params.n_threads = params.n_threads_batch = 1
        params.flash_attn, params.type_k, params.type_v = 0, 0, 0
        self.context = llama.llama_init_from_model(self.model, params)
        assert self.context, path
        self.width = llama.llama_vocab_n_tokens(self.vocab)

    def close(self):
        llama.llama_free(self.context)
        llama.llama_model_free(self.model)

    def tokenize(self, text, special):
        data = text.encode()
        out = (c.c_int32 * (len(data) + 16))()
        n = llama.llama_tokenize(self.vocab, data, len(data), out, len(out), True, special)
        assert n > 0, text
        return list(out[:n])

    def text(self, tokens):
        out = c.create_string_buffer(64 * len(tokens))
        n = llama.llama_detokenize(self.vocab, (c.c_int32 * len(tokens))(*tokens), len(tokens), out, len(out), False, False)
        assert n > 0, tokens
        return out.raw[:n].decode(errors="replace")

    def clear(self):
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)

    def logits(self, tokens, at):
        """A row of logits after each of the tokens."""
        n = len(tokens)
        zero = (c.c_int32 * 1)(0)
        sequences = (c.POINTER(c.c_int32) * n)(*([c.cast(zero, c.POINTER(c.c_int32))] * n))
        batch = Batch(n, (c.c_int32 * n)(*tokens), None, (c.c_int32 * n)(*range(at, at + n)), (c.c_int32 * n)(*([1] * n)),
                      sequences, (c.c_int8 * n)(*([1] * n)))  # fmt: skip
        assert llama.llama_decode(self.context, batch) == 0
        rows = [np.ctypeslib.as_array(llama.llama_get_logits_ith(self.context, i), (self.width,)) for i in range(n)]
        return np.stack(rows).astype(np.float64)

    def greedy(self, tokens):
        """The largest logit STEPS times, and by how much it leads the second."""
        self.clear()
        row, at, ids, margins = self.logits(tokens, 0)[-1], len(tokens), [], []
        for step in range(STEPS):
            ids.append(int(row.argmax()))
            second, first = np.partition(row, -2)[-2:]
            margins.append(round(float(first - second), 4))
            if step + 1 < STEPS:
                row = self.logits(ids[-1:], at)[-1]
                at += 1
        return ids, margins

    def log_probabilities(self, tokens):
        """Rows of log-probabilities, CHUNK at a time."""
        self.clear()
        for at in range(0, len(tokens), CHUNK):
            rows = self.logits(tokens[at : at + CHUNK], at)
            rows -= rows.max(axis=1, keepdims=True)
            yield at, rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))


def coarse(p, q, top):
    """KL(p || q) in nats over the tokens `top` and, as one, all others: no more than over all tokens."""
    a, b = p[top], q[top]
    rest_a, rest_b = [max(1.0 - np.exp(x).sum(), 1e-12) for x in (a, b)]
    return float((np.exp(a) * (a - b)).sum() + rest_a * np.log(rest_a / rest_b))


def answers(path, plan, text, scratch):
    exact = f"{scratch}/f32.gguf"
    params = llama.llama_model_quantize_default_params()
    params.nthread, params.ftype, params.allow_requantize = os.cpu_count(), 0, True
    assert llama.llama_model_quantize(path.encode(), exact.encode(), c.byref(params)) == 0
    say(f"{path}: {os.path.getsize(exact) / 1e6:.0f} MB as F32")

    model, stored = Model(exact), Model(path)
    prompts = []
    for prompt in plan["prompts"]:
        tokens = model.tokenize(prompt["text"], True)
        ids, margins = model.greedy(tokens)
        theirs, _ = stored.greedy(tokens)
        same = next((i for i, (a, b) in enumerate(zip(ids, theirs)) if a != b), STEPS)
        say(f"  {prompt['text'][:30]!r}: stored parts at {same}, margin {margins[same] if same < STEPS else None}")
        low = [step for step, margin in enumerate(margins) if margin < TIE]
        prompts.append({**prompt, "tokens": tokens, "greedy": ids, "greedy_text": model.text(ids),
                        "margins": margins, "low_margins": low, "as_stored_same": same})  # fmt: skip
    tokens = model.tokenize(text, False)[: POSITIONS + 1]
    inputs, targets = tokens[:-1], np.array(tokens[1:])
    tops, nll, stored_nll, kl, coarse_kl, agree = [], [], [], [], [], 0
    for (at, p), (_, q) in zip(model.log_probabilities(inputs), stored.log_probabilities(inputs)):
        for i, (a, b) in enumerate(zip(p, q)):
            target = targets[at + i]
            nll.append(-float(a[target]))
            stored_nll.append(-float(b[target]))
            kl.append(float((np.exp(a) * (a - b)).sum()))
            top = np.argsort(-a, kind="stable")[:TOP]
            coarse_kl.append(coarse(a, b, top))
            agree += int(a.argmax() == b.argmax())
            tops.append([[int(t) for t in top], [round(float(a[t]), 4) for t in top]])
    model.close()
    stored.close()
    os.remove(exact)
    n = len(inputs)
    as_stored = {"kl": sum(kl) / n, "coarse_kl": sum(coarse_kl) / n, "perplexity": float(np.exp(np.mean(stored_nll))),
                 "top1": agree / n}  # fmt: skip
    say(f"  as stored: {as_stored}, perplexity of F32 {np.exp(np.mean(nll)):.4f}")
    return {
        "file": plan["file"], "prompts": prompts, "tokens": tokens, "nll": [round(x, 4) for x in nll],
        "perplexity": float(np.exp(np.mean(nll))), "top": tops, "as_stored": as_stored,
    }  # fmt: skip


def main():
    models = sys.argv[1]
    llama.llama_log_set(c.cast(SILENT, c.c_void_p), None)
    ggml.ggml_backend_load_all_from_path(LIB.encode())
    llama.llama_backend_init()
    with open(os.path.join(os.path.dirname(__file__), "../../tests/data/alice.txt")) as file:
        text = file.read()
    version = f"llama.cpp {llama.llama_version().decode()} commit {base.ggml_commit().decode()}, ggml {base.ggml_version().decode()}"
    result = {"version": version, "tie": TIE, "text": "tests/data/alice.txt"}
    with tempfile.TemporaryDirectory() as scratch:
        for name, plan in MODELS.items():
            result[name] = answers(os.path.join(models, plan["file"]), plan, text, scratch)
    json.dump(result, sys.stdout, separators=(",", ":"))
    sys.stdout.flush()
    # llama.cpp's threads may still hold locks that its destructors want.
    os._exit(0)


if __name__ == "__main__":
    main()
