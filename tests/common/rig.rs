//! What the kernel tests need of a backend besides its operations: to be made, and to have its
//! memory read and written whole.

use emberglass::DType;
use emberglass::graph::Backend;

/// Largest error of an activation rounded to int8, as a share of the largest magnitude in its block
/// of 32 columns: half a step of 1/127. The quotient is rounded in f32, which at 127 steps is up to
/// 127 · 4 · 2^-24 of a step; hence the fifth digit.
pub const INT8_HALF_STEP: f64 = 0.50005 / 127.0;

/// The same for int16, steps of 1/32512 or, without dot products of bytes, 1/32766; the quotient's rounding is up to
/// 32512 · 4 · 2^-24 of a step.
pub const INT16_HALF_STEP: f64 = 0.508 / 32_512.0;

/// The same for the GPU's whole numbers of 16 bits, steps of 1/32512; its quotient may be off by 2.5 units in the last
/// place (WGSL's division) and one more multiplication: up to 32512 · 4 · 2^-23 of a step.
pub const WHOLE_HALF_STEP: f64 = 0.516 / 32_512.0;

/// Largest error of a block's sum in f16, as a share of what it would be with all terms positive and every activation
/// the block's largest: 2^-11 for each factor and 32 additions (a product rounds with its addition or, unfused, once
/// more); and what f16 takes for zero, below 2^-14 of a factor's scale, 2^-9 of a block of 32.
pub const HALF_ERROR: f64 = 70.0 / 2048.0;

/// A backend under test. Everything panics on an error: a test fails that way.
#[allow(async_fn_in_trait)] // one thread
pub trait Rig: Backend {
    /// A fresh one, for batches of 128 tokens and penalties that look back 256.
    async fn make() -> Self;
    /// All floats of a tensor, padding included.
    async fn read_raw(&self, tensor: &Self::Tensor) -> Vec<f32>;
    /// Overwrites them.
    fn write_raw(&self, tensor: &Self::Tensor, values: &[f32]);
    /// Floats from one row of a tensor to the next.
    fn stride(&self, tensor: &Self::Tensor) -> usize;
    /// K and V, each (kv_heads, slots, head_dim) without padding, as attention sees them.
    async fn read_cache(&self, cache: &Self::Cache) -> [Vec<f32>; 2];
    /// Overwrites them, with what the cache's type makes of these values.
    async fn write_cache(&self, cache: &Self::Cache, k: &[f32], v: &[f32]);

    /// How far activations are rounded before they meet weights of this type: at most this share of
    /// the largest magnitude in their block of 32. Zero if they stay f32, else [`INT8_HALF_STEP`] or
    /// [`INT16_HALF_STEP`].
    fn activation_error(dtype: DType) -> f64;

    /// Whether products and sums within a block are f16: then [`HALF_ERROR`] comes on top.
    fn half_sums() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::INT8_HALF_STEP;
    use crate::common::random::Random;

    /// A block as int8 with one f32 scale, and back: the largest error as a share of the largest value.
    fn round_trip(block: &[f32]) -> f64 {
        let largest = block.iter().fold(0.0f32, |top, v| top.max(v.abs()));
        if largest == 0.0 {
            return 0.0;
        }
        let scale = largest / 127.0;
        let errors = block.iter().map(|v| f64::from((v * (127.0 / largest)).round() * scale - v).abs());
        errors.fold(0.0, f64::max) / f64::from(largest)
    }

    #[test]
    fn exact_blocks_stay_exact_behind_any_factor_and_floats_within_half_a_step() {
        let mut random = Random::new(1);
        let mut worst: f64 = 0.0;
        for _ in 0..1000 {
            let factor = random.float();
            let exact: Vec<f32> = random.int8_blocks(32).iter().map(|v| v * factor).collect();
            assert!(round_trip(&exact) < 4.0 * 2f64.powi(-24));
            worst = worst.max(round_trip(&random.floats(32)));
        }
        assert!((0.99 * INT8_HALF_STEP..=INT8_HALF_STEP).contains(&worst), "{worst}");
    }
}
