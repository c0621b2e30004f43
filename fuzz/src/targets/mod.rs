//! The targets, one file each.

mod arch;
mod directory;
mod http;
mod image;
mod latents;
mod model;
mod safetensors;
mod sampling;
mod stop;
mod template;
mod tokenizer;

/// One part of Emberglass and how to give it bytes.
#[derive(Debug)]
pub struct Target {
    /// Name for the command line and the folder of the corpus.
    pub name: &'static str,
    /// What is tried.
    pub about: &'static str,
    /// Runs one case. It panics if a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Pieces of text that the format gives a meaning.
    pub words: &'static [&'static str],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    directory::TARGET,
    tokenizer::TARGET,
    template::TARGET,
    model::TARGET,
    arch::TARGET,
    safetensors::TARGET,
    image::TARGET,
    latents::TARGET,
    http::TARGET,
    sampling::TARGET,
    stop::TARGET,
];

/// The target of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Panics if the error is one that input must never cause.
fn allowed(error: &emberglass::Error) {
    assert_ne!(error.code(), "internal", "input caused an internal error: {error}");
}
