#!/usr/bin/env python3
"""Perplexity of a Llama GGUF on tests/data/alice.txt, in float64 numpy. Shares nothing with Emberglass: see README.md."""

import argparse
import hashlib
import json
import re
import sys
import time
from pathlib import Path

import reference
from reference import ROOT, Llama
import numpy as np  # after reference, which sets the number of its threads

TEXT = ROOT / "tests/data/alice.txt"
SUMMARY = ROOT / "tests/data/perplexity.json"
WINDOW = 512
RECIPE = (
    "windows of 512 tokens, each with an empty context and no token in front; nll[w] is the mean, in nats, of the "
    "negative log-likelihoods of its tokens 1 to 511, each given all before it; perplexity is exp of the mean of nll"
)


def tokenize(text, pieces, merges):
    """Byte-level BPE with the pre-tokenizer "smollm" (single digits, then GPT-2's words), for ASCII text."""
    if not text.isascii():
        sys.exit("only ASCII text can be cut into words here")
    # Printable ASCII stands for itself; a space is U+0120, a newline U+010A: 256 and the number of the byte.
    spell = lambda word: [c if 33 <= ord(c) < 127 else chr(256 + ord(c)) for c in word]
    ids = {piece: i for i, piece in enumerate(pieces)}
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
    words = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+|[0-9]| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")
    tokens, known = [], {}
    for word in words.findall(text):
        if word not in known:
            parts = spell(word)
            while len(parts) > 1:
                rank, at = min((ranks.get(pair, len(ranks)), i) for i, pair in enumerate(zip(parts, parts[1:])))
                if rank == len(ranks):
                    break
                parts[at : at + 2] = [parts[at] + parts[at + 1]]
            known[word] = [ids[part] for part in parts]
        tokens += known[word]
    return tokens


def mean_nll(model, window):
    """Mean negative log-likelihood of all tokens of a window but the first."""
    logits = model.forward(window[:-1], [])
    top = logits.max(axis=-1)
    likelihood = logits[np.arange(len(logits)), window[1:]] - top - np.log(np.exp(logits - top[:, None]).sum(axis=-1))
    return float(-likelihood.mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, type=Path, help="the GGUF file")
    parser.add_argument("--json", default=SUMMARY, type=Path, metavar="FILE", help="where the result goes")
    parser.add_argument("--check", type=Path, metavar="FILE", help="compare with this result and write no other; exit 1 if they differ")
    args = parser.parse_args()

    started = time.monotonic()
    model = Llama(args.model, split=0)
    reader = reference.GGUFReader(args.model)
    if reader.fields["tokenizer.ggml.pre"].contents() != "smollm":
        sys.exit(f"{args.model}: the pre-tokenizer is not smollm")
    tokens = tokenize(TEXT.read_text("ascii"), model.pieces, reader.fields["tokenizer.ggml.merges"].contents())
    whole = len(tokens) // WINDOW * WINDOW
    print(f"{len(tokens)} tokens, {whole // WINDOW} windows of {WINDOW}")
    nll = []
    for start in range(0, whole, WINDOW):
        nll.append(round(mean_nll(model, tokens[start : start + WINDOW]), 9))
        print(f"  {nll[-1]:.9f} after {time.monotonic() - started:.1f} s", flush=True)
    result = {
        "model": {"file": args.model.name, "sha256": hashlib.sha256(args.model.read_bytes()).hexdigest()},
        "text": {"file": TEXT.name, "sha256": hashlib.sha256(TEXT.read_bytes()).hexdigest()},
        "recipe": RECIPE,
        "window": WINDOW,
        "windows": len(nll),
        "perplexity": round(float(np.exp(np.mean(nll))), 6),
        "nll": nll,
        "tokens": tokens[:whole],
    }
    print(f"perplexity {result['perplexity']}")
    if args.check:
        changed = reference.differences(json.loads(args.check.read_text("utf-8")), result)
        if changed:
            sys.exit(f"differs from {args.check} at: {', '.join(changed)}")
        print(f"matches {args.check}")
    else:
        fields = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in result.items()]
        args.json.write_text("{\n" + ",\n".join(fields) + "\n}\n", "utf-8")
        print(f"wrote {args.json}")


if __name__ == "__main__":
    main()
