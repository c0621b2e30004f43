//! What the files of an image model may hold: every tensor and every key of the config is used, known to be harmless,
//! or an error that names it. And what the errors say of files of other kinds.

use crate::images;

use std::collections::BTreeMap;

use emberglass::cpu::{CpuImages, Level};
use emberglass::{ByteSource, DecodeOptions, Error, FileSource, ImageModel, Latents, Picture, SliceSource};
use images::uniform;
use serde_json::{Value, json};

const NEVER: &dyn Fn() -> bool = &|| false;
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/image");

#[derive(Clone)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    bytes: Vec<u8>,
}

/// A safetensors file in the making.
#[derive(Clone, Default)]
struct File {
    tensors: BTreeMap<String, Tensor>,
    note: Option<String>,
}

impl File {
    /// The tensors that a golden file describes.
    fn described(list: &Value) -> Self {
        let mut file = File::default();
        for (seed, tensor) in (0..).zip(list.as_array().unwrap()) {
            let shape: Vec<u64> =
                tensor["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).collect();
            let (offset, scale) = (tensor["offset"].as_f64().unwrap(), tensor["scale"].as_f64().unwrap());
            let values = uniform(seed, shape.iter().product::<u64>() as usize);
            let values: Vec<f32> = values.iter().map(|v| (offset + scale * f64::from(*v)) as f32).collect();
            file.set(tensor["name"].as_str().unwrap(), &shape, &values);
        }
        file
    }

    /// A small AutoencoderKL: 4 channels of latents, widths 32 and 64, one layer a block, quant convolutions.
    fn kl() -> Self {
        let cases = std::fs::read_to_string(format!("{DATA}/autoencoder_kl.json")).unwrap();
        let cases: Value = serde_json::from_str(&cases).unwrap();
        Self::described(&cases[0]["tensors"])
    }

    /// A small decoder and encoder by the rule of taesd.py, width 8, three stages.
    fn taesd() -> Self {
        let blocks = |numbers: [usize; 5], side: &str| numbers.map(|n| format!("{side}{n}"));
        let mut file = File::default();
        file.layers(
            &blocks([3, 4, 7, 8, 11], "decoder."),
            &["decoder.6", "decoder.10"],
            ["decoder.1", "decoder.12"],
            4,
            3,
        );
        file.layers(
            &blocks([1, 3, 4, 6, 7], "encoder."),
            &["encoder.2", "encoder.5"],
            ["encoder.0", "encoder.8"],
            3,
            4,
        );
        file
    }

    /// Layers of width 8: blocks, stages' convolutions, and those at the ends.
    fn layers(
        &mut self,
        blocks: &[String],
        stages: &[&str],
        [first, last]: [&str; 2],
        inputs: u64,
        outputs: u64,
    ) {
        let mut conv = |name: &str, outputs: u64, inputs: u64, bias: bool| {
            let count = (outputs * inputs * 9) as usize;
            let values: Vec<f32> = uniform(count as u64, count).iter().map(|v| v * 0.1).collect();
            self.set(&format!("{name}.weight"), &[outputs, inputs, 3, 3], &values);
            if bias {
                self.set(&format!("{name}.bias"), &[outputs], &values[..outputs as usize]);
            }
        };
        for block in blocks {
            for i in [0, 2, 4] {
                conv(&format!("{block}.conv.{i}"), 8, 8, true);
            }
        }
        for stage in stages {
            conv(stage, 8, 8, false);
        }
        conv(first, 8, inputs, true);
        conv(last, outputs, 8, true);
    }

    fn set(&mut self, name: &str, shape: &[u64], values: &[f32]) -> &mut Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensors
            .insert(name.to_owned(), Tensor { dtype: "F32".to_owned(), shape: shape.to_vec(), bytes });
        self
    }

    /// Zeros.
    fn add(&mut self, name: &str, shape: &[u64]) -> &mut Self {
        self.set(name, shape, &vec![0.0; shape.iter().product::<u64>() as usize])
    }

    fn without(&self, prefix: &str) -> Self {
        let mut file = self.clone();
        file.tensors.retain(|name, _| !name.starts_with(prefix));
        file
    }

    fn renamed(&self, rename: impl Fn(&str) -> String) -> Self {
        let tensors = self.tensors.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect();
        File { tensors, note: self.note.clone() }
    }

    fn bytes(&self) -> Vec<u8> {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        if let Some(note) = &self.note {
            header.insert("__metadata__".to_owned(), json!({ "config": note, "format": "pt" }));
        }
        for (name, tensor) in &self.tensors {
            let begin = data.len();
            data.extend(&tensor.bytes);
            let info =
                json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, data.len()] });
            header.insert(name.clone(), info);
        }
        let header = serde_json::to_string(&header).unwrap();
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
    }
}

fn open(files: Vec<(&str, Vec<u8>)>) -> Result<ImageModel<CpuImages>, Error> {
    let mut sources: Vec<Box<dyn ByteSource>> = Vec::new();
    for (name, bytes) in files {
        sources.push(Box::new(SliceSource::new(name, bytes)));
    }
    pollster::block_on(ImageModel::load(CpuImages::new(Level::best()), &mut sources, &mut |_| Ok(())))
}

fn load(file: &File) -> Result<ImageModel<CpuImages>, Error> {
    open(vec![("vae.safetensors", file.bytes())])
}

fn load_with(file: &File, config: &Value) -> Result<ImageModel<CpuImages>, Error> {
    open(vec![("vae.safetensors", file.bytes()), ("config.json", config.to_string().into_bytes())])
}

/// The code and the message of a refusal.
fn refusal(result: Result<ImageModel<CpuImages>, Error>) -> (&'static str, String) {
    match result {
        Ok(_) => ("none", String::new()),
        Err(error) => (error.code(), error.to_string()),
    }
}

fn refuses(result: Result<ImageModel<CpuImages>, Error>, code: &str, words: &[&str]) {
    let (found, message) = refusal(result);
    assert_eq!(found, code, "{message}; wanted {words:?}");
    for word in words {
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    }
}

fn picture(model: &mut ImageModel<CpuImages>, scaled: bool, values: impl Fn(usize, f32) -> f32) -> Picture {
    let noise = uniform(900, 4 * 3 * 4);
    let values = noise.iter().enumerate().map(|(i, v)| values(i / 12, *v)).collect();
    let latents = Latents { channels: 4, height: 3, width: 4, values };
    let options = DecodeOptions { scaled, ..DecodeOptions::default() };
    pollster::block_on(model.decode(&latents, &options, &mut |_| {}, NEVER)).unwrap()
}

fn decoded(result: Result<ImageModel<CpuImages>, Error>) -> Picture {
    picture(&mut result.unwrap(), false, |_, v| v)
}

#[test]
fn types_are_read_or_named() {
    // A network alone, without a prefix, whose numbers leave out more than an enlargement's.
    let mut tiny = File::default();
    tiny.layers(&["3".to_owned(), "7".to_owned()], &["6"], ["1", "8"], 4, 3);
    for (file, names) in [
        (
            File::kl(),
            &["decoder.conv_out.bias", "decoder.conv_in.weight", "decoder.conv_norm_out.weight"][..],
        ),
        (tiny, &["8.bias", "6.weight", "3.conv.4.bias", "1.weight"]),
    ] {
        each_type(&file, names);
    }
}

fn each_type(file: &File, names: &[&str]) {
    let right = decoded(load(file));
    for &name in names {
        let mut wide = file.clone();
        let tensor = wide.tensors.get_mut(name).unwrap();
        let values = tensor.bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)));
        tensor.bytes = values.flat_map(f64::to_le_bytes).collect();
        tensor.dtype = "F64".to_owned();
        assert!(decoded(load(&wide)) == right, "{name} as F64");
        for (dtype, size) in [
            ("F8_E4M3", 1),
            ("F8_E5M2", 1),
            ("F8_E8M0", 1),
            ("I8", 1),
            ("U8", 1),
            ("BOOL", 1),
            ("I16", 2),
            ("I32", 4),
            ("I64", 8),
            ("C64", 8),
            ("F8_OF_TOMORROW", 1),
        ] {
            let mut odd = file.clone();
            let tensor = odd.tensors.get_mut(name).unwrap();
            tensor.bytes = vec![0; tensor.shape.iter().product::<u64>() as usize * size];
            tensor.dtype = dtype.to_owned();
            refuses(load(&odd), "unsupported-type", &[name, dtype, "F32, F16, BF16, F64"]);
        }
    }
}

/// A layer's name without the part of its tensor.
fn layer(name: &str) -> &str {
    name.rsplit_once('.').unwrap().0
}

#[test]
fn no_tensor_may_be_missing() {
    let file = File::kl();
    assert_eq!(file.tensors.len(), 124);
    for name in file.tensors.keys() {
        let (code, message) = refusal(load(&file.without(name)));
        // Without the weights, the bias is left over.
        assert!(["missing-tensor", "unsupported-model"].contains(&code), "{name}: {code} {message}");
        assert!(message.contains(layer(name)), "{name}: {message}");
    }
    // Whole layers.
    for (prefix, named) in [
        ("decoder.mid_block.attentions.0.", "decoder.mid_block.attentions.0"),
        ("encoder.mid_block.attentions.0.", "encoder.mid_block.attentions.0"),
        ("post_quant_conv.", "post_quant_conv"),
        ("quant_conv.", "quant_conv"),
        ("decoder.mid_block.resnets.1.", "decoder.mid_block.resnets.1"),
        ("decoder.up_blocks.0.resnets.1.", "decoder.up_blocks.0.resnets.1"),
        ("decoder.up_blocks.1.resnets.0.", "decoder.up_blocks.1.resnets.0"),
        ("decoder.up_blocks.0.", "decoder.up_blocks.0"),
        ("decoder.up_blocks.0.upsamplers.", "decoder.up_blocks.0.upsamplers.0.conv"),
        ("decoder.up_blocks.1.resnets.0.conv_shortcut.", "decoder.up_blocks.1.resnets.0.conv_shortcut"),
        ("encoder.down_blocks.0.downsamplers.", "encoder.down_blocks.0.downsamplers.0.conv"),
        ("encoder.conv_in.", "encoder.conv_in"),
        ("decoder.conv_norm_out.", "decoder.conv_norm_out"),
    ] {
        refuses(load(&file.without(prefix)), "missing-tensor", &[named]);
    }
    // All blocks at once.
    refuses(load(&file.without("decoder.up_blocks.")), "missing-tensor", &["decoder.up_blocks.0"]);
    // One network alone is a model; its other half is asked for when it is needed.
    let mut decoder = load(&file.without("encoder.").without("quant_conv.")).unwrap();
    assert_eq!(decoder.directions(), (true, false));
    let scene = Picture { width: 2, height: 2, rgba: vec![0; 16] };
    let error = pollster::block_on(decoder.encode(&scene, None, &mut |_, _| {}, NEVER)).unwrap_err();
    assert!(error.code() == "unsupported-model" && error.to_string().contains("encoder"), "{error}");
    refuses(load(&file.without("encoder.")), "unsupported-model", &["quant_conv."]);

    let file = File::taesd();
    load(&file).unwrap();
    for name in file.tensors.keys() {
        let (code, message) = refusal(load(&file.without(name)));
        assert!(["missing-tensor", "unsupported-model"].contains(&code), "{name}: {code} {message}");
    }
    for (prefix, named) in [
        ("decoder.1.", "decoder.1"),
        ("decoder.3.", "decoder.3"),
        ("decoder.4.", "decoder.4"),
        ("decoder.6.", "decoder.6"),
        ("decoder.7.", "decoder.7"),
        ("decoder.8.", "decoder.8"),
        ("decoder.11.", "decoder.11"),
        ("decoder.12.", "decoder.12"),
        ("encoder.0.", "encoder.0"),
        ("encoder.3.", "encoder.3"),
        ("encoder.4.", "encoder.4"),
        ("encoder.7.", "encoder.7"),
        ("encoder.8.", "encoder.8"),
    ] {
        refuses(load(&file.without(prefix)), "missing-tensor", &[named]);
    }
}

#[test]
fn no_tensor_may_have_another_shape() {
    for file in [File::kl(), File::taesd()] {
        for (name, tensor) in &file.tensors {
            for dimension in 0..tensor.shape.len() {
                let mut other = file.clone();
                let mut shape = tensor.shape.clone();
                shape[dimension] += 1;
                other.add(name, &shape);
                let (code, message) = refusal(load(&other));
                // Another width also is no multiple of 32 groups, and wants a shortcut.
                let codes = ["shape-mismatch", "missing-metadata", "missing-tensor"];
                // A decoder of other latents than the encoder's.
                let belongs = !message.contains("do not belong together");
                assert!(!belongs || codes.contains(&code), "{name} {shape:?}: {code} {message}");
                assert!(!message.contains("match []"), "{message}");
            }
        }
    }
    // The side of the picture.
    let mut four = File::kl();
    four.add("decoder.conv_out.weight", &[4, 32, 3, 3]).add("decoder.conv_out.bias", &[4]);
    refuses(load(&four), "shape-mismatch", &["decoder.conv_out.weight", "[4, 32, 3, 3]", "[3, 32, 3, 3]"]);
    let mut grey = File::kl();
    grey.add("encoder.conv_in.weight", &[32, 1, 3, 3]);
    refuses(load(&grey), "shape-mismatch", &["encoder.conv_in.weight", "[32, 3, 3, 3]"]);
    // A decoder and an encoder of other models.
    let other = File::kl().without("encoder.").without("quant_conv.");
    let mut eight = other.clone();
    eight.add("post_quant_conv.weight", &[4, 8, 1, 1]);
    let encoder = File::kl().without("decoder.").without("post_quant_conv.");
    let both = open(vec![("a", eight.bytes()), ("b", encoder.bytes())]);
    refuses(both, "malformed", &["do not belong together", "8 channels", "4 channels"]);
    let twice = open(vec![("a", other.bytes()), ("b", other.bytes())]);
    refuses(twice, "malformed", &["two of the files have a decoder"]);
    let right = decoded(load(&File::kl()));
    assert!(decoded(open(vec![("a", other.bytes()), ("b", encoder.bytes())])) == right);
}

#[test]
fn no_tensor_is_left_over() {
    let file = File::kl();
    for (name, shape, words) in [
        ("decoder.up_blocks.1.attentions.0.to_q.weight", &[32, 32][..], "attention inside the blocks"),
        ("decoder.up.1.attn.0.q.weight", &[32, 32, 1, 1], "attention inside the blocks"),
        ("encoder.down_blocks.0.resnets.1.extra.weight", &[3], "missing"),
        ("decoder.mid_block.resnets.2.norm1.weight", &[64], "no layer"),
        ("decoder.conv_in.scale_weight", &[1], "no layer"),
        ("decoder.up_blocks.1.upsamplers.0.conv.bias", &[32], "no layer"),
        ("encoder.mid_block.resnets.0.conv_shortcut.bias", &[64], "no layer"),
        ("vae_scale", &[1], "no layer"),
        ("scaled_fp8", &[0], "no layer"),
        ("7.conv.0.weight", &[8, 8, 3, 3], "no layer"),
        ("prior.mean", &[4], "prior.cholesky"),
        ("bn.running_mean", &[16], "bn.running_var"),
        ("quantize.embedding.weight", &[16, 4], "codebook"),
        ("decoder.conv_in.conv.weight", &[32, 4, 3, 3, 3], "video"),
        ("model.diffusion_model.out.0.weight", &[32], "diffusion model"),
    ] {
        let mut more = file.clone();
        more.add(name, shape);
        let (code, message) = refusal(load(&more));
        assert!(["unsupported-model", "missing-tensor"].contains(&code), "{name}: {code} {message}");
        assert!(message.contains(words), "{name}: {message}");
        if code == "unsupported-model" {
            assert!(message.contains(name), "{message}");
        }
    }
    let mut two = file.clone();
    two.add("a.x", &[1]).add("b.x", &[1]).add("c.x", &[1]);
    refuses(load(&two), "unsupported-model", &["a.x", "2 more"]);
    // A layer under two names.
    let mut double = file.clone();
    double.add("decoder.norm_out.weight", &[32]);
    refuses(load(&double), "malformed", &["decoder.norm_out.weight", "decoder.conv_norm_out.weight"]);
    // What the training left changes nothing.
    let right = decoded(load(&file));
    let mut harmless = file.clone();
    harmless
        .add("loss.logvar", &[])
        .add("model_ema.decay", &[])
        .add("loss.perceptual_loss.net.slice1.0.weight", &[8]);
    assert!(decoded(load(&harmless)) == right);
    assert!(decoded(load(&harmless.renamed(|name| format!("first_stage_model.{name}")))) == right);
    let mut tiny = File::taesd();
    tiny.add("decoder.12.scale", &[1]);
    refuses(load(&tiny), "unsupported-model", &["decoder.12.scale"]);
}

#[test]
fn other_models_are_told() {
    for (names, shape, words) in [
        (
            &["lora_unet_down_blocks_0.lora_up.weight", "lora_unet_down_blocks_0.alpha"][..],
            &[4, 4][..],
            "LoRA",
        ),
        (&["decoder.conv_in.lora_A.weight"], &[4, 4], "LoRA"),
        (&["conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"], &[4, 4, 3, 3], "diffusion model"),
        (
            &["model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.decoder.conv_in.weight"],
            &[4, 4, 3, 3],
            "whole checkpoint",
        ),
        (&["double_blocks.0.img_attn.qkv.weight"], &[4, 4], "diffusion model"),
        (&["transformer_blocks.0.attn.to_q.weight", "time_text_embed.x.weight"], &[4, 4], "diffusion model"),
        (&["controlnet_cond_embedding.conv_in.weight", "conv_in.weight"], &[4, 4, 3, 3], "ControlNet"),
        (&["text_model.encoder.layers.0.mlp.fc1.weight"], &[4, 4], "text encoder"),
        (&["encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"], &[4, 4], "text encoder"),
        (&["model.layers.0.self_attn.q_proj.weight", "lm_head.weight"], &[4, 4], "language model"),
        // Wan and Qwen-Image, TAEHV, DC-AE, VQGAN.
        (&["decoder.conv1.weight", "decoder.middle.0.residual.0.gamma"], &[4, 4, 3, 3, 3], "video"),
        (&["decoder.conv_in.weight", "decoder.mid_block.resnets.0.norm1.gamma"], &[4, 4, 3, 3, 3], "video"),
        (&["decoder.1.weight", "decoder.3.conv.0.weight", "decoder.7.conv.weight"], &[8, 8, 3, 3], "video"),
        (
            &[
                "decoder.conv_in.weight",
                "decoder.up_blocks.0.0.conv_inverted.weight",
                "decoder.stages.0.op_list.0.main.conv_inverted.conv.weight",
            ],
            &[8, 8, 1, 1],
            "DC-AE",
        ),
        (&["quantize.embedding.weight"], &[8, 8], "codebook"),
        (&["some.weight", "thing.bias"], &[8], "some.weight"),
    ] {
        let mut file = File::default();
        for name in names {
            file.add(name, shape);
        }
        refuses(load(&file), "unsupported-model", &[words]);
    }
    refuses(load(&File::default()), "unsupported-model", &["AutoencoderKL"]);
    let config = r#"{"_class_name": "AutoencoderKL"}"#.as_bytes().to_vec();
    refuses(open(vec![("config.json", config)]), "unsupported-model", &["safetensors"]);
}

#[test]
fn other_files_are_told() {
    let padded = |head: &[u8]| [head, &[0; 64]].concat();
    for (bytes, words) in [
        (padded(b"PK\x03\x04\x00\x00\x08\x08"), "PyTorch"),
        (padded(b"\x80\x02\x8a\nl\xfc\x9cF"), "PyTorch"),
        (padded(b"GGUF\x03\x00\x00\x00"), "GGUF"),
        (padded(b"\x89PNG\r\n\x1a\n"), "PNG"),
        (padded(b"\xff\xd8\xff\xe0\x00\x10JF"), "JPEG"),
        (padded(b"GIF89a\x01\x00"), "GIF"),
        (padded(b"RIFF\x24\x00\x00\x00WEBP"), "WebP"),
        (padded(b"\x89HDF\r\n\x1a\n"), "Keras"),
        (padded(b"\x93NUMPY\x01\x00"), "NumPy"),
        (padded(b"\x1f\x8b\x08\x00\x00\x00\x00\x00"), "gzip"),
        (b"<!DOCTYPE html><html></html>".to_vec(), "web page"),
        (b"\n\n  <html><body>404</body></html>".to_vec(), "web page"),
        (b"{\"error\": \"not found\"}".to_vec(), "JSON"),
        (b"version https git-lfs github com spec v1\noid".to_vec(), "LFS"),
        (b"Entry not found".to_vec(), "text"),
    ] {
        let (code, message) = refusal(open(vec![("vae", bytes)]));
        assert!(
            code == "malformed" && message.contains(words) && message.contains("vae"),
            "{words}: {code} {message}"
        );
    }
    // No known kind: the length is named, and nothing of that size is allocated.
    let (code, message) = refusal(open(vec![("vae", vec![255; 64])]));
    assert!(code == "malformed" && message.contains("18446744073709551615"), "{message}");
    // A tensor that is larger than the file, whose size nobody tells.
    let header = r#"{"decoder.conv_in.weight":{"dtype":"F32","shape":[1073741824,1073741824],"data_offsets":[0,4611686018427387904]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(SliceSource::new("vae", bytes).without_size())];
    let result =
        pollster::block_on(ImageModel::load(CpuImages::new(Level::best()), &mut sources, &mut |_| Ok(())));
    assert_ne!(refusal(result).0, "none");
}

#[test]
fn values_that_are_not_finite_are_named() {
    for file in [File::kl(), File::taesd()] {
        for (name, bad) in
            file.tensors.keys().zip([f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().cycle())
        {
            let mut broken = file.clone();
            let bytes = &mut broken.tensors.get_mut(name).unwrap().bytes;
            bytes[4..8].copy_from_slice(&bad.to_le_bytes());
            refuses(load(&broken), "malformed", &[name, "value 1"]);
        }
    }
}

/// Weights that are finite, but too large for what they are summed up to.
#[test]
fn a_picture_that_is_not_finite_is_an_error() {
    let mut file = File::kl();
    for side in ["decoder", "encoder"] {
        let name = format!("{side}.conv_out.weight");
        let Tensor { shape, .. } = file.tensors[&name].clone();
        let values = vec![3e38; shape.iter().product::<u64>() as usize];
        file.set(&name, &shape, &values);
    }
    let mut model = load(&file).unwrap();
    let latents = Latents { channels: 4, height: 2, width: 2, values: uniform(3, 16) };
    let says = |error: Error| {
        assert!(error.code() == "malformed" && error.to_string().contains("not finite"), "{error}")
    };
    let options = DecodeOptions::default();
    says(pollster::block_on(model.decode(&latents, &options, &mut |_| {}, NEVER)).unwrap_err());
    says(pollster::block_on(model.decode_floats(&latents, NEVER)).unwrap_err());
    let scene = Picture { width: 2, height: 2, rgba: (0..16).map(|v| v * 15).collect() };
    says(pollster::block_on(model.encode(&scene, None, &mut |_, _| {}, NEVER)).unwrap_err());
}

/// diffusers' config of the small AutoencoderKL.
fn config() -> Value {
    json!({
        "_class_name": "AutoencoderKL", "_diffusers_version": "0.42.1", "act_fn": "silu",
        "block_out_channels": [32, 64], "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "force_upcast": true, "in_channels": 3, "latent_channels": 4, "latents_mean": null, "latents_std": null,
        "layers_per_block": 1, "mid_block_add_attention": true, "norm_num_groups": 32, "out_channels": 3,
        "sample_size": [64, 64], "scaling_factor": 0.5, "shift_factor": 0.25,
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"], "use_post_quant_conv": true, "use_quant_conv": true,
    })
}

#[test]
fn every_key_of_a_config_counts() {
    let file = File::kl();
    let right = decoded(load_with(&file, &config()));
    assert!(right == decoded(load(&file)));
    for (key, value, code) in [
        ("act_fn", json!("mish"), "unsupported-model"),
        ("act_fn", json!(7), "unsupported-model"),
        ("block_out_channels", json!([32, 32]), "malformed"),
        ("block_out_channels", json!([64, 32]), "malformed"),
        ("block_out_channels", json!([32, 64, 64]), "malformed"),
        ("down_block_types", json!(["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]), "unsupported-model"),
        ("down_block_types", json!(["DownEncoderBlock2D"]), "malformed"),
        ("up_block_types", json!(["AttnUpDecoderBlock2D", "UpDecoderBlock2D"]), "unsupported-model"),
        ("up_block_types", json!([]), "malformed"),
        ("in_channels", json!(4), "malformed"),
        ("out_channels", json!(1), "malformed"),
        ("latent_channels", json!(16), "malformed"),
        ("latent_channels", json!("4"), "malformed"),
        ("layers_per_block", json!(2), "malformed"),
        ("mid_block_add_attention", json!(false), "malformed"),
        ("use_quant_conv", json!(false), "malformed"),
        ("use_post_quant_conv", json!(false), "malformed"),
        ("norm_num_groups", json!(0), "malformed"),
        ("norm_num_groups", json!(-8), "malformed"),
        ("norm_num_groups", json!(24), "malformed"),
        ("norm_num_groups", json!("32"), "malformed"),
        ("scaling_factor", json!(0.0), "malformed"),
        ("scaling_factor", json!("0.18215"), "malformed"),
        ("scaling_factor", json!(1e300), "malformed"),
        ("shift_factor", json!([0.1]), "malformed"),
        ("latents_mean", json!([0.0, 0.0, 0.0, 0.0]), "malformed"),
        ("latents_std", json!([1.0, 1.0]), "malformed"),
        ("sample_size", json!([64, 32]), "malformed"),
        ("sample_size", json!("64"), "malformed"),
        ("patch_size", json!([4, 4]), "malformed"),
        ("_class_name", json!("AutoencoderDC"), "unsupported-model"),
        ("_class_name", json!("AutoencoderTiny"), "unsupported-model"),
        ("_class_name", json!("AutoencoderKLQwenImage"), "unsupported-model"),
        ("_class_name", json!("StableDiffusionPipeline"), "unsupported-model"),
        ("upsample_fn", json!("nearest"), "unsupported-model"),
        ("temperal_downsample", json!([false, true]), "unsupported-model"),
        ("quantization_config", json!({}), "unsupported-model"),
        ("weight_map", json!({}), "unsupported-model"),
    ] {
        let mut other = config();
        other[key] = value.clone();
        refuses(
            load_with(&file, &other),
            code,
            &[if key.starts_with("latents_") { "latents_mean" } else { key }, "config"],
        );
        // The header's note says as much.
        let noted = File { note: Some(other.to_string()), ..file.clone() };
        refuses(
            load(&noted),
            code,
            &[if key == "_class_name" {
                "config"
            } else if key.starts_with("latents_") {
                "latents_mean"
            } else {
                key
            }],
        );
    }
    // A class named in the error; and the one of FLUX.2, whose statistics the file lacks.
    let class = |name: &str| {
        let mut other = config();
        other["_class_name"] = json!(name);
        load_with(&file, &other)
    };
    refuses(class("AutoencoderKLWan"), "unsupported-model", &["AutoencoderKLWan"]);
    refuses(class("AutoencoderKLFlux2"), "missing-tensor", &["bn.running_mean"]);
    for text in ["[1]", "7", "\"AutoencoderKL\"", "null", "{", ""] {
        let files = vec![("vae", file.bytes()), ("config.json", text.as_bytes().to_vec())];
        refuses(open(files), "malformed", &["config.json"]);
    }
    // Notes are free text: what is no config is passed over.
    for note in ["[1]", "trained by me", "{", r#"{"lr": 0.001}"#, "null"] {
        let noted = File { note: Some(note.to_owned()), ..file.clone() };
        assert!(decoded(load(&noted)) == right, "{note}");
    }
    let mut two = config();
    two["scaling_factor"] = json!(0.75);
    let two = two.to_string().into_bytes();
    let one = config().to_string().into_bytes();
    let files = vec![("vae", file.bytes()), ("config.json", one), ("other.json", two)];
    refuses(open(files), "malformed", &["two configs"]);
}

#[test]
fn every_key_of_a_tiny_config_counts() {
    let file = File::taesd();
    let config = json!({
        "_class_name": "AutoencoderTiny", "_diffusers_version": "0.42.1", "act_fn": "relu", "block_out_channels": [8, 8, 8],
        "decoder_block_out_channels": [8, 8, 8], "encoder_block_out_channels": [8, 8, 8], "force_upcast": false,
        "in_channels": 3, "latent_channels": 4, "latent_magnitude": 3, "latent_shift": 0.5,
        "num_decoder_blocks": [2, 2, 1], "num_encoder_blocks": [1, 2, 2], "out_channels": 3, "scaling_factor": 1.0,
        "shift_factor": 0.0, "upsample_fn": "nearest", "upsampling_scaling_factor": 2,
    });
    load_with(&file, &config).unwrap();
    for (key, value, code) in [
        ("act_fn", json!("silu"), "unsupported-model"),
        ("upsample_fn", json!("bilinear"), "unsupported-model"),
        ("upsampling_scaling_factor", json!(4), "malformed"),
        ("num_decoder_blocks", json!([3, 2, 1]), "malformed"),
        ("num_encoder_blocks", json!([1, 2, 3]), "malformed"),
        ("decoder_block_out_channels", json!([64, 64]), "malformed"),
        ("encoder_block_out_channels", json!([8]), "malformed"),
        ("block_out_channels", json!([8]), "malformed"),
        ("latent_channels", json!(16), "malformed"),
        ("in_channels", json!(4), "malformed"),
        ("out_channels", json!(4), "malformed"),
        ("norm_num_groups", json!(8), "unsupported-model"),
        ("_class_name", json!("AutoencoderKL"), "unsupported-model"),
        ("layers_per_block", json!(1), "unsupported-model"),
    ] {
        let mut other = config.clone();
        other[key] = value;
        refuses(load_with(&file, &other), code, &[if key == "_class_name" { "AutoencoderKL" } else { key }]);
    }
}

/// Norms of 40 channels have no 32 groups; how many they have is not in the tensors.
#[test]
fn groups_that_are_not_known_are_an_error() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/www/public/emoji/emoji-vae.safetensors");
    let mut bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    header.remove("__metadata__").unwrap();
    let mut header = serde_json::to_string(&header).unwrap();
    header.extend(std::iter::repeat_n(' ', length - header.len()));
    bytes[8..8 + length].copy_from_slice(header.as_bytes());
    refuses(open(vec![("vae", bytes)]), "missing-metadata", &["norm_num_groups", "config.json"]);
    // With the config of the site's folder.
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/www/public/emoji/config.json");
    let mut sources: Vec<Box<dyn ByteSource>> =
        vec![Box::new(FileSource::open(path).unwrap()), Box::new(FileSource::open(config).unwrap())];
    let model =
        pollster::block_on(ImageModel::load(CpuImages::new(Level::best()), &mut sources, &mut |_| Ok(())));
    let model = model.unwrap();
    assert_eq!(model.config().norm_num_groups, Some(8));
    // The weights lie once in memory, as f32: the file has them as f16. A sixteenth more for channels that are padded
    // to eights, and the largest kernel once more in another form.
    let floats = 4 * (std::fs::metadata(path).unwrap().len() / 2);
    let largest = 56 * 56 * 16 * 4;
    let held = model.weight_bytes();
    println!("weights: {held} bytes held for {floats} of floats");
    assert!(held <= floats + floats / 16 + largest && held > floats / 2);
}

/// `scaled` undoes what diffusers' pipelines do, or says that it is not known.
#[test]
fn a_diffusion_models_latents() {
    let file = File::kl();
    let mut plain = load(&file).unwrap();
    let latents = Latents { channels: 4, height: 1, width: 1, values: vec![0.0; 4] };
    let options = DecodeOptions { scaled: true, ..DecodeOptions::default() };
    let error = pollster::block_on(plain.decode(&latents, &options, &mut |_| {}, NEVER)).unwrap_err();
    assert!(error.code() == "invalid-option" && error.to_string().contains("config.json"), "{error}");
    let mut shifted = load_with(&file, &config()).unwrap();
    assert!(picture(&mut shifted, true, |_, v| v) == picture(&mut plain, false, |_, v| v / 0.5 + 0.25));
    // StableDiffusionXLPipeline: latents * latents_std / scaling_factor + latents_mean.
    let (mean, std) = ([0.5, -0.25, 0.0, 1.0], [2.0, 1.0, 0.5, 0.25]);
    let mut other = config();
    other["shift_factor"] = Value::Null;
    other["latents_mean"] = json!(mean);
    other["latents_std"] = json!(std);
    let mut each = load_with(&file, &other).unwrap();
    let undone = |c: usize, v: f32| v * std[c] / 0.5 + mean[c];
    assert!(picture(&mut each, true, |_, v| v) == picture(&mut plain, false, undone));
    // diffusers' default, where the config does not say.
    other = json!({ "_class_name": "AutoencoderKL" });
    let mut default = load_with(&file, &other).unwrap();
    assert!(picture(&mut default, true, |_, v| v) == picture(&mut plain, false, |_, v| v / 0.18215));
    // TAESD's latents are the diffusion model's.
    let mut tiny = load(&File::taesd()).unwrap();
    assert!(picture(&mut tiny, true, |_, v| v) == picture(&mut tiny, false, |_, v| v));
}
