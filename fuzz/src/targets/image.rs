//! A small image autoencoder: names, shapes, values and the config are edited, then it loads and decodes.

use arbitrary::{Result, Unstructured};
use emberglass::cpu::{CpuImages, Level};
use emberglass::{ByteSource, DecodeOptions, ImageModel, Latents, SliceSource};
use serde_json::{Value, json};

use super::{Target, allowed};
use crate::mutate::Random;

pub const TARGET: Target =
    Target { name: "image", about: "a small image autoencoder: load, decode", run, seeds, words: &[] };

/// The tensors of two small AutoencoderKL that the tests compare with a reference.
const CASES: &str = include_str!("../../../tests/data/image/autoencoder_kl.json");

#[derive(Clone)]
pub struct Tensor {
    name: String,
    shape: Vec<u64>,
    kind: &'static str,
    data: Vec<u8>,
}

/// The tensors of case number `which`, seeded.
pub fn tensors(which: usize) -> Vec<Tensor> {
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap_or_default();
    let mut random = Random::new(7);
    let list = cases.get(which).and_then(|case| case["tensors"].as_array()).cloned().unwrap_or_default();
    list.iter()
        .map(|tensor| {
            let shape: Vec<u64> =
                tensor["shape"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
            let (offset, scale) =
                (tensor["offset"].as_f64().unwrap_or(0.0), tensor["scale"].as_f64().unwrap_or(0.0));
            let unit = |random: &mut Random| (random.bits() >> 40) as f64 / (1u64 << 23) as f64 - 1.0;
            let data = (0..shape.iter().product::<u64>())
                .flat_map(|_| ((offset + scale * unit(&mut random)) as f32).to_le_bytes())
                .collect();
            Tensor { name: tensor["name"].as_str().unwrap_or("").to_owned(), shape, kind: "F32", data }
        })
        .collect()
}

/// The bytes of a safetensors file.
pub fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for tensor in tensors {
        let end = at + tensor.data.len();
        header.insert(
            tensor.name.clone(),
            json!({ "dtype": tensor.kind, "shape": tensor.shape, "data_offsets": [at, end] }),
        );
        at = end;
    }
    let header = Value::Object(header).to_string();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.bytes());
    tensors.iter().for_each(|tensor| out.extend(&tensor.data));
    out
}

const KEYS: [&str; 18] = [
    "_class_name",
    "act_fn",
    "block_out_channels",
    "layers_per_block",
    "norm_num_groups",
    "latent_channels",
    "in_channels",
    "out_channels",
    "scaling_factor",
    "shift_factor",
    "sample_size",
    "latents_mean",
    "latents_std",
    "use_quant_conv",
    "use_post_quant_conv",
    "mid_block_add_attention",
    "down_block_types",
    "force_upcast",
];

fn edit(tensors: &mut Vec<Tensor>, config: &mut Value, u: &mut Unstructured) -> Result<()> {
    match u.int_in_range(0..=6)? {
        0 => {
            let at = u.choose_index(tensors.len())?;
            tensors.remove(at);
        }
        1 => {
            let tensor = u.choose_iter(tensors.iter_mut())?;
            match u.int_in_range(0..=2)? {
                0 => tensor.shape.reverse(),
                1 => tensor.shape = vec![tensor.shape.iter().product()],
                _ => tensor.shape.push(1),
            }
        }
        2 => {
            // Half as many bytes in a type of half the size.
            let tensor = u.choose_iter(tensors.iter_mut())?;
            tensor.kind = u.choose(&["F16", "BF16", "I16"])?;
            tensor.data.truncate(tensor.data.len() / 2);
        }
        3 => {
            let tensor = u.choose_iter(tensors.iter_mut())?;
            let at = u.choose_index(tensor.data.len() / 4)? * 4;
            let bits = *u.choose(&[f32::NAN, f32::INFINITY, 1e38, 0.0])?;
            for (byte, new) in tensor.data.iter_mut().skip(at).zip(bits.to_le_bytes()) {
                *byte = new;
            }
        }
        4 => {
            let tensor = u.choose_iter(tensors.iter_mut())?;
            tensor.name = match u.int_in_range(0..=2)? {
                0 => format!("vae.{}", tensor.name),
                1 => tensor.name.replace("resnets.0", "resnets.7"),
                _ => "decoder.extra.weight".to_owned(),
            };
        }
        _ => {
            let key = *u.choose(&KEYS)?;
            let value = match u.int_in_range(0..=6)? {
                0 => Value::Null,
                1 => json!(u.arbitrary::<i64>()?),
                2 => json!(u.int_in_range(0..=64)?),
                3 => json!("AutoencoderKL"),
                4 => json!([1, 2, u.int_in_range(0..=512)?]),
                5 => json!(f64::from(u.arbitrary::<f32>()?)),
                _ => json!(u.arbitrary::<bool>()?),
            };
            if let Some(config) = config.as_object_mut() {
                config.insert(key.to_owned(), value);
            }
        }
    }
    Ok(())
}

fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let which = u.int_in_range(0..=1).unwrap_or(0);
    let (mut tensors, mut config) = (tensors(which), json!({ "_class_name": "AutoencoderKL" }));
    for _ in 0..u.int_in_range(0..=3).unwrap_or(0) {
        if edit(&mut tensors, &mut config, &mut u).is_err() {
            break;
        }
    }
    let mut sources: Vec<Box<dyn ByteSource>> = vec![
        Box::new(SliceSource::new("fuzz.safetensors", safetensors(&tensors))),
        Box::new(SliceSource::new("config.json", config.to_string())),
    ];
    if u.arbitrary().unwrap_or(false) {
        sources.truncate(1);
    }
    if let Err(error) = pollster::block_on(decode(&mut sources)) {
        allowed(&error);
    }
}

async fn decode(sources: &mut [Box<dyn ByteSource>]) -> emberglass::Result<()> {
    let Some(level) = Level::available().into_iter().next() else { return Ok(()) };
    let mut model = ImageModel::load(CpuImages::new(level), sources, &mut |_| Ok(())).await?;
    let latents = Latents::normal(model.latent_channels().min(64), 2, 3, 1);
    let picture = model.decode(&latents, &DecodeOptions::default(), &mut |_| {}, &|| false).await?;
    let size = 4 * picture.width as usize * picture.height as usize;
    assert_eq!(picture.rgba.len(), size, "a picture of {} × {}", picture.width, picture.height);
    Ok(())
}

fn seeds() -> Vec<Vec<u8>> {
    (0..32u8).map(|i| (0..48u8).map(|j| i.wrapping_mul(73) ^ j.wrapping_mul(151)).collect()).collect()
}
