//! Fused attention with online softmax over the KV cache: `attention_decode` (one token or a few, the positions split
//! over workgroups) and `attention_prefill` (many tokens), with `kv_store` before it. One token's K and V are stored by
//! `attention_decode` itself, so that decoding has no dispatch for it.

use crate::error::Result;
use crate::gpu::{Binding, GpuBuffer, Grid, PipelineKey, Recorder};
use crate::graph::{Batch, HeadShape, KvType};

use crate::gpu::backend::{GpuCache, GpuTensor};

/// Mirrors `Params` of `shaders/shared/attention.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    qkv_stride: u32,
    out_stride: u32,
    kv_heads: u32,
    capacity: u32,
    splits: u32,
    scale: f32,
    cap: f32,
    window: u32,
}

/// The merged attention output must fit the workgroup memory of the output projection, next to its
/// own 1 KiB; larger models do without splits.
const MERGE_BYTES: u32 = 12 * 1024;

/// So many splits for so many positions (`shaders/shared/splits.wgsl`).
const SPLITS: u32 = 4;
const SPLIT_POSITIONS: u32 = 256;

/// Positions of a panel of K in the cache.
const KV_PANEL: u32 = 32;

/// Positions that the cache has room for: whole panels.
fn capacity(shape: HeadShape) -> u32 {
    shape.slots().next_multiple_of(KV_PANEL)
}

/// Whether a query may not see all positions before it.
fn windowed(shape: HeadShape) -> bool {
    (1..shape.capacity).contains(&shape.window)
}

/// Bytes of the cache of one layer.
pub(in crate::gpu) fn cache_bytes(shape: HeadShape) -> u64 {
    u64::from(capacity(shape)) * shape.kv_bytes()
}

/// Over how many workgroups a KV head's positions are split at most when decoding. How many they are for a number of
/// positions is said by `shaders/shared/splits.wgsl`, and by the grid of [`record_decode`]. A processor (`software`) has
/// few cores, and pays for each workgroup's barriers. A sliding window needs no more than its positions do.
pub(in crate::gpu) fn most_splits(shape: HeadShape, software: bool) -> u32 {
    if shape.heads * shape.head_dim * 4 > MERGE_BYTES {
        return 1;
    }
    let most = if software { 8 } else { 32 };
    if windowed(shape) { most.min(shape.window.div_ceil(SPLIT_POSITIONS) * SPLITS) } else { most }
}

/// Floats that `attention_decode` leaves for a token: partial sums (see `shaders/shared/merge.wgsl`), or with one split
/// the output, filled up to whole blocks.
pub(in crate::gpu) fn partial_floats(shape: HeadShape, splits: u32) -> u32 {
    let rows = shape.heads * splits;
    match splits {
        1 => (rows * shape.head_dim).next_multiple_of(32),
        _ => rows * shape.head_dim + (2 * rows).next_multiple_of(4),
    }
}

fn params(qkv: &GpuTensor, out_stride: u32, shape: HeadShape, splits: u32) -> Params {
    Params {
        qkv_stride: qkv.stride / 4,
        out_stride,
        kv_heads: shape.kv_heads,
        capacity: capacity(shape),
        splits,
        scale: shape.scale,
        cap: shape.cap,
        window: shape.window,
    }
}

fn key(name: &'static str, shape: HeadShape) -> PipelineKey {
    PipelineKey::new(name)
        .constant("HEAD_VEC4", shape.head_dim / 4)
        .constant("GROUP", shape.heads / shape.kv_heads)
        .define_if(shape.kv == KvType::F16, "KV_F16")
        .define_if(shape.kv == KvType::Q8_0, "KV_Q8_0")
        .define_if(shape.kv != KvType::F32, "NARROW")
        .define_if(shape.cap > 0.0, "CAP")
        .define_if(windowed(shape), "WINDOW")
}

/// Where it is noted that K or V cannot be held.
fn overflow_of(cache: &GpuCache) -> Option<Binding<'_>> {
    (cache.shape.kv != KvType::F32).then_some(Binding(5, &cache.overflow))
}

fn decode_key(shape: HeadShape, splits: u32) -> PipelineKey {
    let group = shape.heads / shape.kv_heads;
    // Four at most are components of a vector; a larger group is cut as evenly as it can be.
    let heads = group.div_ceil(group.div_ceil(4));
    let head_vec4 = shape.head_dim / 4;
    key("attention_decode", shape)
        .constant("HEADS", heads)
        .constant("Q_VEC4", heads * head_vec4)
        .constant("SUMS", heads * (64 / head_vec4) * head_vec4)
        .define_if(splits > 1, "SPLIT")
}

/// One token, or with [`Batch::Verify`] a few; `out` receives partial sums, or with one split the final output.
/// A few tokens' K and V must be in the cache; that of one is stored on the way. `splits` is [`most_splits`], or 1.
pub(in crate::gpu) fn record_decode(
    recorder: &mut Recorder,
    step: &GpuBuffer,
    qkv: &GpuTensor,
    cache: &GpuCache,
    (out, out_stride): (&GpuBuffer, u32),
    batch: Batch,
    splits: u32,
) -> Result<()> {
    let shape = cache.shape;
    let key = decode_key(shape, splits).define_if(batch == Batch::Decode, "STORE");
    let mut bindings =
        vec![Binding(1, step), Binding(2, &qkv.buffer), Binding(3, &cache.buffer), Binding(4, out)];
    if batch == Batch::Decode {
        bindings.extend(overflow_of(cache));
    }
    let grid = Grid::Positions { x: SPLITS, each: SPLIT_POSITIONS, most: splits, rows: shape.kv_heads };
    recorder.dispatch(&key, (0, &params(qkv, out_stride, shape, splits)), &bindings, grid, 0)
}

/// K and V of several tokens into the cache.
pub(in crate::gpu) fn record_store(
    recorder: &mut Recorder,
    step: &GpuBuffer,
    qkv: &GpuTensor,
    cache: &GpuCache,
) -> Result<()> {
    let shape = cache.shape;
    let mut bindings = vec![Binding(1, step), Binding(2, &qkv.buffer), Binding(3, &cache.buffer)];
    bindings.extend(overflow_of(cache));
    let grid = Grid::Items { items: 2 * shape.kv_heads * shape.head_dim.div_ceil(32), tile: 64 };
    let key = key("kv_store", shape).define("STORE");
    recorder.dispatch(&key, (0, &params(qkv, 0, shape, 1)), &bindings, grid, 0)
}

/// Many tokens, whose K and V are in the cache.
pub(in crate::gpu) fn record_prefill(
    recorder: &mut Recorder,
    step: &GpuBuffer,
    qkv: &GpuTensor,
    cache: &GpuCache,
    out: &GpuTensor,
) -> Result<()> {
    let shape = cache.shape;
    // Blocks of four rows. A thread has a vec4 of a block's outputs, and a workgroup at most 64 threads.
    let blocks = 64 / (shape.head_dim / 4);
    let key = key("attention_prefill", shape).constant("BLOCKS", blocks);
    let bindings =
        [Binding(1, step), Binding(2, &qkv.buffer), Binding(3, &cache.buffer), Binding(4, &out.buffer)];
    let grid = Grid::Tokens { x: shape.kv_heads, rows: shape.heads / shape.kv_heads, tile: 4 * blocks };
    recorder.dispatch(&key, (0, &params(qkv, out.stride, shape, 1)), &bindings, grid, 0)
}

#[cfg(test)]
fn shape_of(heads: u32, kv_heads: u32, head_dim: u32, kv: KvType) -> HeadShape {
    HeadShape {
        heads,
        kv_heads,
        head_dim,
        scale: (1.0 / f64::from(head_dim).sqrt()) as f32,
        cap: 0.0,
        window: 0,
        max_batch: crate::graph::MAX_VERIFY_ROWS,
        capacity: 520,
        kv,
    }
}

#[cfg(test)]
layout_test!(
    layout,
    decode_key(shape_of(2, 1, 32, KvType::F32), 8),
    "params",
    Params { qkv_stride, out_stride, kv_heads, capacity, splits, scale, cap, window }
);

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::gpu::GpuBackend;
    use crate::gpu::{Gpu, GpuOptions};
    use crate::graph::{Backend, MAX_VERIFY_ROWS, Step};

    /// Numbers in [-1, 1) that look random.
    fn floats(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// Rows of such a width, as a tensor has them.
    fn padded(rows: &[f32], width: u32) -> Vec<f32> {
        let mut all = Vec::new();
        for row in rows.chunks_exact(width as usize) {
            all.extend(row);
            all.resize(all.len().next_multiple_of(32), 0.0);
        }
        all
    }

    /// Speculative decoding rests on it: a token's numbers do not depend on whether others are verified with it.
    #[test]
    fn a_few_tokens_are_bit_for_bit_what_they_are_alone() {
        let gpu = pollster::block_on(Gpu::new(GpuOptions::default())).unwrap();
        let of_types = |heads, kv_heads, dim| KvType::ALL.map(|kv| shape_of(heads, kv_heads, dim, kv));
        let whole = [of_types(9, 3, 64), of_types(16, 8, 256), of_types(6, 1, 96)].concat();
        // Rings that are passed through, with a window of one workgroup and of several, a cap, heads of broken blocks.
        let windowed = of_types(5, 1, 80).map(|shape| HeadShape { window: 60, cap: 3.0, ..shape });
        let wider = HeadShape { window: 300, ..shape_of(9, 3, 64, KvType::F16) };
        let capped = HeadShape { cap: 3.0, ..shape_of(26, 13, 120, KvType::Q8_0) };
        for shape in whole.into_iter().chain(windowed).chain([wider, capped]) {
            let mut backend = GpuBackend::new(gpu.clone(), MAX_VERIFY_ROWS, 1).unwrap();
            let width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
            let splits = most_splits(shape, false);
            let stride = partial_floats(shape, splits) as usize;
            // Of the last, four see at most 512 positions, which are divided over 8 workgroups; the others' over 12.
            for (pos, count) in [(0, 5), (62, 5), (127, 8), (508, 8)] {
                let seen = shape.first_seen(pos);
                let before = floats(((pos - seen) * width) as usize, pos + 1);
                let tokens = floats((count * width) as usize, count);
                // One at a time, then all at once, over the same earlier positions.
                let [mut alone, mut together] = [Vec::new(), Vec::new()];
                for batch in [Batch::Decode, Batch::Verify] {
                    let cache = backend.cache("cache", shape).unwrap();
                    if pos > 0 {
                        let earlier = backend.tensor("earlier", pos - seen, width).unwrap();
                        backend.write_raw(&earlier, &padded(&before, width));
                        let (recorder, step) = backend.recording();
                        record_store(recorder, step, &earlier, &cache).unwrap();
                        let plan = backend.recorded();
                        let step = Step { pos: seen, count: pos - seen, row: 0, counter: 0 };
                        backend.run(&[&plan], step).unwrap();
                    }
                    let each = if batch == Batch::Decode { 1 } else { count };
                    let qkv = backend.tensor("qkv", each, width).unwrap();
                    let out = backend.vector("out", each * stride as u32).unwrap();
                    let (recorder, step) = backend.recording();
                    if batch == Batch::Verify {
                        record_store(recorder, step, &qkv, &cache).unwrap();
                    }
                    record_decode(recorder, step, &qkv, &cache, (&out, stride as u32), batch, splits)
                        .unwrap();
                    let plan = backend.recorded();
                    for first in (0..count).step_by(each as usize) {
                        let from = (first * width) as usize;
                        let rows = &tokens[from..from + (each * width) as usize];
                        backend.write_raw(&qkv, &padded(rows, width));
                        let step = Step { pos: pos + first, count: each, row: 0, counter: 0 };
                        backend.run(&[&plan], step).unwrap();
                        let bytes = pollster::block_on(gpu.read(&out, 0, out.size())).unwrap();
                        let bits: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
                        if batch == Batch::Decode { &mut alone } else { &mut together }.extend(bits);
                    }
                }
                assert_eq!(alone.len(), count as usize * stride);
                let differs = (0..alone.len()).find(|&i| alone[i] != together[i]);
                let told = differs.map(|i| (i, f32::from_bits(alone[i]), f32::from_bits(together[i])));
                assert_eq!(told, None, "{shape:?} at {pos}");
                // And they are numbers, other ones for each token.
                assert!(alone.iter().all(|bits| f32::from_bits(*bits).is_finite()));
                assert_ne!(alone[..stride], alone[stride..2 * stride]);
            }
        }
    }
}
