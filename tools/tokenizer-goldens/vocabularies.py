#!/usr/bin/env python3
"""Token ids by llama.cpp for small made-up vocabularies: writes tests/data/vocabularies.json.

LLAMA_CPP_LIB names the folder of llama.cpp's shared libraries, such as bins/linux-x64 of the npm package
@node-llama-cpp/linux-x64 (3.22.1 here). llama.cpp aborts on some files, so each is read by a process of its own.
"""

import ctypes as c
import glob
import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

OUT = Path(__file__).resolve().parents[2] / "tests/data/vocabularies.json"


def byte_level(name, tokens=(), merges=(), runs=(), types=None, pre="gpt-2", without=(), **keys):
    """256 byte characters but `without`, then `tokens`; token 0 ends a text."""
    keys = {"add_bos_token": False, "eos_token_id": 0, **keys}
    return case(name, "gpt2", pre, without, tokens, types, None, "given", list(merges), keys, runs)


def sentencepiece(name, pieces=(), runs=(), without=(), base="given", scores="given", **keys):
    """<unk>, <s>, </s>, 256 byte tokens but `without`, then `pieces`: text, score, type."""
    tokens, values, types = ([p[i] for p in pieces] for i in range(3))
    values = values if scores == "given" else None
    return case(name, "llama", None, without, tokens, types, values, base, None, keys, runs)


def case(name, model, pre, without, tokens, types, scores, base, merges, keys, runs):
    return {
        "name": name,
        "model": model,
        "pre": pre,
        "without": list(without),
        "tokens": [list(t) if isinstance(t, bytes) else t for t in tokens],
        "types": list(types or [1] * len(tokens)),
        # "given": as usual; "normal": byte tokens are called normal; "none": the file has no types.
        "base": base,
        "scores": scores,
        "merges": merges,
        "keys": keys,
        "runs": [{"text": r, "parse": False, "special": False} if isinstance(r, str) else r for r in runs],
    }


def parse(text):
    return {"text": text, "parse": True, "special": False}


def special(text):
    return {"text": text, "parse": False, "special": True}


PIECES = [("▁", -10.0, 1), ("a", -11.0, 1), ("b", -12.0, 1), ("c", -13.0, 1), ("ab", -1.0, 1), ("▁a", -2.0, 1)]
CHARACTERS = ["a", "hé", "▁", "𝕳", "\n", "z\0", " a  b "]

CASES = [
    # What a merge names.
    byte_level("a merge gives an end token", ["</", "</s", "</s>", "he"], ["< /", "</ s", "</s >", "h e"],
               ["he </s> x", parse("he </s> x")], pre="qwen2"),
    byte_level("a merge names what is not there", ["he"], ["h e", "q zz"], ["he qzz", "zz"]),
    byte_level("a merge gives what is not there", ["hel"], ["h e", "he l", "l o"], ["hello", "he", "lo low"]),
    byte_level("a merge by way of what is not there", ["abcd"], ["a b", "c d", "ab cd", "cd e"], ["abcd", "abcde", "cd ab"]),
    byte_level("a merge of a space gives what is not there", [], ["Ġ h", "Ġh e"], ["x he h"]),
    byte_level("a byte that is a token by itself", [b"\xc4", b"\xff\xfe"], ["Ġ h"], [" h"]),
    byte_level("a merge twice", ["ab", "bc"], ["b c", "a b", "b c"], ["abc"]),
    byte_level("a merge twice, the other way", ["ab", "bc"], ["a b", "b c", "a b"], ["abc"]),
    byte_level("a merge of three", ["ab"], ["a b c", "a b"], ["abc"]),
    byte_level("a merge of nothing", ["ab"], ["ab ", "a b"], ["ab"]),
    byte_level("a missing byte", ["he", "ab"], ["h e", "a b"], ["h!e he!", "a!b", "!"], without=["!"]),
    byte_level("a missing byte in a merge", ["a!b"], ["a !", "a! b"], ["a!b a!", "!"], without=["!"]),
    byte_level("empty tokens", ["", "", "ab"], ["a b"], ["ab"]),
    byte_level("no pre-tokenizer", ["ab", "abc"], ["a b"], ["abc 1234 a+b"], pre=""),
    byte_level("a whole word", ["ab", "abc"], ["a b"], ["abc abc"], pre="llama-bpe"),
    byte_level("a whole word that only merges name", ["ab", "bc"], ["b c", "a b", "ab c"], ["abc"], pre="llama-bpe"),
    # Special tokens.
    byte_level("overlapping user-defined tokens", ["ab", "bcd", "abc"], [], ["abcd xabcdab abbcd"], types=[4, 4, 4]),
    byte_level("the longest of the whole text goes first", ["<<", "<<<", "<<<<x", "x<<"], [],
               ["<<<<x<<", "<<<<<<<x<<<", "x<<<<<x"], types=[4, 4, 4, 4]),
    byte_level("nested user-defined tokens", ["aa", "aaa", "aaaa", "ba", "aaab"], [],
               ["aaaaaaaaab", "baaaab", "aaabaaab"], types=[4, 4, 4, 4, 4]),
    byte_level("control and user-defined tokens", ["<a>", "<a><b>", "<b><c>"], [],
               ["<a><b><c>", parse("<a><b><c>"), parse("<b><c><a>")], types=[3, 4, 3]),
    byte_level("end tokens by their texts", ["<|im_end|>", "<|endoftext|>", "<|fim_pad|>", "<|file_sep|>", "<eos>"], [],
               ["<|im_end|>", parse("a<|im_end|><|fim_pad|>"), parse("<eos>")], types=[4, 1, 1, 1, 1]),
    byte_level("code completion by texts", ["<fim_prefix>", "<SUF>", "<|fim_middle|>"], [],
               ["<SUF>", parse("<SUF>a<fim_prefix>b<|fim_middle|>")]),
    byte_level("code completion by keys", ["<fim_prefix>", "<PAD>", "pad", "rep", "sep"], [],
               [parse("<fim_prefix><PAD>pad")], fim_pre_token_id=1, fim_pad_token_id=258, fim_rep_token_id=259,
               fim_sep_token_id=260),
    byte_level("gpt-oss", ["<|return|>", "<|call|>", "<|end|>", "<|channel|>", "<|start|>"], [],
               ["<|end|><|channel|>", parse("<|return|><|start|>")], types=[3, 3, 3, 3, 3]),
    byte_level("Solar", ["<|calls|>", "<|flush|>", "<|end|>"], [], ["<|end|>"], types=[3, 3, 3]),
    byte_level("an ordinary </s>", ["</s>", "<|tool_response>"], [], ["</s>", parse("</s>")], types=[1, 3]),
    byte_level("an end of turn by its key", ["<x>", "<y>"], [], [parse("<x>")], types=[3, 1], eot_token_id=256,
               eom_token_id=257),
    # What comes before and after.
    byte_level("tokens before and after", ["<s>"], [], [special("ab")], types=[3], bos_token_id=256, add_bos_token=True,
               add_eos_token=True),
    sentencepiece("tokens before and after, SentencePiece", PIECES, [special("ab")], add_eos_token=True),
    sentencepiece("no tokens before", PIECES, [special("ab")], add_bos_token=False),
    # SentencePiece.
    sentencepiece("no types", PIECES, CHARACTERS, base="none"),
    sentencepiece("byte tokens called normal", PIECES, CHARACTERS, base="normal"),
    sentencepiece("usual types", PIECES, CHARACTERS),
    sentencepiece("no scores", PIECES, ["abab ab", "aab"], scores="none"),
    sentencepiece("whole scores", [(t, int(s), k) for t, s, k in PIECES], ["abab ab", "aab"]),
    sentencepiece("a score of -0", [("a", -9.0, 1), ("b", -9.0, 1), ("c", -9.0, 1), ("ab", -0.0, 1), ("bc", 0.0, 1)], ["abc"]),
    sentencepiece("an infinite score", [("a", -9.0, 1), ("ab", float("-inf"), 1), ("b", -9.0, 1), ("ba", 1.0, 1)], ["abab"]),
    sentencepiece("no space before", PIECES, ["ab a", " a"], add_space_prefix=False),
    sentencepiece("extra white space", PIECES, ["a   b ", "  "], remove_extra_whitespaces=True),
    sentencepiece("user-defined tokens", [*PIECES, ("<x>", 0.0, 4), ("▁▁", 0.0, 4)], ["a<x>a <x>", "a▁▁b", "<x>"]),
    sentencepiece("unused tokens merge", [("a", -1.0, 1), ("b", -1.0, 1), ("ab", -1.0, 5)], ["ab"]),
    sentencepiece("a named unknown token", [*PIECES, ("UNK", 0.0, 2)], ["UNK", parse("UNK a"), parse("<unk>")],
                  unknown_token_id=265),
    sentencepiece("a token that is not UTF-8", [(b"\xc3", -1.0, 1), ("a", -1.0, 1)], ["é", "a"]),
    sentencepiece("byte tokens in small letters", [("<0xe9>", -1.0, 6)], ["é", "\xe9\0"]),
    sentencepiece("no end token named", [("a", -1.0, 1)], ["a"]),
    sentencepiece("Phi-3", [*PIECES, ("<|end|>", 0.0, 4), ("<|endoftext|>", 0.0, 3), ("<|u|>", 0.0, 3), ("\n", 0.0, 4)],
                  ["a<|end|> \n a", parse("<|u|>\n a<|endoftext|> a<s> b</s>  \tb"), parse("<|u|>  \n"), "\n a"],
                  **{"general.name": "Phi-3 mini"}),
    # Refused.
    byte_level("a token twice", ["he", "he"], ["h e"], ["he"]),
    sentencepiece("a piece twice", [("a", -1.0, 1), ("a", -2.0, 1)], ["a"]),
    byte_level("an unknown pre-tokenizer", [], [], ["a"], pre="klingon"),
]  # fmt: skip


def write_gguf(path, case):
    def text(value):
        value = value.encode() if isinstance(value, str) else bytes(value)
        return struct.pack("<Q", len(value)) + value

    def value(v):
        if isinstance(v, bool):
            return struct.pack("<IB", 7, v)
        if isinstance(v, int):
            return struct.pack("<II", 4, v)
        if isinstance(v, str):
            return struct.pack("<I", 8) + text(v)
        if isinstance(v, list) and v and isinstance(v[0], float):
            return struct.pack(f"<IIQ{len(v)}f", 9, 6, len(v), *v)
        if isinstance(v, list) and v and isinstance(v[0], int):
            return struct.pack(f"<IIQ{len(v)}i", 9, 5, len(v), *v)
        return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(map(text, v))

    base = {} if case["model"] == "gpt2" else {"<unk>": 2, "<s>": 3, "</s>": 3}
    shifted = 0x100
    for byte in range(256):
        if case["model"] == "gpt2":
            printable = 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte
            base[chr(byte if printable else shifted)] = 1
            shifted += not printable
        else:
            base[f"<0x{byte:02X}>"] = 1 if case["base"] == "normal" else 6
    for gone in case["without"]:
        del base[gone]
    meta = {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.context_length": 256,
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 32,
        "llama.attention.head_count": 1,
        "tokenizer.ggml.model": case["model"],
        "tokenizer.ggml.tokens": [*base, *case["tokens"]],
    }
    if case["base"] != "none":
        meta["tokenizer.ggml.token_type"] = [*base.values(), *case["types"]]
    if case["scores"] is not None:
        kind = type(case["scores"][0]) if case["scores"] else float
        meta["tokenizer.ggml.scores"] = [kind(0)] * len(base) + case["scores"]
    if case["pre"] is not None:
        meta["tokenizer.ggml.pre"] = case["pre"]
    if case["merges"] is not None:
        meta["tokenizer.ggml.merges"] = case["merges"]
    for key, v in case["keys"].items():
        meta[key if "." in key else f"tokenizer.ggml.{key}"] = v
    header = b"".join(text(k) + value(v) for k, v in meta.items())
    Path(path).write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(meta)) + header + bytes(32))


class ModelParams(c.Structure):
    _fields_ = [
        ("devices", c.c_void_p), ("buft_overrides", c.c_void_p), ("n_gpu_layers", c.c_int32), ("split_mode", c.c_int),
        ("load_mode", c.c_int), ("lazy_mode", c.c_int), ("main_gpu", c.c_int32), ("tensor_split", c.c_void_p),
        ("progress", c.c_void_p), ("progress_data", c.c_void_p), ("kv_overrides", c.c_void_p), ("vocab_only", c.c_bool),
        ("check_tensors", c.c_bool), ("use_extra_bufts", c.c_bool), ("no_host", c.c_bool), ("no_alloc", c.c_bool),
        ("load_mtp", c.c_bool),
    ]  # fmt: skip


def ask(path, runs):
    """In a process of its own: the ids of each run and the tokens that end a generation."""
    folder = os.environ["LLAMA_CPP_LIB"]

    def library(stem):
        return c.CDLL(sorted(glob.glob(f"{folder}/lib{stem}.so") + glob.glob(f"{folder}/lib{stem}.v*.so"))[0], c.RTLD_GLOBAL)

    library("ggml-base"), library("ggml")
    lib = library("llama")
    pointer, i32 = c.c_void_p, c.c_int32
    lib.llama_model_default_params.restype = ModelParams
    lib.llama_model_load_from_file.restype, lib.llama_model_load_from_file.argtypes = pointer, [c.c_char_p, ModelParams]
    lib.llama_model_get_vocab.restype, lib.llama_model_get_vocab.argtypes = pointer, [pointer]
    lib.llama_vocab_n_tokens.argtypes = [pointer]
    lib.llama_vocab_is_eog.restype, lib.llama_vocab_is_eog.argtypes = c.c_bool, [pointer, i32]
    lib.llama_tokenize.argtypes = [pointer, c.c_char_p, i32, c.POINTER(i32), i32, c.c_bool, c.c_bool]
    lib.llama_backend_init()
    params = lib.llama_model_default_params()
    params.vocab_only = True
    model = lib.llama_model_load_from_file(path.encode(), params)
    if not model:
        return None
    vocab = lib.llama_model_get_vocab(model)
    ids = []
    for run in runs:
        data = run["text"].encode()
        out = (i32 * (2 * len(data) + 16))()
        count = lib.llama_tokenize(vocab, data, len(data), out, len(out), run["special"], run["parse"])
        ids.append(list(out[:count]))
    count = lib.llama_vocab_n_tokens(vocab)
    return {"ids": ids, "ends": [i for i in range(count) if lib.llama_vocab_is_eog(vocab, i)]}


def main():
    if len(sys.argv) == 2:
        json.dump(ask(sys.argv[1], json.load(sys.stdin)), sys.stdout)
        sys.stdout.flush()
        os._exit(0)
    for case in CASES:
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            write_gguf(file.name, case)
            command = [sys.executable, __file__, file.name]
            asked = subprocess.run(command, input=json.dumps(case["runs"]), capture_output=True, text=True)
        answer = json.loads(asked.stdout) if asked.returncode == 0 else None
        case["refused"] = answer is None
        case["ends"] = answer["ends"] if answer else []
        for run, ids in zip(case["runs"], answer["ids"] if answer else []):
            run["ids"] = ids
        case["runs"] = case["runs"] if answer else []
        case["scores"] = case["scores"] and [str(score) for score in case["scores"]]
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in CASES)
    OUT.write_text(f'{{"cases": [\n{lines}\n]}}\n')
    print(f"{len(CASES)} cases, {sum(case['refused'] for case in CASES)} of them refused")


if __name__ == "__main__":
    main()
