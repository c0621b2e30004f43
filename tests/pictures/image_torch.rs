//! Every architecture against the code that defines it: taesd.py and diffusers, run once in f64
//! (`tools/image-reference/generate_torch.py`), on small seeded weights; and a photograph through TAEF2's real
//! weights, which are beside the repository (../shared/models).

use crate::images;

use emberglass::cpu::{CpuImages, Level};
use emberglass::gpu::GpuImages;
use emberglass::graph::{ImageBackend, Precision};
use emberglass::weights::FloatTensors;
use emberglass::{
    ByteSource, DecodeEvent, DecodeOptions, FileSource, Gpu, GpuOptions, ImageModel, Latents, Picture,
    SliceSource,
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

/// The weights of a case, and its config. `rename` changes the list of a file's tensors.
fn sources(case: &str, rename: impl Fn(&mut serde_json::Value)) -> Vec<Box<dyn ByteSource>> {
    let folder = root::file(&format!("tests/data/image/torch/{case}"));
    let mut sources: Vec<Box<dyn ByteSource>> = Vec::new();
    if let Ok(list) = std::fs::read_to_string(format!("{folder}/weights.json")) {
        let mut list: serde_json::Value = serde_json::from_str(&list).unwrap();
        for file in list["files"].as_array_mut().unwrap() {
            rename(&mut file["tensors"]);
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

/// The reference also within less memory, in hundredths of what the picture takes in one piece: in tiles. Gives how
/// often there were tiles.
async fn agrees<B: ImageBackend>(what: &str, case: &str, backend: B, shares: &[u64]) -> usize {
    compare(what, case, backend, shares, sources(case, |_| ())).await
}

/// A file with these weights is within [`TOLERANCE`] of the case's picture and latents. See [`agrees`].
async fn compare<B: ImageBackend>(
    what: &str,
    case: &str,
    backend: B,
    shares: &[u64],
    mut sources: Vec<Box<dyn ByteSource>>,
) -> usize {
    let golden = root::file(&format!("tests/data/image/torch/{case}/golden.safetensors"));
    let mut model = ImageModel::load(backend, &mut sources, &mut |_| Ok(())).await.unwrap();
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

    let mut tiled = 0;
    let peak = model.peak_bytes();
    for memory in shares.iter().map(|share| peak * share / 100) {
        let mut runs = 0;
        let size = (scene.height, scene.width);
        let encoded = model.encode_floats(size, &pixels, Some(memory), &mut |_, all| runs = all, NEVER).await;
        // Of so small a picture the layers at the latents' resolution may take nearly all.
        let Ok(encoded) = encoded else { break };
        let encoder = apart(encoded.values.iter().copied(), &wide(&want.values));
        assert!(encoder <= TOLERANCE, "{what}, {case}: {encoder} in {runs} runs of tiles");
        tiled += usize::from(runs > 1);
    }
    tiled + decode_in_tiles(&format!("{what}, {case}"), &mut model, &latents, shares).await
}

/// The same of a decoder. Its tiles leave only bytes, so they are compared with those of the picture in one piece, whose
/// values agree with the reference.
async fn decode_in_tiles<B: ImageBackend>(
    what: &str,
    model: &mut ImageModel<B>,
    latents: &Latents,
    shares: &[u64],
) -> usize {
    let options = DecodeOptions::default();
    let whole = model.decode(latents, &options, &mut |_| {}, NEVER).await.unwrap();
    let (mut tiled, peak) = (0, model.peak_bytes());
    for memory in shares.iter().map(|share| peak * share / 100) {
        let mut runs = 0;
        let options = DecodeOptions { memory: Some(memory), ..options };
        let mut on_event = |event: DecodeEvent<'_>| {
            if let DecodeEvent::Tile(_, all) = event {
                runs = all;
            }
        };
        let Ok(picture) = model.decode(latents, &options, &mut on_event, NEVER).await else { break };
        // Both are rounded from values that differ by rounding only.
        let off = whole.rgba.iter().zip(&picture.rgba).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(off <= 1, "{what}: {off}/255 in {runs} runs of tiles");
        tiled += usize::from(runs > 1);
    }
    tiled
}

#[test]
fn on_the_cpu() {
    let mut tiled = 0;
    for case in CASES {
        tiled += pollster::block_on(agrees("CPU", case, CpuImages::new(Level::best()), &[80, 50, 30]));
    }
    println!("{tiled} times in tiles");
    assert!(tiled > CASES.len());
}

#[test]
fn on_the_gpu() {
    pollster::block_on(async {
        let gpu = Gpu::new(GpuOptions::default()).await.unwrap();
        for case in CASES {
            agrees("GPU", case, GpuImages::new(gpu.sibling(), Precision::F32).unwrap(), &[60]).await;
        }
    });
}

/// The original code's names, with and without the prefix of a checkpoint, are those of the same layers. The names
/// were held against diffusers' own conversion when they were written.
#[test]
fn names_of_the_original_code() {
    let names =
        std::fs::read_to_string(root::file("tests/data/image/torch/kl_sd1/original_names.json")).unwrap();
    let names: serde_json::Value = serde_json::from_str(&names).unwrap();
    for prefix in ["", "first_stage_model.", "vae."] {
        let rename = |tensors: &mut serde_json::Value| {
            for tensor in tensors.as_array_mut().unwrap() {
                let name = names[tensor["name"].as_str().unwrap()].as_str().unwrap();
                let bare = name.strip_prefix("first_stage_model.").unwrap();
                tensor["name"] = format!("{prefix}{bare}").into();
                // Its attention's matrices are 1 × 1 convolutions.
                let shape = tensor["shape"].as_array_mut().unwrap();
                if bare.contains(".attn_1.") && shape.len() == 2 {
                    shape.extend([1.into(), 1.into()]);
                }
            }
        };
        let backend = CpuImages::new(Level::best());
        let sources = sources("kl_sd1", rename);
        pollster::block_on(compare("CPU, original names", "kl_sd1", backend, &[], sources));
    }
}

/// FLUX.2's statistics of its latents, which diffusers' pipeline undoes before it decodes. The networks are those of
/// the other cases of AutoencoderKL.
#[test]
fn latents_of_flux2() {
    pollster::block_on(async {
        let backend = CpuImages::new(Level::best());
        compare("CPU", "kl_flux2", backend, &[], sources("kl_flux2", |_| ())).await;
        let golden = root::file("tests/data/image/torch/kl_flux2/golden.safetensors");
        let backend = CpuImages::new(Level::best());
        let mut model =
            ImageModel::load(backend, &mut sources("kl_flux2", |_| ()), &mut |_| Ok(())).await.unwrap();
        let mut decoded = Vec::new();
        for (name, scaled) in [("latent", false), ("diffusion", true), ("diffusion", false)] {
            let Planes { channels, height, width, values } = planes(&golden, &[name]).await;
            let latents = Latents { channels, height, width, values };
            let options = DecodeOptions { scaled, ..DecodeOptions::default() };
            decoded.push(model.decode(&latents, &options, &mut |_| {}, NEVER).await.unwrap());
        }
        let apart = |a: &Picture, b: &Picture| a.rgba.iter().zip(&b.rgba).map(|(a, b)| a.abs_diff(*b)).max();
        // Both are rounded to bytes once.
        assert!(apart(&decoded[0], &decoded[1]) <= Some(1));
        assert!(apart(&decoded[0], &decoded[2]) > Some(20));
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
