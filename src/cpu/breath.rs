//! Letting the worker's event loop run between steps, so that a Stop or a Cancel is heard.

/// Between two breaths, at least this many milliseconds of computing.
#[cfg(target_arch = "wasm32")]
const EVERY_MS: f64 = 10.0;

/// Natively nothing; in a worker, one turn of the event loop now and then.
#[derive(Default)]
pub struct Breath {
    #[cfg(target_arch = "wasm32")]
    last: f64,
}

impl Breath {
    /// Natively there is nobody to wait for.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn take(&mut self) {}

    /// A message to ourselves comes behind those that wait already. `setTimeout` would be held back
    /// for 4 ms after a few rounds (HTML standard, timer initialisation steps).
    #[cfg(target_arch = "wasm32")]
    pub async fn take(&mut self) {
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
