//! Logs, panics and metrics of the process.

mod metrics;
mod process;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};

use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use metrics::{CONTENT_TYPE, Direction, Hop, Metrics};

use crate::config::{LogConfig, LogFormat};

/// Why logging can't start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.level` is no filter.
    #[error("read the filter log.level = {filter:?}")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Someone else in this process logs already.
    #[error("logging is started twice in one process")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging to stderr, and turns every panic into a log line with its place. Once in a process.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&config.level)
        .map_err(|source| TelemetryError::Filter { filter: config.level.clone(), source })?;
    let registry = tracing_subscriber::registry().with(filter);
    let terminal = io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    if json {
        registry.with(layer.json().flatten_event(true).with_current_span(true).with_span_list(false)).try_init()?;
    } else {
        registry.with(layer.with_ansi(terminal)).try_init()?;
    }
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("no text");
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture(); // only with RUST_BACKTRACE set
    if backtrace.status() == BacktraceStatus::Captured {
        error!(panic.location = location, thread, %backtrace, "panic at {location}: {message}");
    } else {
        error!(panic.location = location, thread, "panic at {location}: {message}");
    }
}
