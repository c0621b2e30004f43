"""Writes the model as f16 safetensors in diffusers' names, with its config and a prior."""

import copy
import json

import torch
from safetensors.torch import save_file

import data
from model import CONFIG


@torch.no_grad()
def export(model, training, folder):
    """Latents are brought to mean 0 and variance 1 in each channel by folding that into the 1 x 1
    convolutions on both sides. The prior is a Gaussian with full covariance fitted to the training
    latents afterwards (Ghosh et al., "From Variational to Deterministic Autoencoders", 2020: ex-post
    density estimation); `prior.mean` and `prior.cholesky` are over (channel, row, column)."""
    model = copy.deepcopy(model).eval()
    images = torch.cat([e.images[:1] for e in training] + [e.images[:1].flip(3) for e in training if e.mirror])
    moments = [model.encode(data.scaled(part)) for part in images.split(64)]
    mean, variance = torch.cat([m for m, _ in moments]), torch.cat([v.exp() for _, v in moments])
    centre = mean.mean((0, 2, 3))
    spread = (mean.var((0, 2, 3)) + variance.mean((0, 2, 3))).sqrt()
    latents = len(centre)
    quant, post = model.quant_conv, model.post_quant_conv
    quant.bias[:latents] -= centre
    quant.weight[:latents] /= spread.view(-1, 1, 1, 1)
    quant.bias[:latents] /= spread
    quant.bias[latents:] -= 2 * spread.log()
    post.bias += post.weight[:, :, 0, 0] @ centre
    post.weight *= spread.view(1, -1, 1, 1)
    flat = ((mean - centre.view(-1, 1, 1)) / spread.view(-1, 1, 1)).flatten(1).double()
    noise = (variance / spread.view(-1, 1, 1) ** 2).flatten(1).mean(0).double()
    covariance = torch.cov(flat.T) + torch.diag(noise)
    tensors = {name: p.half().contiguous() for name, p in model.state_dict().items()}
    tensors["prior.mean"] = flat.mean(0).half()
    tensors["prior.cholesky"] = torch.linalg.cholesky(covariance).half().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "emoji-vae.safetensors", metadata={"config": json.dumps(CONFIG)})
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
