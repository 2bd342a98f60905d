//! The executable: parse, load, run, and turn the one error into an exit code.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use yalo::bus::server;
use yalo::cli::{self, Cli};
use yalo::cores;

/// Set by hand: tokio reads it itself.
const WORKERS: &str = "TOKIO_WORKER_THREADS";
/// What a command left behind after its own orderly stop gets this long.
const LEFT_BEHIND: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // Not for people, and before any thread: becomes the managed nats-server, tied to the life of its parent.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|command| command == server::WRAPPER_COMMAND) {
        return cli::report(Err(server::exec_wrapper(args)).context("start nats-server"));
    }
    match Cli::try_parse() {
        Ok(cli) => cli::report(run(cli)),
        Err(usage) => cli::report_usage(&usage),
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os(WORKERS).is_none() {
        runtime.worker_threads(cores::half());
    }
    let runtime = runtime.enable_all().build().context("start the runtime")?;
    let result = runtime.block_on(cli::run(cli));
    runtime.shutdown_timeout(LEFT_BEHIND);
    result
}
