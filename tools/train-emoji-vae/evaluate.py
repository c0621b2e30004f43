"""Metrics on the held-out tenth, and sheets to look at. `python evaluate.py PACKAGE_FOLDER MODEL.safetensors SHEETS`.

What is measured are the f16 weights that are shipped, computed in f32."""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

import data
from model import AutoencoderKL

ZOOM = 1


def ssim(a, b):
    """Wang et al., 2004, on luma: Gaussian window of 11, sigma 1.5; pictures of 0 to 1."""
    line = torch.exp(-((torch.arange(11.0) - 5) ** 2) / (2 * 1.5**2))
    window = (line[:, None] * line / line.sum() ** 2)[None, None]
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    a, b = (a * weights).sum(1, True), (b * weights).sum(1, True)
    mean = lambda x: F.conv2d(x, window)
    ma, mb = mean(a), mean(b)
    va, vb, ab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    score = (2 * ma * mb + 1e-4) * (2 * ab + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    return score.flatten(1).mean(1)


def psnr(a, b):
    return -10 * torch.log10(((a - b) ** 2).flatten(1).mean(1))


def sheet(rows, path):
    """Rows of pictures of -1 to 1, with a gap of two pixels."""
    padded = [torch.cat([F.pad(p, (1, 1, 1, 1), value=1.0) for p in row], dim=2) for row in rows]
    pixels = ((torch.cat(padded, dim=1).clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path, optimize=True)


@torch.no_grad()
def main():
    package, weights, sheets = sys.argv[1:]
    tensors = load_file(weights)
    prior = {name: tensors.pop(f"prior.{name}").float() for name in ("mean", "cholesky")}
    model = AutoencoderKL().eval()
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    Path(sheets).mkdir(parents=True, exist_ok=True)
    training, held = data.split(package)
    for name, emoji in [("training", training[:: len(training) // len(held)]), ("held-out", held)]:
        x = data.scaled(torch.stack([e.images[0] for e in emoji]))
        moments = [model.encode(part) for part in x.split(64)]
        mean, logvar = torch.cat([m for m, _ in moments]), torch.cat([v for _, v in moments])
        y = torch.cat([model.decode(z) for z in mean.split(64)])
        a, b = (x + 1) / 2, (y.clamp(-1, 1) + 1) / 2
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1)
        print(f"{name}: {len(x)} emoji, PSNR {psnr(a, b).mean():.2f} dB, SSIM {ssim(a, b).mean():.3f}, KL {kl.mean():.0f} nats")
    rows = []
    for at in range(0, 48, 16):
        rows += [list(x[at : at + 16]), list(y[at : at + 16])]
    sheet(rows, f"{sheets}/reconstructions.png")
    torch.manual_seed(data.SEED)
    noise = torch.randn(64, len(prior["mean"]))
    fitted = (prior["mean"] + 0.8 * noise @ prior["cholesky"].T).view(64, -1, 4, 4)
    plain = (0.8 * noise).view(64, -1, 4, 4)
    rows = [list(model.decode(z)) for z in fitted.split(16)] + [list(model.decode(z)) for z in plain[:32].split(16)]
    sheet(rows, f"{sheets}/samples.png")
    rows = []
    for i in range(6):
        a, b = mean[2 * i], mean[2 * i + 1]
        line = torch.stack([a + (b - a) * s for s in torch.linspace(0, 1, 14)])
        rows.append([x[2 * i], *model.decode(line), x[2 * i + 1]])
    sheet(rows, f"{sheets}/interpolations.png")


if __name__ == "__main__":
    main()
