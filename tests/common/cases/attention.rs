//! Attention and the KV cache.

use emberglass::DType;
use emberglass::graph::{Batch, HeadShape, KvType, Op, Segment, Then};

use super::{Inputs, Setup, as_f64, heads, linear, step};
use crate::common::compare::{GUARD, Layout, assert_close};
use crate::common::rig::Rig;
use crate::reference::{attention as oracle, cache};

/// Groups of 1, 2, 3, 4 and 7 query heads, the 7 cut unevenly; the last is too wide for splits, and its cache short.
fn shapes(kv: KvType) -> Vec<HeadShape> {
    let narrow = [(1, 1, 32), (9, 3, 64), (4, 2, 128), (4, 1, 256), (7, 1, 96)];
    let shapes = narrow.map(|(h, g, dim)| heads(h, g, dim, 600)).into_iter().chain([heads(26, 13, 128, 100)]);
    shapes.map(|shape| HeadShape { kv, ..shape }).collect()
}

/// Attention and its projection (an identity, so that its output shows), decode and prefill.
pub async fn attention<R: Rig>() {
    for shape in shapes(KvType::F32) {
        for pos in [0, 1, 7, 63, 64, 513] {
            check_attention::<R>(shape, Batch::One, 1, pos).await;
        }
        for (count, pos) in [(1, 0), (5, 0), (17, 0), (16, 31), (33, 64), (6, 500)] {
            check_attention::<R>(shape, Batch::Many, count, pos).await;
        }
    }
}

/// Over a cache of f16.
pub async fn attention_f16<R: Rig>() {
    attention_over::<R>(KvType::F16).await;
}

/// Over a cache of q8_0.
pub async fn attention_q8_0<R: Rig>() {
    attention_over::<R>(KvType::Q8_0).await;
}

/// On every second shape: how a cache is read does not depend on what is done with it.
async fn attention_over<R: Rig>(kv: KvType) {
    for shape in shapes(kv).into_iter().skip(1).step_by(2) {
        for pos in [0, 33, 513] {
            check_attention::<R>(shape, Batch::One, 1, pos).await;
        }
        for (count, pos) in [(5, 0), (33, 64)] {
            check_attention::<R>(shape, Batch::Many, count, pos).await;
        }
    }
}

/// Layers of different shapes on one backend, the smaller first: what they share must be large enough for both.
pub async fn attention_of_several_shapes<R: Rig>() {
    let mut s = Setup::<R>::new(1).await;
    for (batch, count) in [(Batch::One, 1), (Batch::Few, 5), (Batch::Many, 17)] {
        // With splits, and too wide for them.
        for shape in
            [heads(1, 1, 32, 100), heads(9, 3, 64, 100), heads(26, 13, 128, 100), heads(2, 1, 32, 100)]
        {
            check_on(&mut s, shape, batch, count, 33).await;
        }
    }
}

async fn check_attention<R: Rig>(shape: HeadShape, batch: Batch, count: usize, pos: usize) {
    if pos + count > shape.capacity as usize {
        return;
    }
    let mut s = Setup::<R>::new(u64::from(shape.head_dim) + pos as u64).await;
    check_on(&mut s, shape, batch, count, pos).await;
}

async fn check_on<R: Rig>(s: &mut Setup<R>, shape: HeadShape, batch: Batch, count: usize, pos: usize) {
    let what = format!("attention {shape:?} {batch:?} {count} at {pos}");
    let (dim, capacity) = (shape.head_dim as usize, shape.capacity as usize);
    let (width, kv_width) = (shape.heads as usize * dim, shape.kv_heads as usize * dim);
    // Where nothing may look the cache holds what would show in any sum.
    let poison = if shape.kv == KvType::F32 { f32::NAN } else { 6e4 };
    let mut before = [vec![poison; kv_width * capacity], vec![poison; kv_width * capacity]];
    for values in &mut before {
        for head in values.chunks_exact_mut(capacity * dim) {
            head[..pos * dim].copy_from_slice(&s.random.floats(pos * dim));
        }
    }
    let cache = s.backend.cache("cache", shape).unwrap();
    s.backend.write_cache(&cache, &before[0], &before[1]).await;
    let before = s.backend.read_cache(&cache).await;
    let (qkv, rows) = s.input(count, width + 2 * kv_width, Inputs::Floats);
    // The projection passes on every element, or of very many every 13th, which meets all heads and places.
    let shown: Vec<usize> = (0..width).step_by(if width > 1024 { 13 } else { 1 }).collect();
    let segment = Segment { dtype: DType::F32, rows: shown.len() as u64 };
    let identity = s.backend.weight("identity", width as u64, &[segment]).unwrap();
    let mut bytes = vec![0u8; shown.len() * width * 4];
    for (row, element) in bytes.chunks_exact_mut(width * 4).zip(&shown) {
        row[element * 4..][..4].copy_from_slice(&1f32.to_le_bytes());
    }
    s.backend.upload_rows(&identity, 0, &bytes).unwrap();
    let (x, layout) = s.output(count, shown.len());
    let mut raw = vec![GUARD; (count + 1) * layout.stride];
    for row in raw.chunks_exact_mut(layout.stride).take(count) {
        row[..shown.len()].fill(0.0);
    }
    s.backend.write_raw(&x, &raw);
    let (bias, biases) = s.bias(shown.len(), count % 2 == 1);
    let attended = s.backend.tensor("attended", count as u32, width as u32).unwrap();
    let attend = Op::Attend { qkv: &qkv, memory: &cache, to: &attended };
    let project = linear::<R>(&attended, None, &identity, bias.as_ref(), Then::Add, &x);
    s.run(&[attend, project], batch, step(pos, count, 0)).await;

    // The tokens' K and V are in the cache as well as it can hold them, and nothing else has changed.
    let after = s.backend.read_cache(&cache).await;
    for (i, (before, after)) in before.iter().zip(&after).enumerate() {
        let mut want = as_f64(before);
        let mut tolerances = vec![0.0; want.len()];
        for (t, row) in rows.iter().enumerate() {
            let new = &row[width + i * kv_width..][..kv_width];
            for (b, block) in new.chunks_exact(32).enumerate() {
                let at = (b * 32 / dim * capacity + pos + t) * dim + b * 32 % dim;
                want[at..at + 32].copy_from_slice(block);
                for (tolerance, value) in tolerances[at..].iter_mut().zip(block) {
                    *tolerance = cache::error(shape.kv, block, *value);
                }
            }
        }
        let held: Vec<usize> = (0..want.len()).filter(|i| !want[*i].is_nan()).collect();
        assert!((0..want.len()).all(|i| want[i].is_nan() == after[i].is_nan()), "{what}: poison");
        let only = |values: &[f64]| held.iter().map(|i| values[*i]).collect::<Vec<_>>();
        let got: Vec<f32> = held.iter().map(|i| after[*i]).collect();
        let layout = Layout { rows: 1, cols: held.len(), stride: held.len() };
        let name = format!("{what}: {}", ["K", "V"][i]);
        assert_close(&name, &got, &layout, &only(&want), &only(&tolerances));
    }

    // Attention is over what the cache holds.
    let group = (shape.heads / shape.kv_heads) as usize;
    let mut want = Vec::new();
    for (t, row) in rows.iter().enumerate() {
        let mut heads = Vec::new();
        for (head, q) in row[..width].chunks_exact(dim).enumerate() {
            let from = head / group * capacity * dim;
            let seen = from..from + (pos + t + 1) * dim;
            heads.extend(oracle::attend(q, &as_f64(&after[0][seen.clone()]), &as_f64(&after[1][seen])));
        }
        want.extend(shown.iter().zip(&biases).map(|(element, bias)| heads[*element] + bias));
    }
    let got = s.backend.read_raw(&x).await;
    // A score is a sum of `dim` products of size <= 100, so its error shifts p by that much
    // relatively; outputs are averages of |v| <= 10, and so are biases.
    let score_error = (dim as f64 + 8.0) * 2f64.powi(-24) * 100.0 * (dim as f64).sqrt();
    let tolerances =
        vec![10.0 * (2.0 * score_error + (pos + count + 16) as f64 * 2f64.powi(-23)); want.len()];
    assert_close(&what, &got, &layout, &want, &tolerances);
}
