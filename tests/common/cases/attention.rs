//! Attention and the KV cache.

use emberglass::graph::{Batch, HeadShape, KvType, Op, Segment, Then};
use emberglass::sampling::Sampling;
use emberglass::{DType, Error};

use super::{Inputs, Setup, as_f64, heads, linear, step};
use crate::common::compare::{GUARD, Layout, assert_close};
use crate::common::rig::Rig;
use crate::reference::attention::{self as oracle, Scores};
use crate::reference::cache;

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
            check_attention::<R>(shape, Batch::Decode, 1, pos).await;
        }
        for (count, pos) in [(1, 0), (5, 0), (17, 0), (16, 31), (33, 64), (6, 500)] {
            check_attention::<R>(shape, Batch::Prefill, count, pos).await;
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
            check_attention::<R>(shape, Batch::Decode, 1, pos).await;
        }
        for (count, pos) in [(5, 0), (33, 64)] {
            check_attention::<R>(shape, Batch::Prefill, count, pos).await;
        }
    }
}

/// Head sizes that are no multiple of 32, two of them with every type of the cache, the others with one. The output's
/// width is no multiple of 32 either, or is too wide for splits.
pub async fn attention_of_head_sizes<R: Rig>() {
    for (i, dim) in [8, 16, 24, 40, 56, 80, 104, 112, 152, 200, 248].into_iter().enumerate() {
        let (h, g) = [(3, 1), (2, 2), (10, 2)][i % 3];
        let often = dim == 24 || dim == 80;
        for kv in KvType::ALL.into_iter().cycle().skip(i).take(if often { 3 } else { 1 }) {
            let scale = 0.7 / (dim as f32).sqrt();
            let shape = HeadShape { kv, scale, ..heads(h, g, dim, 150) };
            for (batch, count, pos) in [
                (Batch::Decode, 1, 0),
                (Batch::Decode, 1, 133),
                (Batch::Verify, 3, 70),
                (Batch::Prefill, 5, 67),
            ] {
                check_attention::<R>(shape, batch, count, pos).await;
            }
        }
    }
    check_attention::<R>(heads(41, 41, 88, 100), Batch::Decode, 1, 40).await;
    check_attention::<R>(heads(41, 41, 88, 100), Batch::Prefill, 3, 40).await;
}

/// Scores with a soft cap, which some of them reach.
pub async fn attention_with_a_cap<R: Rig>() {
    for (cap, shape) in
        [(2.0, heads(9, 3, 64, 600)), (30.0, heads(4, 1, 256, 600)), (5.0, heads(7, 1, 40, 600))]
    {
        for kv in KvType::ALL {
            let shape = HeadShape { cap, kv, ..shape };
            for (batch, count, pos) in [
                (Batch::Decode, 1, 0),
                (Batch::Decode, 1, 513),
                (Batch::Verify, 5, 62),
                (Batch::Prefill, 33, 64),
            ] {
                check_attention::<R>(shape, batch, count, pos).await;
            }
        }
    }
}

/// Sliding windows that begin before the text, inside a panel or a tile and at their borders, in rings that are passed
/// through several times; of one position, of hundreds, and longer than the ring could be.
pub async fn attention_of_windows<R: Rig>() {
    let shapes = [
        (HeadShape { window: 70, max_batch: 33, ..heads(9, 3, 64, 600) }, 128),
        (HeadShape { window: 1, max_batch: 17, ..heads(4, 2, 80, 600) }, 64),
        (HeadShape { window: 300, max_batch: 33, cap: 3.0, ..heads(7, 1, 96, 600) }, 384),
        (HeadShape { window: 64, max_batch: 65, ..heads(2, 1, 256, 600) }, 128),
        (HeadShape { window: 20, max_batch: 33, ..heads(26, 13, 128, 150) }, 64),
        (HeadShape { window: 90, max_batch: 33, ..heads(3, 1, 8, 100) }, 100),
        (HeadShape { window: 600, max_batch: 33, ..heads(2, 2, 32, 600) }, 600),
    ];
    for (i, (shape, slots)) in shapes.into_iter().enumerate() {
        assert_eq!(shape.slots(), slots);
        for kv in KvType::ALL.into_iter().cycle().skip(i).take(if i < 2 { 3 } else { 1 }) {
            let shape = HeadShape { kv, ..shape };
            for pos in [0, 1, 62, 63, 64, 69, 70, 127, 128, 300, 513] {
                check_attention::<R>(shape, Batch::Decode, 1, pos).await;
            }
            for (batch, count, pos) in [
                (Batch::Verify, 5, 61),
                (Batch::Verify, 5, 125),
                (Batch::Verify, 8, 506),
                (Batch::Prefill, 17, 0),
                (Batch::Prefill, 17, 64),
                (Batch::Prefill, 33, 95),
                (Batch::Prefill, 33, 500),
            ] {
                if count <= shape.max_batch as usize {
                    check_attention::<R>(shape, batch, count, pos).await;
                }
            }
        }
    }
}

/// What a cache cannot hold is told once, whichever way it was stored and is asked for, and nothing else is.
pub async fn kv_overflow<R: Rig>() {
    let mut s = Setup::<R>::new(5).await;
    let at_most = [(KvType::F32, f32::NAN), (KvType::F16, 65504.0), (KvType::Q8_0, f32::MAX)];
    for (kv, most) in at_most {
        let shape = HeadShape { kv, ..heads(2, 1, 40, 64) };
        let (q_width, width) = (80, 160);
        for value in [1.0, 65504.0, -65504.0, 65505.0, -1e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            // In Q, in K, and in V's last element.
            for at in [0, q_width + 3, width - 1] {
                for (batch, count) in [(Batch::Decode, 1), (Batch::Verify, 3), (Batch::Prefill, 3)] {
                    let refused =
                        kv != KvType::F32 && at >= q_width && (value.is_nan() || value.abs() > most);
                    let mut rows = vec![vec![0.5; width]; count];
                    rows[count - 1][at] = value;
                    check_overflow(&mut s, shape, batch, &rows, refused).await;
                }
            }
        }
    }
}

async fn check_overflow<R: Rig>(
    s: &mut Setup<R>,
    shape: HeadShape,
    batch: Batch,
    rows: &[Vec<f32>],
    refused: bool,
) {
    let what = format!("{:?} {batch:?} {:?}", shape.kv, rows[rows.len() - 1]);
    let cache = s.backend.cache("cache", shape).unwrap();
    let qkv = s.tensor(rows);
    let segment = Segment { dtype: DType::F32, rows: 4 };
    let weight = s.backend.weight("w", 80, &[segment]).unwrap();
    let x = s.backend.tensor("x", rows.len() as u32, 4).unwrap();
    let out = s.backend.tensor("out", rows.len() as u32, 80).unwrap();
    let attend = Op::Attend { qkv: &qkv, memory: &cache, to: &out };
    let project = linear::<R>(&out, None, &weight, None, Then::Add, &x);
    let attend = s.backend.compile(&[attend, project], batch).unwrap();
    let logits = s.backend.tensor("logits", 1, 4).unwrap();
    let sample = s.backend.compile(&[Op::Sample { logits: &logits, adjust: false }], Batch::Decode).unwrap();
    s.backend.set_sampling(&Sampling::default().params(0), &[], &[]).unwrap();
    let step = step(7, rows.len(), 0);
    // By reading, then by drawing; the second time it has been told.
    s.backend.run(&[&attend], step).unwrap();
    let read = [s.backend.read(&logits, 0).await.err(), s.backend.read(&logits, 0).await.err()];
    let mut drawn = Vec::new();
    for plans in [vec![&attend, &sample], vec![&sample]] {
        drawn.push(match s.backend.run_and_fetch(&plans, step, 1) {
            Ok(ticket) => s.backend.drawn(ticket).await.err(),
            Err(error) => Some(error),
        });
    }
    let told = refused.then(|| Error::KvOverflow { kv: shape.kv.name() });
    assert_eq!(read, [told.clone(), None], "{what}: read");
    assert_eq!(drawn, [told, None], "{what}: drawn");
}

/// Layers of different shapes on one backend, the smaller first: what they share must be large enough for both. Rows that
/// are no whole blocks are filled up with zeros, whatever lay there before.
pub async fn attention_of_several_shapes<R: Rig>() {
    let mut s = Setup::<R>::new(1).await;
    for (batch, count) in [(Batch::Decode, 1), (Batch::Verify, 5), (Batch::Prefill, 17)] {
        // With splits, and too wide for them.
        for shape in
            [heads(1, 1, 32, 100), heads(9, 3, 64, 100), heads(26, 13, 128, 100), heads(2, 1, 32, 100)]
        {
            check_on(&mut s, shape, batch, count, 33).await;
        }
        for (damaged, shape) in
            [(heads(2, 1, 64, 100), heads(3, 1, 24, 100)), (heads(41, 41, 96, 100), heads(41, 41, 88, 100))]
        {
            attend_to_infinities(&mut s, damaged, batch, count).await;
            check_on(&mut s, shape, batch, count, 33).await;
        }
    }
}

/// Leaves nothing but infinite numbers where attention leaves its output.
async fn attend_to_infinities<R: Rig>(s: &mut Setup<R>, shape: HeadShape, batch: Batch, count: usize) {
    let cache = s.backend.cache("cache", shape).unwrap();
    let (width, kv_width) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let mut row = vec![1.0; shape.qkv_width() as usize];
    row[(width + kv_width) as usize..].fill(f32::INFINITY);
    let qkv = s.tensor(&vec![row; count]);
    let weight = s.backend.weight("w", width.into(), &[Segment { dtype: DType::F32, rows: 4 }]).unwrap();
    let x = s.backend.tensor("x", count as u32, 4).unwrap();
    let out = s.backend.tensor("out", count as u32, width).unwrap();
    let attend = Op::Attend { qkv: &qkv, memory: &cache, to: &out };
    let project = linear::<R>(&out, None, &weight, None, Then::Add, &x);
    s.run(&[attend, project], batch, step(0, count, 0)).await;
}

/// A prompt's numbers do not depend on how it was cut into batches: the same bits, with windows and without.
pub async fn attention_of_cut_prompts<R: Rig>() {
    let mut s = Setup::<R>::new(3).await;
    let whole = heads(4, 2, 40, 300);
    for shape in [
        whole,
        HeadShape { window: 50, max_batch: 20, ..whole },
        HeadShape { cap: 2.0, kv: KvType::Q8_0, ..whole },
    ] {
        let width = (shape.heads * shape.head_dim) as usize;
        let rows: Vec<Vec<f32>> = (0..200).map(|_| s.random.floats(shape.qkv_width() as usize)).collect();
        let segment = Segment { dtype: DType::F32, rows: 24 };
        let weight = s.backend.weight("w", width as u64, &[segment]).unwrap();
        let bytes: Vec<u8> =
            s.random.floats(24 * width).iter().flat_map(|value| value.to_le_bytes()).collect();
        s.backend.upload_rows(&weight, 0, &bytes).unwrap();
        let mut results: Vec<Vec<u32>> = Vec::new();
        for each in [20, 7] {
            let cache = s.backend.cache("cache", shape).unwrap();
            let mut bits = Vec::new();
            for (batch, rows) in rows.chunks(each).enumerate() {
                let qkv = s.tensor(rows);
                let x = s.backend.tensor("x", rows.len() as u32, 24).unwrap();
                let out = s.backend.tensor("out", rows.len() as u32, width as u32).unwrap();
                let attend = Op::Attend { qkv: &qkv, memory: &cache, to: &out };
                let project = linear::<R>(&out, None, &weight, None, Then::Add, &x);
                s.run(&[attend, project], Batch::Prefill, step(batch * each, rows.len(), 0)).await;
                bits.extend(s.backend.read_raw(&x).await.iter().map(|value| value.to_bits()));
            }
            results.push(bits);
        }
        assert!(results[0].iter().all(|bits| f32::from_bits(*bits).is_finite()));
        for cut in &results[1..] {
            let differs = (0..cut.len()).find(|&i| cut[i] != results[0][i]);
            assert_eq!(differs, None, "{shape:?}");
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
    let (dim, slots) = (shape.head_dim as usize, shape.slots() as usize);
    let (width, kv_width) = (shape.heads as usize * dim, shape.kv_heads as usize * dim);
    // Where nothing may look the cache holds what would show in any sum.
    let poison = if shape.kv == KvType::F32 { f32::NAN } else { 6e4 };
    let mut before = [vec![poison; kv_width * slots], vec![poison; kv_width * slots]];
    for values in &mut before {
        for head in values.chunks_exact_mut(slots * dim) {
            for position in shape.first_seen(pos as u32) as usize..pos {
                head[position % slots * dim..][..dim].copy_from_slice(&s.random.floats(dim));
            }
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
            for (head, new) in new.chunks_exact(dim).enumerate() {
                let at = (head * slots + (pos + t) % slots) * dim;
                want[at..at + dim].copy_from_slice(new);
                for (block, tolerances) in new.chunks(32).zip(tolerances[at..].chunks_mut(32)) {
                    for (value, tolerance) in block.iter().zip(tolerances) {
                        *tolerance = cache::error(shape.kv, block, *value);
                    }
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
    let scores = Scores { scale: shape.scale.into(), cap: shape.cap.into() };
    let after = after.map(|values| as_f64(&values));
    for (t, row) in rows.iter().enumerate() {
        let first = if shape.window == 0 { 0 } else { (pos + t + 1).saturating_sub(shape.window as usize) };
        let mut heads = Vec::new();
        for (head, q) in row[..width].chunks_exact(dim).enumerate() {
            let [k, v] = [&after[0], &after[1]].map(|values| {
                let head = &values[head / group * slots * dim..][..slots * dim];
                (first..=pos + t).map(|position| &head[position % slots * dim..][..dim]).collect::<Vec<_>>()
            });
            heads.extend(oracle::attend(q, &k, &v, scores));
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
