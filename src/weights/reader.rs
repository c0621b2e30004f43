//! A bounded, forward-only reader of little-endian fields over a [`ByteSource`].

use crate::error::{Error, Result};
use crate::weights::source::ByteSource;

/// Ours, for a whole header, which stays in memory: those in use have some 10 MB, most of it vocabulary.
pub(super) const MAX_HEADER: u64 = 256 << 20;

/// Bytes fetched at a time. The most read ahead of a field, and the most a buffer grows before the
/// bytes that should fill it have arrived.
const CHUNK: usize = 64 << 10;

pub(super) struct Reader<'s> {
    source: &'s mut dyn ByteSource,
    /// Size of the file in bytes, if known.
    size: Option<u64>,
    buffer: Vec<u8>,
    /// First unread byte in `buffer`.
    next: usize,
    /// Offset in the file of the end of `buffer`.
    fetched: u64,
}

impl<'s> Reader<'s> {
    pub(super) async fn new(source: &'s mut dyn ByteSource) -> Result<Self> {
        let size = source.size().await?;
        Ok(Reader { source, size, buffer: Vec::new(), next: 0, fetched: 0 })
    }

    /// Offset in the file of the next byte to be read.
    pub(super) fn position(&self) -> u64 {
        self.fetched - (self.buffer.len() - self.next) as u64
    }

    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }

    pub(super) fn name(&self) -> &str {
        self.source.name()
    }

    /// Fails unless `bytes` more bytes of header can follow. With an unknown size every claim up to [`MAX_HEADER`]
    /// passes here and fails when the bytes do not come.
    pub(super) fn require(&self, bytes: u64) -> Result<()> {
        let needed = self.position().saturating_add(bytes);
        if needed > MAX_HEADER {
            let what = format!("the header of {} is longer than {MAX_HEADER} bytes", self.name());
            return Err(Error::Malformed { what });
        }
        match self.size {
            Some(size) if needed > size => {
                Err(Error::Truncated { name: self.name().to_owned(), needed, actual: size })
            }
            _ => Ok(()),
        }
    }

    /// Makes `count` (at most [`CHUNK`]) unread bytes available at `buffer[next..]`.
    async fn ready(&mut self, count: usize) -> Result<()> {
        let have = self.buffer.len() - self.next;
        if have >= count {
            return Ok(());
        }
        self.require(count as u64)?;
        // Reading ahead is safe only up to a known end.
        let fetch = match self.size {
            Some(size) => CHUNK.min(usize::try_from(size - self.fetched).unwrap_or(CHUNK)),
            None => count - have,
        };
        self.buffer.drain(..self.next);
        self.next = 0;
        self.buffer.resize(have + fetch, 0);
        self.source.read_at(self.fetched, &mut self.buffer[have..]).await?;
        self.fetched += fetch as u64;
        Ok(())
    }

    pub(super) async fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.ready(N).await?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.buffer[self.next..self.next + N]);
        self.next += N;
        Ok(bytes)
    }

    pub(super) async fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array().await?))
    }

    pub(super) async fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array().await?))
    }

    /// Appends `count` bytes to `to`, which grows only as bytes arrive.
    pub(super) async fn append(&mut self, count: u64, to: &mut Vec<u8>) -> Result<()> {
        self.require(count)?;
        let mut left = count;
        while left > 0 {
            let have = self.buffer.len() - self.next;
            let most = if have == 0 { CHUNK } else { have };
            let part = usize::try_from(left).map_or(most, |left| left.min(most));
            self.ready(part).await?;
            to.extend_from_slice(&self.buffer[self.next..self.next + part]);
            self.next += part;
            left -= part as u64;
        }
        Ok(())
    }
}
