//! How far one set of logits is from another.

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - top).exp()).sum();
    logits.iter().map(|&l| f64::from(l - top) - sum.ln()).collect()
}

/// KL(reference ‖ ours) in nats, and whether the most probable token is the same.
pub fn divergence(reference: &[f32], ours: &[f32]) -> (f64, bool) {
    assert_eq!(reference.len(), ours.len());
    let (p, q) = (log_softmax(reference), log_softmax(ours));
    let best = |v: &[f64]| (0..v.len()).max_by(|&a, &b| v[a].total_cmp(&v[b]).then(b.cmp(&a)));
    (p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum(), best(&p) == best(&q))
}
