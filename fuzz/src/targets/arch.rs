//! As the target `model`, with the tiny files of every architecture in `tests/data/arch`.
#![allow(clippy::expect_used)] // a target fails by panicking

use std::path::Path;
use std::sync::OnceLock;

use arbitrary::Unstructured;
use emberglass::{ByteSource, SliceSource, read_directory};

use super::{Target, allowed, model};
use crate::gguf::{File, Tensor};

pub const TARGET: Target = Target {
    name: "arch",
    about: "a tiny language model of each architecture",
    run,
    seeds: model::seeds,
    words: &[],
};

/// Larger files take too long.
const MOST_BYTES: usize = 150_000;

/// The architecture of each file, and the file.
fn files() -> &'static [(String, File)] {
    static FILES: OnceLock<Vec<(String, File)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/arch");
        let entries = std::fs::read_dir(folder).expect("tests/data/arch");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("tests/data/arch").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "gguf"));
        paths.sort();
        let bytes = paths.iter().map(|path| std::fs::read(path).expect("tests/data/arch"));
        bytes.filter(|bytes| bytes.len() <= MOST_BYTES).map(parsed).collect()
    })
}

fn parsed(bytes: Vec<u8>) -> (String, File) {
    let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(SliceSource::new("arch.gguf", bytes.clone()))];
    let directory = pollster::block_on(read_directory(&mut sources)).expect("a right file");
    let architecture = directory.metadata.str("general.architecture").expect("a right file").to_owned();
    let keys = directory.metadata.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    let tensor = |t: &emberglass::weights::TensorInfo| Tensor {
        name: t.name.clone(),
        dims: t.dims.clone(),
        kind: t.ggml_type,
        data: bytes[t.offset as usize..(t.offset + t.bytes) as usize].to_vec(),
    };
    (architecture, File { keys, tensors: directory.tensors().iter().map(tensor).collect() })
}

fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok((architecture, file)) = u.choose(files()) else { return };
    let mut file = file.clone();
    for _ in 0..u.int_in_range(0..=3).unwrap_or(0) {
        if model::edit(&mut file, &mut u, architecture).is_err() {
            break;
        }
    }
    if let Err(error) = pollster::block_on(model::answer(file.bytes())) {
        allowed(&error);
    }
}
