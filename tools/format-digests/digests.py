#!/usr/bin/env python3
"""What llama.cpp makes of random blocks of each weight format, as digests: `tests/data/formats/digests.json`.

    npm pack @node-llama-cpp/linux-x64@3.22.1 && tar xf node-llama-cpp-linux-x64-3.22.1.tgz
    LLAMA_CPP_LIB=package/bins/linux-x64 python3 digests.py > ../../tests/data/formats/digests.json

Needs numpy. llama.cpp 0.5.0-dev commit 0ad4a86, ggml 0.25.1. 64 blocks a format, bytes of SplitMix64 seeded with the
format's number; bit 6 of the byte with an f16's (f32's, bf16's) sign is cleared, so that all values are finite. The digest
is FNV-1a (64 bits) of the values as little-endian f32, with 0 for -0.
"""

import ctypes
import json
import os

import numpy as np

# Name: number, bytes whose bit 6 is cleared.
FORMATS = {
    "F32": (0, [3]), "F16": (1, [1]), "Q4_0": (2, [1]), "Q4_1": (3, [1, 3]), "Q5_0": (6, [1]), "Q5_1": (7, [1, 3]),
    "Q8_0": (8, [1]), "Q2_K": (10, [81, 83]), "Q3_K": (11, [109]), "Q4_K": (12, [1, 3]), "Q5_K": (13, [1, 3]),
    "Q6_K": (14, [209]), "IQ2_XXS": (16, [1]), "IQ2_XS": (17, [1]), "IQ3_XXS": (18, [1]), "IQ1_S": (19, [1]),
    "IQ4_NL": (20, [1]), "IQ3_S": (21, [1]), "IQ2_S": (22, [1]), "IQ4_XS": (23, [1]), "IQ1_M": (29, [55]),
    "BF16": (30, [1]), "TQ1_0": (34, [53]), "TQ2_0": (35, [65]), "MXFP4": (39, [0]), "NVFP4": (40, []),
    "Q1_0": (41, [1]), "Q2_0": (42, [1]),
}  # fmt: skip
BLOCKS = 64
MASK = (1 << 64) - 1


class Traits(ctypes.Structure):
    """The beginning of `struct ggml_type_traits` of ggml.h."""

    _fields_ = [
        ("name", ctypes.c_char_p), ("block_len", ctypes.c_int64), ("interleave", ctypes.c_int64),
        ("block_bytes", ctypes.c_size_t), ("is_quantized", ctypes.c_bool), ("to_float", ctypes.c_void_p),
    ]  # fmt: skip


def random_bytes(seed, count):
    state, out = seed, bytearray()
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out.append((z ^ (z >> 31)) & 255)
    return out


def fnv(data):
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = ((digest ^ byte) * 0x100000001B3) & MASK
    return digest


def main():
    library = ctypes.CDLL(os.path.join(os.environ["LLAMA_CPP_LIB"], "libggml-base.so"))
    library.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
    to_float_type = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    result = {}
    for name, (number, cleared) in FORMATS.items():
        traits = library.ggml_get_type_traits(number).contents
        assert traits.name.decode().upper() == name.upper(), (traits.name, name)
        size = traits.block_bytes
        data = random_bytes(number, BLOCKS * size)
        for start in range(0, len(data), size):
            for at in cleared:
                data[start + at] &= 0xBF
        if number == 0:
            values = np.frombuffer(bytes(data), dtype="<f4").copy()
        else:
            values = np.zeros(BLOCKS * traits.block_len, dtype="<f4")
            source = (ctypes.c_char * len(data)).from_buffer(data)
            to_float = to_float_type(traits.to_float)
            to_float(ctypes.addressof(source), values.ctypes.data, values.size)
        assert np.isfinite(values).all(), name
        result[name] = {
            "ggml": number,
            "block_len": traits.block_len,
            "block_bytes": size,
            "digest": f"{fnv((values + np.float32(0)).tobytes()):016x}",
        }
    print(json.dumps(result, indent=1))


main()
