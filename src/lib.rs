//! placeholder
pub mod error; pub mod dtype;
