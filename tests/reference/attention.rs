//! Causal attention with grouped heads, by the definition.

/// One query row against K and V, each (positions, dim).
pub fn attend(q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
    let dim = q.len();
    let scores: Vec<f64> = k
        .chunks_exact(dim)
        .map(|k| q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() / (dim as f64).sqrt())
        .collect();
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = scores.iter().map(|s| (s - top).exp()).sum();
    let mut out = vec![0.0; dim];
    for (score, v) in scores.iter().zip(v.chunks_exact(dim)) {
        let p = (score - top).exp() / total;
        for (o, v) in out.iter_mut().zip(v) {
            *o += p * v;
        }
    }
    out
}
