#!/usr/bin/env python3
"""How llama.cpp cuts texts into words, by pre-tokenizer: writes tests/data/pretokenizers.json.

For each text there is a vocabulary in which every part of it is a token, merged from its beginning, so that
tokens are whole words. LLAMA_CPP_LIB is as for vocabularies.py.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from vocabularies import ask, byte_level, write_gguf

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/data/pretokenizers.json"

TEXTS = [
    "I'll GO, 1234567 x", "ABCdef HTTPServer iOS", "don't DON'T we'VEx", "a  b   \n\n c", "  \t x\n", "12345 678",
    "漢字かな 한글", "été Ünï ÀÉ", "!!\n/x", "foo();/\n\nbar", "`~$+=|<", "e\u0301a\u0301 \u0301", "हिन्दी", "<sentinel:12>",
    "IMGIMGABCZ", "½Ⅷ٣123", "ab1234567cd", "$1,234,567.89", "x\u3000y\u00a0z", "\r\n\r\na", "«Да», мир!", "。，、hi",
    "STRAßE ǅx", "a b c\n", " one two", "x  1 22  333", "\n\n  \n", "_x-y_", "👍🏽!", "a'b 'S 's", "１２３４", "ab\u200bc",
    "xx    yy", "  ", "'", "A\n\n\nB \r C",
]  # fmt: skip


# The source of a later llama.cpp (PyPI llama-cpp-python 0.3.36) says ignore_merges for it; 3.22.1 did not yet.
CHANGED_SINCE = ["glm4"]


def names():
    """What `tokenizer.ggml.pre` may be, as src/text/pretokenizer.rs has it."""
    source = (ROOT / "src/text/pretokenizer.rs").read_text()
    table = source[source.index("const NAMED") : source.index("const IGNORE_MERGES")]
    groups = [part.split("]")[0] for part in table.split("&[")[1:] if part.lstrip().startswith('"')]
    found = [name.strip().strip('"') for group in groups for name in group.split(",")]
    return [name for name in found if name and all(c.isalnum() or c in "-_." for c in name)]


def vocabulary(pre, text):
    chars = [character(byte) for byte in text.encode()]
    tokens, merges = [], []
    for start in range(len(chars)):
        for end in range(start + 2, len(chars) + 1):
            word = "".join(chars[start:end])
            if word not in tokens:
                tokens.append(word)
                merges.append(f"{word[:-1]} {word[-1]}")
    return byte_level(pre, tokens, merges, [text], pre=pre), tokens


def character(byte):
    printable = [b for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b]
    others = [b for b in range(256) if b not in printable]
    return chr(byte) if byte in printable else chr(0x100 + others.index(byte))


def cut(pre):
    """Bytes of each token of every text."""
    lengths = []
    for text in TEXTS:
        case, tokens = vocabulary(pre, text)
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            write_gguf(file.name, case)
            answer = ask(file.name, case["runs"])
        if answer is None:
            return None
        lengths.append([1 if i < 256 else len(tokens[i - 256]) for i in answer["ids"][0]])
    return lengths


def write(cuts):
    """A line for each way of cutting, with its names."""
    alike = {}
    for pre, lengths in cuts.items():
        alike.setdefault(json.dumps(lengths, separators=(",", ":")), []).append(pre)
    lines = ",\n".join(f'{{"names": {json.dumps(names)}, "lengths": {lengths}}}' for lengths, names in alike.items())
    OUT.write_text(f'{{"texts": {json.dumps(TEXTS, ensure_ascii=False)},\n"cuts": [\n{lines}\n]}}\n')


def main():
    if len(sys.argv) == 2:
        json.dump(cut(sys.argv[1]), sys.stdout)
        sys.stdout.flush()
        os._exit(0)
    cuts = {}
    for pre in [name for name in names() if name not in CHANGED_SINCE]:
        asked = subprocess.run([sys.executable, __file__, pre], capture_output=True, text=True, errors="replace")
        if asked.returncode != 0:
            raise SystemExit(f"{pre}: {asked.stderr[-2000:]}")
        found = json.loads(asked.stdout)
        if found is None:
            print(f"this llama.cpp does not know {pre}")
        else:
            cuts[pre] = found
    write(cuts)
    print(f"{len(cuts)} pre-tokenizers, {len(TEXTS)} texts")


if __name__ == "__main__":
    main()
