"""Makes a folder that transformers.js loads out of a Llama GGUF: see README.md.

    python3 export.py MODEL.gguf OUT
"""

import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file

import hf_folder

BLOCK = 32
# As current exports: logits of the last position only.
OPTIONS = ["--extra_options", "hf_token=false", "prune_lm_head=true"]
BUILD = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", "model"]
# f32 activations, since an adapter need not have f16. The head has 8 bits, as in the GGUF.
WEBGPU = ["-e", "webgpu", *OPTIONS, "use_webgpu_fp32=true", f"block_size={BLOCK}"]
KINDS = {
    "fp32": ["-p", "fp32", "-e", "cpu", *OPTIONS],
    "q4": ["-p", "int4", *WEBGPU, "algo_config=k_quant", "matmul_mixed_precision=last_matmul:int8", "shared_embeddings=true"],
    "int8": ["-p", "int8", *WEBGPU],
}


def build(hf, out, kind):
    # Its progress bars fill a terminal.
    with open(f"{out}.log", "wb") as log:
        if subprocess.run([*BUILD, "-i", hf, "-o", out, "-c", f"{out}.cache", *KINDS[kind]], stdout=log, stderr=log).returncode:
            raise SystemExit(f"the model builder failed: see {out}.log")
    return os.path.join(out, "model.onnx")


def quantize_embedding(model, table):
    """The builder leaves the table of tokens in f32 beside a head of 8 bits: 113 MB. Here it gets 8 bits too."""
    gather = next(node for node in model.graph.node if node.name == "/model/embed_tokens/Gather")
    blocks = table.reshape(-1, table.shape[1] // BLOCK, BLOCK)
    scales = np.maximum(np.abs(blocks).max(axis=2) / 127, 1e-12).astype(np.float32)
    values = (np.rint(blocks / scales[..., None]) + 128).astype(np.uint8).reshape(table.shape)
    names = ["embed_tokens.weight_Q8", "embed_tokens.weight_scales"]
    for name, array in zip(names, (values, scales)):
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    old, ids = gather.input
    gather.CopyFrom(
        helper.make_node(
            "GatherBlockQuantized", [names[0], ids, names[1]], list(gather.output), name=gather.name, domain="com.microsoft",
            bits=8, block_size=BLOCK, gather_axis=0, quantize_axis=1,
        )
    )
    drop_unused(model, old)


def drop_unused(model, name):
    if any(name in node.input for node in model.graph.node):
        return
    for values in (model.graph.initializer, model.graph.node):
        for value in list(values):
            if (value.name == name) if values is model.graph.initializer else (name in value.output):
                values.remove(value)
                for input in getattr(value, "input", []):
                    drop_unused(model, input)


def main(source, out):
    os.makedirs(os.path.join(out, "onnx"), exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        hf = os.path.join(scratch, "hf")
        hf_folder.main(source, hf)
        for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(os.path.join(hf, name), out)
        table = load_file(os.path.join(hf, "model.safetensors"))["model.embed_tokens.weight"]
        built = {kind: build(hf, os.path.join(scratch, kind), kind) for kind in KINDS}
        dynamic = os.path.join(scratch, "dynamic.onnx")
        quantize_dynamic(built["fp32"], dynamic, weight_type=QuantType.QInt8, per_channel=True)
        # The names are those that transformers.js has for its dtypes: q4, q8 and int8.
        for file, suffix in ((built["q4"], "q4"), (dynamic, "quantized"), (built["int8"], "int8")):
            model = onnx.load(file)
            if suffix != "q4":
                quantize_embedding(model, table)
            target = os.path.join(out, "onnx", f"model_{suffix}.onnx")
            onnx.save(model, f"{target}.part")
            os.replace(f"{target}.part", target)
            print(f"{target}: {os.path.getsize(target) / 1e6:.0f} MB")
        files = [os.path.join(out, "onnx", f"model_{suffix}.onnx") for suffix in ("q4", "quantized", "int8")]
        subprocess.run([sys.executable, os.path.join(os.path.dirname(__file__), "check.py"), out, built["fp32"], *files], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
