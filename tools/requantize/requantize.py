"""Writes a GGUF model anew with all matrices in another type, for benches beside other engines.

    python3 requantize.py MODEL.gguf Q8_0 OUT.gguf

Weights are dequantized to f32 and quantized again by the `gguf` package, so the file is a little worse
than one made from the original weights; its speed is the same. Vectors stay F32, metadata and tokenizer
are copied as they are.
"""

import os
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize

FILE_TYPES = {"Q8_0": LlamaFileType.MOSTLY_Q8_0, "Q4_0": LlamaFileType.MOSTLY_Q4_0}
# Half a step as a share of the block's largest value: 1/127 of it with 8 bits, 1/8 with 4; the scale is
# rounded to f16, and Q4_0 cuts the end of its range that has no step of its own.
LARGEST_ERROR = {"Q8_0": 0.5 / 127 + 0.001, "Q4_0": 1 / 8 + 0.001}


def copy_metadata(reader, writer, file_type):
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        value_type = field.types[0]
        value = field.contents()
        if field.name == "general.file_type":
            value = int(file_type)
        sub_type = field.types[-1] if value_type == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value, value_type, sub_type=sub_type)


def check(name, values, again, limit):
    blocks = values.reshape(-1, 32)
    error = np.abs(blocks - again.reshape(-1, 32)).max(axis=1)
    if not np.all(error <= limit * np.abs(blocks).max(axis=1) + 1e-7):
        raise SystemExit(f"{name}: values are further off than the format allows")


def main(source, type_name, target):
    quantization = GGMLQuantizationType[type_name]
    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    # The file appears whole or not at all.
    unfinished = f"{target}.part"
    writer = GGUFWriter(unfinished, architecture)
    copy_metadata(reader, writer, FILE_TYPES[type_name])
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if values.ndim < 2:
            writer.add_tensor(tensor.name, values)
            continue
        packed = quantize(values, quantization)
        check(tensor.name, values, dequantize(packed, quantization), LARGEST_ERROR[type_name])
        writer.add_tensor(tensor.name, packed, raw_dtype=quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(unfinished, target)


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[2] not in FILE_TYPES:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
