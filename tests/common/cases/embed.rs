//! The embedding, and a vocabulary too large for one binding.

use emberglass::gpu::GpuBackend;
use emberglass::graph::{Backend, Batch, Op, Then};
use emberglass::{DType, GpuOptions};

use super::{Inputs, Matrix, Setup, linear, shapes, step};
use crate::common::gpu_rig;
use crate::common::random::Random;
use crate::common::rig::Rig;
use crate::reference::Sum;

/// x[t] = row of the embedding.
pub async fn embed<R: Rig>(dtype: DType) {
    for (cols, rows) in shapes(dtype) {
        for count in [1, 3, 65] {
            let mut s = Setup::<R>::new((cols * 1000 + rows + 3) as u64).await;
            let w = s.matrix(cols, &[(dtype, rows)], Inputs::Floats);
            let tokens: Vec<u32> = (0..count).map(|_| s.random.below(rows as u64) as u32).collect();
            check_embed(&mut s, dtype, &w, cols, &tokens).await;
        }
    }
}

async fn check_embed<R: Rig>(s: &mut Setup<R>, dtype: DType, w: &Matrix<R>, cols: usize, tokens: &[u32]) {
    let (x, mut layout) = s.output(tokens.len(), cols);
    // The padding of a block is written too, with the weight's own zeros.
    let padded = cols.next_multiple_of(32).min(layout.stride);
    layout.cols = padded;
    let mut want = Vec::new();
    for &token in tokens {
        let row = &w.values[token as usize * cols..(token as usize + 1) * cols];
        // d q + m is two roundings; covered by the 64 of `tolerance`, on |d q| + |m| <= 20 |d q + m| + 1.
        want.extend(row.iter().map(|&value| Sum { value, sum: value.abs() + 1.0, slack: 0.0 }));
        want.resize(want.len().next_multiple_of(padded), Sum { sum: 1.0, ..Sum::default() });
    }
    s.backend.set_tokens(tokens).unwrap();
    let op = Op::Embed { table: &w.weight, scale: 1.0, to: &x };
    s.run(&[op], Batch::Prefill, step(0, tokens.len(), 0)).await;
    s.check(&format!("embed {} {cols} x {}", dtype.name(), tokens.len()), &x, &layout, &want, 0).await;
}

/// Embedding and head of a vocabulary that no binding of this device could hold. The GPU's own.
pub async fn split_vocabulary() {
    let (cols, rows) = (64, 257);
    for dtype in [DType::Q4_0, DType::Q8_0, DType::F16] {
        // Room for 80 rows of F16, 160 of Q8_0, 320 of Q4_0; the rope of other buffers is smaller.
        #[allow(clippy::needless_update)] // wasm32 has this field only
        let options = GpuOptions { max_binding_bytes: Some(10240), ..GpuOptions::default() };
        let mut s = Setup { backend: gpu_rig::with_options(options).await, random: Random::new(7) };
        let w = s.matrix(cols, &[(dtype, rows)], Inputs::Floats);
        check_embed(&mut s, dtype, &w, cols, &[0, 79, 80, 159, 160, 161, 255, 256]).await;
        let n = s.normed(1, cols, Inputs::Floats);
        let (logits, layout) = s.output(1, rows);
        let want = w.times(&n.rows[0], Inputs::Floats);
        let op = linear::<GpuBackend>(&n.x, Some(&n.gain), &w.weight, None, Then::Store, &logits);
        let plan = s.backend.compile(&[op], Batch::Decode).unwrap();
        let parts = GpuBackend::dispatches(&plan);
        assert_eq!(parts > 1, dtype != DType::Q4_0, "{}: {parts} parts", dtype.name());
        s.backend.compiled("test").await.unwrap();
        s.backend.run(&[&plan], step(0, 1, 0)).unwrap();
        s.check(&format!("split head {}", dtype.name()), &logits, &layout, &want, cols).await;
    }
}
