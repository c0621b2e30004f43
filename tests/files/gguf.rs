//! The GGUF reader on headers built in memory, most of them hostile. Every refusal is checked by its
//! code and message.

use emberglass::error::{Error, Result};
use emberglass::formats::DType;
use emberglass::weights::metadata::Value;
use emberglass::weights::{ByteSource, Directory, FileSource, LocalFuture, SliceSource, read_directory};

fn string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn key(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [string(key), kind.to_le_bytes().to_vec(), value.to_vec()].concat()
}

fn array(kind: u32, count: u64, values: &[u8]) -> Vec<u8> {
    let head = [kind.to_le_bytes().to_vec(), count.to_le_bytes().to_vec()];
    [head.concat(), values.to_vec()].concat()
}

fn tensor(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend((dims.len() as u32).to_le_bytes());
    dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

/// A header with any counts, right or wrong.
fn raw(version: u32, tensors: u64, keys: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(keys.to_le_bytes());
    bytes.extend(rest);
    bytes
}

/// A whole file: header, padding and `data` bytes of tensor data.
fn file(keys: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
    let rest = [keys.concat(), tensors.concat()].concat();
    let mut bytes = raw(3, tensors.len() as u64, keys.len() as u64, &rest);
    bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
    bytes
}

fn small() -> Vec<u8> {
    let strings: Vec<u8> = ["a", "", "bcd"].iter().flat_map(|text| string(text)).collect();
    file(
        &[
            key("name", 8, &string("tiny")),
            key("tokens", 9, &array(8, 3, &strings)),
            key("types", 9, &array(5, 2, &[1, 0, 0, 0, 255, 255, 255, 255])),
            key("count", 4, &7u32.to_le_bytes()),
        ],
        &[tensor("b", &[32, 2], 2, 64), tensor("a", &[4, 2], 0, 0)],
        64 + 36,
    )
}

fn read(bytes: Vec<u8>) -> Result<Directory> {
    read_all(vec![bytes])
}

fn read_all(files: Vec<Vec<u8>>) -> Result<Directory> {
    let boxed = |(index, bytes)| -> Box<dyn ByteSource> {
        Box::new(SliceSource::new(format!("{index}.gguf"), bytes))
    };
    let mut sources: Vec<_> = files.into_iter().enumerate().map(boxed).collect();
    pollster::block_on(read_directory(&mut sources))
}

#[track_caller]
fn refused(bytes: Vec<u8>, code: &str, message: &str) {
    let error = read(bytes).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(message), "{error}");
}

#[test]
fn a_small_file_reads_back() {
    for version in [2, 3] {
        let mut bytes = small();
        bytes[4] = version;
        let data = bytes.len() as u64 - 100;
        let directory = read(bytes).unwrap();
        let metadata = &directory.metadata;
        assert_eq!(metadata.str("name").unwrap(), "tiny");
        assert_eq!(metadata.u32("count").unwrap(), 7);
        assert_eq!(metadata.u32_or("absent", 5).unwrap(), 5);
        assert_eq!(metadata.integers("types").unwrap(), [1, -1]);
        let tokens: Vec<&[u8]> = metadata.strings("tokens").unwrap().iter().collect();
        assert_eq!(tokens, [&b"a"[..], b"", b"bcd"]);

        // In file order, whatever the order of the directory.
        let names: Vec<_> = directory.tensors().iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let b = directory.tensor("b").unwrap();
        assert_eq!((b.dims.as_slice(), b.offset, b.bytes), (&[32, 2][..], data + 64, 36));
        assert_eq!((b.dtype().unwrap(), b.shard, b.elements()), (DType::Q4_0, 0, 64));
        assert_eq!(directory.total_bytes(), 32 + 36);
        let error = directory.tensor("c").unwrap_err();
        assert_eq!(error.code(), "missing-tensor");
    }
}

#[test]
fn wrong_keys_and_types_name_themselves() {
    let metadata = read(small()).unwrap().metadata;
    for error in [metadata.f32("name").unwrap_err(), metadata.f32("absent").unwrap_err()] {
        assert_eq!(error.code(), "missing-metadata");
        assert!(error.to_string().contains("is missing or is not a number"), "{error}");
    }
    assert_eq!(metadata.u32_or("name", 1).unwrap_err().code(), "missing-metadata");
}

#[test]
fn every_scalar_type_is_read() {
    let keys = [
        key("u8", 0, &[200]),
        key("i8", 1, &[200]),
        key("u16", 2, &0xFFF0u16.to_le_bytes()),
        key("i16", 3, &(-3i16).to_le_bytes()),
        key("u32", 4, &u32::MAX.to_le_bytes()),
        key("i32", 5, &(-3i32).to_le_bytes()),
        key("f32", 6, &1.5f32.to_le_bytes()),
        key("bool", 7, &[1]),
        key("u64", 10, &u64::MAX.to_le_bytes()),
        key("i64", 11, &i64::MIN.to_le_bytes()),
        key("f64", 12, &2.5f64.to_le_bytes()),
        key("bools", 9, &array(7, 2, &[0, 1])),
        key("floats", 9, &array(6, 1, &0.5f32.to_le_bytes())),
        key("wide", 9, &array(10, 1, &(1u64 << 40).to_le_bytes())),
    ];
    let metadata = read(file(&keys, &[], 0)).unwrap().metadata;
    let expected = [
        ("u8", Value::Unsigned(200)),
        ("i8", Value::Signed(-56)),
        ("u16", Value::Unsigned(0xFFF0)),
        ("i16", Value::Signed(-3)),
        ("u32", Value::Unsigned(u64::from(u32::MAX))),
        ("i32", Value::Signed(-3)),
        ("f32", Value::Float(1.5)),
        ("bool", Value::Bool(true)),
        ("u64", Value::Unsigned(u64::MAX)),
        ("i64", Value::Signed(i64::MIN)),
        ("f64", Value::Float(2.5)),
        ("bools", Value::Integers(vec![0, 1])),
        ("floats", Value::Floats(vec![0.5])),
        ("wide", Value::Wide(vec![1 << 40])),
    ];
    for (key, value) in expected {
        assert_eq!(metadata.get(key), Some(&value), "{key}");
    }
}

#[test]
fn a_file_cut_anywhere_is_truncated() {
    let bytes = small();
    for length in 0..bytes.len() {
        let error = read(bytes[..length].to_vec()).unwrap_err();
        let Error::Truncated { needed, actual, ref name } = error else {
            panic!("{length} bytes: {error}");
        };
        assert_eq!((actual, name.as_str()), (length as u64, "0.gguf"));
        assert!(needed > actual && needed <= bytes.len() as u64, "{error}");
    }
}

#[test]
fn a_source_of_unknown_size_reads_the_same() {
    let bytes = small();
    let known = read(bytes.clone()).unwrap();
    let mut sources: Vec<Box<dyn ByteSource>> =
        vec![Box::new(SliceSource::new("x", bytes.clone()).without_size())];
    let unknown = pollster::block_on(read_directory(&mut sources)).unwrap();
    assert_eq!(known.tensors(), unknown.tensors());
    assert_eq!(known.metadata, unknown.metadata);
    // The header must be whole; the tensor data is not looked at.
    let header = bytes.len() - 100 - 32;
    for length in 0..header {
        let cut = SliceSource::new("x", &bytes[..length]).without_size();
        let error = pollster::block_on(read_directory(&mut [Box::new(cut)])).unwrap_err();
        assert_eq!(error.code(), "truncated", "{length} bytes: {error}");
    }
}

#[test]
fn a_file_of_another_kind_is_named() {
    let cases: &[(&[u8], &str, &str)] = &[
        (b"<!DOCTYPE html><title>Sign in</title>", "web-page", "0.gguf is not a GGUF file but a web page"),
        (b"\n\n<html>", "web-page", "a web page"),
        (b"PK\x03\x04\x14\0\0\0", "zip", "a zip archive: unpack it first"),
        (b"\x1f\x8b\x08\0", "gzip", "a gzip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "lfs-pointer", "Git LFS"),
        (b"\x40\0\0\0\0\0\0\0{\"a\":{}}", "safetensors", "a safetensors file"),
        (b"{\"error\": \"not found\"}", "json", "JSON text"),
        (b"tjgg\x01\0\0\0", "old-ggml", "llama.cpp's format before GGUF"),
        (b"These are notes, no model.", "text", "it begins with “These are notes,…”"),
        ("Größe und Maß, kein Modell".as_bytes(), "text", "it begins with “Größe und Maß"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "unknown", "a file of a kind that is not known here"),
    ];
    for (bytes, kind, words) in cases {
        let error = read(bytes.to_vec()).unwrap_err();
        assert_eq!((error.code(), error.detail()), ("not-gguf", Some(*kind)), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let empty = read(Vec::new()).unwrap_err();
    assert_eq!(empty.to_string(), "0.gguf is empty: download it again");
    assert_eq!(empty.detail(), Some("empty"));
}

#[test]
fn wrong_magic_version_and_byte_order() {
    refused(raw(1, 0, 0, &[]), "unsupported-version", "GGUF version 1 is not supported");
    refused(raw(4, 0, 0, &[]), "unsupported-version", "GGUF version 4 is not supported");
    refused(raw(3u32.swap_bytes(), 0, 0, &[]), "malformed", "big-endian");
}

#[test]
fn huge_counts_are_refused_before_anything_is_allocated() {
    let huge = [1 << 20, 1 << 40, u64::MAX];
    for count in huge {
        refused(raw(3, count, 0, &[]), "malformed", "the number of tensors is");
        refused(raw(3, 0, count, &[]), "malformed", "the number of metadata keys is");
    }
    // Below the caps, but more than the file can hold.
    refused(raw(3, 0, 60_000, &[0; 100]), "truncated", "needs 780024 bytes and has 124");
    refused(raw(3, 60_000, 0, &[0; 100]), "truncated", "needs 1440024 bytes and has 124");

    for length in [1 << 25, 1 << 40, u64::MAX] {
        let length = length.to_le_bytes();
        let strings = array(8, 1, &length);
        refused(raw(3, 0, 1, &[&length[..], &[0; 9]].concat()), "malformed", "the length of a metadata key");
        refused(file(&[key("k", 8, &length)], &[], 0), "malformed", "the length of the string k");
        refused(file(&[key("k", 9, &strings)], &[], 0), "malformed", "a string in the array k");
        refused(raw(3, 1, 0, &[&length[..], &[0; 16]].concat()), "malformed", "the length of a tensor name");
    }
    for count in [1 << 25, 1 << 61, u64::MAX] {
        for kind in [0, 5, 8, 10] {
            let bytes = file(&[key("k", 9, &array(kind, count, &[]))], &[], 0);
            refused(bytes, "malformed", "the length of the array k");
        }
    }
    // Claims under the caps must not allocate what does not come: 16 Mi elements, a few bytes.
    for kind in [0, 6, 8, 12] {
        let bytes = file(&[key("k", 9, &array(kind, 1 << 24, &[]))], &[], 0);
        refused(bytes.clone(), "truncated", "0.gguf is truncated");
        let source = SliceSource::new("x", bytes).without_size();
        let error = pollster::block_on(read_directory(&mut [Box::new(source)])).unwrap_err();
        assert_eq!(error.code(), "truncated");
    }
}

#[test]
fn malformed_values_are_refused() {
    let nested = array(9, 1, &array(4, 1, &[0; 4]));
    refused(file(&[key("k", 9, &nested)], &[], 0), "malformed", "metadata k is an array of arrays");
    refused(file(&[key("k", 9, &array(99, 1, &[0; 8]))], &[], 0), "malformed", "an array of unknown type 99");
    refused(file(&[key("k", 13, &[0; 8])], &[], 0), "malformed", "metadata k has unknown type 13");
    refused(file(&[key("k", 7, &[2])], &[], 0), "malformed", "the boolean k is 2");
    let latin1 = [&2u64.to_le_bytes()[..], &[0xE9, 0x20]].concat();
    refused(file(&[key("k", 8, &latin1)], &[], 0), "malformed", "a string is not UTF-8");
    refused(
        file(&[key("k", 0, &[1]), key("k", 0, &[1])], &[], 0),
        "malformed",
        "metadata key k occurs twice",
    );
    let wide = array(10, 1, &u64::MAX.to_le_bytes());
    refused(file(&[key("k", 9, &wide)], &[], 0), "malformed", "a number in the array k is over 2^63");
}

#[test]
fn malformed_tensors_are_refused() {
    let one = |dims: &[u64], kind, offset| file(&[], &[tensor("t", dims, kind, offset)], 64);
    refused(one(&[1; 5], 0, 0), "malformed", "the number of dimensions of tensor t is 5, more than 4");
    refused(one(&[8, 0], 0, 0), "malformed", "tensor t has a dimension of 0");
    refused(one(&[1 << 32, 1 << 32], 0, 0), "malformed", "the dimensions of tensor t overflow");
    refused(one(&[u64::MAX], 0, 0), "malformed", "the dimensions of tensor t overflow");
    refused(one(&[1 << 62], 0, 0), "malformed", "the size of tensor t overflows");
    refused(one(&[33], 2, 0), "malformed", "rows of 33 elements, not a multiple of 32 (Q4_0)");
    refused(one(&[1], 0, 8), "malformed", "tensor t is not aligned to 32 bytes");
    refused(one(&[1], 0, u64::MAX - 31), "malformed", "the offset of tensor t overflows");
    refused(one(&[1], 0, 1 << 50), "truncated", "download it again");
    refused(one(&[17], 0, 0), "truncated", "is truncated: it needs 132 bytes and has 128");
    let name = "n".repeat(64);
    refused(
        file(&[], &[tensor(&name, &[1], 0, 0)], 4),
        "malformed",
        "the length of a tensor name is 64, more than 63",
    );
    let two = |offset, name| file(&[], &[tensor("t", &[16], 0, 0), tensor(name, &[8], 0, offset)], 96);
    refused(two(64, "t"), "malformed", "tensor t occurs twice");
    refused(two(32, "u"), "malformed", "tensors t and u overlap");
    assert!(read(two(64, "u")).is_ok());
}

#[test]
fn alignment_is_honoured_and_checked() {
    let aligned = |alignment: u32, data| {
        let keys = [key("general.alignment", 4, &alignment.to_le_bytes())];
        file(&keys, &[tensor("t", &[1], 0, 0)], data)
    };
    for bad in [0, 3, 48, 1 << 21, u32::MAX] {
        refused(aligned(bad, 64), "malformed", "not a power of two");
    }
    let directory = read(aligned(128, 256)).unwrap();
    assert_eq!(directory.tensors()[0].offset, 128);
    // Header 24 bytes, key 33, tensor 33.
    assert_eq!(read(aligned(1, 64)).unwrap().tensors()[0].offset, 90);
    let text = [key("general.alignment", 8, &string("32"))];
    refused(file(&text, &[], 0), "missing-metadata", "general.alignment");
}

#[test]
fn an_unsupported_tensor_type_is_an_error_only_when_used() {
    let directory = read(file(&[], &[tensor("k", &[256], 15, 0), tensor("z", &[1], 77, 160)], 192)).unwrap();
    let error = directory.tensor("k").unwrap().dtype().unwrap_err();
    assert_eq!(error.code(), "unsupported-type");
    assert_eq!(
        error.to_string(),
        format!(
            "tensor k has type Q8_K, which is not supported (supported: {})",
            DType::ALL.map(DType::name).join(", ")
        )
    );
    let error = directory.tensor("z").unwrap().dtype().unwrap_err();
    assert!(error.to_string().contains("type number 77"), "{error}");
}

/// Each key holds its caps, all of them together do not: a source that never ends must not fill the memory.
#[test]
fn a_header_has_an_end() {
    /// Keys `0`, `1`, … with strings of 16 MiB, as many as are asked for. Notes how far it was read.
    struct Endless(std::rc::Rc<std::cell::Cell<u64>>);
    const STRING: u64 = 16 << 20;
    impl Endless {
        fn byte(at: u64) -> u8 {
            let header = raw(3, 0, 1 << 16, &[]);
            let Some(in_keys) = at.checked_sub(header.len() as u64) else {
                return header[at as usize];
            };
            let name = |i: u64| format!("{i:05}");
            let head = 8 + 5 + 4 + 8;
            let (i, within) = (in_keys / (head + STRING), in_keys % (head + STRING));
            let key = key(&name(i), 8, &STRING.to_le_bytes());
            key.get(within as usize).copied().unwrap_or(b'a')
        }
    }
    impl ByteSource for Endless {
        fn read_at<'a>(&'a mut self, offset: u64, buf: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
            Box::pin(async move {
                self.0.set(self.0.get().max(offset + buf.len() as u64));
                // Long reads are inside a string, but for their ends.
                let long = buf.len();
                buf.fill(b'a');
                for i in (0..long.min(64)).chain(long.saturating_sub(64)..long) {
                    buf[i] = Self::byte(offset + i as u64);
                }
                Ok(())
            })
        }
        fn size(&mut self) -> LocalFuture<'_, Result<Option<u64>>> {
            Box::pin(async { Ok(None) })
        }
        fn name(&self) -> &str {
            "endless.gguf"
        }
    }
    let read = std::rc::Rc::new(std::cell::Cell::new(0));
    let mut sources: [Box<dyn ByteSource>; 1] = [Box::new(Endless(read.clone()))];
    let error = pollster::block_on(read_directory(&mut sources)).unwrap_err();
    assert_eq!(error.code(), "malformed", "{error}");
    assert!(
        error.to_string().contains("the header of endless.gguf is longer than 268435456 bytes"),
        "{error}"
    );
    assert!((200 << 20..=256 << 20).contains(&read.get()), "{} bytes were read", read.get());
}

/// Shard `no` of `count`, `total` tensors in all, holding one tensor.
fn shard(no: u16, count: u16, total: i32, name: &str) -> Vec<u8> {
    let keys = [
        key("split.no", 2, &no.to_le_bytes()),
        key("split.count", 2, &count.to_le_bytes()),
        key("split.tensors.count", 5, &total.to_le_bytes()),
        key("which", 8, &string(name)),
    ];
    file(&keys, &[tensor(name, &[4], 0, 0)], 16)
}

#[test]
fn shards_are_merged() {
    let shards = vec![shard(0, 3, 3, "a"), shard(1, 3, 3, "b"), shard(2, 3, 3, "c")];
    let directory = read_all(shards.clone()).unwrap();
    assert_eq!(directory.metadata.str("which").unwrap(), "a");
    let places: Vec<_> = directory.tensors().iter().map(|t| (t.name.as_str(), t.shard)).collect();
    assert_eq!(places, [("a", 0), ("b", 1), ("c", 2)]);
    assert_eq!(directory.tensor("c").unwrap().offset, shards[2].len() as u64 - 16);
    // llama.cpp's converter writes a count of 0 into a file that is not split.
    assert!(read(shard(0, 0, 1, "a")).is_ok());
}

#[test]
fn shards_that_do_not_fit_are_refused() {
    let refused = |files: Vec<Vec<u8>>, message: &str| {
        let error = read_all(files).unwrap_err();
        assert_eq!(error.code(), "split-mismatch", "{error}");
        assert!(error.to_string().contains(message), "{error}");
    };
    let (a, b) = (|| shard(0, 2, 2, "a"), || shard(1, 2, 2, "b"));
    refused(vec![], "no file was given");
    refused(vec![a()], "file 1 belongs to a model of 2 files, 1 given");
    refused(vec![a(), b(), b()], "file 1 belongs to a model of 2 files, 3 given");
    refused(vec![b(), a()], "file 1 is shard 2 of 2: give the shards in order");
    refused(vec![a(), a()], "file 2 is shard 1 of 2");
    refused(vec![a(), small()], "file 2 of 2 is not part of a split model");
    refused(vec![a(), shard(1, 2, 2, "a")], "tensor a is in two shards");
    refused(vec![shard(0, 2, 3, "a"), shard(1, 2, 3, "b")], "the shards hold 2 tensors instead of 3");
    // Only the first shard's metadata is used, so a later one may not say more.
    for louder in ["llama.rope.freq_base", "tokenizer.ggml.model", "general.architecture"] {
        let with = |no: u16, name, keys: &[Vec<u8>]| {
            let mut all = vec![
                key("split.no", 2, &no.to_le_bytes()),
                key("split.count", 2, &2u16.to_le_bytes()),
                key("split.tensors.count", 5, &2i32.to_le_bytes()),
            ];
            all.extend_from_slice(keys);
            file(&all, &[tensor(name, &[4], 0, 0)], 16)
        };
        let architecture = key("general.architecture", 8, &string("llama"));
        let other = key(louder, 8, &string("x"));
        let first = with(0, "a", std::slice::from_ref(&architecture));
        refused(vec![first.clone(), with(1, "b", &[other])], &format!("file 2 has another {louder}"));
        assert!(read_all(vec![first, with(1, "b", &[architecture])]).is_ok());
    }
    // A truncated second shard names itself.
    let error = read_all(vec![a(), b()[..b().len() - 1].to_vec()]).unwrap_err();
    assert!(error.to_string().contains("1.gguf is truncated"), "{error}");
}

/// Bytes at random after a right magic and version: errors, never a panic or a huge allocation.
#[test]
fn damaged_headers_never_panic() {
    let good = small();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut errors, mut reads) = (0, 0);
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..1 + random() % 4 {
            let at = 8 + random() as usize % (bytes.len() - 8);
            bytes[at] = random() as u8;
        }
        match read(bytes) {
            Ok(_) => reads += 1,
            Err(_) => errors += 1,
        }
    }
    assert!(errors > 1000 && reads > 1000, "{errors} errors, {reads} read");
}

#[test]
fn the_real_file_reads() {
    let path = std::env::var("EMBERGLASS_MODEL")
        .unwrap_or_else(|_| ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf".to_owned());
    let file = FileSource::open(&path)
        .unwrap_or_else(|e| panic!("the model file is needed, and `cargo xtask test` fetches it: {e}"));
    let directory = pollster::block_on(read_directory(&mut [Box::new(file)])).unwrap();
    assert_eq!(directory.tensors().len(), 272);
    assert_eq!(directory.metadata.u32("llama.block_count").unwrap(), 30);
    let embedding = directory.tensor("token_embd.weight").unwrap();
    assert_eq!((embedding.dims.as_slice(), embedding.dtype().unwrap()), (&[576, 49_152][..], DType::Q8_0));
    let last = directory.tensors().last().unwrap();
    assert_eq!(last.offset + last.bytes, std::fs::metadata(&path).unwrap().len());
}

#[test]
fn file_sources_say_what_is_wrong() {
    let error = FileSource::open("no/such/file.gguf").unwrap_err();
    assert_eq!(error.code(), "io");
    assert!(error.to_string().contains("reading no/such/file.gguf failed"), "{error}");
    let mut file = FileSource::open("Cargo.toml").unwrap();
    let size = pollster::block_on(file.size()).unwrap().unwrap();
    let error = pollster::block_on(file.read_at(size - 1, &mut [0; 2])).unwrap_err();
    assert_eq!(error, Error::Truncated { name: "Cargo.toml".into(), needed: size + 1, actual: size });
}
