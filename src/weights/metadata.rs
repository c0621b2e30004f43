//! The key-value part of a GGUF header, with typed getters.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Many strings in one allocation: a vocabulary of 262 144 tokens is two vectors, not 262 144.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StringArray {
    bytes: Vec<u8>,
    /// End of each string in `bytes`.
    ends: Vec<u32>,
}

impl StringArray {
    /// Number of strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no string.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of string `index`; GGUF says UTF-8, but nobody checks.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = match index {
            0 => 0,
            _ => *self.ends.get(index - 1)? as usize,
        };
        self.bytes.get(start..end)
    }

    /// Every string in order, as bytes.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map_while(|index| self.get(index))
    }

    /// Appends a string.
    ///
    /// # Errors
    /// [`Error::Malformed`] past 4 GiB in total.
    pub fn push(&mut self, string: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(string);
        let end = u32::try_from(self.bytes.len())
            .map_err(|_| Error::Malformed { what: "an array of strings is larger than 4 GiB".to_owned() })?;
        self.ends.push(end);
        Ok(())
    }

    /// Frees what growing over-allocated.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

impl<S: AsRef<[u8]>> FromIterator<S> for StringArray {
    /// Strings past 4 GiB in total are left out.
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut array = StringArray::default();
        for string in strings {
            if array.push(string.as_ref()).is_err() {
                break;
            }
        }
        array
    }
}

/// One metadata value. Integers of every width are widened; GGUF's own width carries no meaning.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// UINT8 … UINT64.
    Unsigned(u64),
    /// INT8 … INT64.
    Signed(i64),
    /// FLOAT32, FLOAT64.
    Float(f64),
    /// BOOL.
    Bool(bool),
    /// STRING.
    String(String),
    /// ARRAY of STRING.
    Strings(StringArray),
    /// ARRAY of integers or booleans.
    Integers(Vec<i32>),
    /// ARRAY of integers that do not all fit in `i32`.
    Wide(Vec<i64>),
    /// ARRAY of floats.
    Floats(Vec<f32>),
}

/// The metadata of a model. Every getter names the key in its error.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    values: BTreeMap<String, Value>,
}

impl Metadata {
    /// The value of `key`, whatever its type.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Whether `key` is present.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Every key and value, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Sets `key`; returns the value it had.
    pub fn insert(&mut self, key: impl Into<String>, value: Value) -> Option<Value> {
        self.values.insert(key.into(), value)
    }

    /// Takes `key` out, for example to free a vocabulary once the tokenizer is built.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.values.remove(key)
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T> {
        self.get(key)
            .and_then(convert)
            .ok_or_else(|| Error::MissingMetadata { key: key.to_owned(), expected })
    }

    /// An unsigned integer; a non-negative signed one counts too.
    ///
    /// # Errors
    /// [`Error::MissingMetadata`] if the key is missing or has another type, as for every getter.
    pub fn u64(&self, key: &str) -> Result<u64> {
        self.typed(key, "an unsigned integer", |value| match value {
            Value::Unsigned(v) => Some(*v),
            Value::Signed(v) => u64::try_from(*v).ok(),
            _ => None,
        })
    }

    /// An unsigned integer below 2³².
    ///
    /// # Errors
    /// [`Error::MissingMetadata`].
    pub fn u32(&self, key: &str) -> Result<u32> {
        let value = self.u64(key).ok().and_then(|v| u32::try_from(v).ok());
        value.ok_or_else(|| Error::MissingMetadata {
            key: key.to_owned(),
            expected: "a 32-bit unsigned integer",
        })
    }

    /// [`Metadata::u32`], or `default` if the key is missing.
    ///
    /// # Errors
    /// [`Error::MissingMetadata`] if the key has another type.
    pub fn u32_or(&self, key: &str, default: u32) -> Result<u32> {
        if self.contains(key) { self.u32(key) } else { Ok(default) }
    }

    /// A number as `f32`.
    ///
    /// # Errors
    /// [`Error::MissingMetadata`].
    pub fn f32(&self, key: &str) -> Result<f32> {
        #[allow(clippy::cast_possible_truncation)] // the nearest f32, infinite beyond its range
        let single = |value: f64| value as f32;
        self.typed(key, "a number", |value| match value {
            Value::Float(v) => Some(single(*v)),
            Value::Unsigned(v) => Some(*v as f32),
            Value::Signed(v) => Some(*v as f32),
            _ => None,
        })
    }

    /// [`Metadata::f32`], or `default` if the key is missing.
    ///
    /// # Errors
    /// [`Error::MissingMetadata`] if the key has another type.
    pub fn f32_or(&self, key: &str, default: f32) -> Result<f32> {
        if self.contains(key) { self.f32(key) } else { Ok(default) }
    }

    /// A boolean.
    ///
    /// # Errors
    /// [`Error::MissingMetadata`].
    pub fn bool(&self, key: &str) -> Result<bool> {
        self.typed(key, "a boolean", |value| match value {
            Value::Bool(v) => Some(*v),
            _ => None,
        })
    }

    /// [`Metadata::bool`], or `default` if the key is missing.
    ///
    /// # Errors
    /// [`Error::MissingMetadata`] if the key has another type.
    pub fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        if self.contains(key) { self.bool(key) } else { Ok(default) }
    }

    /// A string.
    ///
    /// # Errors
    /// [`Error::MissingMetadata`].
    pub fn str(&self, key: &str) -> Result<&str> {
        self.typed(key, "a string", |value| match value {
            Value::String(v) => Some(v.as_str()),
            _ => None,
        })
    }

    /// [`Metadata::str`], or `default` if the key is missing.
    ///
    /// # Errors
    /// [`Error::MissingMetadata`] if the key has another type.
    pub fn str_or<'a>(&'a self, key: &str, default: &'a str) -> Result<&'a str> {
        if self.contains(key) { self.str(key) } else { Ok(default) }
    }

    /// An array of strings.
    ///
    /// # Errors
    /// [`Error::MissingMetadata`].
    pub fn strings(&self, key: &str) -> Result<&StringArray> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Strings(v) => Some(v),
            _ => None,
        })
    }

    /// An array of integers or booleans, all within `i32`.
    ///
    /// # Errors
    /// [`Error::MissingMetadata`].
    pub fn integers(&self, key: &str) -> Result<&[i32]> {
        self.typed(key, "an array of 32-bit integers", |value| match value {
            Value::Integers(v) => Some(v.as_slice()),
            _ => None,
        })
    }

    /// An array of floats.
    ///
    /// # Errors
    /// [`Error::MissingMetadata`].
    pub fn floats(&self, key: &str) -> Result<&[f32]> {
        self.typed(key, "an array of floats", |value| match value {
            Value::Floats(v) => Some(v.as_slice()),
            _ => None,
        })
    }
}
