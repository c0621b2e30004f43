//! Pipelines: one per shader file, set of defines and constants; compiled once and kept. In a browser they are compiled
//! all at once, while other things go on.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::error::{Error, Result};
use crate::sort::sort_by;

use super::adapter::Gpu;
use super::bindings::{Access, bindings};
use super::shader::expand;

/// A constant that the host puts in front of the shader text.
pub type Value = u32;

/// What makes one compiled pipeline different from another. Its [`PipelineKey::label`] names it in
/// errors and profiles.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PipelineKey {
    shader: &'static str,
    defines: BTreeSet<&'static str>,
    constants: BTreeMap<&'static str, Value>,
}

impl PipelineKey {
    /// The plain variant of `shaders/{shader}.wgsl`.
    #[must_use]
    pub fn new(shader: &'static str) -> Self {
        PipelineKey { shader, defines: BTreeSet::new(), constants: BTreeMap::new() }
    }

    /// Adds a define for `#ifdef`.
    #[must_use]
    pub fn define(mut self, name: &'static str) -> Self {
        self.defines.insert(name);
        self
    }

    /// Adds a define if `condition` holds.
    #[must_use]
    pub fn define_if(self, condition: bool, name: &'static str) -> Self {
        if condition { self.define(name) } else { self }
    }

    /// Adds `const NAME: u32 = value;`. Textual, since Safari ignores `override` constants in the
    /// sizes of workgroup arrays.
    #[must_use]
    pub fn constant(mut self, name: &'static str, value: Value) -> Self {
        self.constants.insert(name, value);
        self
    }

    /// File, defines and constants spelled out.
    #[must_use]
    pub fn label(&self) -> String {
        let mut label = self.shader.to_owned();
        for define in &self.defines {
            let _ = write!(label, "_{}", define.to_lowercase());
        }
        for (name, value) in &self.constants {
            let _ = write!(label, "_{}{value}", name.to_lowercase());
        }
        label
    }

    /// The WGSL text that is compiled.
    ///
    /// # Errors
    /// What [`expand`] reports.
    pub fn source(&self) -> Result<String> {
        let mut text = String::new();
        if self.defines.contains("F16") {
            text.push_str("enable f16;\n");
        }
        // Browsers require the line, naga refuses it.
        if cfg!(target_arch = "wasm32")
            && ["SUBGROUPS", "QUADS"].iter().any(|name| self.defines.contains(name))
        {
            text.push_str("enable subgroups;\n");
        }
        for (name, value) in &self.constants {
            let _ = writeln!(text, "const {name}: u32 = {value}u;");
        }
        text.push_str(&expand(&format!("{}.wgsl", self.shader), &self.defines)?);
        Ok(text)
    }
}

/// A pipeline on its way: whatever the browser does until it is there.
pub(super) type Creation = Pin<Box<dyn Future<Output = Result<wgpu::ComputePipeline>>>>;

/// What a pipeline is made of.
pub(super) struct Blueprint {
    pub label: String,
    module: wgpu::ShaderModule,
    layout: wgpu::PipelineLayout,
}

impl Blueprint {
    /// Makes it here and now.
    pub fn create(&self, device: &wgpu::Device) -> wgpu::ComputePipeline {
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&self.label),
            layout: Some(&self.layout),
            module: &self.module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // WebGPU zeroes buffers anyway; our kernels write workgroup memory before reading.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        })
    }
}

enum State {
    Ready(wgpu::ComputePipeline),
    /// Without a creation it is made when it is needed.
    Pending(Rc<Blueprint>, Option<Creation>),
}

/// A pipeline: its layout at once, so that it can be recorded; itself when it is compiled.
pub(super) struct Pipeline {
    pub layout: wgpu::BindGroupLayout,
    state: RefCell<State>,
}

impl Pipeline {
    /// Waits for it.
    async fn compiled(&self) -> Result<()> {
        // Not borrowed while waiting: a plan may run meanwhile.
        let creation = match &mut *self.state.borrow_mut() {
            State::Pending(_, creation) => creation.take(),
            State::Ready(_) => None,
        };
        if let Some(creation) = creation {
            let pipeline = creation.await?;
            *self.state.borrow_mut() = State::Ready(pipeline);
        }
        Ok(())
    }

    /// The next dispatches of the pass are this pipeline's. If nobody has waited for it, it may have to be made here,
    /// which is correct, but holds up everything else that the device does.
    pub fn enter(&self, gpu: &Gpu, pass: &mut wgpu::ComputePass<'_>) {
        let mut state = self.state.borrow_mut();
        if let State::Pending(blueprint, creation) = &mut *state {
            let mut context = Context::from_waker(Waker::noop());
            let pipeline = match creation.as_mut().map(|creation| creation.as_mut().poll(&mut context)) {
                Some(Poll::Ready(Ok(pipeline))) => pipeline,
                // What is wrong with it is found again, and reported like any other mistake.
                _ => {
                    gpu.pipelines.late.set(gpu.pipelines.late.get() + 1);
                    blueprint.create(&gpu.device)
                }
            };
            *state = State::Ready(pipeline);
        }
        if let State::Ready(pipeline) = &*state {
            pass.set_pipeline(pipeline);
        }
    }
}

#[derive(Default)]
pub(super) struct PipelineCache {
    all: RefCell<HashMap<PipelineKey, Rc<Pipeline>>>,
    /// Those that nobody has waited for yet.
    pending: RefCell<Vec<(PipelineKey, Rc<Pipeline>)>>,
    late: Cell<u64>,
}

impl Gpu {
    /// The pipeline of a key, for dispatches that bind these numbers, the same for every dispatch of the key. What is
    /// not there yet is begun: in a browser it is compiled beside everything else, natively it is ready.
    pub(super) fn pipeline(&self, key: &PipelineKey, bound: &[u32]) -> Result<Rc<Pipeline>> {
        if let Some(found) = self.pipelines.all.borrow().get(key) {
            return Ok(found.clone());
        }
        let (label, source) = (key.label(), key.source()?);
        let layout = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(&label),
            entries: &entries(&label, &source, bound)?,
        });
        let blueprint = Rc::new(Blueprint {
            layout: self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(&label),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            }),
            module: self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(&label),
                source: wgpu::ShaderSource::Wgsl(source.into()),
            }),
            label,
        });
        let state = match create_async(&self.device, &blueprint) {
            Some(creation) => State::Pending(blueprint, Some(creation)),
            None => State::Ready(blueprint.create(&self.device)),
        };
        let pipeline = Rc::new(Pipeline { layout, state: RefCell::new(state) });
        self.pipelines.pending.borrow_mut().push((key.clone(), pipeline.clone()));
        self.pipelines.all.borrow_mut().insert(key.clone(), pipeline.clone());
        Ok(pipeline)
    }

    /// Waits until all that was recorded so far is compiled, and reports errors.
    ///
    /// # Errors
    /// [`Error::Gpu`] naming a kernel that does not compile; as [`Gpu::check`].
    pub async fn compiled(&self, doing: &str) -> Result<()> {
        let pending = self.pipelines.pending.take();
        let mut result = Ok(());
        // All of them, also after one has failed: what is found later would be blamed on others.
        for (key, pipeline) in &pending {
            if let Err(error) = pipeline.compiled().await {
                // What the device itself says is more: where in the text, or that it is lost. One that does not answer says
                // nothing.
                let said = match &error {
                    Error::DeviceLost { .. } => Ok(()),
                    _ => self.settle(&key.label()).await,
                };
                result = result.and(said.and(Err(error)));
            }
        }
        let result = result.and_then(|()| self.check(doing));
        if result.is_err() {
            // To be found wrong again by whoever records it next.
            let mut all = self.pipelines.all.borrow_mut();
            for (key, _) in &pending {
                all.remove(key);
            }
        }
        result
    }

    /// How often a plan ran into a pipeline that was not compiled yet, because nobody had waited in
    /// [`Gpu::compiled`]. For tests.
    #[must_use]
    pub fn late_pipelines(&self) -> u64 {
        self.pipelines.late.get()
    }

    /// Labels and texts of the pipelines made so far, sorted: what tests validate.
    ///
    /// # Errors
    /// What [`expand`] reports.
    pub fn compiled_sources(&self) -> Result<Vec<(String, String)>> {
        let all = self.pipelines.all.borrow();
        let mut all = all.keys().map(|key| Ok((key.label(), key.source()?))).collect::<Result<Vec<_>>>()?;
        sort_by(&mut all, Ord::cmp);
        Ok(all)
    }
}

#[cfg(target_arch = "wasm32")]
use super::pipeline_async::create_async;

/// Natively a device compiles where it is told to.
#[cfg(not(target_arch = "wasm32"))]
fn create_async(_: &wgpu::Device, _: &Rc<Blueprint>) -> Option<Creation> {
    None
}

/// Layout of what a dispatch binds. A text may declare more, which its entry point does not use then.
fn entries(label: &str, source: &str, bound: &[u32]) -> Result<Vec<wgpu::BindGroupLayoutEntry>> {
    let declared = bindings(source)?;
    let entry = |&binding: &u32| {
        let Some((_, access)) = declared.iter().find(|(number, _)| *number == binding) else {
            return Err(Error::Gpu {
                label: label.to_owned(),
                reason: format!("binding {binding} is not declared"),
            });
        };
        Ok(wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match access {
                    Access::Uniform => wgpu::BufferBindingType::Uniform,
                    Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                    Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
    };
    bound.iter().map(entry).collect()
}
