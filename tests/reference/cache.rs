//! The types of the KV cache: how far a stored value may be from the value, and blocks quantized by the definition.

use emberglass::graph::KvType;

/// Largest error of an element of a block of 32.
pub fn error(kv: KvType, block: &[f64], value: f64) -> f64 {
    match kv {
        KvType::F32 => 0.0,
        // WGSL leaves open which of the two neighbours is taken, and whether what is too small for full precision is
        // zero.
        KvType::F16 => value.abs() * 2f64.powi(-10) + 2f64.powi(-14),
        // Half a step, and roundings of f32 at up to 127 steps: of the factor, the product, the scale and its product.
        KvType::Q8_0 => (0.5 + 4.0 * 127.0 * 2f64.powi(-24)) * largest(block) / 127.0,
    }
}

fn largest(block: &[f64]) -> f64 {
    block.iter().fold(0.0, |top: f64, v| top.max(v.abs()))
}

/// A block of 32 as whole numbers up to 127, and what they are to be multiplied with.
pub fn quantize(block: &[f32]) -> (Vec<i8>, f32) {
    let block: Vec<f64> = block.iter().map(|&v| f64::from(v)).collect();
    let scale = largest(&block) / 127.0;
    let quants = block.iter().map(|v| if scale == 0.0 { 0 } else { (v / scale).round() as i8 });
    (quants.collect(), scale as f32)
}
