//! What a load would take of memory and of time, by the header alone.

use crate::cpu::{self, Room};
use crate::error::{Error, Result};
use crate::graph::{Backend, Fit, HeadShape, KvType};
use crate::model::{self, PROBE_DEPTH, Part, Rehearsal};
use crate::sampling::Sampling;
use crate::weights::Directory;

use super::text::{FIRST_BATCH, LoadOptions, MAX_DRAFTS, next_batch, sizes};

/// On the CPU so much of a model is allocated: more than caches hold, and little enough to be filled at once.
const CPU_PART: Part = Part { layer_bytes: 64 << 20, head_bytes: 32 << 20 };

/// What a load takes of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rooms {
    /// On the CPU.
    pub cpu: Room,
    /// Bytes of KV for each token of the context. A layer whose window is shorter than the context has none.
    pub context_bytes_per_token: u64,
    /// Bytes of KV in the smallest type.
    pub smallest_kv_bytes: u64,
}

/// What a load takes of memory, with so many threads on the CPU.
///
/// # Errors
/// What is wrong with the file's header.
pub fn rooms(directory: &Directory, load: LoadOptions, threads: usize) -> Result<Rooms> {
    let needs = model::needs(directory, sizes(load))?;
    let shapes = || needs.memories.iter().flatten().map(|(_, shape)| *shape);
    Ok(Rooms {
        cpu: cpu::room(&needs, threads),
        context_bytes_per_token: shapes().filter(|shape| shape.window == 0).map(HeadShape::kv_bytes).sum(),
        smallest_kv_bytes: shapes().map(|shape| HeadShape { kv: KvType::Q8_0, ..shape }.bytes()).sum(),
    })
}

/// A context shorter than this helps nobody.
const LEAST_CONTEXT: u32 = 256;

/// Refuses a model that cannot fit the backend, before anything is allocated.
///
/// # Errors
/// What is wrong with the file's header; [`Error::DoesNotFit`].
pub(super) fn check_fit<B: Backend>(backend: &B, directory: &Directory, load: LoadOptions) -> Result<()> {
    let needs = |load| model::needs(directory, sizes(load));
    let fit = |load| Ok(backend.fit(&needs(load)?));
    match refusal(load, fit)? {
        None => Ok(()),
        Some((Fit { needed, most }, helps)) => {
            let cache_bytes = needs(load)?.memories.iter().flatten().map(|(_, shape)| shape.bytes()).sum();
            let LoadOptions { context_length, kv, .. } = load;
            Err(Error::DoesNotFit { needed, most, cache_bytes, context_length, kv: kv.name(), helps })
        }
    }
}

/// What is too much, and what helps. `fit` tells of any load what it takes.
fn refusal(
    load: LoadOptions,
    fit: impl Fn(LoadOptions) -> Result<Option<Fit>>,
) -> Result<Option<(Fit, Vec<String>)>> {
    let Some(found) = fit(load)?.filter(|fit| !fit.fits()) else { return Ok(None) };
    let fits = |load| Ok::<_, Error>(fit(load)?.is_none_or(Fit::fits));
    // The longest context that fits, by halving.
    let longest = |load: LoadOptions| {
        let (mut least, mut most) = (0, load.context_length / LEAST_CONTEXT + 1);
        while least + 1 < most {
            let middle = least.midpoint(most);
            let helps = fits(LoadOptions { context_length: middle * LEAST_CONTEXT, ..load })?;
            *(if helps { &mut least } else { &mut most }) = middle;
        }
        Ok::<_, Error>((least > 0).then_some(least * LEAST_CONTEXT))
    };
    let small = LoadOptions { kv: KvType::Q8_0, ..load };
    let mut helps = Vec::new();
    if fits(small)? {
        helps.push("the KV cache \"q8_0\" (option kvCache)".to_owned());
    }
    if let Some(context) = longest(load)? {
        helps.push(format!("a context of at most {context} tokens (option contextLength)"));
    } else if let Some(context) = longest(small)? {
        helps.push(format!("the KV cache \"q8_0\" with a context of at most {context} tokens"));
    }
    if helps.is_empty() {
        helps.push("a file of the model with fewer bits a weight (such as Q4_K_M)".to_owned());
        helps.push("a smaller model".to_owned());
    }
    helps.push("the GPU, where there is one (option device)".to_owned());
    Ok(Some((found, helps)))
}

/// What a load and an answer would take of time, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Bytes that the backend held.
    pub allocated_bytes: u64,
    /// For a token that follows [`PROBE_DEPTH`] others.
    pub token_ms: f64,
    /// For the first token after a prompt of [`PROBE_DEPTH`] tokens.
    pub first_token_ms: f64,
    /// To allocate and pack the weights.
    pub fill_ms: f64,
    /// To compile the kernels.
    pub compile_ms: f64,
}

/// Allocates what a load would (on the CPU: a part of it), and times its ops with zeros for weights.
///
/// # Errors
/// What is wrong with the file's header or the device; [`Error::OutOfMemory`] and
/// [`Error::DeviceLimit`] where the model does not fit the device.
pub async fn rehearse<B: Backend + 'static>(
    backend: &mut B,
    directory: &Directory,
    load: LoadOptions,
    whole: bool,
) -> Result<Estimate> {
    let load = LoadOptions { draft_tokens: load.draft_tokens.min(MAX_DRAFTS).min(B::MAX_DRAFTS), ..load };
    let part = if whole { None } else { Some(CPU_PART) };
    let set_sampling = |backend: &mut B| backend.set_sampling(&Sampling::default().params(0), &[], &[]);
    let timed = model::rehearse(backend, directory, sizes(load), part, FIRST_BATCH, set_sampling).await?;
    let Rehearsal { allocated_bytes, token_ms, fill_ms, compile_ms, .. } = timed;
    let first_token_ms = first_token_ms(&timed, load.context_length);
    Ok(Estimate { allocated_bytes, token_ms, first_token_ms, fill_ms, compile_ms })
}

/// As the engine cuts a prompt into batches.
fn first_token_ms(timed: &Rehearsal, context_length: u32) -> f64 {
    let Rehearsal { batches, head_ms, .. } = timed;
    let time = |tokens: u32| match *batches {
        [Some((few, few_ms)), Some((many, many_ms))] if many > few => {
            let each = (many_ms - few_ms).max(0.0) / f64::from(many - few);
            few_ms + each * (f64::from(tokens) - f64::from(few))
        }
        [Some((few, ms)), _] => ms / f64::from(few.max(1)) * f64::from(tokens),
        _ => 0.0,
    };
    let mut left = PROBE_DEPTH.min(context_length - 1).max(1);
    let mut batch = FIRST_BATCH;
    let mut total = *head_ms;
    while left > 0 {
        let tokens = batch.min(left);
        let ms = time(tokens).max(0.0);
        total += ms;
        left -= tokens;
        batch = next_batch(tokens as usize, ms, context_length).max(1);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of weights of 1000 bytes, and 4 bytes, 2 or 1 of cache a token.
    fn helps(most: u64, kv: KvType, context_length: u32) -> Option<(Fit, Vec<String>)> {
        let fit = |load: LoadOptions| {
            let each = match load.kv {
                KvType::F32 => 4,
                KvType::F16 => 2,
                KvType::Q8_0 => 1,
            };
            Ok(Some(Fit { needed: 1000 + each * u64::from(load.context_length), most }))
        };
        refusal(LoadOptions { context_length, kv, draft_tokens: 0 }, fit).unwrap()
    }

    #[test]
    fn what_fits_is_not_refused_and_what_does_not_is_told_what_helps() {
        assert_eq!(helps(1000 + 4 * 2048, KvType::F32, 2048), None);
        let unknown =
            refusal(LoadOptions { context_length: 9, kv: KvType::F32, draft_tokens: 0 }, |_| Ok(None));
        assert_eq!(unknown.unwrap(), None);
        let words = |most, kv, context| helps(most, kv, context).unwrap().1.join(" | ");
        let gpu = "the GPU, where there is one (option device)";
        let q8 = "the KV cache \"q8_0\" (option kvCache)";
        let shorter = |n| format!("a context of at most {n} tokens (option contextLength)");
        assert_eq!(
            words(1000 + 4 * 2048 - 1, KvType::F32, 2048),
            format!("{q8} | {} | {gpu}", shorter(1792))
        );
        assert_eq!(words(1000 + 4 * 256, KvType::F32, 2048), format!("{} | {gpu}", shorter(256)));
        // Neither alone.
        let both = "the KV cache \"q8_0\" with a context of at most 768 tokens";
        assert_eq!(words(1000 + 1000, KvType::F32, 2048), format!("{both} | {gpu}"));
        // The cache is q8_0 already.
        assert_eq!(words(1000 + 512, KvType::Q8_0, 2048), format!("{} | {gpu}", shorter(512)));
        // The weights alone are too much.
        let smaller = "a file of the model with fewer bits a weight (such as Q4_K_M) | a smaller model";
        assert_eq!(words(900, KvType::F16, 2048), format!("{smaller} | {gpu}"));
        assert_eq!(helps(900, KvType::F16, 2048).unwrap().0, Fit { needed: 1000 + 2 * 2048, most: 900 });
    }

    #[test]
    fn a_prompt_takes_its_batches_and_the_head() {
        let timed = |batches| Rehearsal {
            allocated_bytes: 0,
            compile_ms: 0.0,
            token_ms: 1.0,
            batches,
            head_ms: 5.0,
            fill_ms: 0.0,
        };
        // Slow: four batches of 32.
        let slow = timed([Some((32, 300.0)), None]);
        assert_eq!(first_token_ms(&slow, 2048), 4.0 * 300.0 + 5.0);
        // Fast: 32 tokens, then the 96 that are left.
        let fast = timed([Some((32, 10.0)), Some((128, 22.0))]);
        assert_eq!(first_token_ms(&fast, 2048), 10.0 + 18.0 + 5.0);
        // A short context has room for a short prompt.
        assert_eq!(first_token_ms(&slow, 17), 150.0 + 5.0);
        assert_eq!(first_token_ms(&timed([Some((1, 2.0)), None]), 1), 2.0 + 5.0);
    }
}
