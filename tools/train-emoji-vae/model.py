"""AutoencoderKL with diffusers' tensor names, small. The runtime's counterpart is
src/model/image/autoencoder_kl.rs; the reference is diffusers' models/autoencoders/vae.py."""

import torch
import torch.nn.functional as F
from torch import nn

WIDTHS = [16, 32, 40, 56, 56]
CONFIG = {
    "_class_name": "AutoencoderKL",
    "in_channels": 3,
    "out_channels": 3,
    # diffusers makes as many blocks as there are types, and one without them.
    "down_block_types": ["DownEncoderBlock2D"] * len(WIDTHS),
    "up_block_types": ["UpDecoderBlock2D"] * len(WIDTHS),
    "block_out_channels": WIDTHS,
    "layers_per_block": 1,
    "latent_channels": 16,
    "norm_num_groups": 8,
    "sample_size": 64,
    "act_fn": "silu",
    "scaling_factor": 1.0,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}
EPS = 1e-6


def norm(channels):
    return nn.GroupNorm(CONFIG["norm_num_groups"], channels, eps=EPS)


class Resnet(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1 = norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x):
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.group_norm = norm(channels)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x):
        n, c, h, w = x.shape
        y = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.to_q(y), self.to_k(y), self.to_v(y)
        y = torch.softmax(q @ k.transpose(1, 2) * c**-0.5, dim=-1) @ v
        return x + self.to_out[0](y).transpose(1, 2).reshape(n, c, h, w)


class Middle(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(channels, channels), Resnet(channels, channels)])
        self.attentions = nn.ModuleList([Attention(channels)])

    def forward(self, x):
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Resize(nn.Module):
    """Halves (zeros only below and on the right) or doubles (nearest) the sides."""

    def __init__(self, channels, down):
        super().__init__()
        self.down = down
        self.conv = nn.Conv2d(channels, channels, 3, stride=2 if down else 1, padding=0 if down else 1)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.down else F.interpolate(x, scale_factor=2))


class Block(nn.Module):
    def __init__(self, inputs, outputs, layers, resize):
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(inputs if i == 0 else outputs, outputs) for i in range(layers)])
        if resize == "down":
            self.downsamplers = nn.ModuleList([Resize(outputs, True)])
        if resize == "up":
            self.upsamplers = nn.ModuleList([Resize(outputs, False)])

    def forward(self, x):
        for resnet in self.resnets:
            x = resnet(x)
        for resize in getattr(self, "downsamplers", getattr(self, "upsamplers", ())):
            x = resize(x)
        return x


class Encoder(nn.Module):
    def __init__(self, widths, layers, latents):
        super().__init__()
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        inputs = [widths[0], *widths[:-1]]
        resize = ["down"] * (len(widths) - 1) + [None]
        self.down_blocks = nn.ModuleList(
            [Block(a, b, layers, r) for a, b, r in zip(inputs, widths, resize)]
        )
        self.mid_block = Middle(widths[-1])
        self.conv_norm_out = norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * latents, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    def __init__(self, widths, layers, latents):
        super().__init__()
        widths = widths[::-1]
        self.conv_in = nn.Conv2d(latents, widths[0], 3, padding=1)
        self.mid_block = Middle(widths[0])
        inputs = [widths[0], *widths[:-1]]
        resize = ["up"] * (len(widths) - 1) + [None]
        self.up_blocks = nn.ModuleList(
            [Block(a, b, layers + 1, r) for a, b, r in zip(inputs, widths, resize)]
        )
        self.conv_norm_out = norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z):
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class AutoencoderKL(nn.Module):
    """Pictures (n, 3, 64, 64) of -1 to 1, latents (n, 16, 4, 4)."""

    def __init__(self):
        super().__init__()
        widths, layers, latents = (CONFIG[k] for k in ("block_out_channels", "layers_per_block", "latent_channels"))
        self.encoder = Encoder(widths, layers, latents)
        self.decoder = Decoder(widths, layers, latents)
        self.quant_conv = nn.Conv2d(2 * latents, 2 * latents, 1)
        self.post_quant_conv = nn.Conv2d(latents, latents, 1)

    def encode(self, x):
        """Mean and log-variance."""
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, z):
        return self.decoder(self.post_quant_conv(z))
