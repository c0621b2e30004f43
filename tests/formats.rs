//! Weight formats: sizes and values are llama.cpp's, and scales that are not finite are found.
//!
//! `tests/data/formats/digests.json` has digests of what llama.cpp makes of random blocks; the recipe is
//! `tools/format-digests`.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

#[allow(dead_code)] // kernel tests use more
mod common {
    pub mod random;
}
#[allow(dead_code)]
mod reference {
    pub mod weights;
}

use common::random::Random;
use emberglass::DType;
use emberglass::formats::{BLOCK, Elements, Sub, ggml_type_name};
use reference::weights;
use serde_json::Value;

const BLOCKS: usize = 64;

/// Bytes with the top bits of what scales a block. Bit 6 is one of an exponent: without it all values are finite.
fn exponents(dtype: DType) -> Vec<usize> {
    match dtype {
        DType::F32 => vec![3],
        DType::F16 | DType::BF16 => vec![1],
        DType::IQ1_M => vec![55],
        DType::MXFP4 => vec![0],
        _ => weights::f16_scales(dtype).iter().map(|(at, _)| at + 1).collect(),
    }
}

/// The blocks of the recipe.
fn blocks(dtype: DType) -> Vec<u8> {
    let mut random = Random::new(dtype.ggml().into());
    let size = dtype.block_bytes() as usize;
    let mut bytes: Vec<u8> = (0..BLOCKS * size).map(|_| random.bits() as u8).collect();
    for block in bytes.chunks_exact_mut(size) {
        exponents(dtype).iter().for_each(|&at| block[at] &= 0xbf);
    }
    bytes
}

/// FNV-1a, 64 bits.
fn digest(values: impl Iterator<Item = f32>) -> String {
    let mut digest = 0xcbf2_9ce4_8422_2325u64;
    // 0 for -0.
    for byte in values.flat_map(|value| (value + 0.0).to_le_bytes()) {
        digest = (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    format!("{digest:016x}")
}

/// What the product unpacks.
fn unpacked(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let unpack = match dtype.format().elements {
        Elements::Float(_) => return dtype.floats(bytes).unwrap(),
        Elements::Blocks(unpack) => unpack,
    };
    let mut values = Vec::new();
    for block in bytes.chunks_exact(dtype.block_bytes() as usize) {
        for sub in 0..dtype.block_len() as usize / BLOCK {
            let Sub { q, scale, low } = unpack(block, sub);
            values.extend((0..BLOCK).map(|i| scale[i / 16] * f32::from(q[i]) + low[i / 16]));
        }
    }
    values
}

#[test]
fn values_are_llama_cpps() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/formats/digests.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(all.as_object().unwrap().len(), DType::ALL.len());
    for dtype in DType::ALL {
        let name = dtype.name();
        let wanted = &all[name];
        let sizes = [dtype.ggml().into(), dtype.block_len(), dtype.block_bytes()];
        assert_eq!(["ggml", "block_len", "block_bytes"].map(|key| wanted[key].as_u64().unwrap()), sizes);
        let bytes = blocks(dtype);
        // Every step is exact in f32 but the last, so that f64 rounds to the same.
        let oracle = weights::dequantize(dtype, &bytes).into_iter().map(|value| value as f32);
        assert_eq!(digest(oracle), wanted["digest"].as_str().unwrap(), "{name}: the tests' oracle");
        assert_eq!(digest(unpacked(dtype, &bytes).into_iter()), wanted["digest"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn a_changed_bit_changes_the_digest() {
    for dtype in DType::ALL {
        let mut bytes = blocks(dtype);
        let before = digest(unpacked(dtype, &bytes).into_iter());
        let middle = bytes.len() / 2;
        bytes[middle + dtype.block_bytes() as usize / 2] ^= 1;
        assert_ne!(digest(unpacked(dtype, &bytes).into_iter()), before, "{}", dtype.name());
    }
}

#[test]
fn numbers_and_names_go_together() {
    for dtype in DType::ALL {
        assert_eq!(DType::from_ggml(dtype.ggml()), Some(dtype));
        assert_eq!(ggml_type_name(dtype.ggml()), Some(dtype.name()));
    }
    assert_eq!((DType::from_ggml(15), ggml_type_name(15)), (None, Some("Q8_K")));
    assert_eq!(ggml_type_name(31), None);
}

/// A block's bytes are all on the GPU, each once, and the body in whole vec4s.
#[test]
fn no_byte_of_a_block_is_lost() {
    for dtype in DType::ALL.into_iter().filter(|dtype| !dtype.is_float()) {
        let format = dtype.format();
        let mut places: Vec<usize> = format.body.iter().chain(format.head).flat_map(|&(a, b)| a..b).collect();
        places.sort_unstable();
        assert_eq!(places, (0..format.block_bytes).collect::<Vec<_>>(), "{}", dtype.name());
        assert!(format.body.iter().all(|(from, to)| (to - from) % 16 == 0), "{}", dtype.name());
    }
}

#[test]
fn values_that_are_no_numbers_are_found_wherever_they_are() {
    for dtype in DType::ALL {
        let size = dtype.block_bytes() as usize;
        // Quants may have any bits.
        let mut good = vec![0xffu8; 70 * size];
        for block in good.chunks_exact_mut(size) {
            exponents(dtype).iter().for_each(|&at| block[at] = 0xbf);
        }
        assert!(dtype.all_finite(&good), "{}", dtype.name());
        for (block, at) in
            [0, 31, 69].into_iter().flat_map(|b| exponents(dtype).into_iter().map(move |at| (b, at)))
        {
            let mut bytes = good.clone();
            // All other bits of the exponent are set already.
            bytes[block * size + at] = 0xff;
            assert!(!dtype.all_finite(&bytes), "{} at {block}, {at}", dtype.name());
        }
    }
}

/// The table of docs/KERNEL.md. `EMBERGLASS_BLESS=1` writes it.
#[test]
fn the_table_of_the_docs_is_this_one() {
    let mut table = String::from(
        "| format | weights a block | bytes | bits a weight | `quants`, vec4s | `scales`, bytes | two |\n|---|---|---|---|---|---|---|\n",
    );
    for dtype in DType::ALL {
        let format = dtype.format();
        // Floats lie in blocks of 32.
        let (len, bytes) = if dtype.is_float() {
            (BLOCK, BLOCK * format.block_bytes)
        } else {
            (format.block_len, format.block_bytes)
        };
        let size = |&(from, to): &(usize, usize)| to - from;
        let vectors = if dtype.is_float() { bytes } else { format.body.iter().map(size).sum() } / 16;
        let head = match format.head {
            [range] if size(range) <= 2 => size(range),
            ranges => ranges.iter().map(|range| size(range).next_multiple_of(4)).sum(),
        };
        // The GPU's memory grows by at most 15 %.
        assert!((16 * vectors + head) as f64 <= 1.15 * bytes as f64, "{}", dtype.name());
        let bits = 8.0 * bytes as f64 / len as f64;
        let two = if format.two_scales { "two" } else { "" };
        table += &format!("| {} | {len} | {bytes} | {bits} | {vectors} | {head} | {two} |\n", dtype.name());
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/KERNEL.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once("<!-- formats -->\n").unwrap();
    let (found, after) = rest.split_once("<!-- /formats -->").unwrap();
    if found != table && std::env::var_os("EMBERGLASS_BLESS").is_some() {
        let text = format!("{before}<!-- formats -->\n{table}<!-- /formats -->{after}");
        std::fs::write(path, text).unwrap();
        return;
    }
    assert_eq!(found, table, "EMBERGLASS_BLESS=1 cargo test --test formats writes the table");
}
