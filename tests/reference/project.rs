//! Norms, matrix products, activations, RoPE.

use emberglass::graph::Act;

use super::Sum;

/// x / rms(x) · gain.
pub fn rms_norm(x: &[f64], gain: &[f64], eps: f64) -> Vec<f64> {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    let factor = 1.0 / (mean + eps).sqrt();
    x.iter().zip(gain).map(|(v, g)| v * factor * g).collect()
}

/// W x, `w` dense with rows of `x.len()`.
pub fn matvec(w: &[f64], x: &[f64]) -> Vec<Sum> {
    w.chunks_exact(x.len())
        .map(|row| {
            let terms = row.iter().zip(x).map(|(a, b)| a * b);
            Sum { value: terms.clone().sum(), sum: terms.map(f64::abs).sum(), slack: 0.0 }
        })
        .collect()
}

/// How far a row of W x can move, at most, when every x moves by the largest |x| in its block of 32.
pub fn sum_of_largest(row: &[f64], x: &[f64]) -> f64 {
    let largest = |x: &[f64]| x.iter().fold(0.0, |top: f64, v| top.max(v.abs()));
    let sum = |w: &[f64]| w.iter().map(|w| w.abs()).sum::<f64>();
    row.chunks(32).zip(x.chunks(32)).map(|(w, x)| largest(x) * sum(w)).sum()
}

/// An activation. Its slope is at most 1.13 (that of GELU; SiLU's is 1.1, a cap's 1), which carries the error of y over.
pub fn act(act: Act, y: Sum) -> Sum {
    let x = y.value;
    let value = match act {
        Act::Silu => x / (1.0 + (-x).exp()),
        Act::Gelu => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + u.tanh())
        }
        Act::Cap(cap) => f64::from(cap) * (x / f64::from(cap)).tanh(),
    };
    // Rounding is relative to what a cap may be as well: it is 1 less a quotient.
    let cap = if let Act::Cap(cap) = act { f64::from(cap) } else { 0.0 };
    Sum { value, sum: 1.13 * y.sum + cap, slack: 1.13 * y.slack }
}

/// act(gate) · up. The errors of both factors carry over. Those of rounding are small enough to leave out their product.
pub fn gated(function: Act, gate: Sum, up: Sum) -> Sum {
    let gate = act(function, gate);
    Sum {
        value: gate.value * up.value,
        sum: gate.value.abs() * up.sum + gate.sum * up.value.abs(),
        slack: gate.value.abs() * up.slack + gate.slack * (up.value.abs() + up.slack),
    }
}

/// gain · (x − mean) / deviation.
pub fn layer_norm(x: &[f64], gain: &[f64], eps: f64) -> Vec<f64> {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let variance = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / x.len() as f64;
    let factor = 1.0 / (variance + eps).sqrt();
    x.iter().zip(gain).map(|(v, g)| (v - mean) * factor * g).collect()
}

/// Rotates pairs of the first `rope_dim` elements of a head: (2i, 2i + 1), or by `halves` (i, i + rope_dim / 2), as
/// ggml's `GGML_ROPE_TYPE_NORMAL` and `GGML_ROPE_TYPE_NEOX` do.
pub fn rope(head: &mut [Sum], rope_dim: usize, halves: bool, pos: usize, base: f64) {
    for i in 0..rope_dim / 2 {
        let angle = pos as f64 * base.powf(-2.0 * i as f64 / rope_dim as f64);
        let (sin, cos) = angle.sin_cos();
        let (first, second) = if halves { (i, i + rope_dim / 2) } else { (2 * i, 2 * i + 1) };
        let (a, b) = (head[first], head[second]);
        let (sum, slack) = (a.sum + b.sum, a.slack + b.slack);
        head[first] = Sum { value: a.value * cos - b.value * sin, sum, slack };
        head[second] = Sum { value: a.value * sin + b.value * cos, sum, slack };
    }
}
