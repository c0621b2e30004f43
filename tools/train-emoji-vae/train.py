"""Trains the default image model. `python train.py PACKAGE_FOLDER OUT_FOLDER --minutes 60`."""

import argparse
import copy
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import data
from export import export
from model import AutoencoderKL

BATCH = 32
PEAK_RATE = 2e-3
KL_WEIGHT = 3e-4  # of the squared error summed over a picture, per nat: chosen by the sheets
EMA = 0.998


def differences(x):
    """Steps to the right and downwards: what blur loses first."""
    return torch.cat([(x[..., 1:] - x[..., :-1]).flatten(1), (x[:, :, 1:] - x[:, :, :-1]).flatten(1)], 1)


def loss_of(model, x, kl_weight):
    mean, logvar = model.encode(x)
    z = mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)
    y = model.decode(z)
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1).mean()
    small, wanted = F.avg_pool2d(y, 4), F.avg_pool2d(x, 4)
    errors = F.l1_loss(y, x) + F.mse_loss(y, x) + F.mse_loss(small, wanted)
    errors = errors + 0.5 * F.l1_loss(differences(y), differences(x))
    return errors + kl_weight * kl, kl


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("package")
    parser.add_argument("out")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(data.SEED)
    torch.set_num_threads(args.threads)
    rng = random.Random(data.SEED)
    training, _ = data.split(args.package)
    model = AutoencoderKL().to(memory_format=torch.channels_last)
    average = copy.deepcopy(model)
    print(sum(p.numel() for p in model.parameters()), "parameters;", len(training), "emoji", torch.__version__, flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_RATE, betas=(0.9, 0.99), weight_decay=1e-3)
    begin, step, exported = time.time(), 0, time.time()
    spent = 0.0
    while spent < 1:
        batch = []
        for image in data.epoch(training, rng):
            batch.append(image)
            if len(batch) < BATCH:
                continue
            x = data.scaled(torch.stack(batch)).to(memory_format=torch.channels_last)
            batch = []
            # The schedule follows the clock: the same script fits any machine's hour.
            spent = (time.time() - begin) / (60 * args.minutes)
            rate = PEAK_RATE * min(1, (step + 1) / 100) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(spent, 1))))
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss, kl = loss_of(model, x, KL_WEIGHT * min(1, 4 * spent))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            keep = min(EMA, step / (step + 10))
            with torch.no_grad():
                for a, p in zip(average.parameters(), model.parameters()):
                    a.lerp_(p, 1 - keep)
            if step % 50 == 0:
                print(f"{step} {spent:.3f} loss {loss.item():.4f} kl {kl.item():.1f} {step * BATCH / (time.time() - begin):.1f} images/s", flush=True)
            if time.time() - exported > 480:
                export(average, training, Path(args.out))
                exported = time.time()
    export(average, training, Path(args.out))


if __name__ == "__main__":
    main()
