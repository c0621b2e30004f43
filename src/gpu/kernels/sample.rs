//! Sampling on the GPU: `sample_groups`, then `sample_draw`. The drawn token stays there as the next
//! input; the CPU gets a copy. Order as in llama.cpp: logit bias, penalties, top-k, top-p, min-p,
//! temperature, draw.

use crate::error::{Error, Result};
use crate::gpu::{Binding, Gpu, GpuBuffer, Grid, PipelineKey, Recorder};
use crate::graph::Batch;

use crate::gpu::backend::GpuTensor;
use crate::sampling::{MAX_TOP_K, SampleParams};

const MAX_GROUPS: u32 = 1024;

/// Mirrors `Params` of `shaders/shared/sampling.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    vocab: u32,
    group_size: u32,
    groups: u32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    temperature: f32,
    seed_low: u32,
    seed_high: u32,
    repetition: f32,
    presence: f32,
    frequency: f32,
    window: u32,
    stride: u32,
    pad: [u32; 2],
}

/// Buffers of the two kernels.
pub(in crate::gpu) struct Sampler {
    vocab: u32,
    stride: u32,
    params: GpuBuffer,
    best: GpuBuffer,
    bias: GpuBuffer,
    counts: GpuBuffer,
    history: GpuBuffer,
}

impl Sampler {
    /// For logits like these.
    pub(in crate::gpu) fn new(gpu: &Gpu, logits: &GpuTensor, longest_window: u32) -> Result<Self> {
        let vocab = logits.cols;
        let words = |n: u32| u64::from(n.max(1)) * 4;
        Ok(Sampler {
            vocab,
            stride: logits.stride,
            params: gpu.uniform("sampling", size_of::<Params>() as u64),
            best: gpu.storage("sampling best", u64::from(MAX_GROUPS) * u64::from(logits.rows) * 8)?,
            bias: gpu.storage("sampling bias", words(vocab))?,
            counts: gpu.storage("sampling counts", words(vocab))?,
            history: gpu.storage("sampling history", words(longest_window))?,
        })
    }

    fn group_size(&self) -> u32 {
        self.vocab.div_ceil(MAX_GROUPS).next_multiple_of(64)
    }

    pub(in crate::gpu) fn set(&self, gpu: &Gpu, params: &SampleParams, bias: &[(u32, f32)], recent: &[u32]) {
        let data = Params {
            vocab: self.vocab,
            group_size: self.group_size(),
            groups: self.vocab.div_ceil(self.group_size()),
            top_k: params.top_k.clamp(1, MAX_TOP_K),
            top_p: params.top_p,
            min_p: params.min_p,
            temperature: params.temperature,
            seed_low: params.seed as u32,
            seed_high: (params.seed >> 32) as u32,
            repetition: params.repetition,
            presence: params.presence,
            frequency: params.frequency,
            window: params.window,
            stride: self.stride,
            pad: [0; 2],
        };
        gpu.write(&self.params, 0, bytemuck::bytes_of(&data));
        let mut dense = vec![0f32; self.vocab as usize];
        for &(id, value) in bias {
            if let Some(slot) = dense.get_mut(id as usize) {
                *slot += value;
            }
        }
        gpu.write(&self.bias, 0, bytemuck::cast_slice(&dense));
        // The ring is written at counter % window, counter from 0: slot 0 must be the oldest.
        let window = params.window as usize;
        let recent = &recent[recent.len().saturating_sub(window)..];
        let mut history = vec![u32::MAX; window - recent.len()];
        history.extend_from_slice(recent);
        let mut counts = vec![0u32; self.vocab as usize];
        for &id in recent {
            if let Some(count) = counts.get_mut(id as usize) {
                *count += 1;
            }
        }
        gpu.write(&self.counts, 0, bytemuck::cast_slice(&counts));
        if window > 0 {
            gpu.write(&self.history, 0, bytemuck::cast_slice(&history));
        }
    }

    pub(in crate::gpu) fn record(
        &self,
        recorder: &mut Recorder,
        step: &GpuBuffer,
        logits: &GpuTensor,
        tokens: &GpuBuffer,
        adjust: bool,
        batch: Batch,
    ) -> Result<()> {
        if adjust && batch != Batch::Decode {
            return Err(Error::Internal { what: "penalties on more than one row".to_owned() });
        }
        let grid = |x| match batch {
            Batch::Decode => Grid::Fixed(x, 1),
            Batch::Verify | Batch::Prefill => Grid::Tokens { x, rows: 1, tile: 1 },
        };
        let mut bindings = vec![Binding(0, &self.params), Binding(1, &logits.buffer), Binding(2, &self.best)];
        if adjust {
            bindings.extend([Binding(3, &self.bias), Binding(4, &self.counts)]);
        }
        let key = PipelineKey::new("sample_groups").define_if(adjust, "ADJUST");
        let groups = self.vocab.div_ceil(self.group_size());
        recorder.dispatch_bound(&key, &bindings, grid(groups))?;

        let mut bindings = vec![
            Binding(0, &self.params),
            Binding(1, step),
            Binding(2, &logits.buffer),
            Binding(3, &self.best),
            Binding(4, tokens),
        ];
        if adjust {
            bindings.extend([Binding(5, &self.counts), Binding(6, &self.history)]);
        }
        let key = PipelineKey::new("sample_draw").define_if(adjust, "ADJUST");
        recorder.dispatch_bound(&key, &bindings, grid(1))
    }
}

#[cfg(test)]
layout_test!(
    layout,
    PipelineKey::new("sample_groups"),
    "params",
    Params {
        vocab,
        group_size,
        groups,
        top_k,
        top_p,
        min_p,
        temperature,
        seed_low,
        seed_high,
        repetition,
        presence,
        frequency,
        window,
        stride,
    }
);
