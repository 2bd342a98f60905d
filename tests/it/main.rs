//! The integration target: one binary, one line for each file.
fn main() {}
