//! Convolution and group normalization, by the definition.

use super::Sum;

/// (height, width, channels), channels innermost.
pub struct Picture {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub values: Vec<f64>,
}

pub struct Filter<'a> {
    pub outputs: usize,
    pub kernel: usize,
    /// (outputs, inputs, kernel, kernel)
    pub weights: &'a [f64],
    pub bias: &'a [f64],
    pub stride: usize,
    pub padding: usize,
    pub upsample: bool,
}

/// Output of the given size.
pub fn conv(input: &Picture, filter: &Filter, height: usize, width: usize) -> Vec<Sum> {
    let factor = if filter.upsample { 2 } else { 1 };
    let at = |y: isize, x: isize, c: usize| {
        let inside =
            y >= 0 && x >= 0 && (y as usize) < input.height * factor && (x as usize) < input.width * factor;
        if !inside {
            return 0.0;
        }
        input.values[((y as usize / factor) * input.width + x as usize / factor) * input.channels + c]
    };
    let k = filter.kernel;
    let mut out = Vec::new();
    for y in 0..height {
        for x in 0..width {
            for o in 0..filter.outputs {
                let mut sum = Sum { value: filter.bias[o], sum: filter.bias[o].abs(), slack: 0.0 };
                for c in 0..input.channels {
                    for ky in 0..k {
                        for kx in 0..k {
                            let w = filter.weights[((o * input.channels + c) * k + ky) * k + kx];
                            let iy = (y * filter.stride + ky) as isize - filter.padding as isize;
                            let ix = (x * filter.stride + kx) as isize - filter.padding as isize;
                            let term = w * at(iy, ix, c);
                            sum.value += term;
                            sum.sum += term.abs();
                        }
                    }
                }
                out.push(sum);
            }
        }
    }
    out
}

/// (x - mean) / sqrt(variance + eps) · gain + bias over groups of channels and all pixels.
pub fn group_norm(input: &Picture, groups: usize, eps: f64, gain: &[f64], bias: &[f64]) -> Vec<f64> {
    let size = input.channels / groups;
    let mut out = input.values.clone();
    for g in 0..groups {
        let of_group = |i: usize| i % input.channels / size == g;
        let values: Vec<f64> =
            input.values.iter().enumerate().filter(|(i, _)| of_group(*i)).map(|(_, v)| *v).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / values.len() as f64;
        for (i, v) in out.iter_mut().enumerate().filter(|(i, _)| of_group(*i)) {
            let c = i % input.channels;
            *v = (*v - mean) / (variance + eps).sqrt() * gain[c] + bias[c];
        }
    }
    out
}
