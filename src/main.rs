//! The executable: parse, load, run, and turn the one error into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    yalo::cli::main()
}
