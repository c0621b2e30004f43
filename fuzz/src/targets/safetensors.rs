//! safetensors headers and the tensors behind them.

use emberglass::SliceSource;
use emberglass::weights::FloatTensors;

use super::{Target, allowed, image};

pub const TARGET: Target = Target {
    name: "safetensors",
    about: "safetensors headers",
    run,
    seeds,
    words: &[
        "\"dtype\":",
        "\"shape\":[",
        "\"data_offsets\":[0,",
        "F8_E4M3",
        "F64",
        "__metadata__",
        "18446744073709551615",
    ],
};

fn run(data: &[u8]) {
    let mut source = SliceSource::new("fuzz.safetensors", data);
    match pollster::block_on(FloatTensors::read(&mut source)) {
        Err(error) => allowed(&error),
        Ok(tensors) => {
            for tensor in tensors.all() {
                assert!(tensors.find(&tensor.name).is_some());
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut file = image::safetensors(&image::tensors(0));
    file.truncate(64 << 10);
    vec![file]
}
