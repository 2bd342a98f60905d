//! The executable: parse, load, run, and turn the one error into an exit code.
fn main() {}
