//! Letting the worker's event loop run during long work, so that a Stop or a Cancel is heard.

use crate::error::{Error, Result};

/// At least this many milliseconds of work lie between two turns of the event loop.
#[cfg(target_arch = "wasm32")]
const EVERY_MS: f64 = 10.0;

/// Gives the event loop a turn now and then. Natively it does nothing.
#[derive(Debug, Default)]
pub(crate) struct Breather {
    #[cfg(target_arch = "wasm32")]
    last: f64,
}

impl Breather {
    /// Does nothing: natively there is no event loop.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) async fn take(&mut self) {}

    /// Waits for one turn of the event loop if the last one was long ago. A message to ourselves comes
    /// behind those that wait already. `setTimeout` would be held back for 4 ms after a few rounds (HTML
    /// standard, timer initialisation steps).
    #[cfg(target_arch = "wasm32")]
    pub(crate) async fn take(&mut self) {
        use wasm_bindgen::JsValue;
        let now = crate::clock::now_ms();
        if now - self.last < EVERY_MS {
            return;
        }
        let turn = js_sys::Promise::new(&mut |resolve, _| {
            let Ok(channel) = web_sys::MessageChannel::new() else {
                let _ = resolve.call0(&JsValue::NULL);
                return;
            };
            let (here, there) = (channel.port1(), channel.port2());
            here.set_onmessage(Some(&resolve));
            let _ = there.post_message(&JsValue::NULL);
        });
        let _ = wasm_bindgen_futures::JsFuture::from(turn).await;
        self.last = crate::clock::now_ms();
    }
}

/// What a long computation asks now and then: whether the caller still wants the result.
pub(crate) struct Pause<'a> {
    /// `None` if there is nobody to wait for: the computation never waits then.
    asked: Option<(Breather, &'a dyn Fn() -> bool)>,
    /// Units of work until the next question.
    left: usize,
}

/// Units of work between two questions; each is about a byte of text, far below a microsecond.
const WORK: usize = 1 << 12;

impl<'a> Pause<'a> {
    /// Asks `cancelled`, and lets the event loop run before.
    pub(crate) fn new(cancelled: &'a dyn Fn() -> bool) -> Self {
        Pause { asked: Some((Breather::default(), cancelled)), left: WORK }
    }

    /// Never asks and never waits.
    pub(crate) fn never() -> Self {
        Pause { asked: None, left: WORK }
    }

    /// Counts `work` units.
    ///
    /// # Errors
    /// [`Error::Aborted`] if the caller cancelled.
    pub(crate) async fn after(&mut self, work: usize) -> Result<()> {
        self.left = self.left.saturating_sub(work);
        if self.left > 0 {
            return Ok(());
        }
        self.left = WORK;
        if let Some((breath, cancelled)) = &mut self.asked {
            breath.take().await;
            if cancelled() {
                return Err(Error::Aborted);
            }
        }
        Ok(())
    }
}

/// The result of work that never waits, such as any with [`Pause::never`].
///
/// # Errors
/// [`Error::Internal`] if it waits after all.
pub(crate) fn at_once<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    use std::task::{Context, Poll, Waker};
    match std::pin::pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(Error::Internal { what: "work that never waits has waited".to_owned() }),
    }
}
