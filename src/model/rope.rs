//! Rotary position embedding: the table of angles.
//!
//! Su et al., "RoFormer", 2021: pair i of a head turns by `pos · base^(-2i/d)`. Llama 3's scaling is
//! in the file as one divisor per pair (`rope_freqs.weight`, llama.cpp's convention); linear scaling
//! divides all angles by one factor.

/// (position, pair) → (cos, sin), positions outer; angles in f64, so that they stay exact at
/// position 100 000.
pub fn table(positions: u32, dim: u32, base: f32, scale: f32, divisors: Option<&[f32]>) -> Vec<f32> {
    let pairs = dim / 2;
    let frequencies: Vec<f64> = (0..pairs)
        .map(|i| {
            let plain = f64::from(base).powf(-2.0 * f64::from(i) / f64::from(dim));
            let divisor = divisors.and_then(|d| d.get(i as usize)).copied().unwrap_or(1.0);
            plain / f64::from(divisor) / f64::from(scale)
        })
        .collect();
    let mut table = Vec::with_capacity(positions as usize * pairs as usize * 2);
    for pos in 0..positions {
        for frequency in &frequencies {
            let (sin, cos) = (f64::from(pos) * frequency).sin_cos();
            table.extend([cos as f32, sin as f32]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn position_zero_does_not_turn_and_divisors_slow_down() {
        let plain = table(3, 4, 100.0, 1.0, None);
        assert_eq!(&plain[..4], &[1.0, 0.0, 1.0, 0.0]);
        // Position 1: angles 1 and 100^(-1/2) = 0.1.
        let expected = [1f64.cos(), 1f64.sin(), 0.1f64.cos(), 0.1f64.sin()].map(|v| v as f32);
        assert_eq!(&plain[4..8], &expected);
        let slowed = table(3, 4, 100.0, 1.0, Some(&[2.0, 1.0]));
        assert_eq!(slowed[8..10], plain[4..6]);
        assert_eq!(slowed[10..12], plain[10..12]);
    }
}
