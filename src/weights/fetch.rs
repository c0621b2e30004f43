//! The browser's side of the sources: `fetch` as a [`Transport`], and `Blob`.
//!
//! Uses the global object only, so it works in a window and in a worker.

use std::collections::VecDeque;

use js_sys::{Date, Function, Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortController, AbortSignal, Blob, Headers, ReadableStreamDefaultReader, RequestInit, Response,
    ResponseType,
};

use crate::clock::{pause, within};
use crate::error::{Error, NetworkCause, Result};
use crate::weights::answer::Head;
use crate::weights::http::{Failure, Limits, StreamSource, Transport};
use crate::weights::source::{ByteSource, LocalFuture};

/// One look at the abort signal during a pause, in milliseconds.
const SLICE_MS: u32 = 50;

/// A file at a URL, read by streaming `fetch` requests.
pub type HttpSource = StreamSource<FetchTransport>;

/// What the caller of an [`HttpSource`] does for it.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// `(reason: string) => void`: called before each pause.
    pub on_wait: Option<Function>,
    /// `(url: string) => Promise<{ kind: "lost" | "offline" | "cors" | "blocked", reason: string }>`: finds out why `fetch`
    /// rejected, of which the rejection itself says nothing.
    pub explain: Option<Function>,
    /// `(url: string, init: RequestInit) => Promise<Response>` in place of the global `fetch`: it may answer from what is
    /// stored. A rejection, or an error of the body, whose `fatal` is true is not retried.
    pub fetch: Option<Function>,
}

impl HttpSource {
    /// A source for `url` (absolute, or relative to the worker's script). `signal` cancels every
    /// request and gives [`Error::Aborted`].
    #[must_use]
    pub fn new(url: &str, signal: Option<AbortSignal>, limits: Limits, hooks: Hooks) -> Self {
        StreamSource::over(url, FetchTransport::new(url, signal, hooks), limits)
    }
}

/// One `fetch` at a time; the current chunk stays a JavaScript array.
#[derive(Debug)]
pub struct FetchTransport {
    url: String,
    signal: Option<AbortSignal>,
    hooks: Hooks,
    /// The server has answered a request, so that the browser lets this page read its answers.
    answered: bool,
    /// The request under way.
    request: Option<Request>,
    reader: Option<ReadableStreamDefaultReader>,
    chunk: Uint8Array,
}

impl FetchTransport {
    fn new(url: &str, signal: Option<AbortSignal>, hooks: Hooks) -> Self {
        FetchTransport {
            url: url.to_owned(),
            signal,
            hooks,
            answered: false,
            request: None,
            reader: None,
            chunk: Uint8Array::new_with_length(0),
        }
    }

    fn aborted(&self) -> bool {
        aborted(self.signal.as_ref())
    }

    fn failure(&self, reason: &JsValue) -> Failure {
        let fatal = || Reflect::get(reason, &"fatal".into()).is_ok_and(|fatal| fatal == true);
        if self.aborted() {
            Failure::Aborted
        } else if reason.is_object() && fatal() {
            Failure::Refused(NetworkCause::Blocked, js_message(reason))
        } else if offline() {
            Failure::Offline
        } else {
            Failure::Lost(format!("the connection was lost ({})", js_message(reason)))
        }
    }

    /// Why the first request failed, as far as the browser lets one know.
    async fn explained(&self, rejection: &JsValue, limit_ms: u32) -> Failure {
        let failure = self.failure(rejection);
        let (Failure::Lost(_), Some(explain)) = (&failure, &self.hooks.explain) else { return failure };
        let explanation = async {
            let promise: Promise = explain.call1(&JsValue::NULL, &self.url.as_str().into())?.dyn_into()?;
            within(limit_ms, JsFuture::from(promise)).await.transpose()
        };
        let Ok(Some(explanation)) = explanation.await else { return self.failure(rejection) };
        if self.aborted() {
            return Failure::Aborted;
        }
        let text =
            |key: &str| Reflect::get(&explanation, &key.into()).ok().and_then(|value| value.as_string());
        match (text("kind").as_deref(), text("reason")) {
            (Some("cors"), Some(reason)) => Failure::Refused(NetworkCause::Cors, reason),
            (Some("blocked"), Some(reason)) => Failure::Refused(NetworkCause::Blocked, reason),
            (Some("offline"), _) => Failure::Offline,
            (_, Some(reason)) => Failure::Lost(reason),
            _ => failure,
        }
    }

    async fn answer(&mut self, offset: u64, limit_ms: u32) -> Result<Head, Failure> {
        let response = self.fetch(offset, limit_ms).await?;
        self.answered = true;
        let broken = |reason: JsValue| Failure::Lost(js_message(&reason));
        if let Some(body) = response.body() {
            self.reader = Some(body.get_reader().dyn_into().map_err(|reader| broken(reader.into()))?);
        }
        head_of(&response).map_err(broken)
    }

    /// Asks for the file without a range if it is wanted from the first byte on: service workers and caches store such an
    /// answer (status 200), and not a part (206). With a range the browser asks for no encoding, so that the bytes are
    /// counted in the file as it is.
    async fn fetch(&mut self, offset: u64, limit_ms: u32) -> Result<Response, Failure> {
        let sent = async {
            let headers = Headers::new()?;
            if offset > 0 {
                headers.set("Range", &format!("bytes={offset}-"))?;
            }
            let request = Request::new(self.signal.clone())?;
            let init = RequestInit::new();
            init.set_headers(&headers);
            init.set_signal(Some(&request.controller.signal()));
            self.request = Some(request);
            let global = js_sys::global();
            let fetch = match &self.hooks.fetch {
                Some(fetch) => fetch.clone(),
                None => Reflect::get(&global, &"fetch".into())?.dyn_into()?,
            };
            let promise: Promise = fetch.call2(&global, &self.url.as_str().into(), &init)?.dyn_into()?;
            within(limit_ms, JsFuture::from(promise)).await.transpose()
        };
        match sent.await {
            Ok(Some(response)) => response.dyn_into().map_err(|other| Failure::Lost(js_message(&other))),
            Ok(None) => Err(Failure::Stalled),
            Err(rejection) if self.answered => Err(self.failure(&rejection)),
            Err(rejection) => Err(self.explained(&rejection, limit_ms).await),
        }
    }
}

/// A request that ends when it is dropped, or when the caller cancels.
#[derive(Debug)]
struct Request {
    controller: AbortController,
    /// The caller's signal, and the function that passes its abort on.
    caller: Option<(AbortSignal, Function)>,
}

impl Request {
    fn new(signal: Option<AbortSignal>) -> Result<Self, JsValue> {
        let controller = AbortController::new()?;
        let Some(signal) = signal else { return Ok(Request { controller, caller: None }) };
        if signal.aborted() {
            controller.abort();
        }
        let abort: Function = Reflect::get(&controller, &"abort".into())?.dyn_into()?;
        let abort = abort.bind0(&controller);
        signal.add_event_listener_with_callback("abort", &abort)?;
        Ok(Request { controller, caller: Some((signal, abort)) })
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some((signal, abort)) = &self.caller {
            let _ = signal.remove_event_listener_with_callback("abort", abort);
        }
        self.controller.abort();
    }
}

/// Status and headers.
fn head_of(response: &Response) -> Result<Head, JsValue> {
    let headers = response.headers();
    let retry_after = headers.get("Retry-After")?;
    Ok(Head {
        status: response.status(),
        redirected_to: response.redirected().then(|| response.url()),
        headers_hidden: response.type_() == ResponseType::Cors,
        content_range: headers.get("Content-Range")?,
        content_length: headers.get("Content-Length")?,
        content_encoding: headers.get("Content-Encoding")?,
        content_type: headers.get("Content-Type")?,
        accept_ranges: headers.get("Accept-Ranges")?,
        etag: headers.get("ETag")?,
        last_modified: headers.get("Last-Modified")?,
        retry_after_s: retry_after.and_then(|text| seconds_of(&text)),
    })
}

/// The value of `Retry-After`: seconds, or a date.
#[allow(clippy::cast_possible_truncation)] // saturates
fn seconds_of(text: &str) -> Option<u32> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(text.parse().unwrap_or(u32::MAX));
    }
    let seconds = (Date::parse(text) - Date::now()) / 1e3;
    // A float becomes the nearest integer in range: a past date is 0.
    seconds.is_finite().then_some(seconds.ceil() as u32)
}

impl Transport for FetchTransport {
    fn open(&mut self, offset: u64, limit_ms: u32) -> LocalFuture<'_, Result<Head, Failure>> {
        Box::pin(async move {
            self.close();
            self.answer(offset, limit_ms).await
        })
    }

    fn next_chunk(&mut self, limit_ms: u32) -> LocalFuture<'_, Result<Option<usize>, Failure>> {
        Box::pin(async move {
            if self.aborted() {
                return Err(Failure::Aborted);
            }
            let Some(reader) = &self.reader else {
                return Ok(None);
            };
            let next = async {
                let Some(result) = within(limit_ms, JsFuture::from(reader.read())).await.transpose()? else {
                    return Ok(None);
                };
                if Reflect::get(&result, &"done".into())?.is_truthy() {
                    return Ok(Some(None));
                }
                let chunk = Reflect::get(&result, &"value".into())?;
                Ok(Some(Some(chunk.dyn_into::<Uint8Array>()?)))
            };
            match next.await {
                Ok(Some(Some(chunk))) => {
                    self.chunk = chunk;
                    Ok(Some(self.chunk.length() as usize))
                }
                Ok(Some(None)) => Ok(None),
                Ok(None) => Err(Failure::Stalled),
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
        self.reader = None;
        self.request = None;
    }

    fn pause(&mut self, ms: u32, reason: &str) -> LocalFuture<'_, Result<(), Failure>> {
        if let Some(on_wait) = &self.hooks.on_wait {
            // What the caller's function throws has nothing to do with the download.
            let _ = on_wait.call1(&JsValue::NULL, &reason.into());
        }
        Box::pin(async move {
            let was_offline = offline();
            // In slices, so that cancelling and a network that comes back do not wait for the whole pause.
            for _ in 0..ms.div_ceil(SLICE_MS) {
                if self.aborted() {
                    return Err(Failure::Aborted);
                }
                if was_offline && !offline() {
                    break;
                }
                pause(SLICE_MS).await;
            }
            if self.aborted() { Err(Failure::Aborted) } else { Ok(()) }
        })
    }
}

impl Drop for FetchTransport {
    fn drop(&mut self) {
        self.close();
    }
}

/// The browser knows that the device has no network. It may have none also where this is false.
fn offline() -> bool {
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into());
    navigator
        .and_then(|navigator| Reflect::get(&navigator, &"onLine".into()))
        .is_ok_and(|online| online == false)
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

/// Bytes of a `Blob` that are asked for at once.
const PIECE: u64 = 2 << 20;
/// Pieces that are on their way while one is packed.
const AHEAD: usize = 2;

/// A `Blob` or `File` that the page was given. While it is read from start to end, the browser reads ahead.
#[derive(Debug)]
pub struct BlobSource {
    name: String,
    blob: Blob,
    signal: Option<AbortSignal>,
    /// What came last: its first byte's place in the file, and its bytes.
    piece: (u64, Uint8Array),
    /// What was asked for, one piece after the other.
    ahead: VecDeque<Asked>,
}

/// A piece of a `Blob` on its way.
#[derive(Debug)]
struct Asked {
    start: u64,
    end: u64,
    bytes: JsFuture<JsValue>,
}

impl BlobSource {
    /// A source over `blob`, called `name` in messages. `signal` gives [`Error::Aborted`].
    #[must_use]
    pub fn new(name: impl Into<String>, blob: Blob, signal: Option<AbortSignal>) -> Self {
        let piece = (0, Uint8Array::new_with_length(0));
        BlobSource { name: name.into(), blob, signal, piece, ahead: VecDeque::new() }
    }

    #[allow(clippy::cast_possible_truncation)] // a whole number of bytes
    fn length(&self) -> u64 {
        self.blob.size() as u64
    }

    fn io(&self, offset: u64, reason: &JsValue) -> Error {
        Error::Io { name: self.name.clone(), offset, reason: js_message(reason) }
    }

    /// Where the piece that is here ends.
    fn end(&self) -> u64 {
        self.piece.0 + u64::from(self.piece.1.length())
    }

    #[allow(clippy::cast_possible_truncation)] // an address has 32 bits here
    async fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        if end > self.length() {
            return Err(Error::Truncated { name: self.name.clone(), needed: end, actual: self.length() });
        }
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            if !(self.piece.0..self.end()).contains(&at) {
                self.take(at).await?;
            }
            let from = (at - self.piece.0) as u32;
            let count = (buf.len() - done).min((self.end() - at) as usize);
            self.piece.1.subarray(from, from + count as u32).copy_to(&mut buf[done..done + count]);
            done += count;
        }
        Ok(())
    }

    /// Makes the piece with the byte at `at`, which is inside the file, the one that is here.
    async fn take(&mut self, at: u64) -> Result<()> {
        let is_next = at == self.end() && at > 0;
        while self.ahead.front().is_some_and(|asked| asked.end <= at) {
            self.ahead.pop_front();
        }
        if self.ahead.front().is_some_and(|asked| asked.start > at) {
            self.ahead.clear();
        }
        // Behind a jump nothing is read that nobody may want.
        let count = if is_next || !self.ahead.is_empty() { 1 + AHEAD } else { 1 };
        while self.ahead.len() < count {
            let start = self.ahead.back().map_or(at, |asked| asked.end);
            let end = self.length().min(start + PIECE);
            if start == end {
                break;
            }
            let part = self.blob.slice_with_f64_and_f64(start as f64, end as f64);
            let part = part.map_err(|reason| self.io(start, &reason))?;
            self.ahead.push_back(Asked { start, end, bytes: JsFuture::from(part.array_buffer()) });
        }
        let Some(Asked { start, end, bytes }) = self.ahead.pop_front() else {
            return Err(self.io(at, &"nothing was asked for".into()));
        };
        if aborted(self.signal.as_ref()) {
            return Err(Error::Aborted);
        }
        let bytes = bytes.await;
        if aborted(self.signal.as_ref()) {
            return Err(Error::Aborted);
        }
        let bytes = Uint8Array::new(&bytes.map_err(|reason| self.io(start, &reason))?);
        if u64::from(bytes.length()) != end - start {
            return Err(self.io(start, &"the browser returned fewer bytes than asked for".into()));
        }
        self.piece = (start, bytes);
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
