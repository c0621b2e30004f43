//! The architectures of language models, one file each.

mod falcon;
mod gemma;
mod gemma2;
mod gemma3;
mod gpt2;
mod gptneox;
mod granite;
mod llama;
mod olmo2;
mod phi2;
mod phi3;
mod qwen2;
mod qwen3;
mod smollm3;
mod stablelm;
mod starcoder2;

pub(super) use falcon::Falcon;
pub(super) use gemma::Gemma;
pub(super) use gemma2::Gemma2;
pub(super) use gemma3::Gemma3;
pub(super) use gpt2::Gpt2;
pub(super) use gptneox::GptNeoX;
pub(super) use granite::Granite;
pub(super) use llama::Llama;
pub(super) use olmo2::Olmo2;
pub(super) use phi2::Phi2;
pub(super) use phi3::Phi3;
pub(super) use qwen2::Qwen2;
pub(super) use qwen3::Qwen3;
pub(super) use smollm3::SmolLm3;
pub(super) use stablelm::StableLm;
pub(super) use starcoder2::StarCoder2;
