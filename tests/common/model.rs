//! The default model in an engine, on any backend.
#![allow(dead_code)] // each test crate uses its part

pub mod root;

use emberglass::cpu::Bits;
use emberglass::engine::LoadOptions;
use emberglass::gpu::{KernelMap, KernelPair};
use emberglass::graph::{Backend, KvType};
use emberglass::weights::Directory;
use emberglass::{
    ByteSource, CpuBackend, CpuOptions, FileSource, Gpu, GpuBackend, GpuOptions, TextEngine, engine,
    read_directory,
};

/// Tokens the KV cache holds.
pub const CONTEXT: u32 = 512;

/// A GPU backend for [`load`].
pub async fn gpu() -> GpuBackend {
    let gpu = Gpu::new(GpuOptions::default()).await.unwrap();
    let software = gpu.adapter().is_fallback;
    // As `choose` has it; the others' numbers are the kernel tests' matter.
    let variant = if software { KernelPair::software(gpu.features()) } else { KernelPair::DEFAULT };
    on(gpu, KernelMap::all(variant))
}

/// The same with these kernels.
pub async fn gpu_with(kernels: KernelMap) -> GpuBackend {
    on(Gpu::new(GpuOptions::default()).await.unwrap(), kernels)
}

fn on(gpu: std::rc::Rc<Gpu>, kernels: KernelMap) -> GpuBackend {
    let mut backend = GpuBackend::new(gpu, engine::MAX_BATCH, CONTEXT).unwrap();
    backend.set_kernels(kernels);
    backend
}

/// A CPU backend for [`load`].
pub fn cpu(bits: Bits) -> CpuBackend {
    CpuBackend::new(CpuOptions { bits, ..CpuOptions::default() })
}

/// The file `EMBERGLASS_MODEL`, or else the default model: what its header says, and its bytes.
pub async fn open() -> (Directory, Vec<Box<dyn ByteSource>>) {
    let path = std::env::var("EMBERGLASS_MODEL")
        .unwrap_or_else(|_| root::file(".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"));
    let source =
        FileSource::open(&path).unwrap_or_else(|e| panic!("{e}: `cargo xtask test` fetches the model"));
    let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(source)];
    (read_directory(&mut sources).await.unwrap(), sources)
}

/// That model, loaded.
pub async fn load<B: Backend + 'static>(backend: B) -> TextEngine<B> {
    load_for_drafts(backend, 0).await
}

/// That model, loaded for speculative decoding.
pub async fn load_for_drafts<B: Backend + 'static>(backend: B, draft_tokens: u32) -> TextEngine<B> {
    load_with(backend, LoadOptions { context_length: CONTEXT, kv: KvType::F32, draft_tokens }).await
}

/// That model, with other options.
pub async fn load_with<B: Backend + 'static>(backend: B, options: LoadOptions) -> TextEngine<B> {
    let (directory, mut sources) = open().await;
    TextEngine::load(backend, directory, &mut sources, options, &mut |_| Ok(())).await.unwrap()
}
