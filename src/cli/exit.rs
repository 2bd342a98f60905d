//! The one place that prints errors, and the one that maps them to exit codes.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use crate::bus::BusError;
use crate::bus::provision::ProvisionError;
use crate::config::ConfigError;
use crate::store::StoreError;

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or stopped cleanly.
    Ok = 0,
    /// It was tried and failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The command worked and found something.
    Findings = 3,
    /// The other side can't be reached.
    Unreachable = 4,
}

/// Errors whose exit code is not [`Exit::Failed`].
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command worked and found something.
    #[error("{0}")]
    Findings(String),
    /// The other side can't be reached; says what to do.
    #[error("{0}")]
    Unreachable(String),
    /// Arguments that fit each by itself but not together.
    #[error("{0}")]
    Usage(String),
    /// Standard output is gone; if it is a pipe that the reader has closed, that is no failure.
    #[error("write to standard output")]
    Output(#[source] io::Error),
}

impl Exit {
    /// The exit code of an error, by the first cause that has one.
    fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::of_cause).unwrap_or(Self::Failed)
    }

    fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if cause.is::<ConfigError>() {
            return Some(Self::Usage);
        }
        if let Some(error) = cause.downcast_ref::<BusError>() {
            let away = matches!(error, BusError::Unavailable { .. } | BusError::TimedOut { .. });
            return away.then_some(Self::Unreachable);
        }
        if cause.downcast_ref().is_some_and(ProvisionError::is_leaderless) {
            return Some(Self::Unreachable);
        }
        if let Some(StoreError::Away(_)) = cause.downcast_ref::<StoreError>() {
            return Some(Self::Unreachable);
        }
        match cause.downcast_ref::<CliError>()? {
            CliError::Findings(_) => Some(Self::Findings),
            CliError::Unreachable(_) => Some(Self::Unreachable),
            CliError::Usage(_) => Some(Self::Usage),
            CliError::Output(source) if source.kind() == ErrorKind::BrokenPipe => Some(Self::Ok),
            CliError::Output(_) => None,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Prints the error of a command, if there is one, and gives its exit code.
pub fn report(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return Exit::Ok.into() };
    let exit = Exit::of(&error);
    if exit != Exit::Ok {
        note(&format!("error: {error:#}"));
    }
    exit.into()
}

/// Prints help, the version, or what is wrong with the arguments.
pub fn report_usage(usage: &clap::Error) -> ExitCode {
    // Nobody is left to tell if this can't be printed.
    usage.print().ok();
    if usage.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() }
}

/// Writes a result to standard output.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::Output)
}

/// Writes a line for the person at the terminal to standard error. If that is closed, there is no one to tell.
pub(super) fn note(line: &str) {
    writeln!(io::stderr().lock(), "{line}").ok();
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;
    use crate::audit::VerifyError;
    use crate::config::{Config, Layers};
    use crate::export::ExportError;
    use crate::store::{CopyError, Trouble};

    #[test]
    fn each_kind_of_error_has_its_code_under_any_context() {
        let layers = Layers { set: vec!["none=1".to_owned()], ..Layers::default() };
        let config = Config::load(&layers).map(drop).context("load").unwrap_err();
        let pipe = CliError::Output(io::Error::from(ErrorKind::BrokenPipe));
        let away = || {
            let [action, place, cause, next] = ["scan", "a cluster", "no answer", "try again"].map(str::to_owned);
            StoreError::Away(Trouble { action, place, cause, next })
        };
        let full = CliError::Output(io::Error::from(ErrorKind::StorageFull));
        for (error, exit) in [
            (anyhow!("any"), Exit::Failed),
            (config, Exit::Usage),
            (CliError::Usage("u".to_owned()).into(), Exit::Usage),
            (CliError::Findings("f".to_owned()).into(), Exit::Findings),
            (CliError::Unreachable("u".to_owned()).into(), Exit::Unreachable),
            // A cluster that goes away in the middle.
            (ExportError::from(away()).into(), Exit::Unreachable),
            (CopyError::from(away()).into(), Exit::Unreachable),
            (VerifyError::from(away()).into(), Exit::Unreachable),
            (pipe.into(), Exit::Ok),
            (full.into(), Exit::Failed),
            // A broken pipe to somewhere else is a failure.
            (io::Error::from(ErrorKind::BrokenPipe).into(), Exit::Failed),
        ] {
            assert_eq!(Exit::of(&error), exit, "{error}");
            let told = format!("{error:#}");
            assert!(told.matches("no answer").count() <= 1, "a cause is said once: {told}");
            assert_eq!(Exit::of(&error.context("outer").context("outermost")), exit);
        }
    }
}
