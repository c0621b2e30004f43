"""TAEF2's decoder as ONNX, f32, a file for each size, checked in ONNX Runtime against the f64 decoder of ../image-reference.

    python3 export_onnx.py TAEF2_DECODER.safetensors OUT_FOLDER

Made with numpy 2.4.6, onnx 1.23.2 and onnxruntime 1.32.0.
"""

import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "image-reference"))
import taesd  # noqa: E402

CHANNELS, SCALE = 32, 8
SIDES = (8, 32, 64)
# f32 sums in another order: pictures are 0 to 1, so this is a tenth of a step of 8 bits.
TOLERANCE = 4e-4


class Network:
    """Operators one after the other; each returns the name of its output."""

    def __init__(self, tensors):
        self.tensors, self.nodes, self.constants = tensors, [], {}

    def op(self, kind, *inputs, **attributes):
        output = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, name, values):
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def conv(self, x, name):
        weight, bias = self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias")
        inputs = [self.constant(f"{name}.weight", weight.astype(np.float32))]
        if bias is not None:
            inputs.append(self.constant(f"{name}.bias", bias.astype(np.float32)))
        return self.op("Conv", x, *inputs, kernel_shape=list(weight.shape[2:]), pads=[weight.shape[2] // 2] * 4)

    def relu(self, x):
        return self.op("Relu", x)

    def group_norm(self, x, name, groups):
        """Operator set 18 has a GroupNormalization with a gain for each group only."""
        parts = self.op("Reshape", x, self.constant("parts", np.array([0, groups, -1], np.int64)))
        one, zero = self.constant("one", np.ones(groups, np.float32)), self.constant("zero", np.zeros(groups, np.float32))
        flat = self.op("InstanceNormalization", parts, one, zero, epsilon=1e-5)
        y = self.op("Reshape", flat, self.op("Shape", x))
        for kind, part in (("Mul", "weight"), ("Add", "bias")):
            each = self.tensors[f"{name}.{part}"].astype(np.float32)[:, None, None]
            y = self.op(kind, y, self.constant(f"{name}.{part}", each))
        return y

    def block(self, x, name):
        if f"{name}.pool.0.weight" in self.tensors:
            pooled = self.relu(self.group_norm(self.conv(x, f"{name}.pool.0"), f"{name}.pool.1", 4))
            x = self.op("Add", x, self.conv(pooled, f"{name}.pool.3"))
        y = self.relu(self.conv(x, f"{name}.conv.0"))
        y = self.relu(self.conv(y, f"{name}.conv.2"))
        y = self.conv(y, f"{name}.conv.4")
        skip = self.conv(x, f"{name}.skip") if f"{name}.skip.weight" in self.tensors else x
        return self.relu(self.op("Add", y, skip))

    def twice(self, x):
        scales = self.constant("scales", np.array([1, 1, 2, 2], np.float32))
        return self.op("Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")

    def decode(self):
        three = self.constant("three", np.float32(3))
        x = self.op("Mul", self.op("Tanh", self.op("Div", "latents", three)), three)
        numbers = taesd.layers(self.tensors)
        for number in numbers:
            if f"{number}.weight" not in self.tensors:
                x = self.block(x, number)
            elif number == numbers[0]:
                x = self.relu(self.conv(x, number))
            else:
                x = self.conv(x if f"{number}.bias" in self.tensors else self.twice(x), number)
        self.nodes[-1].output[0] = "picture"

    def model(self, side):
        shapes = {"latents": [1, CHANNELS, side, side], "picture": [1, 3, SCALE * side, SCALE * side]}
        ends = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
        graph = helper.make_graph(self.nodes, "taef2", [ends["latents"]], [ends["picture"]], list(self.constants.values()))
        # The lowest that ONNX Runtime Web takes with this operator set.
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def main(weights, out):
    tensors = taesd.read(weights)
    network = Network(tensors)
    network.decode()
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for side in SIDES:
        path = out / f"taef2_decoder_{side}.onnx"
        onnx.save(network.model(side), path)
        latents = np.random.default_rng(side).standard_normal((1, CHANNELS, side, side), np.float32)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (picture,) = session.run(["picture"], {"latents": latents})
        # The f64 decoder is slow: the small size stands for all.
        if side == min(SIDES):
            apart = np.abs(picture[0] - taesd.decode(latents[0].astype(np.float64), tensors)).max()
            print(f"{path}: within {apart:.1e} of f64")
            assert apart <= TOLERANCE, "the exported model computes something else"


if __name__ == "__main__":
    main(*sys.argv[1:])
