//! [`ByteSource`]: asynchronous reads of byte ranges, the same for a file, memory, `Blob` and HTTP.

use std::future::Future;
use std::pin::Pin;

use crate::error::{Error, Result};

/// A boxed future that stays on its thread: JavaScript objects are not `Send`.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Random access to the bytes of one file.
///
/// Reading in ascending order is the fast path: over HTTP it is one request from start to end.
pub trait ByteSource {
    /// Fills `buf` with the bytes from `offset` (in bytes from the start of the file).
    ///
    /// # Errors
    /// [`Error::Truncated`] if the file ends before `offset + buf.len()`, [`Error::Io`],
    /// [`Error::Network`] or [`Error::HttpStatus`] if it cannot be read, [`Error::Aborted`] if the
    /// caller cancelled. The contents of `buf` are unspecified then.
    fn read_at<'a>(&'a mut self, offset: u64, buf: &'a mut [u8]) -> LocalFuture<'a, Result<()>>;

    /// Size of the file in bytes, or `None` if it is only known once the end is reached.
    ///
    /// # Errors
    /// As [`ByteSource::read_at`]: finding the size may need a request.
    fn size(&mut self) -> LocalFuture<'_, Result<Option<u64>>>;

    /// File name or address, for messages.
    fn name(&self) -> &str;
}

/// Reads `bytes` bytes from `offset` on. The buffer grows as bytes arrive, at most to twice of what has come: a length
/// that a file only claims is never allocated.
///
/// # Errors
/// [`Error::OutOfMemory`], and what the source gives.
pub(crate) async fn read_growing(source: &mut dyn ByteSource, offset: u64, bytes: u64) -> Result<Vec<u8>> {
    /// The first read at most.
    const FIRST: u64 = 1 << 20;
    let mut buffer = Vec::new();
    while (buffer.len() as u64) < bytes {
        let have = buffer.len();
        let part = (bytes - have as u64).min(FIRST.max(have as u64));
        let part = usize::try_from(part).ok().filter(|&part| buffer.try_reserve_exact(part).is_ok());
        let Some(part) = part else {
            return Err(Error::OutOfMemory { what: format!("a tensor of {}", source.name()), bytes });
        };
        buffer.resize(have + part, 0);
        let at = offset.saturating_add(have as u64);
        source.read_at(at, &mut buffer[have..]).await?;
    }
    Ok(buffer)
}

/// Bytes in memory.
#[derive(Debug, Clone)]
pub struct SliceSource {
    name: String,
    bytes: Vec<u8>,
    sized: bool,
}

impl SliceSource {
    /// A source over `bytes`, called `name` in messages.
    #[must_use]
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        SliceSource { name: name.into(), bytes: bytes.into(), sized: true }
    }

    /// The same bytes, but [`ByteSource::size`] says `None`, as a server without `Content-Length`.
    #[must_use]
    pub fn without_size(mut self) -> Self {
        self.sized = false;
        self
    }
}

impl ByteSource for SliceSource {
    fn read_at<'a>(&'a mut self, offset: u64, buf: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            let from = usize::try_from(offset).ok();
            let to = from.and_then(|from| from.checked_add(buf.len()));
            match from.zip(to).and_then(|(from, to)| self.bytes.get(from..to)) {
                Some(bytes) => {
                    buf.copy_from_slice(bytes);
                    Ok(())
                }
                None => Err(Error::Truncated {
                    name: self.name.clone(),
                    needed: offset.saturating_add(buf.len() as u64),
                    actual: self.bytes.len() as u64,
                }),
            }
        })
    }

    fn size(&mut self) -> LocalFuture<'_, Result<Option<u64>>> {
        Box::pin(async move { Ok(self.sized.then_some(self.bytes.len() as u64)) })
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// A file of the operating system (native builds only). Reads block.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug)]
pub struct FileSource {
    name: String,
    file: std::fs::File,
    size: u64,
}

#[cfg(not(target_arch = "wasm32"))]
impl FileSource {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if it does not exist or cannot be read.
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let io = |e: std::io::Error| Error::Io { name: name.clone(), offset: 0, reason: e.to_string() };
        let file = std::fs::File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if meta.is_dir() {
            return Err(io(std::io::ErrorKind::IsADirectory.into()));
        }
        let size = meta.len();
        Ok(FileSource { name, file, size })
    }

    fn read_now(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        use std::io::{ErrorKind, Read, Seek, SeekFrom};
        let read = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.read_exact(buf));
        read.map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => Error::Truncated {
                name: self.name.clone(),
                needed: offset.saturating_add(buf.len() as u64),
                actual: self.file.metadata().map_or(self.size, |meta| meta.len()),
            },
            _ => Error::Io { name: self.name.clone(), offset, reason: e.to_string() },
        })
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl ByteSource for FileSource {
    fn read_at<'a>(&'a mut self, offset: u64, buf: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move { self.read_now(offset, buf) })
    }

    fn size(&mut self) -> LocalFuture<'_, Result<Option<u64>>> {
        Box::pin(async move { Ok(Some(self.size)) })
    }

    fn name(&self) -> &str {
        &self.name
    }
}
