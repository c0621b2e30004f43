//! Reading a file over a streaming transport: one request while reads are sequential, a new one when
//! they jump, and a resume at the exact byte when the connection breaks.
//!
//! The state machine knows nothing of JavaScript, so native tests drive it with a scripted
//! [`Transport`]; the browser's `fetch` is one implementation of it.

use crate::error::{Error, Result};
use crate::weights::source::{ByteSource, LocalFuture};

/// Waits before the first, second and third retry of one read, in milliseconds.
const BACKOFF_MS: [u32; 3] = [500, 1000, 2000];

/// A forward jump up to this many bytes is read and thrown away: cheaper than a new request.
const SKIP_BYTES: u64 = 1 << 20;

/// Reads up to this size are kept, so that the header reader's read-ahead, which overlaps the first
/// tensor, does not cost a second request.
const REWIND_BYTES: usize = 64 << 10;

/// What a server said before the body.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Head {
    /// HTTP status.
    pub status: u16,
    /// First byte of a 206 answer, from `Content-Range`, if the header is readable.
    pub start: Option<u64>,
    /// Size of the whole file in bytes, from `Content-Range` or an unencoded `Content-Length`.
    pub total: Option<u64>,
    /// `ETag`, to see whether the file changed between two requests.
    pub etag: Option<String>,
    /// `Last-Modified`, likewise.
    pub modified: Option<String>,
}

/// Why a transport could not go on.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The connection failed; trying again may help. What the browser said.
    Connection(String),
    /// The caller cancelled.
    Aborted,
}

/// One connection at a time, delivering a body in chunks that stay on the transport's side.
pub trait Transport {
    /// Drops the current response, if any, and asks for the bytes from `offset` to the end.
    fn open(&mut self, offset: u64) -> LocalFuture<'_, Result<Head, Failure>>;

    /// Drops the current chunk and waits for the next; its length in bytes, `None` at the end.
    fn next_chunk(&mut self) -> LocalFuture<'_, Result<Option<usize>, Failure>>;

    /// Copies bytes of the current chunk, from `from` in the chunk. The range is inside the chunk.
    fn copy(&self, from: usize, to: &mut [u8]);

    /// Drops the current response and frees its connection.
    fn close(&mut self);

    /// Waits `ms` milliseconds, or less if the caller cancels.
    fn sleep(&mut self, ms: u32) -> LocalFuture<'_, Result<(), Failure>>;
}

/// How one attempt ended.
enum Stop {
    /// Worth another attempt; the error to give if there is none left.
    Retry(Error),
    Fatal(Error),
}

/// A [`ByteSource`] over a [`Transport`]. Holds at most one chunk, on the transport's side, and
/// 64 KiB to rewind into.
#[derive(Debug)]
pub struct StreamSource<T: Transport> {
    url: String,
    transport: T,
    /// A response is open, and the transport's current chunk is `chunk_start..chunk_end` of the file.
    open: bool,
    chunk_start: u64,
    chunk_end: u64,
    /// The server answered a range request with 206.
    ranges: bool,
    /// What the first answer said; later ones must agree.
    head: Option<Head>,
    rewind: Vec<u8>,
    rewind_start: u64,
    requests: u32,
}

impl<T: Transport> StreamSource<T> {
    /// A source for `url`; nothing is requested before the first read.
    #[must_use]
    pub fn over(url: impl Into<String>, transport: T) -> Self {
        StreamSource {
            url: url.into(),
            transport,
            open: false,
            chunk_start: 0,
            chunk_end: 0,
            ranges: false,
            head: None,
            rewind: Vec::new(),
            rewind_start: 0,
            requests: 0,
        }
    }

    /// Requests made so far.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.requests
    }

    fn total(&self) -> Option<u64> {
        self.head.as_ref().and_then(|head| head.total)
    }

    fn network(&self, offset: u64, reason: impl Into<String>) -> Error {
        Error::Network { url: self.url.clone(), offset, reason: reason.into() }
    }

    fn truncated(&self, needed: u64, actual: u64) -> Error {
        Error::Truncated { name: self.url.clone(), needed, actual }
    }

    fn failure(&self, offset: u64, failure: Failure) -> Stop {
        match failure {
            Failure::Connection(reason) => Stop::Retry(self.network(offset, reason)),
            Failure::Aborted => Stop::Fatal(Error::Aborted),
        }
    }

    fn close(&mut self) {
        self.transport.close();
        self.open = false;
    }

    async fn open(&mut self, offset: u64) -> Result<(), Stop> {
        self.close();
        self.requests += 1;
        let head = match self.transport.open(offset).await {
            Ok(head) => head,
            Err(failure) => return Err(self.failure(offset, failure)),
        };
        let start = match head.status {
            200 => 0,
            206 => head.start.unwrap_or(offset),
            // Nothing from `offset` on: the file ends there or before.
            416 => {
                let actual = head.total.or(self.total()).unwrap_or(offset);
                return Err(Stop::Fatal(self.truncated(offset + 1, actual)));
            }
            status => {
                let url = self.url.clone();
                let error = Error::HttpStatus { url, status };
                return Err(match status {
                    408 | 425 | 429 | 500 | 502 | 503 | 504 => Stop::Retry(error),
                    _ => Stop::Fatal(error),
                });
            }
        };
        if start > offset {
            let reason = format!("the server sent bytes from {start} instead of {offset}");
            return Err(Stop::Fatal(self.network(offset, reason)));
        }
        match &mut self.head {
            None => self.head = Some(head.clone()),
            Some(first) => {
                let differ =
                    |a: &Option<String>, b: &Option<String>| matches!((a, b), (Some(a), Some(b)) if a != b);
                if differ(&first.etag, &head.etag)
                    || differ(&first.modified, &head.modified)
                    || matches!((first.total, head.total), (Some(a), Some(b)) if a != b)
                {
                    let reason = "the file changed on the server during the download";
                    return Err(Stop::Fatal(self.network(offset, reason)));
                }
                first.total = first.total.or(head.total);
            }
        }
        self.ranges = head.status == 206;
        self.chunk_start = start;
        self.chunk_end = start;
        self.open = true;
        Ok(())
    }

    /// Fills `buf[*done..]`, counting `done` up, so that another attempt goes on at the exact byte.
    async fn fill(&mut self, offset: u64, buf: &mut [u8], done: &mut usize) -> Result<(), Stop> {
        let end = offset + buf.len() as u64;
        while *done < buf.len() {
            let at = offset + *done as u64;
            let rest = &mut buf[*done..];
            if at >= self.rewind_start && at < self.rewind_start + self.rewind.len() as u64 {
                let from = short(at - self.rewind_start);
                let count = rest.len().min(self.rewind.len() - from);
                rest[..count].copy_from_slice(&self.rewind[from..from + count]);
                *done += count;
                continue;
            }
            if self.total().is_some_and(|total| end > total) {
                let total = self.total().unwrap_or_default();
                return Err(Stop::Fatal(self.truncated(end, total)));
            }
            let jump = self.ranges && at > self.chunk_end.saturating_add(SKIP_BYTES);
            if !self.open || at < self.chunk_start || jump {
                self.open(at).await?;
            } else if at < self.chunk_end {
                let from = short(at - self.chunk_start);
                let count = rest.len().min(short(self.chunk_end - at));
                self.transport.copy(from, &mut rest[..count]);
                *done += count;
            } else {
                self.advance(end).await?;
            }
        }
        Ok(())
    }

    /// The next chunk of the open response. `end` is what the caller needs, for the message.
    async fn advance(&mut self, end: u64) -> Result<(), Stop> {
        match self.transport.next_chunk().await {
            Ok(Some(length)) => {
                self.chunk_start = self.chunk_end;
                self.chunk_end += length as u64;
                Ok(())
            }
            Ok(None) => {
                let at = self.chunk_end;
                match self.total() {
                    Some(total) if at < total => {
                        let reason = format!("the connection closed after {at} of {total} bytes");
                        Err(Stop::Retry(self.network(at, reason)))
                    }
                    _ => Err(Stop::Fatal(self.truncated(end, at))),
                }
            }
            Err(failure) => Err(self.failure(self.chunk_end, failure)),
        }
    }

    async fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if offset.checked_add(buf.len() as u64).is_none() {
            return Err(self.truncated(u64::MAX, self.total().unwrap_or_default()));
        }
        let mut done = 0;
        let mut waits = BACKOFF_MS.iter();
        loop {
            let error = match self.fill(offset, buf, &mut done).await {
                Ok(()) => break,
                Err(Stop::Retry(error)) => error,
                Err(Stop::Fatal(error)) => {
                    self.close();
                    return Err(error);
                }
            };
            self.close();
            let Some(&ms) = waits.next() else {
                return Err(error);
            };
            if self.transport.sleep(ms).await.is_err() {
                return Err(Error::Aborted);
            }
        }
        self.rewind.clear();
        if buf.len() <= REWIND_BYTES {
            self.rewind.extend_from_slice(buf);
            self.rewind_start = offset;
        }
        Ok(())
    }
}

impl<T: Transport> ByteSource for StreamSource<T> {
    fn read_at<'a>(&'a mut self, offset: u64, buf: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        Box::pin(self.read(offset, buf))
    }

    fn size(&mut self) -> LocalFuture<'_, Result<Option<u64>>> {
        Box::pin(async move {
            if self.head.is_none() {
                // The first byte opens the response that the following reads continue.
                match self.read(0, &mut [0]).await {
                    // An empty file, or one that ended: its size is known now, if at all.
                    Ok(()) | Err(Error::Truncated { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(self.total())
        })
    }

    fn name(&self) -> &str {
        &self.url
    }
}

/// A distance within a buffer in memory.
fn short(distance: u64) -> usize {
    usize::try_from(distance).unwrap_or(usize::MAX)
}
