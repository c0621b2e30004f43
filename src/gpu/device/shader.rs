//! Shader text: the files of `shaders/`, embedded, and the expander of `#import`, `#ifdef`,
//! `#ifndef`, `#else`, `#endif`. `#import format` is the file of the weight format that is defined. Expanded at run time, because what the device can do is known only
//! then. There is nothing else to the language; an unknown directive is an error.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::formats;

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        /// Every shader file but those of the weight formats, which [`formats`] has: name as in `#import`, and text.
        pub const SOURCES: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../../shaders/", $name)))),*
        ];
    };
}

sources![
    "attention_decode.wgsl",
    "attention_image.wgsl",
    "attention_prefill.wgsl",
    "conv.wgsl",
    "copy.wgsl",
    "each.wgsl",
    "embed.wgsl",
    "group_finish.wgsl",
    "group_partial.wgsl",
    "heads.wgsl",
    "kv_store.wgsl",
    "matmul.wgsl",
    "matmul_half.wgsl",
    "matmul_rows.wgsl",
    "matvec.wgsl",
    "norm.wgsl",
    "rate_copy.wgsl",
    "rate_fma.wgsl",
    "sample_draw.wgsl",
    "sample_groups.wgsl",
    "shared/act.wgsl",
    "shared/activation.wgsl",
    "shared/attention.wgsl",
    "shared/codebook.wgsl",
    "shared/codes_fp4.wgsl",
    "shared/codes_iq4.wgsl",
    "shared/epilogue_qkv.wgsl",
    "shared/grid.wgsl",
    "shared/scales_f16.wgsl",
    "shared/act_f16.wgsl",
    "shared/k_scales.wgsl",
    "shared/kv.wgsl",
    "shared/block_max.wgsl",
    "shared/merge.wgsl",
    "shared/moments.wgsl",
    "shared/nibbles.wgsl",
    "shared/packed.wgsl",
    "shared/picture.wgsl",
    "shared/project.wgsl",
    "shared/random.wgsl",
    "shared/act_rounded.wgsl",
    "shared/row_sum.wgsl",
    "shared/sampling.wgsl",
    "shared/splits.wgsl",
    "shared/spread.wgsl",
    "shared/step.wgsl",
    "shared/sub_blocks.wgsl",
    "shared/tile.wgsl",
    "shared/weights.wgsl",
    "shared/act_int16.wgsl",
    "to_rgba.wgsl",
];

/// Expands a file. A file is imported once, at its first `#import`.
///
/// # Errors
/// [`Error::Gpu`] naming file and line for an unknown file or directive, or unbalanced conditions.
pub fn expand(name: &str, defines: &BTreeSet<&str>) -> Result<String> {
    let mut out = String::new();
    expand_into(name, defines, &mut BTreeSet::new(), &mut out)?;
    Ok(out)
}

fn expand_into(
    name: &str,
    defines: &BTreeSet<&str>,
    imported: &mut BTreeSet<String>,
    out: &mut String,
) -> Result<()> {
    if !imported.insert(name.to_owned()) {
        return Ok(());
    }
    let fail = |line: usize, reason: &str| Error::Gpu {
        label: format!("{name}:{}", line + 1),
        reason: reason.to_owned(),
    };
    let formats = formats::SHADERS.iter().map(|(_, name, text)| (*name, *text));
    let text = SOURCES.iter().copied().chain(formats).find(|(n, _)| *n == name);
    let (_, text) = text.ok_or_else(|| fail(0, "no such shader file"))?;
    // One entry per open condition: whether its current branch is taken.
    let mut open: Vec<bool> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        let active = open.iter().all(|&taken| taken);
        let Some(directive) = trimmed.strip_prefix('#') else {
            if active && !trimmed.starts_with("//") {
                out.push_str(line);
                out.push('\n');
            }
            continue;
        };
        let (word, argument) = directive.split_once(' ').unwrap_or((directive, ""));
        match word {
            "import" if active => {
                // The file of the weight format whose define is there.
                let format = || formats::shader_of(|define| defines.contains(define));
                let name = if argument.trim() == "format" { format() } else { Some(argument.trim()) };
                let name = name.ok_or_else(|| fail(number, "no weight format is defined"))?;
                expand_into(name, defines, imported, out)?;
            }
            "import" => {}
            "ifdef" => open.push(defines.contains(argument.trim())),
            "ifndef" => open.push(!defines.contains(argument.trim())),
            "else" => match open.last_mut() {
                Some(taken) => *taken = !*taken,
                None => return Err(fail(number, "#else without #ifdef")),
            },
            "endif" => {
                if open.pop().is_none() {
                    return Err(fail(number, "#endif without #ifdef"));
                }
            }
            _ => return Err(fail(number, "unknown directive")),
        }
    }
    if open.is_empty() { Ok(()) } else { Err(fail(text.lines().count(), "#ifdef without #endif")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_embedded() {
        let mut on_disk = BTreeSet::new();
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
        for folder in [root.clone(), root.join("shared"), root.join("formats")] {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|e| e == "wgsl") {
                    on_disk.insert(path.strip_prefix(&root).unwrap().display().to_string());
                }
            }
        }
        let formats = formats::SHADERS.iter().map(|(_, name, _)| *name);
        let embedded: BTreeSet<_> =
            SOURCES.iter().map(|(n, _)| *n).chain(formats).map(str::to_owned).collect();
        assert_eq!(on_disk, embedded);
    }

    #[test]
    fn conditions_choose_and_imports_happen_once() {
        let norm = expand("matmul.wgsl", &BTreeSet::from(["NORM", "W_F32", "EPILOGUE_STORE"])).unwrap();
        assert!(norm.contains("square_sums") && !norm.contains("merged"));
        assert_eq!(norm.matches("struct Step").count(), 1);
        let plain = expand("matmul.wgsl", &BTreeSet::from(["W_F32", "EPILOGUE_STORE"])).unwrap();
        assert!(!plain.contains("square_sums"));
    }

    #[test]
    fn an_unknown_file_is_named() {
        let error = expand("nothing.wgsl", &BTreeSet::new()).unwrap_err();
        assert!(error.to_string().contains("nothing.wgsl"), "{error}");
    }
}
