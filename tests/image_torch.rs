//! Every architecture against the code that defines it: taesd.py and diffusers, run once in f64
//! (`tools/image-reference/generate_torch.py`), on small seeded weights; and a photograph through TAEF2's real
//! weights, which are beside the repository (../shared/models).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

#[allow(dead_code)] // each test of pictures uses a part
#[path = "common/images.rs"]
mod images;
#[allow(dead_code)] // the kernel tests use the rest
#[path = "common/random.rs"]
mod random;

use emberglass::cpu::{CpuImages, Level};
use emberglass::ops::{GpuImages, ImageBackend, Precision};
use emberglass::weights::FloatTensors;
use emberglass::{
    ByteSource, DecodeOptions, FileSource, Gpu, GpuOptions, ImageModel, Latents, Picture, SliceSource,
};
use images::{apart, root, seeded};

const NEVER: &dyn Fn() -> bool = &|| false;
const CASES: [&str; 13] = [
    "taesd",
    "taesd3",
    "taef2",
    "taesana",
    "tiny_4",
    "tiny_16",
    "kl_sd1",
    "kl_sdxl",
    "kl_sd3",
    "kl_flux1",
    "kl_8_groups",
    "kl_old_names",
    "kl_no_attention",
];
/// The reference's own f32 is within 3.2e-6 of its f64; dropping a single ReLU or misplacing a norm's group moves
/// results by more than 1e-2.
const TOLERANCE: f64 = 1e-4;

/// A picture or latents of a golden file, (channels, height, width).
struct Planes {
    channels: u32,
    height: u32,
    width: u32,
    values: Vec<f32>,
}

async fn planes(path: &str, names: &[&str]) -> Planes {
    let mut source = FileSource::open(path).unwrap();
    let tensors = FloatTensors::read(&mut source).await.unwrap();
    let tensor = names.iter().find_map(|name| tensors.find(name)).unwrap();
    let [channels, height, width] = tensor.shape[..] else { panic!("{path}: {:?}", tensor.shape) };
    let values = tensor.values(&mut source).await.unwrap();
    Planes { channels: channels as u32, height: height as u32, width: width as u32, values }
}

/// (channels, pixels) to (pixels, channels).
fn interleaved(planes: &Planes) -> Vec<f32> {
    let pixels = (planes.height * planes.width) as usize;
    (0..planes.values.len()).map(|i| planes.values[i % 3 * pixels + i / 3]).collect()
}

fn sources(case: &str) -> Vec<Box<dyn ByteSource>> {
    let folder = root::file(&format!("tests/data/image/torch/{case}"));
    let mut sources: Vec<Box<dyn ByteSource>> = Vec::new();
    if let Ok(list) = std::fs::read_to_string(format!("{folder}/weights.json")) {
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        for file in list["files"].as_array().unwrap() {
            sources.push(Box::new(seeded(&file["tensors"])));
        }
    } else {
        sources.push(Box::new(
            FileSource::open(format!("{folder}/diffusion_pytorch_model.safetensors")).unwrap(),
        ));
    }
    if let Ok(config) = std::fs::read(format!("{folder}/config.json")) {
        sources.push(Box::new(SliceSource::new("config.json", config)));
    }
    sources
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

async fn agrees<B: ImageBackend>(what: &str, case: &str, backend: B) {
    let golden = root::file(&format!("tests/data/image/torch/{case}/golden.safetensors"));
    let mut model = ImageModel::load(backend, &mut sources(case), &mut |_| Ok(())).await.unwrap();
    // diffusers' AutoencoderTiny wraps the same network, which works on 0 to 1, for pictures of -1 to 1.
    let tiny = case.starts_with("tiny");

    let latent = planes(&golden, &["latent"]).await;
    let Planes { channels, height, width, values } = latent;
    let latents = Latents { channels, height, width, values };
    let decoded = model.decode_floats(&latents, NEVER).await.unwrap();
    let want = planes(&golden, &["picture"]).await;
    assert_eq!((want.height, want.width), (height * model.scale(), width * model.scale()), "{case}");
    let got = decoded.iter().map(|v| if tiny { 2.0 * v - 1.0 } else { *v });
    let decoder = apart(got, &wide(&interleaved(&want)));

    let scene = planes(&golden, &["scene"]).await;
    let pixels: Vec<f32> =
        interleaved(&scene).iter().map(|v| if tiny { f32::midpoint(*v, 1.0) } else { *v }).collect();
    let encoded =
        model.encode_floats((scene.height, scene.width), &pixels, None, &mut |_, _| {}, NEVER).await.unwrap();
    let want = planes(&golden, &["encoded", "moments"]).await;
    assert_eq!((encoded.channels, encoded.height), (want.channels, want.height), "{case}");
    let encoder = apart(encoded.values.iter().copied(), &wide(&want.values));

    println!("{what}, {case}: decoder within {decoder:.1e}, encoder within {encoder:.1e}");
    assert!(decoder <= TOLERANCE && encoder <= TOLERANCE, "{what}, {case}");
}

#[test]
fn on_the_cpu() {
    for case in CASES {
        pollster::block_on(agrees("CPU", case, CpuImages::new(Level::best())));
    }
}

#[test]
fn on_the_gpu() {
    pollster::block_on(async {
        let gpu = Gpu::new(GpuOptions::default()).await.unwrap();
        for case in CASES {
            agrees("GPU", case, GpuImages::new(gpu.clone(), Precision::F32).unwrap()).await;
        }
    });
}

fn png(path: &str) -> Picture {
    let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
    let rgba = bytes[..info.buffer_size()].as_chunks::<3>().0.iter().flat_map(|p| [p[0], p[1], p[2], 255]);
    Picture { width: info.width, height: info.height, rgba: rgba.collect() }
}

/// Over red, green and blue, in dB.
fn psnr(a: &Picture, b: &Picture) -> f64 {
    assert_eq!(a.rgba.len(), b.rgba.len());
    let squares = a.rgba.iter().zip(&b.rgba).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum::<f64>();
    let colours = (a.rgba.len() / 4 * 3) as f64;
    10.0 * (255.0f64.powi(2) * colours / squares.max(1e-9)).log10()
}

#[test]
fn a_photograph_through_the_real_weights() {
    let folder = root::file("../shared/models/taef2");
    let open = |name: &str| FileSource::open(format!("{folder}/{name}.safetensors")).ok();
    let (Some(decoder), Some(encoder)) = (open("taef2_decoder"), open("taef2_encoder")) else {
        println!("no weights beside the repository, nothing compared");
        return;
    };
    pollster::block_on(async {
        let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(decoder), Box::new(encoder)];
        let backend = CpuImages::new(Level::best());
        let mut model = ImageModel::load(backend, &mut sources, &mut |_| Ok(())).await.unwrap();
        let photo = png(&root::file("tests/data/image/photo/chelsea.png"));
        let latents = model.encode(&photo, None, &mut |_, _| {}, NEVER).await.unwrap().mean;
        let want = planes(&root::file("tests/data/image/photo/golden.safetensors"), &["encoded"]).await;
        let encoder = apart(latents.values.iter().copied(), &wide(&want.values));
        let options = DecodeOptions::default();
        let back = model.decode(&latents, &options, &mut |_| {}, NEVER).await.unwrap();
        let theirs = png(&root::file("tests/data/image/photo/decoded.png"));
        let (same, trip) = (psnr(&back, &theirs), psnr(&back, &photo));
        println!(
            "photograph: latents within {encoder:.1e}, picture {same:.1} dB from PyTorch's, round trip {trip:.2} dB"
        );
        assert!(encoder <= 1e-3 && same >= 55.0 && trip >= 30.0);
    });
}
