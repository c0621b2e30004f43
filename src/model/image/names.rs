//! The names of a file's tensors, brought to diffusers' whatever program wrote the file; and files of other
//! models, told by names or shapes that no model here has.
//!
//! The original latent diffusion code (Rombach et al., 2022; FLUX's `ae.safetensors` too) has other names for the
//! layers of an AutoencoderKL, and counts the decoder's stages from the picture's side. diffusers' own conversion is
//! `convert_ldm_vae_checkpoint` in `loaders/single_file_utils.py`.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::weights::{FloatTensor, FloatTensors};

/// Prefixes that programs put in front of all names: checkpoints of latent diffusion, ComfyUI, `DataParallel`,
/// `torch.compile`.
const PREFIXES: [&str; 4] = ["first_stage_model.", "vae.", "module.", "_orig_mod."];

/// Tensors that decoding and encoding do not need.
const HARMLESS: [(&str, Place); 3] = [
    // Discriminator and perceptual loss of the training.
    ("loss.", Place::Start),
    // Running averages of the weights, kept for the training beside the weights themselves.
    ("model_ema.", Place::Start),
    // How many batches a norm has seen in training; its statistics are tensors of their own.
    (".num_batches_tracked", Place::End),
];

const DIFFUSION: &str = "a diffusion model, or a whole checkpoint of one; give the file of its VAE \
    (vae/diffusion_pytorch_model.safetensors in a folder of diffusers)";
const CONTROL: &str = "a ControlNet; give the file of a VAE";
const LORA: &str = "a LoRA, which changes the weights of another model; give the file of a VAE";
const TEXT: &str = "a text encoder; give the file of a VAE";
const LANGUAGE: &str = "a language model; open it as GGUF, and give the file of a VAE here";
const VISION: &str = "an image classifier or encoder without a decoder; give the file of a VAE";
const VIDEO: &str = "a video autoencoder, which is not supported; give the VAE of an image model";
const CODEBOOK: &str = "an autoencoder with a codebook (VQ), which is not supported";
const DEEP: &str = "AutoencoderDC (DC-AE), which is not supported; TAESANA's files are, for the same latents";

/// Parts of names that no autoencoder here has, and whose they are.
const FOREIGN: [(&str, Place, &str); 33] = [
    ("lora_", Place::Within, LORA),
    (".lora.", Place::Within, LORA),
    (".hada_w", Place::Within, LORA),
    (".lokr_w", Place::Within, LORA),
    ("control_model.", Place::Start, CONTROL),
    ("controlnet_", Place::Start, CONTROL),
    ("input_hint_block.", Place::Within, CONTROL),
    ("model.diffusion_model.", Place::Start, DIFFUSION),
    ("diffusion_model.", Place::Start, DIFFUSION),
    ("time_embedding.", Place::Start, DIFFUSION),
    ("time_embed.", Place::Start, DIFFUSION),
    ("time_text_embed.", Place::Start, DIFFUSION),
    ("input_blocks.", Place::Start, DIFFUSION),
    ("down_blocks.", Place::Start, DIFFUSION),
    ("transformer_blocks.", Place::Start, DIFFUSION),
    ("single_transformer_blocks.", Place::Start, DIFFUSION),
    ("double_blocks.", Place::Start, DIFFUSION),
    ("joint_blocks.", Place::Start, DIFFUSION),
    ("cond_stage_model.", Place::Start, DIFFUSION),
    ("conditioner.", Place::Start, DIFFUSION),
    ("text_encoders.", Place::Start, DIFFUSION),
    ("text_model.", Place::Start, TEXT),
    ("encoder.block.", Place::Start, TEXT),
    ("encoder.layer.", Place::Start, TEXT),
    ("shared.weight", Place::Start, TEXT),
    ("model.layers.", Place::Start, LANGUAGE),
    ("model.embed_tokens.", Place::Start, LANGUAGE),
    ("lm_head.", Place::Start, LANGUAGE),
    ("vision_model.", Place::Start, VISION),
    ("quantize.", Place::Start, CODEBOOK),
    ("vquantizer.", Place::Start, CODEBOOK),
    (".conv_inverted.", Place::Within, DEEP),
    (".to_qkv_multiscale.", Place::Within, DEEP),
];

/// Where in a name a part stands.
#[derive(Clone, Copy)]
enum Place {
    Start,
    Within,
    End,
}

impl Place {
    fn has(self, name: &str, part: &str) -> bool {
        match self {
            Place::Start => name.starts_with(part),
            Place::Within => name.contains(part),
            Place::End => name.ends_with(part),
        }
    }
}

/// The tensors of one file by diffusers' names, without the harmless ones.
#[derive(Debug, Clone, Default)]
pub struct Named {
    tensors: BTreeMap<String, FloatTensor>,
}

impl Named {
    /// Names the tensors of a file.
    ///
    /// # Errors
    /// [`Error::UnsupportedModel`] for a tensor of another kind of model, [`Error::Malformed`] for two tensors that
    /// are the same layer.
    pub fn new(file: &FloatTensors) -> Result<Self> {
        let names: Vec<&str> = file.all().iter().map(|tensor| bare(&tensor.name)).collect();
        // The original code counts the decoder's stages the other way round.
        let stages = names.iter().filter_map(|name| stage(name, "decoder.up.").map(|(n, _)| n + 1)).max();
        let mut tensors = BTreeMap::new();
        for (tensor, name) in file.all().iter().zip(names) {
            if let Some(kind) = foreign(name, tensor) {
                return Err(Error::UnsupportedModel { what: format!("tensor {} is of {kind}", tensor.name) });
            }
            if HARMLESS.iter().any(|(part, place)| place.has(name, part)) {
                continue;
            }
            if let Some(other) = tensors.insert(diffusers_name(name, stages.unwrap_or(0)), tensor.clone()) {
                let (one, two) = (&other.name, &tensor.name);
                return Err(Error::Malformed { what: format!("tensors {one} and {two} are the same layer") });
            }
        }
        Ok(Named { tensors })
    }

    /// The tensor that diffusers calls so.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&FloatTensor> {
        self.tensors.get(name)
    }

    /// All tensors with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &FloatTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Whether a name begins so.
    #[must_use]
    pub fn any(&self, prefix: &str) -> bool {
        self.tensors.range(prefix.to_owned()..).next().is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// One more than the highest number that follows `prefix` in a name; 0 if none does.
    #[must_use]
    pub fn count(&self, prefix: &str) -> usize {
        let from = self.tensors.range(prefix.to_owned()..).map(|(name, _)| name);
        let numbers = from.take_while(|name| name.starts_with(prefix)).filter_map(|name| stage(name, prefix));
        numbers.map(|(number, _)| number + 1).max().unwrap_or(0)
    }
}

/// A name without the prefixes of [`PREFIXES`].
fn bare(mut name: &str) -> &str {
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    name
}

/// The number behind `prefix` and what follows it: 3 and `block.0.conv1.weight` of `decoder.up.3.block.0.conv1.weight`.
fn stage<'a>(name: &'a str, prefix: &str) -> Option<(usize, &'a str)> {
    let (number, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    // A number of more digits would make counts and loops that no file has.
    let number = (number.len() <= 4).then(|| number.parse().ok())??;
    Some((number, rest))
}

fn foreign(name: &str, tensor: &FloatTensor) -> Option<&'static str> {
    if let Some((.., kind)) = FOREIGN.iter().find(|(part, place, _)| place.has(name, part)) {
        return Some(kind);
    }
    // TAEHV's change of the frame rate is a layer `N.conv`; a layer of the image model is `N` or `N.conv.0`.
    let layer = ["decoder.", "encoder.", ""].iter().find_map(|prefix| stage(name, prefix));
    let rate = layer.is_some_and(|(_, rest)| rest == "conv.weight");
    (tensor.shape.len() == 5 || rate).then_some(VIDEO)
}

/// diffusers' name for a tensor of an AutoencoderKL, by the original code's name or by those of diffusers before
/// 0.18. Names of other models stay as they are. `stages` of the decoder.
fn diffusers_name(name: &str, stages: usize) -> String {
    // FLUX.2's file has these inside of its networks.
    for inside in ["encoder.quant_conv.", "decoder.post_quant_conv."] {
        if name.starts_with(inside) {
            return name.split_once('.').map_or(name, |(_, rest)| rest).to_owned();
        }
    }
    let Some((side, layer)) = name.split_once('.').filter(|(side, _)| ["decoder", "encoder"].contains(side))
    else {
        return name.to_owned();
    };
    let parts = [
        ("norm_out.", "conv_norm_out."),
        ("mid.block_1.", "mid_block.resnets.0."),
        ("mid.block_2.", "mid_block.resnets.1."),
        ("mid.attn_1.norm.", "mid_block.attentions.0.group_norm."),
        ("mid.attn_1.q.", "mid_block.attentions.0.to_q."),
        ("mid.attn_1.k.", "mid_block.attentions.0.to_k."),
        ("mid.attn_1.v.", "mid_block.attentions.0.to_v."),
        ("mid.attn_1.proj_out.", "mid_block.attentions.0.to_out.0."),
        ("mid_block.attentions.0.query.", "mid_block.attentions.0.to_q."),
        ("mid_block.attentions.0.key.", "mid_block.attentions.0.to_k."),
        ("mid_block.attentions.0.value.", "mid_block.attentions.0.to_v."),
        ("mid_block.attentions.0.proj_attn.", "mid_block.attentions.0.to_out.0."),
    ];
    let renamed = parts.iter().find_map(|(old, new)| Some(format!("{new}{}", layer.strip_prefix(old)?)));
    let renamed = renamed.or_else(|| {
        let (blocks, resize, number, rest) = if let Some((number, rest)) = stage(layer, "down.") {
            ("down_blocks", ["downsample.", "downsamplers.0."], number, rest)
        } else {
            let (number, rest) = stage(layer, "up.")?;
            ("up_blocks", ["upsample.", "upsamplers.0."], stages.checked_sub(number + 1)?, rest)
        };
        let rest = match rest.strip_prefix(resize[0]) {
            Some(rest) => format!("{}{rest}", resize[1]),
            None => format!("resnets.{}", rest.strip_prefix("block.")?),
        };
        Some(format!("{blocks}.{number}.{rest}"))
    });
    let layer = renamed.unwrap_or_else(|| layer.to_owned()).replace(".nin_shortcut.", ".conv_shortcut.");
    format!("{side}.{layer}")
}
