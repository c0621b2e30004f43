//! Compute pipelines by WebGPU's `createComputePipelineAsync`, which wgpu does not have: the browser compiles them on
//! other threads, while the device goes on with uploads and with what else the page draws.
//!
//! wgpu makes the descriptor and wraps what comes out of it, both within its `create_compute_pipeline`, which calls
//! `createComputePipeline` of the device object. For the length of that call the object gets a method of its own under
//! that name: once to see the descriptor, and, when the promise is kept, once more to hand over what was promised.

use std::rc::Rc;

use js_sys::{Object, Reflect};
use wasm_bindgen::closure::ScopedClosure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::clock::{now_ms, within};
use crate::error::Error;

use super::pipeline::{Blueprint, Creation};

/// How long a browser may take to compile a pipeline, in milliseconds. Software adapters on a busy machine take half a minute
/// for all of a model's.
const LIMIT_MS: u32 = 120_000;

/// Begins to compile. `None` where the browser cannot do that beside other things.
pub(super) fn create_async(device: &wgpu::Device, blueprint: &Rc<Blueprint>) -> Option<Creation> {
    let raw = device.as_webgpu()?;
    if !Reflect::has(raw, &"createComputePipelineAsync".into()).unwrap_or(false) {
        return None;
    }
    let mut descriptor = None;
    create_by(device, blueprint, &mut |seen| {
        descriptor = Some(seen);
        Object::new().into()
    });
    let promise = raw.create_compute_pipeline_async(descriptor?.unchecked_ref());
    // From here on its rejection is taken care of, whether or not anybody waits.
    let promise = JsFuture::from(promise);
    let begun = now_ms();
    let (device, blueprint) = (device.clone(), blueprint.clone());
    Some(Box::pin(async move {
        // Many are begun at once and waited for one after the other: the time counts from the beginning of each.
        let left = (f64::from(LIMIT_MS) + begun - now_ms()).max(0.0) as u32;
        match within(left, promise).await {
            Some(Ok(pipeline)) => {
                let pipeline = JsValue::from(pipeline);
                Ok(create_by(&device, &blueprint, &mut |_| pipeline.clone()))
            }
            Some(Err(cause)) => Err(refused(&blueprint.label, &cause)),
            // Not the kernel's fault: a device that does not compile is of no more use than one that is lost.
            None => Err(Error::DeviceLost {
                reason: format!(
                    "the browser did not compile the kernel {} within {} seconds",
                    blueprint.label,
                    LIMIT_MS / 1000
                ),
            }),
        }
    }))
}

/// wgpu's pipeline, where the browser's comes from `create`, which gets the descriptor.
fn create_by(
    device: &wgpu::Device,
    blueprint: &Blueprint,
    create: &mut dyn FnMut(JsValue) -> JsValue,
) -> wgpu::ComputePipeline {
    let name = JsValue::from_str("createComputePipeline");
    let mut create = |descriptor: JsValue| create(descriptor);
    let create = ScopedClosure::borrow_mut(&mut create);
    let raw = device.as_webgpu();
    if let Some(raw) = raw {
        let _ = Reflect::set(raw, &name, create.as_js_value());
    }
    let pipeline = blueprint.create(device);
    // The prototype's comes to light again.
    if let Some(raw) = raw {
        let _ = Reflect::delete_property(raw, &name);
    }
    pipeline
}

fn refused(label: &str, cause: &JsValue) -> Error {
    let message = Reflect::get(cause, &"message".into()).ok().and_then(|message| message.as_string());
    Error::Gpu {
        label: label.to_owned(),
        reason: message.unwrap_or_else(|| "it does not compile, for no reason given".to_owned()),
    }
}
