"""TAEF2's decoder as ONNX, f32, of one size a file.

    python3 export_onnx.py TAESD_PY TAEF2_DECODER.safetensors OUT_FOLDER
"""

import importlib.util
import pathlib
import sys

import torch
from safetensors.torch import load_file


def main(taesd_py, weights, out):
    spec = importlib.util.spec_from_file_location("taesd", taesd_py)
    taesd = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(taesd)
    model = taesd.TAESD(None, None, 32, "flux_2").decoder.eval()
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()})
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for side in (8, 32, 64):
        path = out / f"taef2_decoder_{side}.onnx"
        torch.onnx.export(model, torch.zeros(1, 32, side, side), str(path), opset_version=16, input_names=["latents"], output_names=["picture"])
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main(*sys.argv[1:])
