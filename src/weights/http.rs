//! Reading a file over a streaming transport: one request while reads are sequential, a new one when
//! they jump, and a new one from the exact byte on when the connection breaks or a part ends.
//!
//! The state machine knows nothing of JavaScript, so native tests drive it with a scripted
//! [`Transport`]; the browser's `fetch` is one implementation of it.
//!
//! Nothing here waits without end. The transport gives up a connection that is silent for
//! [`Limits::stall_ms`]. [`Outage`] decides whether and when to ask again, and when to give up.

use crate::error::{Error, NetworkCause, Result};
use crate::weights::answer::{self, Answer, Body, Head, Version};
use crate::weights::source::{ByteSource, LocalFuture};

/// Pauses before the first retries, in milliseconds. All later pauses are as long as the last.
const BACKOFF_MS: [u32; 6] = [500, 1000, 2000, 4000, 8000, 10_000];

/// Retries where the server answers wrongly, or has not been reached at all. A connection that worked before
/// is retried for [`Limits::retry_ms`].
const FEW: u32 = 3;

/// Silent connections in one outage after which reading fails.
const MOST_STALLS: u32 = 3;

/// An outage is over once so many new bytes have arrived. A server that breaks each connection sooner is given up.
const OUTAGE_OVER_BYTES: u64 = 64 << 10;

/// A forward jump up to this many bytes is read and thrown away: cheaper than a new request.
const SKIP_BYTES: u64 = 1 << 20;

/// Reads up to this size are kept, so that the header reader's read-ahead, which overlaps the first
/// tensor, does not cost a second request.
const REWIND_BYTES: usize = 64 << 10;

/// How long to wait for the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A connection on which nothing arrives for so long is given up, in milliseconds.
    pub stall_ms: u32,
    /// Pauses between retries add up to this at most, in milliseconds. With 0 nothing is retried.
    pub retry_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { stall_ms: 30_000, retry_ms: 90_000 }
    }
}

/// Why a transport could not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The connection failed; trying again may help. What the browser said.
    Lost(String),
    /// The device has no network at the moment.
    Offline,
    /// Nothing arrived within the time limit.
    Stalled,
    /// Trying again cannot help: the server or the browser refuses. Which of both, and why.
    Refused(NetworkCause, String),
    /// The caller cancelled.
    Aborted,
}

/// One connection at a time, delivering a body in chunks that stay on the transport's side.
pub trait Transport {
    /// Drops the current response, if any, and asks for the bytes from `offset` to the end. Fails with
    /// [`Failure::Stalled`] if no answer comes within `limit_ms`.
    fn open(&mut self, offset: u64, limit_ms: u32) -> LocalFuture<'_, Result<Head, Failure>>;

    /// Drops the current chunk and waits for the next; its length in bytes, `None` at the end. Fails with
    /// [`Failure::Stalled`] if nothing comes within `limit_ms`.
    fn next_chunk(&mut self, limit_ms: u32) -> LocalFuture<'_, Result<Option<usize>, Failure>>;

    /// Copies bytes of the current chunk, from `from` in the chunk. The range is inside the chunk.
    fn copy(&self, from: usize, to: &mut [u8]);

    /// Drops the current response and frees its connection.
    fn close(&mut self);

    /// Waits `ms` milliseconds before a retry and reports `reason`. Fails only with [`Failure::Aborted`].
    fn pause(&mut self, ms: u32, reason: &str) -> LocalFuture<'_, Result<(), Failure>>;
}

/// Why one attempt ended.
enum Stop {
    /// The connection was lost.
    Lost(Error),
    /// The device is offline.
    Offline(Error),
    /// The connection was silent.
    Stalled(Error),
    /// The server answered, but not with what was asked for. It may say after how many seconds to ask again.
    Wrong(Error, Option<u32>),
    /// Trying again cannot help.
    Fatal(Error),
}

/// The time since the file last made progress: what was tried, and what may still be tried.
#[derive(Debug, Default)]
struct Outage {
    retries: u32,
    paused_ms: u32,
    stalls: u32,
    wrong_answers: u32,
    /// New bytes since the last failure.
    arrived: u64,
}

impl Outage {
    fn arrived(&mut self, bytes: usize) {
        self.arrived = self.arrived.saturating_add(bytes as u64);
        if self.arrived >= OUTAGE_OVER_BYTES && self.retries > 0 {
            *self = Outage::default();
        }
    }

    /// How long to pause before the next attempt, in milliseconds, or the error if there is none.
    ///
    /// `reached`: a byte of the file has arrived before, so the address is right and the server lets us read.
    fn next(&mut self, stop: Stop, reached: bool, limits: Limits) -> Result<(u32, Error)> {
        let mut asked_ms = None;
        let (error, allowed) = match stop {
            Stop::Fatal(error) => {
                *self = Outage::default();
                return Err(error);
            }
            Stop::Offline(error) => (error, true),
            Stop::Lost(error) => (error, reached || self.retries < FEW),
            Stop::Stalled(error) => {
                self.stalls += 1;
                (error, reached && self.stalls < MOST_STALLS)
            }
            Stop::Wrong(error, retry_after_s) => {
                self.wrong_answers += 1;
                asked_ms = retry_after_s.map(|seconds| seconds.saturating_mul(1000));
                (error, self.wrong_answers <= FEW)
            }
        };
        let left = limits.retry_ms.saturating_sub(self.paused_ms);
        let step = usize::try_from(self.retries).unwrap_or(usize::MAX).min(BACKOFF_MS.len() - 1);
        // A server that asks for more patience than there is left would be asked too early.
        let pause = asked_ms.map_or(BACKOFF_MS[step].min(left), |ms| ms.max(BACKOFF_MS[0]));
        if !allowed || left == 0 || pause > left {
            return Err(error);
        }
        self.retries += 1;
        self.paused_ms += pause;
        self.arrived = 0;
        Ok((pause, error))
    }

    /// The error that ends the outage, which says how often was retried.
    fn told(&self, error: Error) -> Error {
        match error {
            Error::Network { url, offset, cause, reason } if self.retries > 0 => {
                let times = if self.retries == 1 { "retry" } else { "retries" };
                Error::Network {
                    url,
                    offset,
                    cause,
                    reason: format!("{reason}, and {} {times} did not help", self.retries),
                }
            }
            error => error,
        }
    }
}

/// A [`ByteSource`] over a [`Transport`]. Holds at most one chunk, on the transport's side, and
/// 64 KiB to rewind into.
#[derive(Debug)]
pub struct StreamSource<T: Transport> {
    /// The address as messages show it.
    url: String,
    /// Where the last answer came from, if that is another address.
    redirected_to: Option<String>,
    transport: T,
    limits: Limits,
    /// A response is open, and the transport's current chunk is `chunk_start..chunk_end` of the file.
    open: Option<Response>,
    chunk_start: u64,
    chunk_end: u64,
    /// What the answers so far said of the file; later ones must agree.
    version: Option<Version>,
    /// A byte of the file has arrived.
    reached: bool,
    outage: Outage,
    rewind: Vec<u8>,
    rewind_start: u64,
    requests: u32,
}

/// The answer whose body is being read.
#[derive(Debug, Clone, Copy)]
struct Response {
    body: Body,
    /// First byte that was asked for.
    asked: u64,
}

impl<T: Transport> StreamSource<T> {
    /// A source for `url`; nothing is requested before the first read.
    #[must_use]
    pub fn over(url: &str, transport: T, limits: Limits) -> Self {
        StreamSource {
            url: answer::shown_address(url),
            redirected_to: None,
            transport,
            limits,
            open: None,
            chunk_start: 0,
            chunk_end: 0,
            version: None,
            reached: false,
            outage: Outage::default(),
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
        self.version.as_ref().and_then(|version| version.total)
    }

    fn network(&self, offset: u64, cause: NetworkCause, reason: impl Into<String>) -> Error {
        let mut reason = reason.into();
        if let Some(address) = &self.redirected_to {
            reason = format!("{reason} (redirected to {address})");
        }
        Error::Network { url: self.url.clone(), offset, cause, reason }
    }

    fn truncated(&self, needed: u64, actual: u64) -> Error {
        Error::Truncated { name: self.url.clone(), needed, actual }
    }

    fn failure(&self, offset: u64, failure: Failure) -> Stop {
        match failure {
            Failure::Lost(reason) => Stop::Lost(self.network(offset, NetworkCause::Lost, reason)),
            Failure::Offline => {
                Stop::Offline(self.network(offset, NetworkCause::Offline, "this device is offline"))
            }
            Failure::Stalled => {
                let seconds = f64::from(self.limits.stall_ms) / 1e3;
                let reason = format!("the server sent nothing for {seconds} seconds");
                Stop::Stalled(self.network(offset, NetworkCause::Stalled, reason))
            }
            Failure::Refused(cause, reason) => Stop::Fatal(self.network(offset, cause, reason)),
            Failure::Aborted => Stop::Fatal(Error::Aborted),
        }
    }

    fn close(&mut self) {
        self.transport.close();
        self.open = None;
    }

    async fn open(&mut self, offset: u64) -> Result<(), Stop> {
        self.close();
        self.requests = self.requests.saturating_add(1);
        let head = match self.transport.open(offset, self.limits.stall_ms).await {
            Ok(head) => head,
            Err(failure) => return Err(self.failure(offset, failure)),
        };
        self.redirected_to = head.redirected_to.as_deref().map(answer::shown_address);
        match head.status {
            200 | 206 => {}
            416 => return Err(self.nothing_from(offset, &head)),
            status => {
                let (url, to) = (self.url.clone(), self.redirected_to.clone());
                let error = Error::HttpStatus { url, status, redirected_to: to };
                return Err(match status {
                    408 | 425 | 429 | 500 | 502 | 503 | 504 | 520..=530 => {
                        Stop::Wrong(error, head.retry_after_s)
                    }
                    _ => Stop::Fatal(error),
                });
            }
        }
        let answer = Answer::read(&head, offset, self.total()).map_err(|what| {
            let reason = format!("the server answers wrongly: {what}");
            Stop::Fatal(self.network(offset, NetworkCause::WrongAnswer, reason))
        })?;
        match &mut self.version {
            None => self.version = Some(answer.version),
            Some(version) => {
                if let Some(what) = version.difference(&answer.version) {
                    let reason = format!("the file changed on the server during the download: {what}");
                    return Err(Stop::Fatal(self.network(offset, NetworkCause::Changed, reason)));
                }
                version.complete(answer.version);
            }
        }
        self.chunk_start = answer.body.start;
        self.chunk_end = answer.body.start;
        self.open = Some(Response { body: answer.body, asked: offset });
        Ok(())
    }

    /// Status 416: the server says that the file ends at `offset` or before.
    fn nothing_from(&self, offset: u64, head: &Head) -> Stop {
        let said = answer::size_of_416(head);
        match said.or(self.total()) {
            Some(total) if total > offset => {
                let reason = format!("the server refuses the bytes from {offset} on, of a file of {total}");
                Stop::Wrong(self.network(offset, NetworkCause::WrongAnswer, reason), None)
            }
            total => Stop::Fatal(self.truncated(offset.saturating_add(1), total.unwrap_or(offset))),
        }
    }

    /// Fills `buf[*done..]`, counting `done` up, so that another attempt goes on at the exact byte.
    async fn fill(&mut self, offset: u64, buf: &mut [u8], done: &mut usize) -> Result<(), Stop> {
        let end = offset + buf.len() as u64;
        while *done < buf.len() {
            let at = offset + *done as u64;
            let rest = &mut buf[*done..];
            if let Some(kept) = self.kept(at) {
                let count = rest.len().min(kept.len());
                rest[..count].copy_from_slice(&kept[..count]);
                *done += count;
                continue;
            }
            if let Some(total) = self.total().filter(|&total| end > total) {
                return Err(Stop::Fatal(self.truncated(end, total)));
            }
            let far = at > self.chunk_end.saturating_add(SKIP_BYTES);
            match self.open {
                Some(response) if at >= self.chunk_start && !(response.body.ranges && far) => {
                    if at < self.chunk_end {
                        // Both are at most the length of a chunk, which lies in memory.
                        let from = usize::try_from(at - self.chunk_start).unwrap_or(usize::MAX);
                        let left = usize::try_from(self.chunk_end - at).unwrap_or(usize::MAX);
                        let count = rest.len().min(left);
                        self.transport.copy(from, &mut rest[..count]);
                        *done += count;
                        self.outage.arrived(count);
                    } else {
                        self.advance(response, end).await?;
                    }
                }
                _ => self.open(at).await?,
            }
        }
        Ok(())
    }

    /// What the last small read left in memory, from `at` on.
    fn kept(&self, at: u64) -> Option<&[u8]> {
        let from = usize::try_from(at.checked_sub(self.rewind_start)?).ok()?;
        self.rewind.get(from..).filter(|kept| !kept.is_empty())
    }

    /// Waits for the next chunk of the open response. `needed` is the end of what the caller reads, for the
    /// message. Closes a response that ended rightly before the file does: `fill` then asks for the rest.
    async fn advance(&mut self, Response { body, asked }: Response, needed: u64) -> Result<(), Stop> {
        let at = self.chunk_end;
        match self.transport.next_chunk(self.limits.stall_ms).await {
            Ok(Some(length)) => {
                self.reached |= length > 0;
                self.chunk_start = at;
                self.chunk_end = at.saturating_add(length as u64);
                match body.end {
                    Some(end) if body.exact && self.chunk_end > end => {
                        let reason = "the server answers wrongly: it sent more bytes than it announced";
                        Err(Stop::Fatal(self.network(at, NetworkCause::WrongAnswer, reason)))
                    }
                    _ => Ok(()),
                }
            }
            Ok(None) if body.end.is_some_and(|end| at < end) => {
                let end = body.end.unwrap_or_default();
                let reason = format!("the connection closed at byte {at}, of {end} that were announced");
                Err(Stop::Lost(self.network(at, NetworkCause::Lost, reason)))
            }
            Ok(None) if body.partial && at > asked => {
                self.close();
                Ok(())
            }
            Ok(None) if body.partial => {
                let reason = format!(
                    "the server answers wrongly: asked for the bytes from {asked} on, it sent {} to {at}",
                    body.start
                );
                Err(Stop::Wrong(self.network(asked, NetworkCause::WrongAnswer, reason), None))
            }
            // The whole file has been read.
            Ok(None) => Err(Stop::Fatal(self.truncated(needed, at))),
            Err(failure) => Err(self.failure(at, failure)),
        }
    }

    async fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if offset.checked_add(buf.len() as u64).is_none() {
            return Err(self.truncated(u64::MAX, self.total().unwrap_or_default()));
        }
        let all_kept = self.kept(offset).is_some_and(|kept| kept.len() >= buf.len());
        let mut done = 0;
        while let Err(stop) = self.fill(offset, buf, &mut done).await {
            self.close();
            let (pause, error) = match self.outage.next(stop, self.reached, self.limits) {
                Ok(retry) => retry,
                Err(error) => {
                    // The next read has attempts of its own.
                    let outage = std::mem::take(&mut self.outage);
                    return Err(outage.told(error));
                }
            };
            let reason = match &error {
                Error::Network { reason, .. } => reason.clone(),
                other => other.to_string(),
            };
            if self.transport.pause(pause, &reason).await.is_err() {
                return Err(Error::Aborted);
            }
        }
        if all_kept {
            // What follows these bytes is kept, too, and may be read next.
            return Ok(());
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
            if self.version.is_none() {
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
