//! libFuzzer: the variable `EMBERGLASS_FUZZ_TARGET` names the target, the arguments are libFuzzer's.

#![no_main]

use emberglass_fuzz::{Target, find};
use std::sync::OnceLock;

static TARGET: OnceLock<Option<&'static Target>> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let named = || std::env::var("EMBERGLASS_FUZZ_TARGET").ok().and_then(|name| find(&name));
    match TARGET.get_or_init(named) {
        Some(target) => (target.run)(data),
        None => {
            eprintln!("fuzz: EMBERGLASS_FUZZ_TARGET names no target");
            std::process::abort();
        }
    }
});
