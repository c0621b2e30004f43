"""Lays out a Llama GGUF as a Hugging Face folder: config, tokenizer and f32 safetensors, which exporters read.

    python3 hf_folder.py MODEL.gguf OUT
"""

import json
import os
import sys

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import save_file

LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL = 3  # of tokenizer.ggml.token_type


def unpermute(rows, heads):
    """GGUF has the pairs of RoPE next to each other, Hugging Face in the two halves of a head."""
    outputs, inputs = rows.shape
    pairs = rows.reshape(heads, outputs // heads // 2, 2, inputs)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(outputs, inputs)


def hf_name(name):
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{LAYER[part]}.weight"


def weights(reader, heads, kv_heads):
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if ".attn_q." in tensor.name:
            values = unpermute(values, heads)
        if ".attn_k." in tensor.name:
            values = unpermute(values, kv_heads)
        yield hf_name(tensor.name), values


def config(get):
    hidden, heads = get("llama.embedding_length"), get("llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": get("llama.feed_forward_length"),
        "num_hidden_layers": get("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": get("llama.attention.head_count_kv"),
        "head_dim": hidden // heads,
        "max_position_embeddings": get("llama.context_length"),
        "rms_norm_eps": round(get("llama.attention.layer_norm_rms_epsilon"), 9),
        "rope_theta": get("llama.rope.freq_base"),
        "vocab_size": get("llama.vocab_size"),
        "bos_token_id": get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": get("tokenizer.ggml.padding_token_id"),
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
    }


def tokenizer(get):
    if (get("tokenizer.ggml.model"), get("tokenizer.ggml.pre")) != ("gpt2", "smollm"):
        raise SystemExit("only SmolLM's tokenizer is known here")
    tokens, types = get("tokenizer.ggml.tokens"), get("tokenizer.ggml.token_type")
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": id, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
            for id, (token, kind) in enumerate(zip(tokens, types))
            if kind == CONTROL
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: id for id, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in get("tokenizer.ggml.merges")],
        },
    }


def main(source, out):
    reader = GGUFReader(source)

    def get(key):
        return reader.fields[key].contents()

    if any(tensor.name == "output.weight" for tensor in reader.tensors):
        raise SystemExit("only tied embeddings are known here")
    settings = config(get)
    tokens = get("tokenizer.ggml.tokens")
    ends = {name: settings[f"{name}_token_id"] for name in ("bos", "eos", "pad")}
    files = {
        "config.json": settings,
        "generation_config.json": {f"{name}_token_id": id for name, id in ends.items()},
        "tokenizer.json": tokenizer(get),
        "tokenizer_config.json": {
            "tokenizer_class": "GPT2Tokenizer",
            **{f"{name}_token": tokens[id] for name, id in ends.items()},
            "unk_token": tokens[get("tokenizer.ggml.unknown_token_id")],
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": settings["max_position_embeddings"],
            "chat_template": get("tokenizer.chat_template"),
        },
    }
    os.makedirs(out, exist_ok=True)
    for name, content in files.items():
        with open(os.path.join(out, name), "w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False, indent=None if name == "tokenizer.json" else 1)
    tensors = dict(weights(reader, settings["num_attention_heads"], settings["num_key_value_heads"]))
    save_file(tensors, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})


if __name__ == "__main__":
    main(*sys.argv[1:])
