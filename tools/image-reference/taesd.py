"""The TAESD family in float64 numpy, from a safetensors file: an implementation that shares nothing with
Emberglass. Structure: taesd.py of github.com/madebyollin/taesd, commit 5cccb12.

    python3 taesd.py DECODER.safetensors ENCODER.safetensors OUT.json

Decodes a seeded latent and encodes the picture that comes out, and writes both results.
"""

import hashlib
import json
import struct
import sys

import numpy as np

SEED = 20261124
HEIGHT, WIDTH = 6, 9


def read(path):
    data = open(path, "rb").read()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    types = {"F16": np.float16, "F32": np.float32}
    tensors = {}
    for name, info in header.items():
        begin, end = info["data_offsets"]
        values = np.frombuffer(data[8 + length + begin : 8 + length + end], types[info["dtype"]])
        tensors[name] = values.reshape(info["shape"]).astype(np.float64)
    return tensors


def conv(x, weight, bias=None, stride=1):
    """x (C, H, W), zeros around it, as torch's Conv2d(padding=kernel // 2)."""
    outputs, inputs, kernel, _ = weight.shape
    border = kernel // 2
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (border, border), (border, border)))
    rows, columns = (height - 1) // stride + 1, (width - 1) // stride + 1
    out = np.zeros((outputs, rows, columns))
    for ky in range(kernel):
        for kx in range(kernel):
            part = padded[:, ky : ky + (rows - 1) * stride + 1 : stride, kx : kx + (columns - 1) * stride + 1 : stride]
            out += np.einsum("oi,ihw->ohw", weight[:, :, ky, kx], part)
    return out if bias is None else out + bias[:, None, None]


def group_norm(x, groups, gain, bias, eps=1e-5):
    parts = x.reshape(groups, -1)
    mean, variance = parts.mean(axis=1, keepdims=True), parts.var(axis=1, keepdims=True)
    return ((parts - mean) / np.sqrt(variance + eps)).reshape(x.shape) * gain[:, None, None] + bias[:, None, None]


def relu(x):
    return np.maximum(x, 0)


def block(x, tensors, name):
    get = lambda part: tensors.get(f"{name}.{part}")
    if get("pool.0.weight") is not None:
        pooled = group_norm(conv(x, get("pool.0.weight")), 4, get("pool.1.weight"), get("pool.1.bias"))
        x = x + conv(relu(pooled), get("pool.3.weight"))
    y = relu(conv(x, get("conv.0.weight"), get("conv.0.bias")))
    y = relu(conv(y, get("conv.2.weight"), get("conv.2.bias")))
    y = conv(y, get("conv.4.weight"), get("conv.4.bias"))
    skip = x if get("skip.weight") is None else conv(x, get("skip.weight"))
    return relu(y + skip)


def layers(tensors):
    return sorted({int(name.split(".")[0]) for name in tensors})


def decode(latent, tensors):
    numbers = layers(tensors)
    x = np.tanh(latent / 3) * 3
    for number in numbers:
        weight, bias = tensors.get(f"{number}.weight"), tensors.get(f"{number}.bias")
        if weight is None:
            x = block(x, tensors, str(number))
        elif number == numbers[0]:
            x = relu(conv(x, weight, bias))
        elif bias is None:
            x = conv(x.repeat(2, axis=1).repeat(2, axis=2), weight)
        else:
            x = conv(x, weight, bias)
    return x


def encode(picture, tensors):
    x = picture
    for number in layers(tensors):
        weight, bias = tensors.get(f"{number}.weight"), tensors.get(f"{number}.bias")
        if weight is None:
            x = block(x, tensors, str(number))
        else:
            x = conv(x, weight, bias, stride=2 if bias is None else 1)
    return x


def uniform(seed, count):
    """SplitMix64 (Steele, Lea and Flood, 2014): the top 24 bits of the i-th output, in [-1, 1)."""
    mask = (1 << 64) - 1
    values = []
    for i in range(1, count + 1):
        z = (seed + i * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
        values.append((z >> 40) / (1 << 23) - 1)
    return np.array(values)


def main(decoder_file, encoder_file, out):
    decoder, encoder = read(decoder_file), read(encoder_file)
    channels = decoder[f"{layers(decoder)[0]}.weight"].shape[1]
    # Uniform in [-3, 3): wider than latents are, so that the clamp matters.
    latent = 3 * uniform(SEED, channels * HEIGHT * WIDTH).reshape(channels, HEIGHT, WIDTH)
    picture = decode(latent, decoder)
    again = encode(np.clip(picture, 0, 1), encoder)
    flat = lambda x: [round(float(v), 7) for v in x.ravel()]
    digest = lambda path: hashlib.sha256(open(path, "rb").read()).hexdigest()
    # Every seventh value of the picture: enough to see any mistake, and small.
    golden = {
        "decoder_sha256": digest(decoder_file),
        "encoder_sha256": digest(encoder_file),
        "seed": SEED,
        "latent": {"channels": channels, "height": HEIGHT, "width": WIDTH, "scale": 3},
        "picture": {"shape": list(picture.shape), "every": 7, "values": flat(picture)[::7]},
        "encoded": {"shape": list(again.shape), "values": flat(again)},
    }
    json.dump(golden, open(out, "w"))
    print(f"picture {picture.shape}, {picture.min():.3f} to {picture.max():.3f}; encoded {again.shape}")


if __name__ == "__main__":
    main(*sys.argv[1:])
