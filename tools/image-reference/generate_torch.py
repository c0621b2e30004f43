"""References of the image models from the real code: diffusers' AutoencoderTiny and AutoencoderKL, and the
taesd.py of github.com/madebyollin/taesd, on small seeded weights, in float64. README.md has the commands.

    python3 generate_torch.py TAESD_PY OUT_FOLDER

A folder a case:

- golden.safetensors, f32: `latent` → `picture` by the decoder, `scene` → `encoded` or `moments` by the encoder
- diffusers only: config.json
- the weights: diffusion_pytorch_model.safetensors as diffusers writes it, or weights.json: names, shapes and
  the rule of every tensor, as in autoencoder_kl.json
"""

import hashlib
import importlib.util
import json
import pathlib
import shutil
import sys
import tempfile

import diffusers
import numpy as np
import safetensors
import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2, AutoencoderTiny, Flux2Pipeline
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from safetensors.torch import load_file, save_file

from autoencoder_kl import rule

# Commit 5cccb12dc72074a4be35680c3b108548a7c69978.
TAESD_SHA256 = "6ba2db17ca73c2eac735060dd890719c2bcf09734eb85cc0c6d8b86052ee4220"
WEIGHTS = "diffusion_pytorch_model.safetensors"
LATENT_SEED, SCENE_SEED = 900, 901
# A batch norm's number of batches, an integer that computes nothing.
COUNTER = "num_batches_tracked"
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def uniform(seed, count):
    """`uniform` of taesd.py for millions of values."""
    z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / (1 << 23) - 1


def seeded(module):
    """Gives a module its weights. Returns what describes them: tensor i of the sorted names is
    offset + scale * uniform(seed = i), rounded to f32, and the digest is of all of them in that order."""
    state, tensors, digest = {}, [], hashlib.sha256()
    kept = {k: v for k, v in module.state_dict().items() if k.endswith(COUNTER)}
    for seed, (name, old) in enumerate(sorted((k, v) for k, v in module.state_dict().items() if k not in kept)):
        offset, scale = (1.0, 0.5) if name == "bn.running_var" else rule(name, old.shape)
        values = (offset + scale * uniform(seed, old.numel())).astype("<f4")
        digest.update(values.tobytes())
        state[name] = torch.from_numpy(values).reshape(old.shape)
        tensors.append({"name": name, "shape": list(old.shape), "offset": offset, "scale": scale})
    module.load_state_dict({**state, **kept})
    return {"sha256": digest.hexdigest(), "tensors": tensors}


def tensor(seed, shape):
    return torch.from_numpy(uniform(seed, int(np.prod(shape)))).float().double().reshape(1, *shape)


def write_golden(folder, key, latent, scene, decode, encode, **more):
    with torch.no_grad():
        picture, code = decode(latent), encode(scene)
    tensors = {"latent": latent, "picture": picture, "scene": scene, key: code, **more}
    save_file({k: v[0].float().contiguous() for k, v in tensors.items()}, folder / "golden.safetensors")
    about = lambda v: f"{list(v.shape[1:])} {v.min():.2f} to {v.max():.2f}, rms {v.square().mean().sqrt():.2f}"
    print(f"{folder.name}: picture {about(picture)}; {key} {about(code)}")


def write_list(folder, files):
    """weights.json, one line a tensor."""
    lines = lambda tensors: ",\n".join(json.dumps(t) for t in tensors)
    parts = [f'{{"sha256": "{f["sha256"]}", "tensors": [\n{lines(f["tensors"])}\n]}}' for f in files]
    (folder / "weights.json").write_text('{"files": [\n' + ",\n".join(parts) + "\n]}\n")
    for f in files:
        print(f"{folder.name}: weights {f['sha256']}")


def diffusers_case(out, name, make, config, keep=None, old_names=False):
    """`keep`: the dtype of the weights that are kept in a file; without it they are only described."""
    folder = out / name
    model = make(**config)
    described = seeded(model)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        model.to(keep or torch.float32).save_pretrained(scratch)
        if old_names:
            described = rename(scratch / WEIGHTS, described)
        shutil.copy(scratch / "config.json", folder)
        if keep:
            shutil.copy(scratch / WEIGHTS, folder)
        else:
            write_list(folder, [described])
        # As a user of diffusers gets it from these files.
        given, model = model, make.from_pretrained(scratch, torch_dtype=torch.float64, low_cpu_mem_usage=False)
    for key, value in model.state_dict().items():
        assert torch.equal(value, given.state_dict()[key].double()), key
    channels = model.config.latent_channels
    tiny = make is AutoencoderTiny
    stages = len(model.config.decoder_block_out_channels if tiny else model.config.block_out_channels)
    scale = 2 ** (stages - 1)
    latent = (4 if tiny else 2) * tensor(LATENT_SEED, (channels, 3, 5))
    scene = tensor(SCENE_SEED, (3, 3 * scale, 2 * scale))
    encode = lambda x: model.encode(x).latents if tiny else model.encode(x).latent_dist.parameters
    write_golden(folder, "encoded" if tiny else "moments", latent, scene, lambda z: model.decode(z).sample, encode)


def rename(path, described):
    """Attention under the names it had before diffusers 0.18, which diffusers still reads."""

    def old(name):
        for new, before in OLD_NAMES.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{before}.")
        return name

    state = {old(name): value for name, value in load_file(path).items()}
    save_file(state, path, {"format": "pt"})
    return {**described, "tensors": [{**t, "name": old(t["name"])} for t in described["tensors"]]}


def original_name(name, stages):
    """diffusers' name of a tensor of an AutoencoderKL as the original code has it: the other way round than
    diffusers' own conversion, which `original_names` holds it against."""
    resnet = lambda rest: rest.replace("conv_shortcut", "nin_shortcut")
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    side, _, rest = name.partition(".")
    if rest.startswith("mid_block.attentions.0."):
        layer, _, kind = rest.removeprefix("mid_block.attentions.0.").rpartition(".")
        return f"{side}.mid.attn_1.{attention[layer]}.{kind}"
    if rest.startswith("mid_block.resnets."):
        number, rest = rest.removeprefix("mid_block.resnets.").split(".", 1)
        return f"{side}.mid.block_{int(number) + 1}.{resnet(rest)}"
    if rest.startswith(("down_blocks.", "up_blocks.")):
        blocks, number, part, index, rest = rest.split(".", 4)
        way = blocks.removesuffix("_blocks")
        number = int(number) if way == "down" else stages - 1 - int(number)
        return f"{side}.{way}.{number}." + (f"block.{index}.{resnet(rest)}" if part == "resnets" else f"{way}sample.{rest}")
    return name.replace("conv_norm_out", "norm_out")


def original_names(folder, config, prefix):
    """original_names.json: what the original code calls each tensor of a case. Its linear layers of the attention are
    1 x 1 convolutions there."""
    model = AutoencoderKL(**config)
    stages, state = len(config["block_out_channels"]), model.state_dict()
    names = {name: prefix + original_name(name, stages) for name in sorted(state)}
    old = {
        names[name]: value[:, :, None, None] if ".attentions." in name and value.dim() == 2 else value
        for name, value in state.items()
    }
    new = convert_ldm_vae_checkpoint(old, model.config)
    assert new.keys() == state.keys(), new.keys() ^ state.keys()
    assert all(torch.equal(new[name], value) for name, value in state.items())
    (folder / "original_names.json").write_text(json.dumps(names, indent=0) + "\n")


def flux2_case(out, name, config):
    """AutoencoderKLFlux2, and its pipeline's way from a diffusion model's latents to the decoder's. `diffusion` is what
    the diffusion model gives, with the 2 x 2 positions of a patch unfolded; `latent` is what the pipeline makes of it."""
    folder = out / name
    model = AutoencoderKLFlux2(**config)
    described = seeded(model)
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        shutil.copy(pathlib.Path(scratch) / "config.json", folder)
    write_list(folder, [described])
    model.double()
    unfold = Flux2Pipeline._unpatchify_latents
    patches = 2 * tensor(LATENT_SEED, (4 * config["latent_channels"], 2, 3))
    std = torch.sqrt(model.bn.running_var.view(1, -1, 1, 1) + model.config.batch_norm_eps)
    mean = model.bn.running_mean.view(1, -1, 1, 1)
    latent, scene = unfold(patches * std + mean), tensor(SCENE_SEED, (3, 8, 4))
    decode = lambda z: model.decode(z).sample
    encode = lambda x: model.encode(x).latent_dist.parameters
    write_golden(folder, "moments", latent, scene, decode, encode, diffusion=unfold(patches))


def taesd_case(out, name, taesd, file_name, latents, scenes, one_file=False):
    """As shipped: a state dict of the encoder and one of the decoder; `one_file`: that of the class TAESD."""
    folder = out / name
    channels, variant = taesd.TAESD.guess_latent_channels_and_arch(None, file_name)
    model = taesd.TAESD(None, None, channels, variant)
    write_list(folder, [seeded(model)] if one_file else [seeded(model.decoder), seeded(model.encoder)])
    model.double()
    latent = 4 * tensor(LATENT_SEED, (channels, *latents))
    scene = (tensor(SCENE_SEED, (3, *scenes)) + 1) / 2
    write_golden(folder, "encoded", latent, scene, model.decoder, model.encoder)


def check_existing(cases):
    """The numpy reference's AutoencoderKL golden against diffusers."""
    for case in cases:
        quant = case["quant_conv"]
        model = AutoencoderKL(
            **kl([32, 64], 1), latent_channels=4, use_quant_conv=quant, use_post_quant_conv=quant
        )
        seeded_as = {}
        for seed, t in enumerate(case["tensors"]):
            values = (t["offset"] + t["scale"] * uniform(seed, int(np.prod(t["shape"])))).astype("<f4")
            name = t["name"]
            for new, before in OLD_NAMES.items():
                name = name.replace(f"attentions.0.{before}.", f"attentions.0.{new}.")
            seeded_as[name] = torch.from_numpy(values).reshape(t["shape"])
        model.load_state_dict(seeded_as)
        model.double()
        with torch.no_grad():
            got = {
                "picture": model.decode(tensor(case["latent"]["seed"], case["latent"]["shape"])).sample,
                "moments": model.encode(tensor(case["scene"]["seed"], case["scene"]["shape"])).latent_dist.parameters,
            }
        for key, value in got.items():
            apart = np.abs(value.numpy().ravel() - np.array(case[key]["values"])).max()
            print(f"autoencoder_kl.json, quant_conv {quant}: {key} within {apart:.1e} of diffusers")


def kl(widths, layers):
    n = len(widths)
    return {
        "down_block_types": ["DownEncoderBlock2D"] * n,
        "up_block_types": ["UpDecoderBlock2D"] * n,
        "block_out_channels": widths,
        "layers_per_block": layers,
    }


def load_taesd(path):
    digest = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
    assert digest == TAESD_SHA256, f"another taesd.py: {digest}"
    spec = importlib.util.spec_from_file_location("original_taesd", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def versions():
    for module in (torch, diffusers, safetensors, np):
        print(module.__name__, module.__version__)


def main(taesd_py, out):
    versions()
    diffusers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    out, taesd = pathlib.Path(out), load_taesd(taesd_py)
    names = ["taesd", "taesd3", "taef2", "taesana", "tiny_4", "tiny_16", "kl_sd1", "kl_sdxl", "kl_sd3", "kl_flux1"]
    for name in [*names, "kl_flux2", "kl_8_groups", "kl_old_names", "kl_no_attention"]:
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name).mkdir(parents=True)

    taesd_case(out, "taesd", taesd, "taesd_encoder.pth", (5, 3), (16, 24))
    taesd_case(out, "taesd3", taesd, "taesd3_encoder.pth", (3, 5), (24, 16), one_file=True)
    taesd_case(out, "taef2", taesd, "taef2_encoder.pth", (5, 3), (16, 24))
    taesd_case(out, "taesana", taesd, "taesana_encoder.pth", (2, 3), (32, 64))

    tiny = lambda width, encoder, decoder: {
        "encoder_block_out_channels": [width] * len(encoder),
        "decoder_block_out_channels": [width] * len(decoder),
        "num_encoder_blocks": encoder,
        "num_decoder_blocks": decoder,
    }
    half, brain, single = torch.float16, torch.bfloat16, torch.float32
    diffusers_case(out, "tiny_4", AutoencoderTiny, tiny(8, [1, 3, 3, 3], [3, 3, 3, 1]), keep=half)
    sixteen = {**tiny(12, [1, 1, 2], [2, 1, 1]), "latent_channels": 16}
    diffusers_case(out, "tiny_16", AutoencoderTiny, sixteen, keep=brain)

    plain = {"use_quant_conv": False, "use_post_quant_conv": False, "latent_channels": 16}
    sd3 = {**plain, "scaling_factor": 1.5305, "shift_factor": 0.0609}
    flux1 = {**plain, "scaling_factor": 0.3611, "shift_factor": 0.1159}
    few = {"norm_num_groups": 8, "scaling_factor": 0.5}
    without = {"norm_num_groups": 4, "mid_block_add_attention": False, "latent_channels": 8}
    diffusers_case(out, "kl_sd1", AutoencoderKL, kl([32, 64, 64, 64], 2))
    diffusers_case(out, "kl_sdxl", AutoencoderKL, {**kl([32, 32, 64, 64], 2), "scaling_factor": 0.13025})
    diffusers_case(out, "kl_sd3", AutoencoderKL, {**kl([32, 64, 64, 32], 1), **sd3})
    diffusers_case(out, "kl_flux1", AutoencoderKL, {**kl([32, 32, 32, 64], 2), **flux1})
    diffusers_case(out, "kl_8_groups", AutoencoderKL, {**kl([24, 40], 1), **few})
    diffusers_case(out, "kl_old_names", AutoencoderKL, kl([32, 64], 1), old_names=True)
    diffusers_case(out, "kl_no_attention", AutoencoderKL, {**kl([8, 12], 1), **without}, keep=single)
    original_names(out / "kl_sd1", {**kl([32, 64, 64, 64], 2)}, "first_stage_model.")
    flux2_case(out, "kl_flux2", {**kl([32, 64], 1), "latent_channels": 4})
    check_existing(json.loads((out.parent / "autoencoder_kl.json").read_text()))


if __name__ == "__main__":
    main(*sys.argv[1:])
