//! Attention.

use emberglass::DType;
use emberglass::ops::{Batch, HeadShape, Segment};

use super::{Inputs, Setup, as_f64, heads, step};
use crate::common::compare::{GUARD, assert_close};
use crate::common::rig::Rig;
use crate::reference::attention as oracle;

/// Attention and its projection (an identity, so that its output shows), decode and prefill.
pub async fn attention<R: Rig>() {
    let capacity = 600;
    for shape in [
        heads(1, 1, 32, capacity),
        heads(9, 3, 64, capacity),
        heads(4, 2, 128, capacity),
        heads(2, 1, 96, capacity),
        heads(4, 1, 256, capacity),
    ] {
        for pos in [0, 1, 7, 63, 64, 513] {
            check_attention::<R>(shape, Batch::One, 1, pos).await;
        }
        for (count, pos) in [(1, 0), (5, 0), (17, 0), (16, 31), (33, 64), (6, 500)] {
            check_attention::<R>(shape, Batch::Many, count, pos).await;
        }
    }
}

async fn check_attention<R: Rig>(shape: HeadShape, batch: Batch, count: usize, pos: usize) {
    let (dim, capacity) = (shape.head_dim as usize, shape.capacity as usize);
    let width = shape.heads as usize * dim;
    let group = (shape.heads / shape.kv_heads) as usize;
    let mut s = Setup::<R>::new(u64::from(shape.head_dim) + pos as u64).await;
    let cells = shape.kv_heads as usize * capacity * dim;
    // Beyond the last position the cache holds NaN: nothing may look there.
    let mut cache_values = [vec![f32::NAN; cells], vec![f32::NAN; cells]];
    for values in &mut cache_values {
        for head in values.chunks_exact_mut(capacity * dim) {
            head[..(pos + count) * dim].copy_from_slice(&s.random.floats((pos + count) * dim));
        }
    }
    let [k, v] = &cache_values;
    let cache = s.backend.cache("cache", shape).unwrap();
    s.backend.write_cache(&cache, k, v);
    let (q, q_rows) = s.input(count, width, Inputs::Floats);
    let segment = Segment { dtype: DType::F32, rows: width as u64 };
    let identity = s.backend.weight("identity", width as u64, &[segment], 1).unwrap();
    for row in 0..width {
        let mut line = vec![0f32; width];
        line[row] = 1.0;
        let bytes: Vec<u8> = line.iter().flat_map(|v| v.to_le_bytes()).collect();
        s.backend.upload_rows(&identity, row as u64, &bytes).unwrap();
    }
    let (x, layout) = s.output(count, width);
    let mut raw = vec![GUARD; (count + 1) * layout.stride];
    for row in raw.chunks_exact_mut(layout.stride).take(count) {
        row[..width].fill(0.0);
    }
    s.backend.write_raw(&x, &raw);
    let mut want = Vec::new();
    for (t, q) in q_rows.iter().enumerate() {
        for (head, q) in q.chunks_exact(dim).enumerate() {
            let from = head / group * capacity * dim;
            let seen = from..from + (pos + t + 1) * dim;
            want.extend(oracle::attend(q, &as_f64(&k[seen.clone()]), &as_f64(&v[seen])));
        }
    }
    s.backend.attend(&q, &cache, &identity, &x, batch).unwrap();
    s.run(step(pos, count, 0)).await;
    let got = s.backend.read_raw(&x).await;
    // A score is a sum of `dim` products of size <= 100, so its error shifts p by that much
    // relatively; outputs are averages of |v| <= 10.
    let score_error = (dim as f64 + 8.0) * 2f64.powi(-24) * 100.0 * (dim as f64).sqrt();
    let tolerances =
        vec![10.0 * (2.0 * score_error + (pos + count + 16) as f64 * 2f64.powi(-23)); want.len()];
    let what = format!("attention {shape:?} {batch:?} {count} at {pos}");
    assert_close(&what, &got, &layout, &want, &tolerances);
}
