//! What the tests of image models share: weights out of seeds, and a comparison.

pub mod root;

use emberglass::SliceSource;
use serde_json::Value;

use crate::random::Random;

/// The generator of the references: uniform in [-1, 1).
pub fn uniform(seed: u64, count: usize) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| (random.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
}

/// A safetensors file of the tensors that a golden file describes.
pub fn seeded(tensors: &Value) -> SliceSource {
    seeded_from(0, tensors)
}

/// The same from another first seed: each tensor has the next one.
pub fn seeded_from(first: u64, tensors: &Value) -> SliceSource {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (seed, tensor) in (first..).zip(tensors.as_array().unwrap()) {
        let count: u64 = tensor["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).product();
        let (offset, scale) = (tensor["offset"].as_f64().unwrap(), tensor["scale"].as_f64().unwrap());
        let begin = data.len();
        for value in uniform(seed, count as usize) {
            data.extend(((offset + scale * f64::from(value)) as f32).to_le_bytes());
        }
        let info = serde_json::json!({
            "dtype": "F32", "shape": tensor["shape"], "data_offsets": [begin, data.len()],
        });
        header.insert(tensor["name"].as_str().unwrap().to_owned(), info);
    }
    let header = serde_json::to_string(&header).unwrap();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    SliceSource::new("seeded", bytes)
}

/// Largest difference; NaN counts as infinite.
pub fn apart(got: impl Iterator<Item = f32>, want: &[f64]) -> f64 {
    let differences: Vec<f64> = got.zip(want).map(|(g, w)| (f64::from(g) - w).abs()).collect();
    assert_eq!(differences.len(), want.len());
    differences.into_iter().fold(0.0, |top, d| {
        if d <= top {
            top
        } else if d.is_nan() {
            f64::INFINITY
        } else {
            d
        }
    })
}
