//! Imports point down only (docs/ARCHITECTURE.md): what each folder of `src` may name.

use std::path::Path;

/// Folder or file, and the modules of the crate it may use besides its own, `error` and `formats`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("error.rs", &[]),
    ("formats", &[]),
    ("allocator.rs", &[]),
    ("clock.rs", &[]),
    ("sort.rs", &[]),
    ("yield_now.rs", &["clock"]),
    ("weights", &["clock", "sort"]),
    ("sampling", &[]),
    ("graph", &["sampling"]),
    ("gpu", &["clock", "graph", "sampling", "sort"]),
    ("cpu", &["yield_now", "clock", "graph", "sampling", "sort"]),
    ("text", &["yield_now", "sort", "weights"]),
    ("model", &["clock", "graph", "sort", "weights"]),
    (
        "engine",
        &["yield_now", "clock", "cpu", "gpu", "graph", "model", "sampling", "sort", "text", "weights"],
    ),
    (
        "web",
        &[
            "yield_now",
            "clock",
            "cpu",
            "engine",
            "gpu",
            "graph",
            "model",
            "sampling",
            "sort",
            "text",
            "weights",
        ],
    ),
];

fn sources(path: &Path, found: &mut Vec<std::path::PathBuf>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            sources(&entry.unwrap().path(), found);
        }
    } else if path.extension().is_some_and(|e| e == "rs") {
        found.push(path.to_owned());
    }
}

/// The `crate::name` words of a text.
fn uses(text: &str) -> impl Iterator<Item = &str> {
    text.split("crate::")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
}

#[test]
fn imports_point_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut checked = 0;
    for file in files {
        let relative = file.strip_prefix(&src).unwrap();
        let top = relative.iter().next().unwrap().to_str().unwrap();
        if top == "lib.rs" {
            continue;
        }
        let (_, allowed) =
            ALLOWED.iter().find(|(name, _)| *name == top).unwrap_or_else(|| panic!("{top} has no rule"));
        let own = top.trim_end_matches(".rs");
        let text = std::fs::read_to_string(&file).unwrap();
        for name in uses(&text).filter(|name| !name.is_empty()) {
            let fine = name == own || ["error", "formats"].contains(&name) || allowed.contains(&name);
            assert!(fine, "{} uses crate::{name}", relative.display());
        }
        if !relative.starts_with("gpu/device") {
            assert!(!text.contains("wgpu::"), "{} names wgpu", relative.display());
        }
        checked += 1;
    }
    assert!(checked > 20, "{checked} files");
    assert_eq!(uses("use crate::gpu::Gpu;").collect::<Vec<_>>(), ["gpu"]);
}
