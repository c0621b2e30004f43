//! A GGUF file taken apart, changed and written again, for tests of what a file may hold.
#![allow(dead_code)] // each test crate uses its part

use emberglass::DType;

/// A file of version 3.
#[derive(Clone)]
pub struct GgufFile {
    /// Key, type, value as it stands in the file.
    pub keys: Vec<(String, u32, Vec<u8>)>,
    pub tensors: Vec<Tensor>,
}

#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub dims: Vec<u64>,
    pub dtype: DType,
    pub bytes: Vec<u8>,
}

/// A metadata value.
pub enum Set<'a> {
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Text(&'a str),
    I32s(&'a [i32]),
    F32s(&'a [f32]),
}

struct Cursor<'a>(&'a [u8], usize);

impl Cursor<'_> {
    fn take(&mut self, count: usize) -> &[u8] {
        self.1 += count;
        &self.0[self.1 - count..self.1]
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }
    fn text(&mut self) -> String {
        let length = self.u64() as usize;
        String::from_utf8(self.take(length).to_vec()).unwrap()
    }
    fn skip_value(&mut self, kind: u32) {
        match kind {
            0 | 1 | 7 => self.1 += 1,
            2 | 3 => self.1 += 2,
            4..=6 => self.1 += 4,
            10..=12 => self.1 += 8,
            8 => drop(self.text()),
            9 => {
                let kind = self.u32();
                (0..self.u64()).for_each(|_| self.skip_value(kind));
            }
            _ => panic!("type {kind}"),
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

impl GgufFile {
    /// The file `tests/data/llama/NAME.gguf`.
    pub fn open(name: &str) -> Self {
        let path = format!("{}/tests/data/llama/{name}.gguf", env!("CARGO_MANIFEST_DIR"));
        Self::parse(&std::fs::read(path).unwrap())
    }

    pub fn parse(bytes: &[u8]) -> Self {
        let mut at = Cursor(bytes, 8);
        let (tensors, keys) = (at.u64(), at.u64());
        let keys = (0..keys)
            .map(|_| {
                let (key, kind) = (at.text(), at.u32());
                let from = at.1;
                at.skip_value(kind);
                (key, kind, bytes[from..at.1].to_vec())
            })
            .collect();
        let entries: Vec<(String, Vec<u64>, u32, u64)> = (0..tensors)
            .map(|_| {
                let name = at.text();
                let rank = at.u32();
                let dims = (0..rank).map(|_| at.u64()).collect();
                (name, dims, at.u32(), at.u64())
            })
            .collect();
        let data = at.1.next_multiple_of(32);
        let tensors = entries
            .into_iter()
            .map(|(name, dims, kind, offset)| {
                let dtype = DType::from_ggml(kind).unwrap();
                let size = dims.iter().product::<u64>() / dtype.block_len() * dtype.block_bytes();
                let from = data + offset as usize;
                Tensor { name, dims, dtype, bytes: bytes[from..from + size as usize].to_vec() }
            })
            .collect();
        GgufFile { keys, tensors }
    }

    pub fn write(&self) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        for (key, kind, value) in &self.keys {
            bytes.extend(text(key));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            bytes.extend(text(&tensor.name));
            bytes.extend((tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
            bytes.extend(tensor.dtype.ggml().to_le_bytes());
            bytes.extend((offset as u64).to_le_bytes());
            offset += tensor.bytes.len().next_multiple_of(32);
        }
        for tensor in &self.tensors {
            bytes.resize(bytes.len().next_multiple_of(32), 0);
            bytes.extend(&tensor.bytes);
        }
        bytes
    }

    /// With the key set, or set anew.
    pub fn with(mut self, key: &str, value: Set<'_>) -> Self {
        let array = |kind: u32, count: usize, values: Vec<u8>| {
            (9, [&kind.to_le_bytes()[..], &(count as u64).to_le_bytes(), &values].concat())
        };
        let (kind, bytes) = match value {
            Set::U32(value) => (4, value.to_le_bytes().to_vec()),
            Set::I32(value) => (5, value.to_le_bytes().to_vec()),
            Set::F32(value) => (6, value.to_le_bytes().to_vec()),
            Set::Bool(value) => (7, vec![u8::from(value)]),
            Set::Text(value) => (8, text(value)),
            Set::I32s(values) => {
                array(5, values.len(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
            }
            Set::F32s(values) => {
                array(6, values.len(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
            }
        };
        self.keys.retain(|(name, ..)| name != key);
        self.keys.push((key.to_owned(), kind, bytes));
        self
    }

    pub fn without(mut self, key: &str) -> Self {
        self.keys.retain(|(name, ..)| name != key);
        self
    }

    /// With one tensor of F32 more.
    pub fn with_floats(mut self, name: &str, dims: &[u64], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensors.push(Tensor { name: name.to_owned(), dims: dims.to_vec(), dtype: DType::F32, bytes });
        self
    }

    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }
}
