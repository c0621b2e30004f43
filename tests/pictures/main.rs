//! Image models against independent references; what they refuse; decoding in tiles.
//!
//! One program, since each is linked with everything: `cargo test --test pictures image_files::` runs one file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

#[allow(dead_code)] // each program uses a part
#[path = "../common/images.rs"]
mod images;
#[allow(dead_code)] // each program uses a part
#[path = "../common/random.rs"]
mod random;

mod image;
mod image_files;
mod image_tiles;
mod image_torch;
