//! One process, as a service manager has it: started, started again when it ends, killed, frozen.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How to start one.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// Where it runs and its log lies.
    pub(crate) folder: PathBuf,
}

impl Start {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // Settings of whoever runs this must not reach the program.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("YALO_") || name.starts_with("NATS_")) {
                command.env_remove(name);
            }
        }
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    /// Where it writes.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    fn spawn(&self) -> Child {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        self.command().stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    /// Runs it to its end: exit code and what it said.
    pub(crate) async fn finish(&self) -> (Option<i32>, String) {
        let mut command = tokio::process::Command::from(self.command());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let Ok(output) = tokio::time::timeout(Duration::from_secs(120), command.output()).await else {
            return (None, "no end within two minutes".to_owned());
        };
        let output = output.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }
}

/// A process that is meant to run. Dropping it ends it.
pub(crate) struct Process {
    pub(crate) start: Start,
    child: Option<Child>,
    since: Instant,
}

impl Process {
    pub(crate) fn run(start: Start) -> Self {
        let child = Some(start.spawn());
        Self { start, child, since: Instant::now() }
    }

    /// Starts it again, if it does not run.
    pub(crate) fn run_again(&mut self) {
        if self.child.is_none() {
            self.child = Some(self.start.spawn());
            self.since = Instant::now();
        }
    }

    /// Whether it has ended by itself, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().unwrap()?;
        self.child = None;
        Some(status)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
            // It may have ended a moment ago: then there is nobody to tell.
            kill_process(pid, signal).ok();
        }
    }

    /// Ends it without a word.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().and_then(|()| child.wait()).ok();
        }
    }

    /// Asks it to end; its exit code, or why there is none.
    pub(crate) async fn stop(&mut self, limit: Duration) -> Result<i32, String> {
        let end = Instant::now() + limit;
        self.signal(Signal::TERM);
        loop {
            let Some(child) = self.child.as_mut() else { return Ok(0) };
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                // Asked before it could listen to signals.
                let young = self.since.elapsed() < Duration::from_secs(5);
                if young && status.signal() == Some(Signal::TERM.as_raw()) {
                    return Ok(0);
                }
                // Asked while it was starting, and NATS did not answer it: it ends with 4, with nothing begun.
                if status.code() == Some(4) && self.since.elapsed() < Duration::from_secs(15) {
                    return Ok(0);
                }
                return status.code().ok_or_else(|| format!("{} ended by {status}", self.start.name));
            }
            if Instant::now() > end {
                return Err(format!("{} did not end within {limit:?} of being asked to", self.start.name));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// A file with this name on PATH, or what the variable says.
pub(crate) fn nats_server() -> PathBuf {
    if let Some(given) = std::env::var_os("YALO_TEST_NATS_SERVER") {
        return PathBuf::from(given);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
    places
        .find(|program| program.is_file())
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("nats-server"))
}
