//! The real TAEF2 weights, and AutoencoderKL on seeded ones, against independent f64 implementations
//! (`tools/image-reference`); what an image model refuses. The weights are beside the repository (../shared/models); without them only
//! the rest runs.

use crate::images;

use emberglass::cpu::{CpuImages, Level};
use emberglass::gpu::GpuImages;
use emberglass::graph::{ImageBackend, Precision};
use emberglass::{
    ByteSource, DecodeEvent, DecodeOptions, Error, FileSource, Gpu, GpuOptions, ImageModel, Latents, Picture,
    SliceSource,
};
use images::{apart, root, seeded, uniform};
use serde_json::Value;

const NEVER: &dyn Fn() -> bool = &|| false;

fn weights() -> Option<Vec<Box<dyn ByteSource>>> {
    let folder = root::file("../shared/models/taef2");
    let open = |name: &str| FileSource::open(format!("{folder}/{name}.safetensors")).ok();
    Some(vec![Box::new(open("taef2_decoder")?), Box::new(open("taef2_encoder")?)])
}

fn golden() -> Value {
    let path = root::file("tests/data/image/taef2.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn latents(golden: &Value) -> Latents {
    let number = |key: &str| golden["latent"][key].as_u64().unwrap() as u32;
    let (channels, height, width) = (number("channels"), number("height"), number("width"));
    let seed = golden["seed"].as_u64().unwrap();
    let values = uniform(seed, (channels * height * width) as usize).iter().map(|v| 3.0 * v).collect();
    Latents { channels, height, width, values }
}

/// AutoencoderKL with and without quant convolutions, under both names of its attention.
async fn autoencoder_kl<B: ImageBackend>(what: &str, make: impl Fn() -> B) {
    let path = root::file("tests/data/image/autoencoder_kl.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for case in cases.as_array().unwrap() {
        let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(seeded(&case["tensors"]))];
        let mut model = ImageModel::load(make(), &mut sources, &mut |_| Ok(())).await.unwrap();
        assert_eq!((model.latent_channels(), model.scale()), (4, 2));
        let latents = Latents { channels: 4, height: 5, width: 7, values: uniform(900, 4 * 5 * 7) };
        let got = model.decode_floats(&latents, NEVER).await.unwrap();
        let planes = (0..3).flat_map(|c| got.iter().skip(c).step_by(3).copied());
        let decoded = apart(planes, &floats(&case["picture"]["values"]));
        let scene = uniform(901, 3 * 10 * 14);
        let pixels: Vec<f32> =
            (0..140).flat_map(|p| (0..3).map(move |c| c * 140 + p)).map(|i| scene[i]).collect();
        let moments = model.encode_floats((10, 14), &pixels, None, &mut |_, _| {}, NEVER).await.unwrap();
        assert_eq!(moments.channels, 8);
        // -1 is black and 1 is white.
        let picture = decode(&mut model, &latents, NEVER).await.unwrap();
        for (pixel, value) in picture.rgba.chunks_exact(4).zip(got.chunks_exact(3)) {
            assert!((f32::from(pixel[0]) - (value[0] * 127.5 + 127.5).clamp(0.0, 255.0)).abs() <= 0.51);
        }
        let bytes = |v: f32| ((v + 1.0) * 127.5).round() as u8;
        let rgba = pixels.chunks_exact(3).flat_map(|p| [bytes(p[0]), bytes(p[1]), bytes(p[2]), 0]).collect();
        let encoding = model
            .encode(&Picture { width: 14, height: 10, rgba }, None, &mut |_, _| {}, NEVER)
            .await
            .unwrap();
        let log_variance = encoding.log_variance.clone().unwrap();
        let (means, logs) = moments.values.split_at(moments.values.len() / 2);
        // Half a step of 255 on the input, through a network whose gain is small.
        assert!(encoding.mean.values.iter().zip(means).all(|(a, b)| (a - b).abs() < 0.05));
        assert!(log_variance.values.iter().zip(logs).all(|(a, b)| (a - b).abs() < 0.05));
        let drawn = encoding.sample(3);
        assert_eq!(drawn, encoding.sample(3));
        assert_ne!(drawn, encoding.sample(4));
        for ((drawn, mean), log) in drawn.values.iter().zip(&encoding.mean.values).zip(&log_variance.values) {
            assert!((drawn - mean).abs() <= 6.0 * (0.5 * log).exp());
        }
        let encoded = apart(moments.values.iter().copied(), &floats(&case["moments"]["values"]));
        println!(
            "{what}: AutoencoderKL decoder within {decoded:.2e} of the reference, encoder within {encoded:.2e}"
        );
        assert!(decoded <= 2e-3 && encoded <= 2e-3);
    }
}

#[test]
fn autoencoder_kl_on_the_cpu() {
    for level in Level::available() {
        pollster::block_on(autoencoder_kl(level.name(), || CpuImages::new(level)));
    }
}

#[test]
fn autoencoder_kl_on_the_gpu() {
    pollster::block_on(async {
        let gpu = Gpu::new(GpuOptions::default()).await.unwrap();
        autoencoder_kl("GPU", || GpuImages::new(gpu.clone(), Precision::F32).unwrap()).await;
    });
}

async fn decode<B: ImageBackend>(
    model: &mut ImageModel<B>,
    latents: &Latents,
    cancelled: &dyn Fn() -> bool,
) -> Result<Picture, Error> {
    model.decode(latents, &DecodeOptions::default(), &mut |_| {}, cancelled).await
}

async fn agrees<B: ImageBackend>(what: &str, backend: B) {
    let Some(mut sources) = weights() else {
        println!("{what}: no weights beside the repository, nothing compared");
        return;
    };
    let golden = golden();
    let mut model = ImageModel::load(backend, &mut sources, &mut |_| Ok(())).await.unwrap();
    assert_eq!((model.latent_channels(), model.scale()), (32, 8));
    let latents = latents(&golden);
    let got = model.decode_floats(&latents, NEVER).await.unwrap();
    let (height, width) = (latents.height * 8, latents.width * 8);
    assert_eq!(got.len() as u32, height * width * 3);
    // The reference has channels outermost.
    let planes: Vec<f32> = (0..3).flat_map(|c| got.iter().skip(c).step_by(3).copied()).collect();
    let decoded = apart(planes.iter().step_by(7).copied(), &floats(&golden["picture"]["values"]));
    let clamped: Vec<f32> = got.iter().map(|v| v.clamp(0.0, 1.0)).collect();
    let encoded = model.encode_floats((height, width), &clamped, None, &mut |_, _| {}, NEVER).await.unwrap();
    let encoded = apart(encoded.values.iter().copied(), &floats(&golden["encoded"]["values"]));
    println!("{what}: decoder within {decoded:.2e} of the reference, encoder within {encoded:.2e}");
    assert!(decoded <= 2e-3 && encoded <= 2e-3);

    let picture = decode(&mut model, &latents, NEVER).await.unwrap();
    assert_eq!((picture.width, picture.height), (width, height));
    for (pixel, value) in picture.rgba.chunks_exact(4).zip(got.chunks_exact(3)) {
        assert_eq!(pixel[3], 255);
        assert!((f32::from(pixel[0]) - value[0].clamp(0.0, 1.0) * 255.0).abs() <= 0.5001);
    }
    // Another size, and the first again.
    let small = Latents { channels: 32, height: 1, width: 1, values: latents.values[..32].to_vec() };
    assert_eq!(decode(&mut model, &small, NEVER).await.unwrap().rgba.len(), 8 * 8 * 4);
    assert_eq!(decode(&mut model, &latents, NEVER).await.unwrap(), picture);
    refuses(&mut model, &latents).await;
}

async fn refuses<B: ImageBackend>(model: &mut ImageModel<B>, good: &Latents) {
    let mut bad = good.clone();
    bad.values[5] = f32::NAN;
    let narrow = Latents { channels: 4, height: 2, width: 2, values: vec![0.0; 16] };
    let short = Latents { values: vec![0.0; 3], ..good.clone() };
    let huge = Latents { channels: 32, height: 1, width: 4096, values: vec![0.0; 32 * 4096] };
    for latents in [bad, narrow, short, huge] {
        assert_eq!(decode(model, &latents, NEVER).await.unwrap_err().code(), "invalid-option");
    }
    let odd = Picture { width: 9, height: 8, rgba: vec![0; 9 * 8 * 4] };
    assert_eq!(model.encode(&odd, None, &mut |_, _| {}, NEVER).await.unwrap_err().code(), "invalid-option");
    assert_eq!(decode(model, good, &|| true).await.unwrap_err().code(), "aborted");
    decode(model, good, NEVER).await.unwrap();
}

/// A memory budget cuts the picture into tiles.
async fn tiles<B: ImageBackend>(what: &str, backend: B, side: u32) {
    let Some(mut sources) = weights() else { return };
    let mut model = ImageModel::load(backend, &mut sources, &mut |_| Ok(())).await.unwrap();
    let values = uniform(77, (32 * side * (side + 3)) as usize).iter().map(|v| 2.0 * v).collect();
    let latents = Latents { channels: 32, height: side, width: side + 3, values };
    let whole = decode(&mut model, &latents, NEVER).await.unwrap();
    let untiled = model.backend().allocated_bytes() - model.weight_bytes();
    let (budget, mut events, mut previews) = (untiled * 2 / 3, Vec::new(), Vec::new());
    let options = DecodeOptions { memory: Some(budget), preview: true, scaled: false };
    let mut on_event = |event: DecodeEvent<'_>| match event {
        DecodeEvent::Tile(done, all) => events.push((done, all)),
        DecodeEvent::Preview(picture) => previews.push((picture.width, picture.height)),
    };
    let joined = model.decode(&latents, &options, &mut on_event, NEVER).await.unwrap();
    let held = model.peak_bytes();
    let apart = whole.rgba.iter().zip(&joined.rgba).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    let all = events.len() as u32;
    println!(
        "{what}: {all} tiles in {held} bytes (budget {budget}, untiled {untiled}), at most {apart}/255 apart"
    );
    assert_eq!((joined.width, joined.height), (whole.width, whole.height));
    assert!(all > 1 && events == (1..=all).map(|i| (i, all)).collect::<Vec<_>>());
    assert_eq!(previews.len(), 1);
    assert!(apart < 2 && held <= budget);
    // A budget for nothing at all is refused, and the model goes on.
    let none = DecodeOptions { memory: Some(1000), ..DecodeOptions::default() };
    let refused = model.decode(&latents, &none, &mut |_| {}, NEVER).await.unwrap_err();
    assert_eq!(refused.code(), "invalid-option");
    assert_eq!(model.decode(&latents, &options, &mut |_| {}, NEVER).await.unwrap(), joined);
    assert_eq!(decode(&mut model, &latents, NEVER).await.unwrap(), whole);
}

/// Pictures of 16 bits: nearly the same, in half the memory.
#[test]
fn f16_on_the_gpu() {
    pollster::block_on(async {
        let gpu = Gpu::new(GpuOptions::default()).await.unwrap();
        let load = async |precision, mut sources: Vec<Box<dyn ByteSource>>| {
            // Each counts its own bytes.
            let backend = GpuImages::new(gpu.sibling(), precision).unwrap();
            ImageModel::load(backend, &mut sources, &mut |_| Ok(())).await.unwrap()
        };
        let Some(taef2) = weights() else { return };
        let golden = golden();
        let latents = latents(&golden);
        let mut wide = load(Precision::F32, weights().unwrap()).await;
        let mut half = load(Precision::F16, taef2).await;
        let want = decode(&mut wide, &latents, NEVER).await.unwrap();
        let got = decode(&mut half, &latents, NEVER).await.unwrap();
        let squares: f64 =
            want.rgba.iter().zip(&got.rgba).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
        let psnr = 10.0 * (255.0f64.powi(2) / (squares / want.rgba.len() as f64)).log10();
        let bytes = |model: &ImageModel<GpuImages>| {
            (model.weight_bytes(), model.backend().allocated_bytes() - model.weight_bytes())
        };
        println!(
            "TAEF2 in f16: {psnr:.1} dB from f32; weights and pictures {:?}, f32 {:?}",
            bytes(&half),
            bytes(&wide)
        );
        assert_eq!(half.precision(), Precision::F16);
        assert!(psnr > 50.0);
        assert!(bytes(&half).0 * 10 < bytes(&wide).0 * 6 && bytes(&half).1 * 10 < bytes(&wide).1 * 6);
    });
}

/// A network whose values do not fit into 16 bits is computed again in 32, and says so.
#[test]
fn f16_overflow_falls_back() {
    pollster::block_on(async {
        let path = root::file("tests/data/image/autoencoder_kl.json");
        let mut case: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let tensors = &mut case[0]["tensors"];
        for tensor in tensors.as_array_mut().unwrap() {
            // Norms bring everything back to size: only what lies between is too large.
            if tensor["name"].as_str().unwrap().ends_with("coder.conv_in.weight") {
                tensor["scale"] = serde_json::json!(tensor["scale"].as_f64().unwrap() * 1e6);
            }
        }
        let gpu = Gpu::new(GpuOptions::default()).await.unwrap();
        let latents = Latents { channels: 4, height: 5, width: 7, values: uniform(900, 4 * 5 * 7) };
        let mut outputs = Vec::new();
        for precision in [Precision::F32, Precision::F16] {
            let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(seeded(tensors))];
            let backend = GpuImages::new(gpu.clone(), precision).unwrap();
            let mut model = ImageModel::load(backend, &mut sources, &mut |_| Ok(())).await.unwrap();
            assert_eq!(model.precision(), precision);
            outputs.push(decode(&mut model, &latents, NEVER).await.unwrap());
            assert_eq!(model.precision(), Precision::F32);
        }
        let apart = outputs[0].rgba.iter().zip(&outputs[1].rgba).map(|(a, b)| a.abs_diff(*b)).max();
        // The weights stay f16.
        assert!(apart.unwrap() <= 3, "{apart:?}");
    });
}

fn emoji() -> Vec<Box<dyn ByteSource>> {
    let path = root::file("www/public/emoji/emoji-vae.safetensors");
    vec![Box::new(FileSource::open(path).unwrap())]
}

/// The page's own model: samples of a seed are always the same, pictures come back, the config is read.
#[test]
fn the_default_model_samples_and_comes_back() {
    pollster::block_on(async {
        let backend = CpuImages::new(Level::best());
        let mut model = ImageModel::load(backend, &mut emoji(), &mut |_| Ok(())).await.unwrap();
        assert_eq!((model.latent_channels(), model.scale(), model.has_prior()), (16, 16, true));
        assert_eq!(model.config().norm_num_groups, Some(8));
        let z = model.sample(1, 0.8);
        assert_eq!((z.channels, z.height, z.width), (16, 4, 4));
        assert_eq!(z, model.sample(1, 0.8));
        assert_ne!(z, model.sample(2, 0.8));
        let picture = decode(&mut model, &z, NEVER).await.unwrap();
        let back = model.encode(&picture, None, &mut |_, _| {}, NEVER).await.unwrap().mean;
        let again = decode(&mut model, &back, NEVER).await.unwrap();
        let squares = picture.rgba.iter().zip(&again.rgba).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
        let psnr = 10.0 * (255.0f64.powi(2) / (squares.sum::<f64>() / picture.rgba.len() as f64)).log10();
        println!("a sample comes back with {psnr:.1} dB");
        assert!(psnr > 15.0);
    });
}

#[test]
fn tiles_on_the_cpu() {
    pollster::block_on(tiles("CPU", CpuImages::new(Level::best()), 48));
}

#[test]
fn tiles_on_the_gpu() {
    pollster::block_on(async {
        let gpu = Gpu::new(GpuOptions::default()).await.unwrap();
        tiles("GPU", GpuImages::new(gpu, Precision::F32).unwrap(), 30).await;
    });
}

#[test]
fn taef2_on_the_cpu() {
    for level in Level::available() {
        pollster::block_on(agrees(level.name(), CpuImages::new(level)));
    }
}

#[test]
fn taef2_on_the_gpu() {
    pollster::block_on(async {
        let gpu = Gpu::new(GpuOptions::default()).await.unwrap();
        agrees("GPU", GpuImages::new(gpu, Precision::F32).unwrap()).await;
    });
}

/// A safetensors file of these bytes.
fn code(bytes: Vec<u8>) -> &'static str {
    let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(SliceSource::new("file", bytes))];
    let result =
        pollster::block_on(ImageModel::load(CpuImages::new(Level::best()), &mut sources, &mut |_| Ok(())));
    result.err().map_or("none", |e| e.code())
}

fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn bad_files_are_refused() {
    assert_eq!(code(vec![]), "truncated");
    assert_eq!(code(vec![255; 64]), "malformed");
    assert_eq!(code(file("{", 0)), "malformed");
    assert_eq!(code(file("{}", 0)), "unsupported-model");
    let tensor = r#"{"a.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;
    assert_eq!(code(file(tensor, 16)), "unsupported-model");
    assert_eq!(code(file(tensor, 15)), "truncated");
    let overlong = r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,16]}}"#;
    assert_eq!(code(file(overlong, 16)), "malformed");
    // Layers of a decoder, one of them of a shape that no convolution has.
    let tensor = |name: &str, shape: &str, from: usize, to: usize| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let decoder = [
        tensor("1.weight", "[8]", 0, 32),
        tensor("3.conv.0.weight", "[1]", 32, 36),
        tensor("4.weight", "[3,1,1,1]", 36, 48),
    ];
    assert_eq!(code(file(&format!("{{{}}}", decoder.join(",")), 48)), "shape-mismatch");
}
