"""AutoencoderKL in float64 numpy, on small seeded weights: an implementation that shares nothing with
Emberglass. Structure: diffusers' models/autoencoders/{autoencoder_kl,vae}.py and models/resnet.py.

    python3 autoencoder_kl.py OUT.json

Weights are made from a generator that is easy to write again (`uniform` of taesd.py), so that only their
names, shapes and scales are kept.
"""

import json
import sys

import numpy as np

from taesd import conv, group_norm, uniform

WIDTHS = [32, 64]
LATENTS = 4
HEIGHT, WIDTH = 5, 7
EPS = 1e-6


def shapes(quant, old_names):
    """Name -> shape of every tensor."""
    all = {}

    def filter(name, outputs, inputs, kernel):
        all[f"{name}.weight"] = (outputs, inputs, kernel, kernel)
        all[f"{name}.bias"] = (outputs,)

    def norm(name, channels):
        all[f"{name}.weight"] = (channels,)
        all[f"{name}.bias"] = (channels,)

    def resnet(name, inputs, outputs):
        norm(f"{name}.norm1", inputs)
        filter(f"{name}.conv1", outputs, inputs, 3)
        norm(f"{name}.norm2", outputs)
        filter(f"{name}.conv2", outputs, outputs, 3)
        if inputs != outputs:
            filter(f"{name}.conv_shortcut", outputs, inputs, 1)

    def middle(name, channels):
        resnet(f"{name}.resnets.0", channels, channels)
        norm(f"{name}.attentions.0.group_norm", channels)
        for part in attention_names(old_names):
            all[f"{name}.attentions.0.{part}.weight"] = (channels, channels)
            all[f"{name}.attentions.0.{part}.bias"] = (channels,)
        resnet(f"{name}.resnets.1", channels, channels)

    filter("encoder.conv_in", WIDTHS[0], 3, 3)
    inputs = WIDTHS[0]
    for i, width in enumerate(WIDTHS):
        resnet(f"encoder.down_blocks.{i}.resnets.0", inputs, width)
        inputs = width
        if i + 1 < len(WIDTHS):
            filter(f"encoder.down_blocks.{i}.downsamplers.0.conv", width, width, 3)
    middle("encoder.mid_block", WIDTHS[-1])
    norm("encoder.conv_norm_out", WIDTHS[-1])
    filter("encoder.conv_out", 2 * LATENTS, WIDTHS[-1], 3)
    filter("decoder.conv_in", WIDTHS[-1], LATENTS, 3)
    middle("decoder.mid_block", WIDTHS[-1])
    inputs = WIDTHS[-1]
    for i, width in enumerate(reversed(WIDTHS)):
        for j in range(2):
            resnet(f"decoder.up_blocks.{i}.resnets.{j}", inputs, width)
            inputs = width
        if i + 1 < len(WIDTHS):
            filter(f"decoder.up_blocks.{i}.upsamplers.0.conv", width, width, 3)
    norm("decoder.conv_norm_out", WIDTHS[0])
    filter("decoder.conv_out", 3, WIDTHS[0], 3)
    if quant:
        filter("quant_conv", 2 * LATENTS, 2 * LATENTS, 1)
        filter("post_quant_conv", LATENTS, LATENTS, 1)
    return dict(sorted(all.items()))


def attention_names(old):
    return ["query", "key", "value", "proj_attn"] if old else ["to_q", "to_k", "to_v", "to_out.0"]


def rule(name, shape):
    """(offset, scale): values are offset + scale * uniform. A variance near 1 / inputs keeps sizes as they are."""
    if len(shape) > 1:
        return 0.0, round(float(np.sqrt(3 / np.prod(shape[1:]))), 6)
    is_gain = name.endswith(".weight")
    return (1.0, 0.25) if is_gain else (0.0, 0.125)


def weights(manifest):
    tensors = {}
    for seed, (name, shape, offset, scale) in enumerate(manifest):
        values = offset + scale * uniform(seed, int(np.prod(shape)))
        # As the file holds them.
        tensors[name] = values.astype(np.float32).astype(np.float64).reshape(shape)
    return tensors


def shrink(x, weight, bias):
    """Stride 2 with one row of zeros below and one column on the right: F.pad(x, (0, 1, 0, 1)), no padding."""
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1)))
    rows, columns = (padded.shape[1] - 3) // 2 + 1, (padded.shape[2] - 3) // 2 + 1
    out = np.zeros((weight.shape[0], rows, columns))
    for ky in range(3):
        for kx in range(3):
            part = padded[:, ky : ky + 2 * rows - 1 : 2, kx : kx + 2 * columns - 1 : 2]
            out += np.einsum("oi,ihw->ohw", weight[:, :, ky, kx], part)
    return out + bias[:, None, None]


def silu(x):
    return x / (1 + np.exp(-x))


class Network:
    def __init__(self, tensors, old_names):
        self.t, self.names = tensors, attention_names(old_names)

    def conv(self, x, name, stride=1):
        return conv(x, self.t[f"{name}.weight"], self.t[f"{name}.bias"], stride)

    def norm(self, x, name):
        return group_norm(x, 32, self.t[f"{name}.weight"], self.t[f"{name}.bias"], EPS)

    def resnet(self, x, name):
        y = self.conv(silu(self.norm(x, f"{name}.norm1")), f"{name}.conv1")
        y = self.conv(silu(self.norm(y, f"{name}.norm2")), f"{name}.conv2")
        return y + (self.conv(x, f"{name}.conv_shortcut") if f"{name}.conv_shortcut.weight" in self.t else x)

    def attention(self, x, name):
        channels, height, width = x.shape
        flat = self.norm(x, f"{name}.group_norm").reshape(channels, -1).T
        linear = lambda y, part: y @ self.t[f"{name}.{part}.weight"].T + self.t[f"{name}.{part}.bias"]
        q, k, v = (linear(flat, part) for part in self.names[:3])
        scores = q @ k.T / np.sqrt(channels)
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        mixed = p / p.sum(axis=1, keepdims=True) @ v
        return x + linear(mixed, self.names[3]).T.reshape(x.shape)

    def middle(self, x, side):
        x = self.resnet(x, f"{side}.mid_block.resnets.0")
        x = self.attention(x, f"{side}.mid_block.attentions.0")
        return self.resnet(x, f"{side}.mid_block.resnets.1")

    def decode(self, z):
        if "post_quant_conv.weight" in self.t:
            z = self.conv(z, "post_quant_conv")
        x = self.middle(self.conv(z, "decoder.conv_in"), "decoder")
        for i in range(len(WIDTHS)):
            for j in range(2):
                x = self.resnet(x, f"decoder.up_blocks.{i}.resnets.{j}")
            if f"decoder.up_blocks.{i}.upsamplers.0.conv.weight" in self.t:
                x = self.conv(x.repeat(2, axis=1).repeat(2, axis=2), f"decoder.up_blocks.{i}.upsamplers.0.conv")
        return self.conv(silu(self.norm(x, "decoder.conv_norm_out")), "decoder.conv_out")

    def encode(self, picture):
        x = self.conv(picture, "encoder.conv_in")
        for i in range(len(WIDTHS)):
            x = self.resnet(x, f"encoder.down_blocks.{i}.resnets.0")
            name = f"encoder.down_blocks.{i}.downsamplers.0.conv"
            if f"{name}.weight" in self.t:
                x = shrink(x, self.t[f"{name}.weight"], self.t[f"{name}.bias"])
        x = self.conv(silu(self.norm(self.middle(x, "encoder"), "encoder.conv_norm_out")), "encoder.conv_out")
        return self.conv(x, "quant_conv") if "quant_conv.weight" in self.t else x


def main(out):
    cases = []
    for quant, old_names in [(True, False), (False, True)]:
        manifest = [(name, shape, *rule(name, shape)) for name, shape in shapes(quant, old_names).items()]
        network = Network(weights(manifest), old_names)
        latent = uniform(900, LATENTS * HEIGHT * WIDTH).reshape(LATENTS, HEIGHT, WIDTH)
        picture = network.decode(latent)
        scene = uniform(901, 3 * 2 * HEIGHT * 2 * WIDTH).reshape(3, 2 * HEIGHT, 2 * WIDTH)
        moments = network.encode(scene)
        flat = lambda x: [round(float(v), 7) for v in x.ravel()]
        cases.append(
            {
                "quant_conv": quant,
                "old_names": old_names,
                "tensors": [{"name": n, "shape": s, "offset": o, "scale": c} for n, s, o, c in manifest],
                "latent": {"seed": 900, "shape": latent.shape},
                "picture": {"shape": picture.shape, "values": flat(picture)},
                "scene": {"seed": 901, "shape": scene.shape},
                "moments": {"shape": moments.shape, "values": flat(moments)},
            }
        )
        print(f"picture {picture.shape}, rms {picture.std():.3f}; moments {moments.shape}, rms {moments.std():.3f}")
    json.dump(cases, open(out, "w"))


if __name__ == "__main__":
    main(*sys.argv[1:])
