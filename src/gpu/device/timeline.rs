//! When each dispatch ended, by the GPU's own clock. Only for measuring, and only natively: browsers round these times.

use std::cell::RefCell;

use crate::error::Result;

use super::adapter::Gpu;

/// Timestamps of a query set: as many as WebGPU allows.
const MOST: u32 = wgpu::QUERY_SET_MAX_QUERIES;

/// Timestamps that dispatches leave, until there are [`MOST`].
pub(super) struct Timeline {
    set: wgpu::QuerySet,
    /// Nanoseconds of a tick.
    period: f64,
    labels: RefCell<Vec<String>>,
}

/// One dispatch that ran.
#[derive(Debug, Clone, PartialEq)]
pub struct Ran {
    /// Label of its pipeline; empty at the start of a submit.
    pub label: String,
    /// Microseconds since the mark before it ended. At the start of a submit: since the last submit ended.
    pub us: f64,
}

impl Timeline {
    /// What a device needs for it.
    pub(super) const FEATURES: wgpu::Features =
        wgpu::Features::TIMESTAMP_QUERY.union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES);

    pub(super) fn new(device: &wgpu::Device, queue: &wgpu::Queue) -> Self {
        let set = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timeline"),
            ty: wgpu::QueryType::Timestamp,
            count: MOST,
        });
        Timeline { set, period: f64::from(queue.get_timestamp_period()), labels: RefCell::default() }
    }

    /// A mark after what the pass did so far.
    pub(super) fn mark(&self, pass: &mut wgpu::ComputePass<'_>, label: &str) {
        let mut labels = self.labels.borrow_mut();
        if (labels.len() as u32) < MOST {
            pass.write_timestamp(&self.set, labels.len() as u32);
            labels.push(label.to_owned());
        }
    }
}

impl Gpu {
    /// The dispatches that ran since the last call, up to 4096 of them; none where the device was not asked for
    /// `timeline`, or cannot tell.
    ///
    /// # Errors
    /// As [`Gpu::read`].
    pub async fn take_timeline(&self) -> Result<Vec<Ran>> {
        let Some(timeline) = &self.timeline else { return Ok(Vec::new()) };
        let labels = timeline.labels.take();
        if labels.is_empty() {
            return Ok(Vec::new());
        }
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let bytes = labels.len() as u64 * u64::from(wgpu::QUERY_SIZE);
        let resolved = self.buffer("timeline", bytes, usage);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.resolve_query_set(&timeline.set, 0..labels.len() as u32, resolved.raw(), 0);
        self.queue.submit([encoder.finish()]);
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.read(&resolved, 0, bytes).await?);
        let mut before = ticks.first().copied().unwrap_or_default();
        let ran = labels.into_iter().zip(ticks).map(|(label, tick)| {
            let us = tick.saturating_sub(before) as f64 * timeline.period / 1e3;
            before = tick;
            Ran { label, us }
        });
        Ok(ran.collect())
    }
}
