//! Pipelines that a browser compiles beside other things: waited for, run into, refused.

use std::rc::Rc;

use emberglass::gpu::{Binding, GpuBuffer, Grid, PipelineKey, Plan, Recorder};
use emberglass::{Error, Gpu, GpuOptions};

use crate::common::gpu_rig;

const BYTES: u64 = 4096;

/// A device without any pipelines, and a buffer of ones.
async fn fresh() -> (Rc<Gpu>, GpuBuffer) {
    let gpu = gpu_rig::with_options(GpuOptions::default()).await.gpu().clone();
    let ones = gpu.storage("ones", BYTES).unwrap();
    gpu.write(&ones, 0, &[1; BYTES as usize]);
    (gpu, ones)
}

fn copy(recorder: &mut Recorder, from: &GpuBuffer, to: &GpuBuffer) -> Plan {
    let bindings = [Binding(0, from), Binding(1, to)];
    recorder.dispatch_bound(&PipelineKey::new("rate_copy"), &bindings, Grid::Fixed(1, 1)).unwrap();
    recorder.finish()
}

async fn check_copy(gpu: &Gpu, copy: &GpuBuffer) {
    assert_eq!(gpu.read(copy, 0, BYTES).await.unwrap(), [1; BYTES as usize]);
}

/// Who waits is never late; who does not gets the same numbers, and is counted where pipelines take their time.
pub async fn pipelines_may_be_waited_for() {
    for waits in [true, false] {
        let (gpu, ones) = fresh().await;
        let mut recorder = Recorder::new(gpu.clone());
        let [first, second] = ["first", "second"].map(|label| gpu.storage(label, BYTES).unwrap());
        let plan = copy(&mut recorder, &ones, &first);
        if waits {
            gpu.compiled("test").await.unwrap();
        }
        recorder.run(&[&plan, &plan], (0, 1), &[]);
        check_copy(&gpu, &first).await;
        // Whatever was under way when the plan ran must not disturb.
        gpu.compiled("test").await.unwrap();
        let again = copy(&mut recorder, &first, &second);
        recorder.run(&[&plan, &again], (0, 1), &[]);
        check_copy(&gpu, &second).await;
        let late = u64::from(!waits && cfg!(target_arch = "wasm32"));
        assert_eq!(gpu.late_pipelines(), late, "waits: {waits}");
    }
}

/// A pipeline that is done when a plan runs is taken, though nobody asked for it.
pub async fn pipelines_that_are_done_are_taken() {
    let (gpu, ones) = fresh().await;
    let mut recorder = Recorder::new(gpu.clone());
    let to = gpu.storage("copy", BYTES).unwrap();
    let plan = copy(&mut recorder, &ones, &to);
    // Each is a round trip to the device.
    for _ in 0..200 {
        gpu.settle("waiting").await.unwrap();
    }
    recorder.run(&[&plan], (0, 1), &[]);
    check_copy(&gpu, &to).await;
    assert_eq!(gpu.late_pipelines(), 0);
}

/// What does not compile is named, each time that it is recorded, and is nobody else's mistake.
pub async fn refused_pipelines_are_named() {
    let (gpu, ones) = fresh().await;
    let mut recorder = Recorder::new(gpu.clone());
    let to = gpu.storage("copy", 1 << 20).unwrap();
    for _ in 0..2 {
        // It lacks a constant.
        let bindings = [Binding(0, &ones), Binding(1, &to)];
        recorder.dispatch_bound(&PipelineKey::new("rate_fma"), &bindings, Grid::Fixed(1, 1)).unwrap();
        let mended = PipelineKey::new("rate_fma").constant("STEPS", 3);
        recorder.dispatch_bound(&mended, &bindings, Grid::Fixed(1, 1)).unwrap();
        drop(recorder.finish());
        let error = gpu.compiled("test").await.unwrap_err();
        assert!(matches!(error, Error::Gpu { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("rate_fma") && text.contains("STEPS"), "{text}");
        gpu.settle("afterwards").await.unwrap();
    }
    let plan = copy(&mut recorder, &ones, &to);
    gpu.compiled("test").await.unwrap();
    recorder.run(&[&plan], (0, 1), &[]);
    check_copy(&gpu, &to).await;
    // A binding that the text does not have.
    let error = recorder.dispatch_bound(&PipelineKey::new("copy"), &[Binding(9, &to)], Grid::Fixed(1, 1));
    assert!(error.unwrap_err().to_string().contains("binding 9"));
}
