"""TAEF2's decoder as ONNX, f32, a file for each size, checked against PyTorch in ONNX Runtime.

    python3 export_onnx.py TAESD_PY TAEF2_DECODER.safetensors OUT_FOLDER

Made with torch 2.15.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0 and safetensors 0.8.0.
"""

import importlib.util
import pathlib
import sys

import onnxruntime
import torch
from safetensors.torch import load_file

# f32 sums in another order: pictures are 0 to 1, so this is a tenth of a step of 8 bits.
TOLERANCE = 4e-4


@torch.no_grad()
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
        latents = torch.randn(1, 32, side, side, generator=torch.Generator().manual_seed(side))
        # Weights in the file itself: the page gives ONNX Runtime Web one file. Operator set 18 is the lowest that
        # current exporters write without a conversion.
        names = {"input_names": ["latents"], "output_names": ["picture"]}
        torch.onnx.export(model, (latents,), str(path), opset_version=18, dynamo=True, external_data=False, **names)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (picture,) = session.run(["picture"], {"latents": latents.numpy()})
        apart = (torch.from_numpy(picture) - model(latents)).abs().max().item()
        print(f"{path}: {path.stat().st_size} bytes, ONNX Runtime within {apart:.1e} of PyTorch")
        assert apart <= TOLERANCE, "the exported model computes something else"


if __name__ == "__main__":
    main(*sys.argv[1:])
