//! What a backend has no room for, or was not told, is an error: it is never cut or left out.
#![allow(dead_code)] // run natively only

use emberglass::graph::{Backend, Batch, Op};
use emberglass::sampling::SampleParams;
use emberglass::{CpuBackend, DType, GpuBackend};

use super::{Inputs, Setup, step};

const GREEDY: SampleParams = SampleParams {
    top_k: 1,
    top_p: 1.0,
    min_p: 0.0,
    temperature: 0.0,
    seed: 0,
    repetition: 1.0,
    presence: 0.0,
    frequency: 0.0,
    window: 0,
};

/// The GPU's buffers are as large as what was asked for first.
pub async fn too_much_for_the_gpu() {
    let mut s = Setup::<GpuBackend>::new(1).await;
    // The rig's backends are for 128 tokens.
    assert!(s.backend.set_tokens(&[0; 128]).is_ok());
    assert_eq!(s.backend.set_tokens(&[0; 129]).unwrap_err().code(), "internal");
    assert_eq!(s.backend.set_sampling(&GREEDY, &[], &[]).unwrap_err().code(), "internal");
    for (rows, cols, fits) in [(2, 65, true), (1, 65, true), (2, 66, false), (2, 64, false), (3, 65, false)] {
        let logits = s.backend.tensor("logits", rows, cols).unwrap();
        let sampled = s.backend.compile(&[Op::Sample { logits: &logits, adjust: false }], Batch::Verify);
        assert_eq!(sampled.err().map(|e| e.code()), (!fits).then_some("shape-mismatch"), "{rows} × {cols}");
    }
    assert!(s.backend.set_sampling(&GREEDY, &[], &[]).is_ok());
}

/// The CPU finds it when it runs.
pub async fn too_little_for_the_cpu() {
    let mut s = Setup::<CpuBackend>::new(1).await;
    let w = s.matrix(32, &[(DType::F32, 4)], Inputs::Floats);
    let (x, _) = s.output(3, 32);
    let embed = Op::Embed { table: &w.weight, scale: 1.0, to: &x };
    let embed = s.backend.compile(&[embed], Batch::Prefill).unwrap();
    s.backend.set_tokens(&[1, 2, 3, 0, 1]).unwrap();
    for (count, code) in [(3, None), (5, Some("internal")), (6, Some("internal"))] {
        assert_eq!(
            s.backend.run(&[&embed], step(0, count, 0)).err().map(|e| e.code()),
            code,
            "{count} tokens"
        );
    }
    let logits = s.backend.tensor("logits", 1, 65).unwrap();
    let sample = Op::Sample { logits: &logits, adjust: false };
    let sample = s.backend.compile(&[sample], Batch::Decode).unwrap();
    assert_eq!(s.backend.run(&[&sample], step(0, 1, 0)).unwrap_err().code(), "internal");
    s.backend.set_sampling(&GREEDY, &[], &[]).unwrap();
    assert!(s.backend.run(&[&sample], step(0, 1, 0)).is_ok());
}
