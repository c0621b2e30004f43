//! The chain of samplers by its definition, and how far the draw was from falling otherwise.

/// Options, as in llama.cpp.
pub struct Chain<'a> {
    pub bias: &'a [(u32, f32)],
    pub repetition: f64,
    pub presence: f64,
    pub frequency: f64,
    pub recent: &'a [u32],
    pub top_k: usize,
    pub top_p: f64,
    pub min_p: f64,
    pub temperature: f64,
}

/// Candidates that are left, best first, with their probabilities. A token whose bias is minus infinity, or
/// whose logit is that or no number, is none; beside an infinite logit all finite ones have no probability.
pub fn candidates(logits: &[f32], chain: &Chain) -> Vec<(u32, f64)> {
    let mut all: Vec<(u32, f64)> = (0..).zip(logits.iter().map(|&l| f64::from(l))).collect();
    for &(id, bias) in chain.bias {
        all[id as usize].1 += f64::from(bias);
    }
    let forbidden = |id: u32| chain.bias.contains(&(id, f32::NEG_INFINITY));
    all.retain(|&(id, logit)| !forbidden(id) && logit > f64::NEG_INFINITY);
    if all.is_empty() {
        return Vec::new();
    }
    for (id, logit) in &mut all {
        let count = chain.recent.iter().filter(|&r| r == id).count() as f64;
        if count > 0.0 {
            *logit = if *logit > 0.0 { *logit / chain.repetition } else { *logit * chain.repetition };
            *logit -= count * chain.frequency + chain.presence;
        }
    }
    // No NaN is left; -0 is equal to 0.
    let order = |a: f64, b: f64| b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal);
    all.sort_by(|a, b| order(a.1, b.1).then(a.0.cmp(&b.0)));
    all.truncate(chain.top_k);
    let top = all[0].1;
    let weight = |l: f64, t: f64| if l == top { 1.0 } else { ((l - top) / t).exp() };
    let softmax = |all: &[(u32, f64)], t: f64| -> Vec<f64> {
        let weights: Vec<f64> = all.iter().map(|(_, l)| weight(*l, t)).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|w| w / total).collect()
    };
    let mut sum = 0.0;
    let kept = softmax(&all, 1.0).iter().position(|p| {
        sum += p;
        sum >= chain.top_p
    });
    all.truncate(kept.map_or(all.len(), |k| k + 1));
    all.retain(|(_, l)| weight(*l, 1.0) >= chain.min_p);
    let p = softmax(&all, chain.temperature);
    all.iter().map(|(id, _)| *id).zip(p).collect()
}

/// Who is drawn at `u`, and the distance of `u` from the nearest border between two candidates.
pub fn draw(candidates: &[(u32, f64)], u: f64) -> (u32, f64) {
    let mut sum = 0.0;
    let mut margin = f64::INFINITY;
    let mut drawn = None;
    for (id, p) in candidates {
        sum += p;
        margin = margin.min((sum - u).abs());
        if u < sum && drawn.is_none() {
            drawn = Some(*id);
        }
    }
    (drawn.unwrap_or(candidates[candidates.len() - 1].0), margin)
}

/// PCG3D (Jarzynski and Olano, 2020) as in the paper's listing, on [`u64`]s cut to 32 bits.
pub fn uniform(seed: u64, counter: u32) -> f64 {
    let cut = |v: u64| v & 0xffff_ffff;
    let mut v = [cut(seed), seed >> 32, u64::from(counter)].map(|v| cut(v * 1_664_525 + 1_013_904_223));
    let round = |v: &mut [u64; 3]| {
        v[0] = cut(v[0] + cut(v[1] * v[2]));
        v[1] = cut(v[1] + cut(v[2] * v[0]));
        v[2] = cut(v[2] + cut(v[0] * v[1]));
    };
    round(&mut v);
    v = v.map(|v| v ^ v >> 16);
    round(&mut v);
    (v[2] >> 8) as f64 / f64::from(1 << 24)
}
