//! Latents of any shape and any values, for a model that is right.

use std::cell::RefCell;

use arbitrary::{Result, Unstructured};
use emberglass::cpu::{CpuImages, Level};
use emberglass::{ByteSource, DecodeOptions, ImageModel, Latents, SliceSource};

use super::{Target, allowed, image};

pub const TARGET: Target =
    Target { name: "latents", about: "latents of any shape and values", run, seeds, words: &[] };

thread_local! {
    /// Loaded once: refused latents must leave it usable.
    static MODEL: RefCell<Option<ImageModel<CpuImages>>> = const { RefCell::new(None) };
}

fn load() -> Option<ImageModel<CpuImages>> {
    let level = Level::available().into_iter().next()?;
    let file = SliceSource::new("fuzz.safetensors", image::safetensors(&image::tensors(0)));
    let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(file)];
    pollster::block_on(ImageModel::load(CpuImages::new(level), &mut sources, &mut |_| Ok(()))).ok()
}

fn latents(u: &mut Unstructured) -> Result<Latents> {
    let side = |u: &mut Unstructured| {
        Ok(match u.int_in_range(0..=5)? {
            0 => u.arbitrary()?,
            1 => *u.choose(&[0, 1, 1 << 14, 1 << 16, 1 << 31, u32::MAX])?,
            _ => u.int_in_range(0..=6)?,
        })
    };
    let channels = if u.ratio(1, 8)? { side(u)? } else { 4 };
    let (height, width) = (side(u)?, side(u)?);
    let right = u64::from(channels).saturating_mul(u64::from(height)).saturating_mul(u64::from(width));
    let count = if u.ratio(1, 8)? { u.int_in_range(0..=100)? } else { right.min(1 << 10) as usize };
    let mut values = vec![0.5; count];
    for _ in 0..u.int_in_range(0..=2)? {
        if let Ok(value) = u.choose_iter(values.iter_mut()) {
            *value = f32::from_bits(u.arbitrary()?);
        }
    }
    Ok(Latents { channels, height, width, values })
}

fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(latents) = latents(&mut u) else { return };
    let options = DecodeOptions {
        memory: u.arbitrary().unwrap_or(None),
        scaled: u.arbitrary().unwrap_or(false),
        preview: u.arbitrary().unwrap_or(false),
    };
    MODEL.with_borrow_mut(|model| {
        if model.is_none() {
            *model = load();
        }
        let model = model.as_mut()?;
        let scale = model.scale();
        match pollster::block_on(model.decode(&latents, &options, &mut |_| {}, &|| false)) {
            Err(error) => allowed(&error),
            Ok(picture) => {
                assert_eq!((picture.width, picture.height), (latents.width * scale, latents.height * scale));
                assert!(latents.values.iter().all(|value| value.is_finite()), "values that are no numbers");
            }
        }
        Some(())
    });
}

fn seeds() -> Vec<Vec<u8>> {
    (0..16u8).map(|i| (0..40u8).map(|j| i.wrapping_mul(91) ^ j.wrapping_mul(57)).collect()).collect()
}
