//! Attention of one query, by the definition.

/// What becomes of a score.
#[derive(Debug, Clone, Copy)]
pub struct Scores {
    /// Its factor.
    pub scale: f64,
    /// Then it becomes cap · tanh(score / cap) (Gemma 2, arXiv 2408.00118, section 2); 0 is no cap.
    pub cap: f64,
}

/// One query row against the rows of K and V that it sees.
pub fn attend(q: &[f64], k: &[&[f64]], v: &[&[f64]], Scores { scale, cap }: Scores) -> Vec<f64> {
    let score = |k: &&[f64]| {
        let score = q.iter().zip(*k).map(|(a, b)| a * b).sum::<f64>() * scale;
        if cap > 0.0 { cap * (score / cap).tanh() } else { score }
    };
    let scores: Vec<f64> = k.iter().map(score).collect();
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = scores.iter().map(|s| (s - top).exp()).sum();
    let mut out = vec![0.0; q.len()];
    for (score, v) in scores.iter().zip(v) {
        let p = (score - top).exp() / total;
        for (o, v) in out.iter_mut().zip(*v) {
            *o += p * v;
        }
    }
    out
}
