"""Makes a folder that transformers.js loads out of a Llama GGUF: see README.md.

    python3 export.py MODEL.gguf OUT
"""

import json
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
    "q4": ["-p", "int4", *WEBGPU, "algo_config=k_quant", "matmul_mixed_precision=last_matmul:int8"],
    "int8": ["-p", "int8", *WEBGPU],
}


def build(hf, out, kind):
    # Its progress bars fill a terminal.
    with open(f"{out}.log", "wb") as log:
        if subprocess.run([*BUILD, "-i", hf, "-o", out, "-c", f"{out}.cache", *KINDS[kind]], stdout=log, stderr=log).returncode:
            raise SystemExit(f"the model builder failed: see {out}.log")
    return os.path.join(out, "model.onnx")


def add(model, name, array):
    model.graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def head_table(model):
    """The head's blocks of 8 bits: names of values, scales and zero points (None: all 128)."""
    head = next((node for node in model.graph.node if node.op_type == "MatMulNBits" and "lm_head" in node.name), None)
    return head and [*head.input[1:4], None][:3]


def own_table(model, table):
    blocks = table.reshape(-1, table.shape[1] // BLOCK, BLOCK)
    scales = np.maximum(np.abs(blocks).max(axis=2) / 127, 1e-12).astype(np.float32)
    values = (np.rint(blocks / scales[..., None]) + 128).astype(np.uint8)
    return [add(model, "embed_tokens.values", values), add(model, "embed_tokens.scales", scales), None]


def embed_by_blocks(model, table):
    """Rows of 8-bit blocks, by plain operators: the builder would take f32 rows, 113 MB, or GatherBlockQuantized, which ORT's wasm lacks."""
    values, scales, zeros = head_table(model) or own_table(model, table)
    old = next(node for node in model.graph.node if node.name.startswith("/model/embed_tokens/Gather"))
    ids = next(name for name in old.input if name == "input_ids")
    per_row = add(model, "embed_tokens.per_row", np.array([table.shape[0], table.shape[1] // BLOCK, 1], np.int64))
    wide = add(model, "embed_tokens.wide", np.array([0, 0, table.shape[1]], np.int64))
    nodes = []

    def node(kind, *inputs, output=None, **attributes):
        output = output or f"embed_tokens.{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [output], name=f"/model/embed_tokens/{kind}_{len(nodes)}", **attributes))
        return output

    def floats(row):
        return node("Cast", row, to=onnx.TensorProto.FLOAT)

    row = floats(node("Gather", values, ids))
    zero = floats(node("Gather", node("Reshape", zeros, per_row), ids)) if zeros else add(model, "embed_tokens.zero", np.float32(128))
    scaled = node("Mul", node("Sub", row, zero), node("Gather", node("Reshape", scales, per_row), ids))
    node("Reshape", scaled, wide, output=old.output[0])
    inputs = list(old.input)
    model.graph.node.remove(old)
    for i, made in enumerate(nodes):
        model.graph.node.insert(i, made)
    for name in inputs:
        drop_unused(model, name)


def drop_unused(model, name):
    if name == "input_ids" or any(name in node.input for node in model.graph.node):
        return
    for initializer in [value for value in model.graph.initializer if value.name == name]:
        model.graph.initializer.remove(initializer)
    for node in [node for node in model.graph.node if name in node.output]:
        model.graph.node.remove(node)
        for input in node.input:
            drop_unused(model, input)


def fix_head_size(model, size):
    """transformers.js makes the first, empty cache after these shapes; the builder has a name there."""
    for value in [*model.graph.input, *model.graph.output]:
        if value.name.startswith(("past_key_values.", "present.")):
            value.type.tensor_type.shape.dim[3].dim_value = size


def main(source, out):
    os.makedirs(os.path.join(out, "onnx"), exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        hf = os.path.join(scratch, "hf")
        hf_folder.main(source, hf)
        for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(os.path.join(hf, name), out)
        table = load_file(os.path.join(hf, "model.safetensors"))["model.embed_tokens.weight"]
        with open(os.path.join(hf, "config.json"), encoding="utf-8") as file:
            head_size = json.load(file)["head_dim"]
        built = {kind: build(hf, os.path.join(scratch, kind), kind) for kind in KINDS}
        dynamic = os.path.join(scratch, "dynamic.onnx")
        quantize_dynamic(built["fp32"], dynamic, weight_type=QuantType.QInt8, per_channel=True)
        # The names are those that transformers.js has for its dtypes: q4, q8 and int8.
        for file, suffix in ((built["q4"], "q4"), (dynamic, "quantized"), (built["int8"], "int8")):
            model = onnx.load(file)
            embed_by_blocks(model, table)
            fix_head_size(model, head_size)
            target = os.path.join(out, "onnx", f"model_{suffix}.onnx")
            onnx.save(model, f"{target}.part")
            os.replace(f"{target}.part", target)
            print(f"{target}: {os.path.getsize(target) / 1e6:.0f} MB")
        files = [os.path.join(out, "onnx", f"model_{suffix}.onnx") for suffix in ("q4", "quantized", "int8")]
        subprocess.run([sys.executable, os.path.join(os.path.dirname(__file__), "check.py"), out, built["fp32"], *files], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
