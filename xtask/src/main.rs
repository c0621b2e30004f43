//! Build, demo and test driver.
fn main() {}
