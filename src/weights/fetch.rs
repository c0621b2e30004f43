//! The browser's side of the sources: `fetch` as a [`Transport`], and `Blob`.
//!
//! Uses the global object only, so it works in a window and in a worker.

use js_sys::{Function, Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{AbortSignal, Blob, Headers, ReadableStreamDefaultReader, RequestInit, Response};

use crate::error::{Error, Result};
use crate::weights::http::{Failure, Head, StreamSource, Transport};
use crate::weights::source::{ByteSource, LocalFuture};

/// A file at a URL, read by streaming `fetch` requests.
pub type HttpSource = StreamSource<FetchTransport>;

impl HttpSource {
    /// A source for `url` (absolute, or relative to the worker's script). `signal` cancels every
    /// request and gives [`Error::Aborted`].
    #[must_use]
    pub fn new(url: &str, signal: Option<AbortSignal>) -> Self {
        StreamSource::over(url, FetchTransport::new(url, signal))
    }
}

/// One `fetch` at a time; the current chunk stays a JavaScript array.
#[derive(Debug)]
pub struct FetchTransport {
    url: String,
    signal: Option<AbortSignal>,
    reader: Option<ReadableStreamDefaultReader>,
    chunk: Uint8Array,
}

impl FetchTransport {
    fn new(url: &str, signal: Option<AbortSignal>) -> Self {
        FetchTransport { url: url.to_owned(), signal, reader: None, chunk: Uint8Array::new_with_length(0) }
    }

    fn failure(&self, reason: &JsValue) -> Failure {
        if aborted(self.signal.as_ref()) { Failure::Aborted } else { Failure::Connection(js_message(reason)) }
    }

    async fn request(&mut self, offset: u64) -> Result<Head, JsValue> {
        let headers = Headers::new()?;
        // Asked for from the first byte on: it tells whether the server can resume, and browsers
        // then ask for no content encoding, so that lengths are lengths of the file.
        headers.set("Range", &format!("bytes={offset}-"))?;
        let init = RequestInit::new();
        init.set_headers(&headers);
        init.set_signal(self.signal.as_ref());
        let global = js_sys::global();
        let fetch: Function = Reflect::get(&global, &"fetch".into())?.dyn_into()?;
        let promise: Promise = fetch.call2(&global, &self.url.as_str().into(), &init)?.dyn_into()?;
        let response: Response = JsFuture::from(promise).await?.dyn_into()?;
        let head = head_of(&response)?;
        if let Some(body) = response.body() {
            self.reader = Some(body.get_reader().dyn_into()?);
        }
        Ok(head)
    }
}

/// Status and sizes. Headers that another origin does not expose read as absent.
fn head_of(response: &Response) -> Result<Head, JsValue> {
    let headers = response.headers();
    let status = response.status();
    let (mut start, mut total) = (None, None);
    if let Some(range) = headers.get("Content-Range")? {
        // `bytes 100-199/1000`, `bytes 100-199/*` or `bytes */1000`.
        let range = range.trim_start_matches("bytes").trim();
        let (span, size) = range.split_once('/').unwrap_or((range, "*"));
        start = span.split_once('-').and_then(|(from, _)| from.trim().parse().ok());
        total = size.trim().parse().ok();
    }
    if status == 200 && headers.get("Content-Encoding")?.is_none() {
        total = headers.get("Content-Length")?.and_then(|length| length.trim().parse().ok());
    }
    Ok(Head { status, start, total, etag: headers.get("ETag")?, modified: headers.get("Last-Modified")? })
}

impl Transport for FetchTransport {
    fn open(&mut self, offset: u64) -> LocalFuture<'_, Result<Head, Failure>> {
        Box::pin(async move {
            self.close();
            match self.request(offset).await {
                Ok(head) => Ok(head),
                Err(reason) => Err(self.failure(&reason)),
            }
        })
    }

    fn next_chunk(&mut self) -> LocalFuture<'_, Result<Option<usize>, Failure>> {
        Box::pin(async move {
            if aborted(self.signal.as_ref()) {
                return Err(Failure::Aborted);
            }
            let Some(reader) = &self.reader else {
                return Ok(None);
            };
            let next = async {
                let result = JsFuture::from(reader.read()).await?;
                if Reflect::get(&result, &"done".into())?.is_truthy() {
                    return Ok(None);
                }
                let chunk = Reflect::get(&result, &"value".into())?;
                Ok(Some(chunk.dyn_into::<Uint8Array>()?))
            };
            match next.await {
                Ok(Some(chunk)) => {
                    self.chunk = chunk;
                    Ok(Some(self.chunk.length() as usize))
                }
                Ok(None) => Ok(None),
                Err(reason) => Err(self.failure(&reason)),
            }
        })
    }

    #[allow(clippy::cast_possible_truncation)] // an address has 32 bits here
    fn copy(&self, from: usize, to: &mut [u8]) {
        let from = from as u32;
        self.chunk.subarray(from, from + to.len() as u32).copy_to(to);
    }

    fn close(&mut self) {
        self.chunk = Uint8Array::new_with_length(0);
        if let Some(reader) = self.reader.take() {
            let cancelled = reader.cancel();
            // Awaited only so that a refusal is not reported as an unhandled rejection.
            spawn_local(async move {
                let _ = JsFuture::from(cancelled).await;
            });
        }
    }

    fn sleep(&mut self, ms: u32) -> LocalFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            // In slices, so that cancelling does not wait for the whole pause.
            for _ in 0..ms.div_ceil(50) {
                if aborted(self.signal.as_ref()) {
                    return Err(Failure::Aborted);
                }
                let _ = JsFuture::from(timeout(50)).await;
            }
            Ok(())
        })
    }
}

impl Drop for FetchTransport {
    fn drop(&mut self) {
        self.close();
    }
}

/// A promise that resolves after `ms` milliseconds; at once if there is no timer.
fn timeout(ms: u32) -> Promise {
    Promise::new(&mut |resolve, _| {
        let global = js_sys::global();
        let timer = Reflect::get(&global, &"setTimeout".into())
            .and_then(|timer| timer.dyn_into::<Function>())
            .and_then(|timer| timer.call2(&global, &resolve, &ms.into()));
        if timer.is_err() {
            let _ = resolve.call0(&JsValue::UNDEFINED);
        }
    })
}

fn aborted(signal: Option<&AbortSignal>) -> bool {
    signal.is_some_and(AbortSignal::aborted)
}

/// The message of a JavaScript error, or the value as text.
fn js_message(value: &JsValue) -> String {
    Reflect::get(value, &"message".into())
        .ok()
        .and_then(|message| message.as_string())
        .or_else(|| value.as_string())
        .unwrap_or_else(|| format!("{value:?}"))
}

/// A `Blob` or `File` that the page was given. Nothing is held between reads.
#[derive(Debug)]
pub struct BlobSource {
    name: String,
    blob: Blob,
    signal: Option<AbortSignal>,
}

impl BlobSource {
    /// A source over `blob`, called `name` in messages. `signal` gives [`Error::Aborted`].
    #[must_use]
    pub fn new(name: impl Into<String>, blob: Blob, signal: Option<AbortSignal>) -> Self {
        BlobSource { name: name.into(), blob, signal }
    }

    #[allow(clippy::cast_possible_truncation)] // a whole number of bytes
    fn length(&self) -> u64 {
        self.blob.size() as u64
    }

    async fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        if end > self.length() {
            return Err(Error::Truncated { name: self.name.clone(), needed: end, actual: self.length() });
        }
        if aborted(self.signal.as_ref()) {
            return Err(Error::Aborted);
        }
        let io = |reason: JsValue| Error::Io { name: self.name.clone(), offset, reason: js_message(&reason) };
        let part = self.blob.slice_with_f64_and_f64(offset as f64, end as f64).map_err(io)?;
        let bytes = JsFuture::from(part.array_buffer()).await.map_err(io)?;
        let bytes = Uint8Array::new(&bytes);
        if aborted(self.signal.as_ref()) {
            return Err(Error::Aborted);
        }
        if bytes.length() as usize != buf.len() {
            return Err(io("the browser returned fewer bytes than asked for".into()));
        }
        bytes.copy_to(buf);
        Ok(())
    }
}

impl ByteSource for BlobSource {
    fn read_at<'a>(&'a mut self, offset: u64, buf: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        Box::pin(self.read(offset, buf))
    }

    fn size(&mut self) -> LocalFuture<'_, Result<Option<u64>>> {
        Box::pin(async move { Ok(Some(self.length())) })
    }

    fn name(&self) -> &str {
        &self.name
    }
}
