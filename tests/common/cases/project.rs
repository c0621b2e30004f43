//! Projections and what is fused with them.

use emberglass::DType;
use emberglass::ops::{Batch, HeadShape, Norm};

use super::{BATCHES, EPS, INPUTS, Inputs, Setup, heads, shapes, step};
use crate::common::compare::GUARD;
use crate::common::rig::Rig;
use crate::reference::{Sum, project as oracle};

/// x += W h.
pub async fn project_add<R: Rig>(dtype: DType) {
    for (cols, rows) in shapes(dtype) {
        for (batch, count) in BATCHES {
            for inputs in INPUTS {
                let mut s = Setup::<R>::new((cols * 1000 + rows) as u64).await;
                let w = s.matrix(cols, &[(dtype, rows)], 1, inputs);
                let (h, h_rows) = s.input(count, cols, inputs);
                let (x, layout) = s.output(count, rows);
                // The residual itself, with guards left round it.
                let mut raw = vec![GUARD; (count + 1) * layout.stride];
                let mut want = Vec::new();
                for (t, h) in h_rows.iter().enumerate() {
                    for (i, y) in w.times(h, inputs).into_iter().enumerate() {
                        let residual = s.random.float();
                        raw[t * layout.stride + i] = residual;
                        want.push(y.plus(f64::from(residual)));
                    }
                }
                s.backend.write_raw(&x, &raw);
                s.backend.project_add(&h, &w.weight, &x, batch).unwrap();
                s.run(step(0, count, 0)).await;
                let what = format!("project_add {} {cols}x{rows} {batch:?} {count} {inputs:?}", dtype.name());
                s.check(&what, &x, &layout, &want, cols).await;
            }
        }
    }
}

/// h = silu(gate · norm(x)) ⊙ (up · norm(x)).
pub async fn gate_up<R: Rig>(dtype: DType) {
    for (cols, half) in shapes(dtype) {
        for (batch, count) in BATCHES {
            for inputs in INPUTS {
                let mut s = Setup::<R>::new((cols * 1000 + half + 1) as u64).await;
                let w = s.matrix(cols, &[(dtype, half), (dtype, half)], half as u32, inputs);
                let n = s.normed(count, cols, 0, inputs);
                let (h, layout) = s.output(count, half);
                let mut want = Vec::new();
                for row in &n.rows {
                    let y = w.times(row, inputs);
                    want.extend((0..half).map(|i| oracle::swiglu(y[i], y[half + i])));
                }
                let norm = Norm { gain: &n.gain, eps: EPS, bias_at: None };
                s.backend.gate_up(&n.x, &norm, &w.weight, &h, batch).unwrap();
                s.run(step(0, count, 0)).await;
                let what = format!("gate_up {} {cols}x{half} {batch:?} {count} {inputs:?}", dtype.name());
                s.check(&what, &h, &layout, &want, 2 * cols).await;
            }
        }
    }
}

/// logits = W · norm(x[row]), or of every row.
pub async fn head<R: Rig>(dtype: DType) {
    for (cols, rows) in shapes(dtype) {
        for inputs in INPUTS {
            let mut s = Setup::<R>::new((cols * 1000 + rows + 2) as u64).await;
            let w = s.matrix(cols, &[(dtype, rows)], 1, inputs);
            let n = s.normed(4, cols, 0, inputs);
            for (batch, row, count) in [(Batch::One, 0, 1), (Batch::One, 3, 1), (Batch::Few, 0, 4)] {
                let (logits, layout) = s.output(count, rows);
                let of_rows = n.rows[row..row + count].iter();
                let want: Vec<Sum> = of_rows.flat_map(|x| w.times(x, inputs)).collect();
                let norm = Norm { gain: &n.gain, eps: EPS, bias_at: None };
                s.backend.head(&n.x, &norm, &w.weight, &logits, batch).unwrap();
                s.run(step(0, 4, row)).await;
                let what = format!("head {} {cols}x{rows} {batch:?} row {row} {inputs:?}", dtype.name());
                s.check(&what, &logits, &layout, &want, cols).await;
            }
        }
    }
}

/// Q, K, V with RoPE (whole and partial), bias, and mixed dtypes.
pub async fn qkv<R: Rig>(dtype: DType) {
    for (shape, bias, other) in [
        (heads(3, 1, 32, 9), false, dtype),
        (HeadShape { rope_dim: 16, ..heads(4, 2, 64, 9) }, true, dtype),
        (heads(2, 2, 32, 9), true, DType::Q8_0),
    ] {
        for batch in [(Batch::One, 1, 0), (Batch::One, 1, 8), (Batch::Many, 5, 3), (Batch::Many, 9, 0)] {
            for inputs in INPUTS {
                check_qkv::<R>(dtype, shape, bias, other, batch, inputs).await;
            }
        }
    }
}

const ROPE_BASE: f64 = 10_000.0;

/// (cos, sin) of every position and pair.
fn rope_table(shape: HeadShape) -> Vec<f32> {
    let mut table = Vec::new();
    for position in 0..shape.capacity {
        for i in 0..shape.rope_dim / 2 {
            let power = -2.0 * f64::from(i) / f64::from(shape.rope_dim);
            let (sin, cos) = (f64::from(position) * ROPE_BASE.powf(power)).sin_cos();
            table.extend([cos as f32, sin as f32]);
        }
    }
    table
}

async fn check_qkv<R: Rig>(
    dtype: DType,
    shape: HeadShape,
    bias: bool,
    other: DType,
    (batch, count, pos): (Batch, usize, usize),
    inputs: Inputs,
) {
    let cols = 64;
    let mut s = Setup::<R>::new((shape.heads * 100 + count as u32) as u64).await;
    let dim = shape.head_dim as usize;
    let (q_rows, kv_rows) = (shape.heads as usize * dim, shape.kv_heads as usize * dim);
    let all = q_rows + 2 * kv_rows;
    let w = s.matrix(cols, &[(dtype, q_rows), (dtype, kv_rows), (other, kv_rows)], 1, inputs);
    let n = s.normed(count, cols, if bias { all } else { 0 }, inputs);
    let (qkv, layout) = s.output(count, all);
    let table = rope_table(shape);
    let rope = s.backend.vector("rope", table.len() as u32).unwrap();
    s.backend.upload_vector(&rope, 0, &table);

    let mut want = Vec::new();
    for (t, row) in n.rows.iter().enumerate() {
        let mut y = w.times(row, inputs);
        for (y, bias) in y.iter_mut().zip(&n.bias) {
            *y = y.plus(*bias);
        }
        for head in y[..q_rows + kv_rows].chunks_exact_mut(dim) {
            oracle::rope(head, shape.rope_dim as usize, pos + t, ROPE_BASE);
        }
        want.extend(y);
    }
    let norm = Norm { gain: &n.gain, eps: EPS, bias_at: bias.then_some(cols as u32) };
    s.backend.qkv(&n.x, &norm, &w.weight, &rope, &qkv, shape, batch).unwrap();
    s.run(step(pos, count, 0)).await;
    let what = format!("qkv {} {shape:?} {batch:?} at {pos} of {count} {inputs:?}", dtype.name());
    s.check(&what, &qkv, &layout, &want, cols).await;
}
