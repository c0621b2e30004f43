//! What a load would take of memory and of time, by the header alone.

use crate::cpu::{self, Room};
use crate::error::Result;
use crate::graph::{Backend, HeadShape, KvType};
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
/// What is wrong with the file's header or the device; [`Error::OutOfMemory`](crate::error::Error::OutOfMemory) and
/// [`Error::DeviceLimit`](crate::error::Error::DeviceLimit) where the model does not fit the device.
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
