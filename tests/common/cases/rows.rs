//! What stands between products: norms of rows and of heads, learned positions, functions of elements.

use emberglass::DType;
use emberglass::graph::{Act, Batch, Each, HeadNorm, Heads, Norm, NormKind, Op, Rope, RopePairs, Rows};

use super::project::{ROPE_BASE, rope_table};
use super::{EPS, Inputs, Setup, as_f64, step};
use crate::common::rig::Rig;
use crate::reference::{Sum, project as oracle};

const BATCHES: [(Batch, usize); 3] = [(Batch::Decode, 1), (Batch::Verify, 3), (Batch::Prefill, 9)];

/// f32 rounding of a norm: of a sum of squares, of a mean that is subtracted from numbers of its size, and of a few
/// factors. `tolerance` has 64 roundings of `sum` and one for each term.
fn exact(value: f64, largest: f64) -> Sum {
    Sum { value, sum: value.abs() + largest, slack: 0.0 }
}

fn normed(kind: NormKind, x: &[f64], gain: &[f64]) -> Vec<f64> {
    match kind {
        NormKind::Rms => oracle::rms_norm(x, gain, f64::from(EPS)),
        NormKind::Layer => oracle::layer_norm(x, gain, f64::from(EPS)),
    }
}

/// Rows with a mean far from zero, stored or added; of one token, which may be any row.
pub async fn norms<R: Rig>() {
    for (index, cols) in [32, 70, 576].into_iter().enumerate() {
        for (batch, count) in BATCHES {
            for kind in [NormKind::Rms, NormKind::Layer] {
                for (add, wanted) in [(false, false), (true, false), (false, true)] {
                    if wanted && batch == Batch::Prefill {
                        continue;
                    }
                    let mut s = Setup::<R>::new((cols * 10 + count) as u64).await;
                    let rows: Vec<Vec<f32>> = (0..count + 2)
                        .map(|_| s.random.floats(cols).iter().map(|x| x + 3.0).collect())
                        .collect();
                    let x = s.tensor(&rows);
                    let gain = s.random.floats(cols);
                    let biased = index % 2 == 0;
                    let (bias, biases) = s.bias(cols, biased);
                    let gains = s.vector(&gain);
                    let (to, layout) = s.output(count, cols);
                    let mut raw = vec![crate::common::compare::GUARD; (count + 1) * layout.stride];
                    let first = if wanted && batch == Batch::Decode { 2 } else { 0 };
                    let mut want = Vec::new();
                    for (t, x) in rows[first..first + count].iter().enumerate() {
                        for (i, y) in normed(kind, &as_f64(x), &as_f64(&gain)).into_iter().enumerate() {
                            let before = if add { s.random.float() } else { 0.0 };
                            if add {
                                raw[t * layout.stride + i] = before;
                            }
                            want.push(exact(
                                y + biases[i] + f64::from(before),
                                10.0 * f64::from(gain[i].abs()) + 10.0,
                            ));
                        }
                    }
                    s.backend.write_raw(&to, &raw);
                    let norm = Norm { kind, gain: &gains, bias: bias.as_ref(), eps: EPS };
                    let of = if wanted { Rows::Wanted } else { Rows::Batch };
                    let op = Op::Norm { x: &x, rows: of, norm, add, to: &to };
                    // The batch before the head may have had more tokens than the one whose logits are wanted.
                    let tokens = if batch == Batch::Decode { 3 } else { count };
                    s.run(&[op], batch, step(0, tokens, first)).await;
                    let what =
                        format!("{kind:?} norm of {cols}, {batch:?} {count}, added: {add}, wanted: {wanted}");
                    s.check(&what, &to, &layout, &want, cols).await;
                }
            }
        }
    }
}

/// Q and K by head with one gain, by head with a gain each, and all heads together; with rotations of both kinds.
pub async fn norms_of_heads<R: Rig>() {
    let heads = Heads { heads: 4, kv_heads: 2, dim: 32 };
    let [q, kv] = heads.rows().map(|rows| rows as usize);
    for (batch, count) in BATCHES {
        for kind in [NormKind::Rms, NormKind::Layer] {
            for (each, together) in [(false, false), (true, false), (true, true)] {
                for rope in [None, Some((32, RopePairs::Adjacent)), Some((24, RopePairs::Halves))] {
                    let mut s = Setup::<R>::new((count * 7) as u64 + u64::from(each)).await;
                    let (pos, width) = (if count > 8 { 0 } else { 2 }, q + 2 * kv);
                    let rows: Vec<Vec<f32>> = (0..count)
                        .map(|_| s.random.floats(width).iter().map(|x| x + 1.0).collect())
                        .collect();
                    let lengths = if each { [q, kv] } else { [heads.dim as usize; 2] };
                    let gains = lengths.map(|len| s.random.floats(len));
                    let vectors = [s.vector(&gains[0]), s.vector(&gains[1])];
                    let table = s.vector(&rope_table(rope.map_or(2, |(dim, _)| dim)));
                    let (qkv, layout) = s.output(count, width);
                    let mut raw = vec![crate::common::compare::GUARD; (count + 1) * layout.stride];
                    let mut want = Vec::new();
                    for (t, row) in rows.iter().enumerate() {
                        raw[t * layout.stride..][..width].copy_from_slice(row);
                        let row = as_f64(row);
                        let (q_row, rest) = row.split_at(q);
                        let mut all = Vec::new();
                        for (part, gain) in [(q_row, &gains[0]), (&rest[..kv], &gains[1])] {
                            let gain: Vec<f64> = as_f64(gain).into_iter().cycle().take(part.len()).collect();
                            let size = if together { part.len() } else { heads.dim as usize };
                            for (part, gain) in part.chunks_exact(size).zip(gain.chunks_exact(size)) {
                                let normed = normed(kind, part, gain);
                                all.extend(normed.iter().zip(gain).map(|(y, g)| exact(*y, 10.0 * g.abs())));
                            }
                        }
                        if let Some((rope_dim, pairs)) = rope {
                            for head in all.chunks_exact_mut(heads.dim as usize) {
                                let halves = pairs == RopePairs::Halves;
                                oracle::rope(head, rope_dim as usize, halves, pos + t, ROPE_BASE);
                            }
                        }
                        // V stays as it is, in every bit.
                        all.extend(rest[kv..].iter().map(|v| Sum { value: *v, sum: 0.0, slack: 0.0 }));
                        want.extend(all);
                    }
                    s.backend.write_raw(&qkv, &raw);
                    let norm = HeadNorm {
                        kind,
                        gains: [&vectors[0], &vectors[1]],
                        gain_of_each_head: each,
                        together,
                        eps: EPS,
                    };
                    let turn = rope.map(|(dim, pairs)| Rope { table: &table, dim, pairs });
                    let op = Op::Heads { qkv: &qkv, heads, norm: Some(norm), rope: turn };
                    s.run(&[op], batch, step(pos, count, 0)).await;
                    let what = format!(
                        "{kind:?} heads, {batch:?} {count}, each {each}, together {together}, {rope:?}"
                    );
                    s.check(&what, &qkv, &layout, &want, q).await;
                }
            }
        }
    }
}

/// Sums, activations, gates and factors of tensors.
pub async fn elements<R: Rig>() {
    let cols = 46;
    for (batch, count) in BATCHES {
        for what in [
            Each::Add,
            Each::Map(Act::Silu),
            Each::Map(Act::Gelu),
            Each::Map(Act::Cap(2.0)),
            Each::Gated(Act::Silu),
            Each::Gated(Act::Gelu),
            Each::Scale(-0.3),
        ] {
            let mut s = Setup::<R>::new(count as u64).await;
            let (a, a_rows) = s.input(count, cols, Inputs::Floats);
            let (b, b_rows) = s.input(count, cols, Inputs::Floats);
            let width = if matches!(what, Each::Gated(_)) { cols / 2 } else { cols };
            let (to, layout) = s.output(count, width);
            let mut want = Vec::new();
            for (a, b) in a_rows.iter().zip(&b_rows) {
                let sum = |value: f64| Sum { value, sum: value.abs(), slack: 0.0 };
                want.extend((0..width).map(|i| match what {
                    Each::Add => Sum { value: a[i] + b[i], sum: a[i].abs() + b[i].abs(), slack: 0.0 },
                    Each::Map(act) => oracle::act(act, sum(a[i])),
                    Each::Gated(act) => oracle::gated(act, sum(a[i]), sum(a[width + i])),
                    Each::Scale(by) => sum(a[i]).times(f64::from(by)),
                }));
            }
            let b = (what == Each::Add).then_some(&b);
            let tokens = if batch == Batch::Decode { 3 } else { count };
            s.run(&[Op::Each { what, a: &a, b, to: &to }], batch, step(0, tokens, 0)).await;
            s.check(&format!("{what:?} {batch:?} {count}"), &to, &layout, &want, 8).await;
        }
    }
}

/// A factor of embeddings, and rows of a table of positions on top.
pub async fn positions<R: Rig>() {
    let cols = 96;
    for (batch, count, pos) in [(Batch::Decode, 1, 0), (Batch::Decode, 1, 8), (Batch::Prefill, 5, 3)] {
        let mut s = Setup::<R>::new(count as u64 + 1).await;
        let words = s.matrix(cols, &[(DType::Q8_0, 40)], Inputs::Floats);
        let places = s.matrix(cols, &[(DType::F32, 9)], Inputs::Floats);
        let tokens: Vec<u32> = (0..count).map(|_| s.random.below(40) as u32).collect();
        let (x, layout) = s.output(count, cols);
        let mut want = Vec::new();
        for (t, token) in tokens.iter().enumerate() {
            let word = &words.values[*token as usize * cols..][..cols];
            let place = &places.values[(pos + t) * cols..][..cols];
            want.extend(word.iter().zip(place).map(|(word, place)| Sum {
                value: 1.5 * word + place,
                sum: 2.0 * word.abs() + place.abs() + 1.0,
                slack: 0.0,
            }));
        }
        s.backend.set_tokens(&tokens).unwrap();
        let embed = Op::Embed { table: &words.weight, scale: 1.5, to: &x };
        let ops = [embed, Op::Positions { table: &places.weight, to: &x }];
        s.run(&ops, batch, step(pos, count, 0)).await;
        s.check(&format!("positions {batch:?} {count} at {pos}"), &x, &layout, &want, 0).await;
    }
}
