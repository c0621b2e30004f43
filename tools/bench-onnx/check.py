"""Continues a chat greedily with ONNX Runtime on the CPU, and compares logits with the f32 export's.

    python3 check.py HF_FOLDER FIRST.onnx OTHER.onnx...
"""

import json
import os
import sys

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

CHAT = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
)
END = 2
TOKENS = 24


class Model:
    def __init__(self, path, head_size):
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        inputs = {value.name: value for value in self.session.get_inputs()}
        self.empty = {
            name: np.zeros([1, value.shape[1], 0, head_size], np.float32)
            for name, value in inputs.items()
            if name.startswith("past_key_values.")
        }
        self.names = [value.name for value in self.session.get_outputs()]

    def run(self, ids, before, cache):
        feed = {"input_ids": np.array([ids], np.int64), "attention_mask": np.ones([1, before + len(ids)], np.int64), **cache}
        out = dict(zip(self.names, self.session.run(None, feed)))
        logits = out.pop("logits")[0]
        return logits, {name.replace("present", "past_key_values"): value for name, value in out.items()}


def read(model, ids):
    """Logits after every token; the exports give those of the last position only."""
    rows, cache = [], model.empty
    for at, token in enumerate(ids):
        logits, cache = model.run([token], at, cache)
        rows.append(logits[-1])
    return np.stack(rows)


def greedy(model, ids):
    logits, cache = model.run(ids, 0, model.empty)
    made = []
    while True:
        token = int(logits[-1].argmax())
        made.append(token)
        if token == END or len(made) == TOKENS:
            return made
        logits, cache = model.run([token], len(ids) + len(made) - 1, cache)


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def main(folder, first, *others):
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        head_size = json.load(file)["head_dim"]
    prompt = tokenizer.encode(CHAT).ids
    model = Model(first, head_size)
    made = greedy(model, prompt)
    print(f"{first}: {tokenizer.decode(made)!r}")
    # The others read what the first wrote, so that all are asked the same.
    text = prompt + made[:-1]
    reference = log_softmax(read(model, text))
    for path in others:
        model = Model(path, head_size)
        answer = greedy(model, prompt)
        theirs = log_softmax(read(model, text))
        divergence = (np.exp(reference) * (reference - theirs)).sum(axis=-1).mean()
        same = (reference.argmax(axis=-1) == theirs.argmax(axis=-1)).mean()
        print(f"{path}: {tokenizer.decode(answer)!r}; KL {divergence:.4f} nats, same first choice at {same:.0%} of {len(text)} positions")


if __name__ == "__main__":
    main(*sys.argv[1:])
