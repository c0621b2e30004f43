//! Time: milliseconds from some fixed moment, and limits for what may never happen.

/// Monotonic time in milliseconds.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn now_ms() -> f64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64() * 1e3
}

/// Monotonic time in milliseconds: `performance.now()`, which windows and workers have alike.
#[cfg(target_arch = "wasm32")]
pub(crate) fn now_ms() -> f64 {
    use wasm_bindgen::JsCast;
    js_sys::Reflect::get(&js_sys::global(), &"performance".into())
        .ok()
        .and_then(|performance| performance.dyn_into::<web_sys::Performance>().ok())
        .map_or(0.0, |performance| performance.now())
}

/// The future's value, or `None` if it takes longer than `limit_ms`. Natively there is no limit: what the engine waits for
/// there blocks the thread until it is done.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) async fn within<T>(_limit_ms: u32, future: impl Future<Output = T>) -> Option<T> {
    Some(future.await)
}

/// The future's value, or `None` if it takes longer than `limit_ms`.
#[cfg(target_arch = "wasm32")]
pub(crate) async fn within<T>(limit_ms: u32, future: impl Future<Output = T>) -> Option<T> {
    use std::task::Poll;
    let mut late = std::pin::pin!(pause(limit_ms));
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => late.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// Waits `ms` milliseconds; not at all where there are no timers.
#[cfg(target_arch = "wasm32")]
pub(crate) async fn pause(ms: u32) {
    let timer = Timer::after(ms);
    let _ = wasm_bindgen_futures::JsFuture::from(timer.promise.clone()).await;
}

/// A timeout whose promise resolves. Dropping it stops the clock.
#[cfg(target_arch = "wasm32")]
struct Timer {
    id: wasm_bindgen::JsValue,
    promise: js_sys::Promise,
}

#[cfg(target_arch = "wasm32")]
impl Timer {
    fn after(ms: u32) -> Self {
        use wasm_bindgen::JsValue;
        let mut id = JsValue::UNDEFINED;
        let promise =
            js_sys::Promise::new(&mut |resolve, _| match call_global("setTimeout", &resolve, &ms.into()) {
                Ok(timer) => id = timer,
                Err(_) => drop(resolve.call0(&JsValue::UNDEFINED)),
            });
        Timer { id, promise }
    }
}

#[cfg(target_arch = "wasm32")]
impl Drop for Timer {
    fn drop(&mut self) {
        let _ = call_global("clearTimeout", &self.id, &wasm_bindgen::JsValue::UNDEFINED);
    }
}

#[cfg(target_arch = "wasm32")]
fn call_global(
    name: &str,
    first: &wasm_bindgen::JsValue,
    second: &wasm_bindgen::JsValue,
) -> Result<wasm_bindgen::JsValue, wasm_bindgen::JsValue> {
    use wasm_bindgen::JsCast;
    let global = js_sys::global();
    let function: js_sys::Function = js_sys::Reflect::get(&global, &name.into())?.dyn_into()?;
    function.call2(&global, first, second)
}
