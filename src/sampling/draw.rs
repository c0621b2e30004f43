//! The draw on the CPU: that of the CPU backend, and of requests that want more candidates than the
//! GPU keeps. Order as in llama.cpp: logit bias, penalties, top-k, top-p, min-p, temperature, draw.

/// What is drawn if there is no candidate: every logit is NaN or minus infinity.
pub const NO_TOKEN: u32 = u32::MAX;

/// The most candidates that are kept on the GPU.
pub const MAX_TOP_K: u32 = 128;

/// How a token is drawn. All values are checked by the caller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleParams {
    /// Candidates kept, 1 to [`MAX_TOP_K`]; 1 is greedy.
    pub top_k: u32,
    /// Smallest set of candidates whose probability reaches this, 0 to 1.
    pub top_p: f32,
    /// Candidates at least this probable relative to the best, 0 to 1.
    pub min_p: f32,
    /// 0 is greedy.
    pub temperature: f32,
    /// Same seed, same text.
    pub seed: u64,
    /// 1 is off.
    pub repetition: f32,
    /// 0 is off.
    pub presence: f32,
    /// 0 is off.
    pub frequency: f32,
    /// Tokens that penalties look back.
    pub window: u32,
}

/// Applies logit bias and penalties. `recent` are the tokens so far, oldest first; only the window
/// that `params` names is looked at. A bias of minus infinity forbids a token, whatever its logit is.
pub fn adjust(logits: &mut [f32], params: &SampleParams, bias: &[(u32, f32)], recent: &[u32]) {
    for &(id, bias) in bias {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = if bias == f32::NEG_INFINITY { bias } else { *logit + bias };
        }
    }
    let window = &recent[recent.len().saturating_sub(params.window as usize)..];
    let mut counts = std::collections::BTreeMap::new();
    for &id in window {
        *counts.entry(id).or_insert(0u32) += 1;
    }
    for (id, count) in counts {
        if let Some(logit) = logits.get_mut(id as usize) {
            if *logit <= 0.0 {
                *logit *= params.repetition;
            } else {
                *logit /= params.repetition;
            }
            *logit -= count as f32 * params.frequency + params.presence;
        }
    }
}

/// Draws token number `counter` of a generation; [`NO_TOKEN`] if there is no candidate. NaN and minus
/// infinity are no candidates; plus infinity is the largest, and several of it are equally probable. Unlike
/// on the GPU, `top_k` may be anything, 0 for all.
#[must_use]
pub fn draw(logits: &[f32], params: &SampleParams, counter: u32) -> u32 {
    let greedy = params.temperature == 0.0 || params.top_k == 1;
    let mut order = highest(logits, if greedy { 1 } else { params.top_k as usize });
    let Some(&(best, highest)) = order.first() else { return NO_TOKEN };
    if greedy {
        return best;
    }
    // How far a logit is below the highest; infinity minus itself would be NaN.
    let below = |logit: f32| if logit == highest { 0.0 } else { f64::from(logit) - f64::from(highest) };
    if params.top_p < 1.0 {
        let total: f64 = order.iter().map(|&(_, logit)| below(logit).exp()).sum();
        let mut sum = 0.0;
        let kept = order.iter().position(|&(_, logit)| {
            sum += below(logit).exp();
            sum >= f64::from(params.top_p) * total
        });
        order.truncate(kept.map_or(order.len(), |k| k + 1));
    }
    if params.min_p > 0.0 {
        let floor = f64::from(params.min_p).ln();
        let kept = order.iter().skip(1).position(|&(_, logit)| below(logit) < floor);
        order.truncate(kept.map_or(order.len(), |k| k + 1));
    }
    let hot = |logit: f32| (below(logit) / f64::from(params.temperature)).exp();
    let total: f64 = order.iter().map(|&(_, logit)| hot(logit)).sum();
    let target = f64::from(uniform_random(params.seed, counter)) * total;
    let mut sum = 0.0;
    for &(id, logit) in &order {
        sum += hot(logit);
        if target < sum {
            return id;
        }
    }
    order.last().map_or(best, |&(id, _)| id)
}

/// The `k` highest (0: all) as (id, logit), highest first, the lower id first among equals. NaN and minus
/// infinity are passed over.
fn highest(logits: &[f32], k: usize) -> Vec<(u32, f32)> {
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let k = if k == 0 { logits.len() } else { k };
    let mut kept: Vec<(u32, f32)> = Vec::new();
    // Most of a large vocabulary falls to one comparison with the k-th best so far.
    let mut least = f32::NEG_INFINITY;
    for (id, &logit) in (0..).zip(logits) {
        if logit > least {
            // -0 becomes 0: they are equal.
            kept.push((id, logit + 0.0));
            if kept.len() >= k.saturating_mul(2).saturating_add(64) {
                kept.select_nth_unstable_by(k - 1, order);
                kept.truncate(k);
                least = kept[k - 1].1;
            }
        }
    }
    kept.sort_unstable_by(order);
    kept.truncate(k);
    kept
}

/// Uniform in \[0, 1), a hash of seed and counter: PCG3D, Jarzynski and Olano, JCGT 9(3), 2020.
/// `shaders/shared/random.wgsl` has the same function.
#[allow(clippy::cast_possible_truncation, reason = "the two halves of the seed")]
pub(crate) fn uniform_random(seed: u64, counter: u32) -> f32 {
    let mix = |v: u32| v.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    #[allow(clippy::cast_possible_truncation)] // the lower half
    let (mut x, mut y, mut z) = (mix(seed as u32), mix((seed >> 32) as u32), mix(counter));
    x = x.wrapping_add(y.wrapping_mul(z));
    y = y.wrapping_add(z.wrapping_mul(x));
    z = z.wrapping_add(x.wrapping_mul(y));
    x ^= x >> 16;
    y ^= y >> 16;
    z ^= z >> 16;
    x = x.wrapping_add(y.wrapping_mul(z));
    y = y.wrapping_add(z.wrapping_mul(x));
    z = z.wrapping_add(x.wrapping_mul(y));
    (z >> 8) as f32 / 16_777_216.0
}
