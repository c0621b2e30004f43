//! Recorder: a list of dispatches, made once; replayed as one compute pass in one submit.
//!
//! Bind groups and parameters are made when a dispatch is recorded, and its pipeline is begun. What changes from run to run is
//! the small `Step` uniform and the number of tokens, which sets some grids.

use std::rc::Rc;

use crate::error::{Error, Result};
use crate::graph::Traffic;

use super::adapter::Gpu;
use super::pipeline::{Pipeline, PipelineKey};
use super::tensor::GpuBuffer;

/// Parameter slots are this far apart: `minUniformBufferOffsetAlignment` of every adapter divides it.
const SLOT: u64 = 256;
const ARENA_SLOTS: u64 = 64;
/// Bytes of a buffer of parameters.
pub const ARENA_BYTES: u64 = ARENA_SLOTS * SLOT;
/// WebGPU's default `maxComputeWorkgroupsPerDimension`.
pub const MAX_GROUPS: u32 = 65535;

/// How many workgroups a dispatch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grid {
    /// The same on every run.
    Fixed(u32, u32),
    /// `x` fixed; `y` = tokens × `rows` / `tile`, rounded up.
    Tokens {
        /// Workgroups along x.
        x: u32,
        /// Rows a token has.
        rows: u32,
        /// Rows a workgroup takes.
        tile: u32,
    },
    /// `x` = workgroups for each `each` positions begun up to the last token's, at most `most`; `y` = tokens × `rows`.
    Positions {
        /// Workgroups along x.
        x: u32,
        /// For so many positions.
        each: u32,
        /// Most along x.
        most: u32,
        /// Rows a token has.
        rows: u32,
    },
    /// `groups` workgroups of rows, folded into y and z; `x` is the token, so that the workgroups of different tokens
    /// that read the same rows run one after the other.
    Rows {
        /// Workgroups of one token.
        groups: u32,
        /// For every token of the run, or for one.
        each_token: bool,
    },
    /// `x` = tokens × `items` / `tile`, rounded up.
    Items {
        /// Items a token has.
        items: u32,
        /// Items a workgroup takes.
        tile: u32,
    },
}

impl Grid {
    /// `groups` workgroups, folded into two dimensions when one is too short; the kernel computes
    /// `y * width + x` and ignores what is too much.
    #[must_use]
    pub fn folded(groups: u32) -> Self {
        let y = groups.div_ceil(MAX_GROUPS).max(1);
        Grid::Fixed(groups.div_ceil(y), y)
    }

    /// For so many tokens, the last of which sees `positions`.
    fn groups(self, tokens: u32, positions: u32) -> (u32, u32, u32) {
        match self {
            Grid::Fixed(x, y) => (x, y, 1),
            Grid::Tokens { x, rows, tile } => (x, (tokens * rows).div_ceil(tile), 1),
            Grid::Positions { x, each, most, rows } => {
                ((positions.div_ceil(each) * x).min(most), tokens * rows, 1)
            }
            Grid::Rows { groups, each_token } => {
                let z = groups.div_ceil(MAX_GROUPS).max(1);
                (if each_token { tokens } else { 1 }, groups.div_ceil(z), z)
            }
            Grid::Items { items, tile } => ((tokens * items).div_ceil(tile), 1, 1),
        }
    }
}

/// A buffer at a binding number.
#[derive(Debug, Clone)]
pub struct Binding<'a>(pub u32, pub &'a GpuBuffer);

/// The first bytes of a buffer, copied into another after a run.
pub struct Copied<'a> {
    /// From here.
    pub from: &'a GpuBuffer,
    /// To there.
    pub to: &'a GpuBuffer,
    /// Where they go in it.
    pub at: u64,
    /// How many they are.
    pub bytes: u64,
}

struct Dispatch {
    pipeline: Rc<Pipeline>,
    bind_group: wgpu::BindGroup,
    grid: Grid,
    /// For the timeline.
    #[cfg(not(target_arch = "wasm32"))]
    label: String,
}

/// Dispatches in order, ready to run.
#[derive(Default)]
pub struct Plan {
    dispatches: Vec<Dispatch>,
    weight_bytes: u64,
    /// The buffers that the dispatches' parameters are in.
    arenas: Vec<GpuBuffer>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plan({} dispatches)", self.dispatches.len())
    }
}

impl Plan {
    /// What one run of it costs.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        Traffic {
            dispatches: self.dispatches.len() as u64,
            weight_bytes: self.weight_bytes,
            ..Default::default()
        }
    }
}

/// Records plans and runs them.
pub struct Recorder {
    gpu: Rc<Gpu>,
    /// The buffer that parameters go to next, and its slots in use. Plans own it with the recorder: a plan that goes
    /// gives its memory back.
    arena: Option<GpuBuffer>,
    used: u64,
    plan: Plan,
}

impl Recorder {
    /// An empty recorder.
    #[must_use]
    pub fn new(gpu: Rc<Gpu>) -> Self {
        Recorder { gpu, arena: None, used: 0, plan: Plan::default() }
    }

    /// The device.
    #[must_use]
    pub fn gpu(&self) -> &Rc<Gpu> {
        &self.gpu
    }

    /// Adds a dispatch. `params` go to uniform binding `params_at`; `weight_bytes` is for the count.
    ///
    /// # Errors
    /// Shader expansion errors, and [`Error::DeviceLimit`] for a grid that is too large.
    pub fn dispatch<P: bytemuck::NoUninit>(
        &mut self,
        key: &PipelineKey,
        (params_at, params): (u32, &P),
        bindings: &[Binding<'_>],
        grid: Grid,
        weight_bytes: u64,
    ) -> Result<()> {
        let bytes = bytemuck::bytes_of(params);
        if bytes.len() as u64 > SLOT {
            return Err(Error::Internal { what: format!("{}: parameters too large", key.label()) });
        }
        let (arena, offset) = self.slot();
        self.gpu.write(&arena, offset, bytes);
        let params = wgpu::BindGroupEntry {
            binding: params_at,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: arena.raw(),
                offset,
                size: wgpu::BufferSize::new(bytes.len() as u64),
            }),
        };
        self.plan.weight_bytes += weight_bytes;
        self.push(key, Some(params), bindings, grid)
    }

    /// Adds a dispatch whose parameters are in a buffer of its own, because they change.
    ///
    /// # Errors
    /// As for [`Recorder::dispatch`].
    pub fn dispatch_bound(&mut self, key: &PipelineKey, bindings: &[Binding<'_>], grid: Grid) -> Result<()> {
        self.push(key, None, bindings, grid)
    }

    fn push(
        &mut self,
        key: &PipelineKey,
        params: Option<wgpu::BindGroupEntry<'_>>,
        bindings: &[Binding<'_>],
        grid: Grid,
    ) -> Result<()> {
        if let Grid::Fixed(x, y) | Grid::Tokens { x, rows: y, .. } = grid
            && x.max(y) > MAX_GROUPS
        {
            return Err(Error::DeviceLimit {
                what: key.label(),
                limit: "maxComputeWorkgroupsPerDimension",
                needed: u64::from(x.max(y)),
                allowed: u64::from(MAX_GROUPS),
            });
        }
        let entries: Vec<_> = bindings
            .iter()
            .map(|Binding(at, buffer)| wgpu::BindGroupEntry {
                binding: *at,
                resource: buffer.raw().as_entire_binding(),
            })
            .chain(params)
            .collect();
        let bound: Vec<_> = entries.iter().map(|entry| entry.binding).collect();
        let pipeline = self.gpu.pipeline(key, &bound)?;
        let bind_group = self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&key.label()),
            layout: &pipeline.layout,
            entries: &entries,
        });
        self.plan.dispatches.push(Dispatch {
            pipeline,
            bind_group,
            grid,
            #[cfg(not(target_arch = "wasm32"))]
            label: key.label(),
        });
        Ok(())
    }

    fn slot(&mut self) -> (GpuBuffer, u64) {
        let arena = match self.arena.take().filter(|_| self.used < ARENA_SLOTS) {
            Some(arena) => arena,
            None => {
                self.used = 0;
                self.gpu.uniform("parameters", ARENA_BYTES)
            }
        };
        let at = self.used * SLOT;
        self.used += 1;
        if at == 0 || self.plan.arenas.is_empty() {
            self.plan.arenas.push(arena.clone());
        }
        self.arena = Some(arena.clone());
        (arena, at)
    }

    /// Takes what was recorded since the last call.
    pub fn finish(&mut self) -> Plan {
        std::mem::take(&mut self.plan)
    }

    /// Runs plans one after the other: one pass, one submit, then copies. The batch's first token has the position `pos`.
    pub fn run(&self, plans: &[&Plan], (pos, tokens): (u32, u32), copies: &[Copied<'_>]) {
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            #[cfg(not(target_arch = "wasm32"))]
            if let Some(timeline) = &self.gpu.timeline {
                timeline.mark(&mut pass, "");
            }
            for dispatch in plans.iter().flat_map(|plan| &plan.dispatches) {
                let (x, y, z) = dispatch.grid.groups(tokens, pos + tokens);
                dispatch.pipeline.enter(&self.gpu, &mut pass);
                pass.set_bind_group(0, &dispatch.bind_group, &[]);
                pass.dispatch_workgroups(x, y, z);
                #[cfg(not(target_arch = "wasm32"))]
                if let Some(timeline) = &self.gpu.timeline {
                    timeline.mark(&mut pass, &dispatch.label);
                }
            }
        }
        for Copied { from, to, at, bytes } in copies {
            encoder.copy_buffer_to_buffer(from.raw(), 0, to.raw(), *at, *bytes);
        }
        self.gpu.queue.submit([encoder.finish()]);
    }
}
