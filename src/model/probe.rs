//! Timing a model before its weights are there: its own ops, with zeros for weights. Time does not depend on them.

use crate::clock::now_ms;
use crate::error::Result;
use crate::graph::{Backend, Batch, Ids, MatrixNeed, Op, Step};
use crate::weights::Directory;

use super::allocated::{Allocated, HeadRows, needs};
use super::layout::Layout;
use super::loader::{PANEL, fill_rows};
use super::{Blueprint, SMALLEST, Sizes, draw};

/// Layers that [`probe`] runs, and bytes above which one will do.
const PROBE_LAYERS: usize = 2;
const PROBE_BYTES: u64 = 64 << 20;
/// One run may be disturbed, three seldom are.
const LEAST_RUNS: usize = 3;
/// How long [`probe`] runs, which only has to tell which device is faster, in milliseconds.
const PROBE_MS: f64 = 50.0;
/// How long [`rehearse`] runs for each of its times. What else the machine does in that time is part of the answer.
const REHEARSE_MS: f64 = 200.0;
/// Steps that a GPU is given at once: the wait for the last is a small part of them.
const TOGETHER: usize = 8;
/// Tokens before the one whose time [`rehearse`] measures, and of the prompt whose time it measures.
pub const PROBE_DEPTH: u32 = 128;
/// A batch that takes longer is not followed by a larger one.
const PATIENCE_MS: f64 = 100.0;
/// Packing is timed for so long at least, unless all is packed before.
const FILL_MS: f64 = 40.0;
/// Bytes that are packed at once.
const FILL_BYTES: u64 = 256 << 10;

/// Milliseconds that one decode step takes on a backend, extrapolated from the first layers of this model's shapes by the
/// bytes of the matrices.
///
/// # Errors
/// What is wrong with the file's header or the device.
pub async fn probe<B: Backend + 'static>(mut backend: B, directory: &Directory) -> Result<f64> {
    let sizes = Sizes { context_length: 64, ..SMALLEST };
    let blueprint = draw(directory, sizes)?;
    let Blueprint { layout, program } = &blueprint;
    // What a layer remembers comes once in each.
    let ends: Vec<usize> = (0..program.body.len())
        .filter(|&at| matches!(program.body.get(at), Some(Op::Attend { .. })))
        .collect();
    // From behind the embedding on, whose table may be large.
    let layers = |count: usize| {
        let end = ends.get(count).copied().unwrap_or(program.body.len());
        program.body.get(1..end).unwrap_or_default()
    };
    let ops = match layers(PROBE_LAYERS) {
        ops if bytes(layout, ops) > PROBE_BYTES => layers(1),
        ops => ops,
    };
    let whole = bytes(layout, &program.body) + bytes(layout, &program.head);
    let operands = Allocated::of(&mut backend, &needs(&blueprint, sizes, &[ops], HeadRows::Most(0))?)?;
    let plan = operands.compile(&mut backend, &[ops], Batch::Decode)?;
    backend.compiled("probe").await?;
    let step = Step { pos: 0, count: 1, row: 0, counter: 0 };
    let times = run_times(&mut backend, &[&plan], step, false, PROBE_MS).await?;
    // Others may be disturbed.
    let best = times.into_iter().fold(f64::INFINITY, f64::min);
    Ok(best * whole as f64 / bytes(layout, ops).max(1) as f64)
}

/// How much of a model [`rehearse`] allocates where it does not allocate all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Bytes of layers: so many whole ones as have that many, at least one, evenly spread over the model.
    pub layer_bytes: u64,
    /// Bytes of the head, its first rows.
    pub head_bytes: u64,
}

/// What [`rehearse`] measured. Times are in milliseconds, and of the whole model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rehearsal {
    /// Bytes that the backend held.
    pub allocated_bytes: u64,
    /// To compile the kernels.
    pub compile_ms: f64,
    /// For a token that follows [`PROBE_DEPTH`] others, drawn as by default.
    pub token_ms: f64,
    /// For batches of a prompt: tokens and time of a small one, and of a larger one if that was tried.
    pub batches: [Option<(u32, f64)>; 2],
    /// For the logits behind a prompt and the draw.
    pub head_ms: f64,
    /// To allocate and pack all weights.
    pub fill_ms: f64,
}

/// Allocates a model, or a part of it, and times what a user will wait for. `first_batch` is how many tokens a prompt's
/// first batch has; `set_sampling` says how tokens are drawn.
///
/// # Errors
/// What is wrong with the file's header or the device; memory or limits of it that do not suffice.
pub async fn rehearse<B: Backend + 'static>(
    backend: &mut B,
    directory: &Directory,
    sizes: Sizes,
    part: Option<Part>,
    first_batch: u32,
    set_sampling: impl FnOnce(&mut B) -> Result<()>,
) -> Result<Rehearsal> {
    let depth = PROBE_DEPTH.min(sizes.context_length - 1);
    let prompt = depth.max(1);
    let sizes = match part {
        Some(_) => Sizes { context_length: depth + 1, max_batch: prompt, draft_tokens: 0, ..sizes },
        None => sizes,
    };
    let blueprint = draw(directory, sizes)?;
    let Blueprint { layout, program } = &blueprint;
    let lists = match part {
        Some(part) => spread(layout, &program.body, part.layer_bytes),
        None => vec![&program.body[..]],
    };
    let vocabulary = layout.matrices.first().map_or(1, |embeddings| embeddings.rows().max(1));
    let row_bytes = (bytes(layout, &program.head) / vocabulary).max(1);
    let rows = match part {
        Some(part) => {
            (part.head_bytes / row_bytes).next_multiple_of(PANEL).clamp(PANEL, vocabulary.max(PANEL))
        }
        None => vocabulary,
    };
    let head_scale = (vocabulary as f64 / rows as f64).max(1.0);
    let listed: u64 = lists.iter().map(|ops| bytes(layout, ops)).sum();
    let scale = bytes(layout, &program.body) as f64 / listed.max(1) as f64;

    let needs = needs(&blueprint, sizes, &lists, HeadRows::Most(u32::try_from(rows).unwrap_or(u32::MAX)))?;
    let begun = now_ms();
    let operands = Allocated::of(backend, &needs)?;
    backend.settle("weights and KV cache").await?;
    let allocate_ms = now_ms() - begun;

    let begun = now_ms();
    let draws = [Op::<Ids>::Sample { logits: program.logits, adjust: false }];
    let adjusts = [Op::<Ids>::Sample { logits: program.logits, adjust: true }];
    let decode = operands.compile(backend, &lists, Batch::Decode)?;
    let prefill = operands.compile(backend, &lists, Batch::Prefill)?;
    let head = operands.compile(backend, &[&program.head], Batch::Decode)?;
    let sample = operands.compile(backend, &[&draws], Batch::Decode)?;
    // Not run, but part of what a load allocates and compiles.
    let _adjusted = operands.compile(backend, &[&adjusts], Batch::Decode)?;
    let _verify = match sizes.draft_tokens > 0 {
        true => Some(operands.compile(backend, &[&program.body, &program.head, &draws], Batch::Verify)?),
        false => None,
    };
    backend.compiled("kernels").await?;
    backend.settle("kernels").await?;
    let compile_ms = now_ms() - begun;
    let allocated_bytes = backend.allocated_bytes();

    set_sampling(backend)?;
    backend.set_tokens(&vec![0; prompt as usize])?;
    let batch = |count| Step { pos: 0, count, row: 0, counter: 0 };
    let token = Step { pos: depth, count: 1, row: 0, counter: 0 };
    let few = first_batch.min(prompt);
    // Of a part, layers and head are scaled apart.
    let next: (&[&B::Plan], _) = match part {
        Some(_) => (&[&decode], false),
        None => (&[&decode, &head, &sample], true),
    };
    let jobs: [(&[&B::Plan], Step, bool); 4] = [
        (&[&prefill], batch(few), false),
        (&[&prefill], batch(prompt), false),
        (&[&head, &sample], token, true),
        (next.0, token, next.1),
    ];
    let mut times = [None; 4];
    for (at, (plans, step, draws)) in jobs.into_iter().enumerate() {
        if at == 1 && times[0].is_some_and(|ms| ms > PATIENCE_MS) {
            continue;
        }
        let runs = run_times(backend, plans, step, draws, REHEARSE_MS).await?;
        times[at] = Some(runs.iter().sum::<f64>() / runs.len().max(1) as f64);
    }
    let [few_ms, many_ms, head_ms, token_ms] = times;
    let batches = [few_ms.map(|ms| (few, ms * scale)), many_ms.map(|ms| (prompt, ms * scale))];
    let head_ms = head_ms.unwrap_or_default() * head_scale;
    let token_ms = token_ms.unwrap_or_default() * scale + if part.is_some() { head_ms } else { 0.0 };

    let needed: u64 = needs.matrices().map(file_bytes).sum();
    let whole: u64 = layout.matrices.iter().map(|matrix| matrix.bytes()).sum();
    let allocate_ms = allocate_ms * whole as f64 / needed.max(1) as f64;
    let matrices = needs.weights.iter().zip(operands.weights());
    let matrices = matrices.filter_map(|(need, weight)| need.as_ref().zip(weight.as_ref()));
    let pack_ms = pack_time(backend, matrices).await? * whole as f64;
    Ok(Rehearsal { allocated_bytes, compile_ms, token_ms, batches, head_ms, fill_ms: allocate_ms + pack_ms })
}

/// Bytes in the file of the matrices that ops multiply by.
fn bytes(layout: &Layout<'_>, ops: &[Op<Ids>]) -> u64 {
    let of = |op: &Op<Ids>| match op {
        Op::Linear { weight, .. } => layout.matrices.get(*weight as usize).map_or(0, |matrix| matrix.bytes()),
        _ => 0,
    };
    ops.iter().map(of).sum()
}

fn file_bytes(need: &MatrixNeed) -> u64 {
    need.segments.iter().map(|part| part.dtype.bytes_of(part.rows * need.cols)).sum()
}

/// Layers of so many bytes, at least one: the ops from one attention to the next. Files mix types, and the first layers
/// may have others than those in the middle.
fn spread<'p>(layout: &Layout<'_>, body: &'p [Op<Ids>], most: u64) -> Vec<&'p [Op<Ids>]> {
    let starts: Vec<usize> =
        (0..body.len()).filter(|&at| matches!(body.get(at), Some(Op::Attend { .. }))).collect();
    let ends = starts.iter().skip(1).copied().chain([body.len()]);
    let layers: Vec<&[Op<Ids>]> =
        starts.iter().zip(ends).filter_map(|(&from, to)| body.get(from..to)).collect();
    let each = (bytes(layout, body) / layers.len().max(1) as u64).max(1);
    let count = usize::try_from(most / each).unwrap_or(usize::MAX).clamp(1, layers.len().max(1));
    (0..count).filter_map(|i| layers.get(i * layers.len() / count).copied()).collect()
}

/// Milliseconds of each run of plans, for so long at least. With `draws` they end in a draw, and are given to a device that works apart many at a
/// time, as when a text is generated.
async fn run_times<B: Backend>(
    backend: &mut B,
    plans: &[&B::Plan],
    step: Step,
    draws: bool,
    enough_ms: f64,
) -> Result<Vec<f64>> {
    let together = if draws && B::STEPS_AHEAD > 1 { TOGETHER } else { 1 };
    let mut times = Vec::new();
    let mut begun = now_ms();
    // The first run may still be slower than others.
    for run in 0.. {
        let before = now_ms();
        if draws {
            let mut tickets = Vec::new();
            for _ in 0..together {
                tickets.push(backend.run_and_fetch(plans, step, 1)?);
            }
            for ticket in tickets {
                backend.drawn(ticket).await?;
            }
        } else {
            backend.run(plans, step)?;
            backend.settle("probe").await?;
        }
        let now = now_ms();
        match run {
            0 => begun = now,
            _ => times.push((now - before) / together as f64),
        }
        if times.len() >= LEAST_RUNS && now - begun > enough_ms {
            break;
        }
    }
    Ok(times)
}

/// Milliseconds to check and pack a byte of the file, on an average over the types that matrices have.
async fn pack_time<'a, B: Backend + 'a>(
    backend: &mut B,
    matrices: impl Iterator<Item = (&'a MatrixNeed, &'a B::Weight)>,
) -> Result<f64> {
    let begun = now_ms();
    let mut packed = 0;
    let mut zeros = Vec::new();
    for (need, weight) in matrices {
        let mut row = 0;
        for part in &need.segments {
            let row_bytes = part.dtype.bytes_of(need.cols);
            let rows = (FILL_BYTES / row_bytes.max(1) / PANEL * PANEL)
                .clamp(PANEL, part.rows.max(PANEL))
                .min(part.rows);
            zeros.clear();
            zeros.resize(usize::try_from(rows * row_bytes).unwrap_or(0), 0);
            fill_rows(backend, weight, row, (&need.label, part.dtype), &zeros)?;
            packed += rows * row_bytes;
            row += part.rows;
        }
        if now_ms() - begun > FILL_MS {
            break;
        }
    }
    backend.settle("packing").await?;
    Ok((now_ms() - begun) / packed.max(1) as f64)
}
