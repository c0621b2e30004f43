"""Noto emoji, 64 x 64, on white, of the npm package emoji-datasource-google."""

import json
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

SEED = 20261124
NO_MIRROR = {"Symbols", "Flags"}  # letters, arrows and flags are other things in a mirror


def picture(path):
    image = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    pixels = np.asarray(Image.alpha_composite(white, image).convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


class Emoji:
    """One base emoji with its skin tones: (variants, 3, 64, 64) bytes."""

    def __init__(self, folder, entry):
        names = [entry["image"]]
        names += sorted({v["image"] for v in entry.get("skin_variations", {}).values()})
        files = [folder / "img/google/64" / name for name in names]
        self.name = entry["short_name"]
        self.mirror = entry["category"] not in NO_MIRROR
        self.images = torch.stack([picture(f) for f in files if f.exists()])


def split(folder):
    """(training, held-out tenth). By base emoji: the skin tones of one are on one side."""
    folder = Path(folder)
    entries = json.loads((folder / "emoji.json").read_text())
    entries = [e for e in entries if (folder / "img/google/64" / e["image"]).exists()]
    entries.sort(key=lambda e: e["unified"])
    random.Random(SEED).shuffle(entries)
    tenth = len(entries) // 10
    return [Emoji(folder, e) for e in entries[tenth:]], [Emoji(folder, e) for e in entries[:tenth]]


def scaled(images):
    """Bytes to -1..1."""
    return images.float() / 127.5 - 1


def epoch(emoji, rng):
    """One variant of each emoji in random order, moved by up to 2 pixels, mirrored where that is harmless."""
    order = list(range(len(emoji)))
    rng.shuffle(order)
    for i in order:
        image = emoji[i].images[rng.randrange(len(emoji[i].images))]
        if emoji[i].mirror and rng.random() < 0.5:
            image = image.flip(2)
        dx, dy = rng.randint(-2, 2), rng.randint(-2, 2)
        image = torch.nn.functional.pad(image.float() - 255, (2, 2, 2, 2))[:, 2 + dy : 66 + dy, 2 + dx : 66 + dx] + 255
        yield image.byte()
