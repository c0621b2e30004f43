"""A photograph to latents and back by the real taesd.py with TAEF2's real weights, in float64.

    python3 photo_torch.py TAESD_PY CHELSEA_PNG MODELS_FOLDER TESTS_FOLDER

Writes photo/chelsea.png, 256 × 256 pixels of the photograph; photo/golden.safetensors, its latents `encoded`;
photo/decoded.png, what the decoder makes of them.
"""

import json
import pathlib
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from generate_torch import load_taesd, tensor, versions

LEFT, TOP, SIDE = 110, 10, 256


def bytes_of(picture):
    return (picture[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2))


def check_existing(model, golden):
    """The numpy reference's golden against the real code."""
    shape = [golden["latent"][key] for key in ("channels", "height", "width")]
    picture = model.decoder(golden["latent"]["scale"] * tensor(golden["seed"], shape))
    encoded = model.encoder(picture.clamp(0, 1))
    for key, value in {"picture": picture, "encoded": encoded}.items():
        values = value.numpy().ravel()[:: golden[key].get("every", 1)]
        print(f"taef2.json: {key} within {np.abs(values - np.array(golden[key]['values'])).max():.1e} of taesd.py")


@torch.no_grad()
def main(taesd_py, photograph, models, tests):
    versions()
    models, tests = pathlib.Path(models), pathlib.Path(tests)
    model = load_taesd(taesd_py).TAESD(None, None, 32, "flux_2")
    model.decoder.load_state_dict(load_file(models / "taef2_decoder.safetensors"))
    model.encoder.load_state_dict(load_file(models / "taef2_encoder.safetensors"))
    out = tests / "photo"
    out.mkdir(exist_ok=True)
    photo = Image.open(photograph).convert("RGB").crop((LEFT, TOP, LEFT + SIDE, TOP + SIDE))
    photo.save(out / "chelsea.png", optimize=True)
    pixels = np.asarray(photo)
    results = {}
    for precision in (torch.float32, torch.float64):
        model.to(precision)
        encoded = model.encoder(torch.from_numpy(pixels.copy()).to(precision).permute(2, 0, 1)[None] / 255)
        # The decoder gets the latents as they are kept.
        results[precision] = encoded.float(), model.decoder(encoded.float().to(precision)).double()
    (encoded32, picture32), (encoded, picture) = results.values()
    save_file({"encoded": encoded[0].contiguous()}, out / "golden.safetensors")
    decoded = bytes_of(picture)
    Image.fromarray(decoded).save(out / "decoded.png", optimize=True)
    print(f"latents {encoded.min():.2f} to {encoded.max():.2f}; picture {picture.min():.3f} to {picture.max():.3f}")
    print(f"float32 apart from float64: latents {(encoded32 - encoded).abs().max():.1e}, "
          f"picture {(picture32 - picture).abs().max():.1e}, 8 bits {psnr(bytes_of(picture32), decoded):.1f} dB")
    print(f"photograph against the picture of its latents: PSNR {psnr(pixels, decoded):.2f} dB")
    check_existing(model, json.loads((tests / "taef2.json").read_text()))


if __name__ == "__main__":
    main(*sys.argv[1:])
