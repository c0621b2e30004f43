//! Pipelines: one per shader file, set of defines and constants; compiled once and kept.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::rc::Rc;

use crate::error::Result;

use super::device::Gpu;
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

#[derive(Default)]
pub(super) struct PipelineCache {
    compiled: RefCell<HashMap<PipelineKey, Rc<wgpu::ComputePipeline>>>,
}

impl Gpu {
    /// The compiled pipeline of a key. A compile error shows in the next [`Gpu::check`].
    pub(super) fn pipeline(&self, key: &PipelineKey) -> Result<Rc<wgpu::ComputePipeline>> {
        if let Some(found) = self.pipelines.compiled.borrow().get(key) {
            return Ok(found.clone());
        }
        let label = key.label();
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(key.source()?.into()),
        });
        let pipeline = Rc::new(self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // WebGPU zeroes buffers anyway; our kernels write workgroup memory before reading.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        }));
        self.pipelines.compiled.borrow_mut().insert(key.clone(), pipeline.clone());
        Ok(pipeline)
    }

    /// Labels and texts of the pipelines made so far, sorted: what tests validate.
    ///
    /// # Errors
    /// What [`expand`] reports.
    pub fn compiled_sources(&self) -> Result<Vec<(String, String)>> {
        let compiled = self.pipelines.compiled.borrow();
        let mut all =
            compiled.keys().map(|key| Ok((key.label(), key.source()?))).collect::<Result<Vec<_>>>()?;
        all.sort();
        Ok(all)
    }
}
