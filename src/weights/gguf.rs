//! GGUF versions 2 and 3: header, metadata and tensor directory.
//!
//! Every number in the file is hostile until checked: counts and lengths against the caps below and
//! against the bytes that remain, products against overflow, ranges against the size of the file.
//! Layout: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::formats::{DType, ggml_type_name};
use crate::sort::sort_by_key;
use crate::weights::file_kind::FileKind;
use crate::weights::metadata::Metadata;
use crate::weights::reader::Reader;
use crate::weights::source::ByteSource;
use crate::weights::value::{capped, malformed, read_string, read_value};

/// `GGML_MAX_DIMS` of ggml.h.
const MAX_DIMS: u32 = 4;
/// `GGML_MAX_NAME` of ggml.h: 64 bytes with the terminating zero.
const MAX_TENSOR_NAME: u64 = 63;
/// The GGUF specification: "at most 2^16-1 bytes long".
const MAX_KEY: u64 = 65_535;
/// Ours: files in use have some 60 keys and, with many experts, some thousand tensors.
const MAX_KEYS: u64 = 1 << 16;
const MAX_TENSORS: u64 = 1 << 16;
/// Ours: alignment in use is 32.
const MAX_ALIGNMENT: u32 = 1 << 20;
/// Smallest encoding of a key-value pair (length, type, one byte) and of a tensor entry (length,
/// dimensions, type, offset): a count claims at least that many bytes.
const MIN_KEY_BYTES: u64 = 8 + 4 + 1;
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;

/// Where a tensor is and what it is.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// Name, as in the file.
    pub name: String,
    /// Dimensions in elements, GGUF order: the fastest first.
    pub dims: Vec<u64>,
    /// `enum ggml_type`; see [`TensorInfo::dtype`].
    pub ggml_type: u32,
    /// Which source holds it.
    pub shard: usize,
    /// Offset in bytes from the start of that source.
    pub offset: u64,
    /// Size in bytes; 0 if the type is not supported, see [`TensorInfo::dtype`].
    pub bytes: u64,
}

impl TensorInfo {
    /// The element type.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`], naming the type and the supported ones.
    pub fn dtype(&self) -> Result<DType> {
        DType::from_ggml(self.ggml_type).ok_or_else(|| Error::UnsupportedType {
            tensor: self.name.clone(),
            found: match ggml_type_name(self.ggml_type) {
                Some(name) => name.to_owned(),
                None => format!("number {}", self.ggml_type),
            },
            supported: DType::ALL.map(DType::name).join(", "),
        })
    }

    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.dims.iter().product()
    }
}

/// The metadata and tensors of one model, from one file or several shards.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// Metadata of the first shard.
    pub metadata: Metadata,
    tensors: Vec<TensorInfo>,
    index: HashMap<String, usize>,
}

impl Directory {
    /// Every tensor, in file order: reading them so is one sequential pass.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor called `name`, if there is one.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).and_then(|&at| self.tensors.get(at))
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.find(name).ok_or_else(|| Error::MissingTensor { tensor: name.to_owned() })
    }

    /// Bytes of all tensors of supported types.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.bytes))
    }
}

/// Reads the headers of a model: one file, or all shards of a split model in order.
///
/// # Errors
/// [`Error::NotGguf`], [`Error::UnsupportedVersion`], [`Error::Malformed`], [`Error::Truncated`]
/// (also if the file ends before its last tensor, where the size is known), [`Error::SplitMismatch`],
/// and whatever the sources give. A tensor of an unsupported type is no error here.
pub async fn read_directory(sources: &mut [Box<dyn ByteSource>]) -> Result<Directory> {
    let mut directory = Directory::default();
    let shards = sources.len();
    for (shard, source) in sources.iter_mut().enumerate() {
        let (metadata, mut tensors) = read_header(source.as_mut(), shard).await?;
        check_split(&metadata, shard, shards)?;
        sort_by_key(&mut tensors, |tensor| tensor.offset);
        for tensor in tensors {
            let at = directory.tensors.len();
            if directory.index.insert(tensor.name.clone(), at).is_some() {
                let what = format!("tensor {} is in two shards", tensor.name);
                return Err(Error::SplitMismatch { what });
            }
            directory.tensors.push(tensor);
        }
        if shard == 0 {
            directory.metadata = metadata;
        } else {
            check_shard_metadata(&directory.metadata, &metadata, shard)?;
        }
    }
    if shards == 0 {
        let what = "no file was given".to_owned();
        return Err(Error::SplitMismatch { what });
    }
    if shards > 1 {
        let expected = directory.metadata.u64("split.tensors.count")?;
        let found = directory.tensors.len() as u64;
        if expected != found {
            let what = format!("the shards hold {found} tensors instead of {expected}");
            return Err(Error::SplitMismatch { what });
        }
    }
    Ok(directory)
}

/// Whether the file with this metadata is shard `shard` (from 0) of `shards`.
fn check_split(metadata: &Metadata, shard: usize, shards: usize) -> Result<()> {
    let mismatch = |what: String| Err(Error::SplitMismatch { what });
    let given = shard + 1;
    let count = match metadata.contains("split.count") {
        // llama.cpp writes 0 into files that are not split.
        true => metadata.u64("split.count")?.max(1),
        false if shards == 1 => 1,
        false => {
            return mismatch(format!("file {given} of {shards} is not part of a split model"));
        }
    };
    if count != shards as u64 {
        return mismatch(format!(
            "file {given} belongs to a model of {count} files, {shards} given: give all of them, in order"
        ));
    }
    if count > 1 {
        let no = metadata.u64("split.no")?;
        if no != shard as u64 {
            return mismatch(format!(
                "file {given} is shard {} of {count}: give the shards in order, each once",
                no.saturating_add(1)
            ));
        }
    }
    Ok(())
}

/// Whether a later shard says nothing of the architecture or the tokenizer that the first does not say: only the first
/// one's metadata is used.
fn check_shard_metadata(first: &Metadata, later: &Metadata, shard: usize) -> Result<()> {
    let architecture = first.str_or("general.architecture", "")?;
    let matters = |key: &str| {
        let (group, _) = key.split_once('.').unwrap_or_default();
        key == "general.architecture" || group == "tokenizer" || (!group.is_empty() && group == architecture)
    };
    match later.iter().find(|(key, value)| matters(key) && first.get(key) != Some(value)) {
        None => Ok(()),
        Some((key, _)) => Err(Error::SplitMismatch {
            what: format!("file {} has another {key} than the first file", shard + 1),
        }),
    }
}

async fn read_header(source: &mut dyn ByteSource, shard: usize) -> Result<(Metadata, Vec<TensorInfo>)> {
    let mut reader = Reader::new(source).await?;
    let magic: [u8; 4] = reader.array().await?;
    if magic != *b"GGUF" {
        return Err(not_gguf(&mut reader, magic).await);
    }
    let version = reader.u32().await?;
    if !(2..=3).contains(&version) {
        if (2..=3).contains(&version.swap_bytes()) {
            return malformed("the file is big-endian GGUF; only little-endian is supported".into());
        }
        return Err(Error::UnsupportedVersion { version });
    }
    let tensor_count = capped(reader.u64().await?, MAX_TENSORS, || "the number of tensors".into())?;
    let key_count = capped(reader.u64().await?, MAX_KEYS, || "the number of metadata keys".into())?;
    reader.require(key_count * MIN_KEY_BYTES + tensor_count * MIN_TENSOR_BYTES)?;

    let mut metadata = Metadata::default();
    for _ in 0..key_count {
        let key = read_string(&mut reader, MAX_KEY, || "the length of a metadata key".into()).await?;
        let value = read_value(&mut reader, &key).await?;
        if metadata.contains(&key) {
            return malformed(format!("metadata key {key} occurs twice"));
        }
        metadata.insert(key, value);
    }
    let mut tensors = Vec::new();
    let mut names = HashMap::new();
    for _ in 0..tensor_count {
        let tensor = read_tensor(&mut reader, shard).await?;
        if names.insert(tensor.name.clone(), ()).is_some() {
            return malformed(format!("tensor {} occurs twice", tensor.name));
        }
        tensors.push(tensor);
    }
    place(&metadata, &reader, &mut tensors)?;
    Ok((metadata, tensors))
}

/// The error for a file that begins with `magic`: what it is instead.
async fn not_gguf(reader: &mut Reader<'_>, magic: [u8; 4]) -> Error {
    let mut head = magic.to_vec();
    while head.len() < FileKind::HEAD {
        // The file may end here.
        let Ok([byte]) = reader.array().await else { break };
        head.push(byte);
    }
    let kind = FileKind::of(&head);
    let what = match kind {
        FileKind::Text => {
            let begin = String::from_utf8_lossy(&head);
            format!("{} (it begins with “{}…”)", kind.words(), begin.trim_end_matches('\u{fffd}'))
        }
        _ => kind.words().to_owned(),
    };
    Error::NotGguf { name: reader.name().to_owned(), kind: kind.code(), what }
}

/// One entry of the tensor directory; `offset` is still relative to the data section.
async fn read_tensor(reader: &mut Reader<'_>, shard: usize) -> Result<TensorInfo> {
    let what = || "the length of a tensor name".to_owned();
    let name = read_string(reader, MAX_TENSOR_NAME, what).await?;
    let rank = reader.u32().await?;
    capped(rank.into(), MAX_DIMS.into(), || format!("the number of dimensions of tensor {name}"))?;
    let mut dims = Vec::new();
    let mut elements: u64 = 1;
    for _ in 0..rank {
        let dim = reader.u64().await?;
        elements = match elements.checked_mul(dim) {
            Some(0) => return malformed(format!("tensor {name} has a dimension of 0")),
            Some(elements) if elements <= i64::MAX as u64 => elements,
            _ => return malformed(format!("the dimensions of tensor {name} overflow")),
        };
        dims.push(dim);
    }
    let ggml_type = reader.u32().await?;
    let offset = reader.u64().await?;
    let bytes = match DType::from_ggml(ggml_type) {
        None => 0,
        Some(dtype) => {
            let row = dims.first().copied().unwrap_or(1);
            if row % dtype.block_len() != 0 {
                return malformed(format!(
                    "tensor {name} has rows of {row} elements, not a multiple of {} ({})",
                    dtype.block_len(),
                    dtype.name()
                ));
            }
            let blocks = elements / dtype.block_len();
            match blocks.checked_mul(dtype.block_bytes()) {
                Some(bytes) => bytes,
                None => return malformed(format!("the size of tensor {name} overflows")),
            }
        }
    };
    Ok(TensorInfo { name, dims, ggml_type, shard, offset, bytes })
}

/// Makes offsets absolute and checks that every tensor is aligned, in the file and apart.
fn place(metadata: &Metadata, reader: &Reader<'_>, tensors: &mut [TensorInfo]) -> Result<()> {
    let alignment = metadata.u32_or("general.alignment", 32)?;
    if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
        return malformed(format!(
            "general.alignment is {alignment}, not a power of two up to {MAX_ALIGNMENT}"
        ));
    }
    let alignment = u64::from(alignment);
    let data = reader.position().next_multiple_of(alignment);
    let mut needed = 0;
    for tensor in tensors.iter_mut() {
        let name = &tensor.name;
        if tensor.offset % alignment != 0 {
            return malformed(format!("tensor {name} is not aligned to {alignment} bytes"));
        }
        let start = data.checked_add(tensor.offset);
        let Some((start, end)) = start.and_then(|start| Some((start, start.checked_add(tensor.bytes)?)))
        else {
            return malformed(format!("the offset of tensor {name} overflows"));
        };
        tensor.offset = start;
        needed = needed.max(end);
    }
    if let Some(actual) = reader.size().filter(|&size| needed > size) {
        let name = reader.name().to_owned();
        return Err(Error::Truncated { name, needed, actual });
    }
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    sort_by_key(&mut order, |tensor| tensor.offset);
    for pair in order.windows(2) {
        if let [a, b] = pair
            && a.offset + a.bytes > b.offset
        {
            return malformed(format!("tensors {} and {} overlap", a.name, b.name));
        }
    }
    Ok(())
}
