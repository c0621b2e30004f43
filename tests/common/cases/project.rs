//! Projections and what is fused with them.

use emberglass::DType;
use emberglass::graph::{Act, Batch, Heads, Op, Rope, RopePairs, Rows, Then};

use super::{BATCHES, FORMATS, INPUTS, Inputs, Setup, linear, rms, shapes, step};
use crate::common::compare::GUARD;
use crate::common::rig::Rig;
use crate::reference::{Sum, project as oracle};

/// x += W h + bias, with a bias and without.
pub async fn project_add<R: Rig>(dtype: DType) {
    for (cols, rows) in shapes(dtype) {
        for (batch, count) in BATCHES {
            for inputs in INPUTS {
                let mut s = Setup::<R>::new((cols * 1000 + rows) as u64).await;
                let w = s.matrix(cols, &[(dtype, rows)], inputs);
                let biased = FORMATS.contains(&dtype) && (rows + count) % 2 == 0;
                let (bias, biases) = s.bias(rows, biased);
                let (h, h_rows) = s.input(count, cols, inputs);
                let (x, layout) = s.output(count, rows);
                // The residual itself, with guards left round it.
                let mut raw = vec![GUARD; (count + 1) * layout.stride];
                let mut want = Vec::new();
                for (t, h) in h_rows.iter().enumerate() {
                    for (i, y) in w.times(h, inputs).into_iter().enumerate() {
                        let residual = s.random.float();
                        raw[t * layout.stride + i] = residual;
                        let y = y.plus(biases[i]).times(if biased { 0.5 } else { 1.0 });
                        want.push(y.plus(f64::from(residual)));
                    }
                }
                s.backend.write_raw(&x, &raw);
                // A factor is that of the product alone.
                let scale = if biased { 0.5 } else { 1.0 };
                let (norm, bias, rows_of) = (None, bias.as_ref(), Rows::Batch);
                let (weight, then) = (&w.weight, Then::Add);
                let op = Op::Linear { x: &h, rows: rows_of, norm, weight, bias, scale, then, to: &x };
                s.run(&[op], batch, step(0, count, 0)).await;
                let what = format!("project_add {} {cols}x{rows} {batch:?} {count} {inputs:?}", dtype.name());
                s.check(&what, &x, &layout, &want, cols).await;
            }
        }
    }
}

/// h = silu(gate · norm(x) + bias) ⊙ (up · norm(x) + bias), gate and up of one type and of two.
pub async fn gate_up<R: Rig>(dtype: DType) {
    let other = match dtype {
        DType::F32 => DType::F16,
        DType::F16 | DType::BF16 => DType::F32,
        DType::Q8_0 => DType::Q4_1,
        DType::Q6_K => DType::Q4_K,
        _ => DType::Q8_0,
    };
    let shapes = shapes(dtype);
    let last = shapes.len() - 1;
    for (index, (cols, half)) in shapes.into_iter().enumerate() {
        for (batch, count) in BATCHES {
            for inputs in INPUTS {
                check_gate_up::<R>([dtype, dtype], (cols, half), (batch, count), inputs).await;
                // Of an odd number of rows, whose last has no partner.
                if index == last && FORMATS.contains(&dtype) {
                    check_gate_up::<R>([dtype, other], (cols, half), (batch, count), inputs).await;
                }
            }
        }
    }
}

/// Other activations than [`gate_up`]'s: behind a product, and as its gate.
pub async fn map<R: Rig>() {
    let (cols, half, count) = (96, 33, 5);
    for act in [Act::Silu, Act::Gelu, Act::Cap(1.5)] {
        for batch in [Batch::Verify, Batch::Prefill] {
            for dtypes in [[DType::Q4_1; 2], [DType::Q4_1, DType::Q8_0]] {
                let mut s = Setup::<R>::new(u64::from(batch == Batch::Verify) + 5).await;
                let w = s.matrix(cols, &dtypes.map(|dtype| (dtype, half)), Inputs::Exact);
                let (bias, biases) = s.bias(2 * half, true);
                let (x, rows) = s.input(count, cols, Inputs::Exact);
                let mut whole = Vec::new();
                for row in &rows {
                    whole.extend(
                        w.times(row, Inputs::Exact).into_iter().zip(&biases).map(|(y, b)| y.plus(*b)),
                    );
                }
                let halves = whole.chunks_exact(2 * half).flat_map(|y| {
                    let (gate, up) = y.split_at(half);
                    gate.iter().zip(up).map(|(gate, up)| oracle::gated(act, *gate, *up)).collect::<Vec<_>>()
                });
                let halves: Vec<Sum> = halves.collect();
                let mapped: Vec<Sum> = whole.iter().map(|y| oracle::act(act, *y)).collect();
                let outputs =
                    [(&mapped, 2 * half), (&halves, half)].map(|(want, cols)| (want, s.output(count, cols)));
                for (gated, (want, (to, layout))) in outputs.into_iter().enumerate() {
                    let then = if gated == 1 { Then::Gated(act) } else { Then::Map(act) };
                    let op = linear::<R>(&x, None, &w.weight, bias.as_ref(), then, &to);
                    s.run(&[op], batch, step(0, count, 0)).await;
                    let what = format!("{act:?} {dtypes:?} {batch:?}, gated: {gated}");
                    s.check(&what, &to, &layout, want, 2 * cols).await;
                }
            }
        }
    }
}

async fn check_gate_up<R: Rig>(
    dtypes: [DType; 2],
    (cols, half): (usize, usize),
    (batch, count): (Batch, usize),
    inputs: Inputs,
) {
    let mut s = Setup::<R>::new((cols * 1000 + half + 1) as u64).await;
    let w = s.matrix(cols, &dtypes.map(|dtype| (dtype, half)), inputs);
    let biased = FORMATS.contains(&dtypes[0]) && (half + count) % 2 == 0;
    let (bias, biases) = s.bias(2 * half, biased);
    let n = s.normed(count, cols, inputs);
    let (h, layout) = s.output(count, half);
    let mut want = Vec::new();
    for row in &n.rows {
        let y: Vec<Sum> = w.times(row, inputs).into_iter().zip(&biases).map(|(y, b)| y.plus(*b)).collect();
        want.extend((0..half).map(|i| oracle::gated(Act::Silu, y[i], y[half + i])));
    }
    let op = linear::<R>(&n.x, Some(&n.gain), &w.weight, bias.as_ref(), Then::Gated(Act::Silu), &h);
    s.run(&[op], batch, step(0, count, 0)).await;
    let names = dtypes.map(DType::name);
    let what = format!("gate_up {names:?} {cols}x{half} {batch:?} {count} {inputs:?}");
    s.check(&what, &h, &layout, &want, 2 * cols).await;
}

/// logits = W · norm(x[row]), or of every row.
pub async fn head<R: Rig>(dtype: DType) {
    for (cols, rows) in shapes(dtype) {
        for inputs in INPUTS {
            let mut s = Setup::<R>::new((cols * 1000 + rows + 2) as u64).await;
            let w = s.matrix(cols, &[(dtype, rows)], inputs);
            let n = s.normed(4, cols, inputs);
            for (batch, row, count) in [(Batch::Decode, 0, 1), (Batch::Decode, 3, 1), (Batch::Verify, 0, 4)] {
                let (logits, layout) = s.output(count, rows);
                let of_rows = n.rows[row..row + count].iter();
                let want: Vec<Sum> = of_rows.flat_map(|x| w.times(x, inputs)).collect();
                let (norm, rows_of) = (Some(rms::<R>(&n.gain)), Rows::Wanted);
                let (weight, then) = (&w.weight, Then::Store);
                let (x, to, bias, scale) = (&n.x, &logits, None, 1.0);
                let op = Op::Linear { x, rows: rows_of, norm, weight, bias, scale, then, to };
                s.run(&[op], batch, step(0, 4, row)).await;
                let what = format!("head {} {cols}x{rows} {batch:?} row {row} {inputs:?}", dtype.name());
                s.check(&what, &logits, &layout, &want, cols).await;
            }
        }
    }
}

/// Q, K, V with RoPE (whole and partial, of both kinds of pairs), bias, and mixed dtypes.
pub async fn qkv<R: Rig>(dtype: DType) {
    let turned = |heads, kv_heads, dim, rope_dim, pairs| Turned {
        heads: Heads { heads, kv_heads, dim },
        rope_dim,
        pairs,
    };
    let mut shapes = vec![
        (turned(3, 1, 32, 32, RopePairs::Adjacent), false, dtype),
        (turned(4, 2, 64, 16, RopePairs::Adjacent), true, dtype),
        (turned(2, 2, 32, 32, RopePairs::Adjacent), true, DType::Q8_0),
    ];
    if FORMATS.contains(&dtype) {
        // All of a head, a part that heads are a multiple of, parts that they are none of, a single pair.
        shapes.extend([(64, false), (16, true), (48, false), (6, false), (2, true)].map(
            |(rope_dim, bias)| {
                let shape = turned(4, 2, 64, rope_dim, RopePairs::Halves);
                (shape, bias, if rope_dim == 48 { DType::Q8_0 } else { dtype })
            },
        ));
    }
    for (shape, bias, other) in shapes {
        for batch in
            [(Batch::Decode, 1, 0), (Batch::Decode, 1, 8), (Batch::Prefill, 5, 3), (Batch::Prefill, 9, 0)]
        {
            for inputs in INPUTS {
                check_qkv::<R>(dtype, shape, bias, other, batch, inputs).await;
            }
        }
    }
}

/// Heads and how they are rotated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turned {
    pub heads: Heads,
    pub rope_dim: u32,
    pub pairs: RopePairs,
}

/// Positions of the tables here.
const POSITIONS: u32 = 9;
pub(super) const ROPE_BASE: f64 = 10_000.0;

/// (cos, sin) of every position and pair.
pub(super) fn rope_table(rope_dim: u32) -> Vec<f32> {
    let mut table = Vec::new();
    for position in 0..POSITIONS {
        for i in 0..rope_dim / 2 {
            let power = -2.0 * f64::from(i) / f64::from(rope_dim);
            let (sin, cos) = (f64::from(position) * ROPE_BASE.powf(power)).sin_cos();
            table.extend([cos as f32, sin as f32]);
        }
    }
    table
}

async fn check_qkv<R: Rig>(
    dtype: DType,
    shape: Turned,
    bias: bool,
    other: DType,
    (batch, count, pos): (Batch, usize, usize),
    inputs: Inputs,
) {
    let cols = dtype.block_len().max(64) as usize;
    let mut s = Setup::<R>::new((shape.heads.heads * 100 + count as u32) as u64).await;
    let dim = shape.heads.dim as usize;
    let [q_rows, kv_rows] = shape.heads.rows().map(|rows| rows as usize);
    let all = q_rows + 2 * kv_rows;
    let w = s.matrix(cols, &[(dtype, q_rows), (dtype, kv_rows), (other, kv_rows)], inputs);
    let (bias, biases) = s.bias(all, bias);
    let n = s.normed(count, cols, inputs);
    let (qkv, layout) = s.output(count, all);
    let table = s.vector(&rope_table(shape.rope_dim));

    let mut want = Vec::new();
    for (t, row) in n.rows.iter().enumerate() {
        let mut y = w.times(row, inputs);
        for (y, bias) in y.iter_mut().zip(&biases) {
            *y = y.plus(*bias);
        }
        for head in y[..q_rows + kv_rows].chunks_exact_mut(dim) {
            let halves = shape.pairs == RopePairs::Halves;
            oracle::rope(head, shape.rope_dim as usize, halves, pos + t, ROPE_BASE);
        }
        want.extend(y);
    }
    let rope = Rope { table: &table, dim: shape.rope_dim, pairs: shape.pairs };
    let then = Then::Rotate(shape.heads, rope);
    let op = linear::<R>(&n.x, Some(&n.gain), &w.weight, bias.as_ref(), then, &qkv);
    s.run(&[op], batch, step(pos, count, 0)).await;
    let what = format!("qkv {} {shape:?} {batch:?} at {pos} of {count} {inputs:?}", dtype.name());
    s.check(&what, &qkv, &layout, &want, cols).await;
}
