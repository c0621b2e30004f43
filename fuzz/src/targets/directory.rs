//! GGUF headers, one file or several shards.

use emberglass::{ByteSource, SliceSource, read_directory};

use super::{Target, allowed, model};

pub const TARGET: Target = Target {
    name: "gguf",
    about: "GGUF headers and shards",
    run,
    seeds,
    words: &["general.alignment", "split.count", "split.no", "split.tensors.count", "GGUF"],
};

/// The last byte says how many shards the rest is cut into; 4 and above give a file of unknown size.
fn run(data: &[u8]) {
    let Some((&last, data)) = data.split_last() else { return };
    let count = usize::from(last % 3) + 1;
    let each = data.len().div_ceil(count).max(1);
    let shard = |(i, bytes): (usize, &[u8])| -> Box<dyn ByteSource> {
        let source = SliceSource::new(format!("{i}.gguf"), bytes);
        Box::new(if last & 4 == 0 { source } else { source.without_size() })
    };
    let mut sources: Vec<_> = data.chunks(each).enumerate().map(shard).collect();
    match pollster::block_on(read_directory(&mut sources)) {
        Err(error) => allowed(&error),
        Ok(directory) => {
            for tensor in directory.tensors() {
                let _ = tensor.dtype();
                let _ = tensor.elements();
            }
            let _ = directory.total_bytes();
            if let Err(error) = emberglass::model::matrices(&directory) {
                allowed(&error);
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut bytes = model::file().bytes();
    // The directory ends before the weights begin.
    bytes.truncate(16 << 10);
    bytes.push(0);
    vec![bytes]
}
