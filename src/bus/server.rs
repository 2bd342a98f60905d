//! The managed nats-server: a child process of `yalo all` with its own folder, password and port, that never outlives us.
//!
//! - It listens on a free port of 127.0.0.1 and lets in one user, whose password is made once per data folder.
//! - It dies with yalo, also when yalo is killed (`exec_wrapper`), and no second server can open its store meanwhile.
//! - When its disk was full, it is started anew as soon as there is room: by itself it would take nothing more.
//! - When it crashes, it comes back on the same port with its data, so that clients just reconnect; when it crashes
//!   again and again, [`ManagedServer::exited`] says so.
//!
//! One thread of its own (`supervise`) starts, watches and stops it; this file is the handle to that thread.

mod end;
mod lock;
mod log;
mod program;
mod room;
mod running;
mod settings;
mod supervise;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod version;
mod wrapper;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

pub use lock::{DataLock, LockError};
pub use room::free_bytes;
pub use running::{Running, running};
pub use settings::sync_interval_of;
pub use version::{BATCHES, OLDEST, Version};
pub use wrapper::{WRAPPER_COMMAND, exec_wrapper};

use supervise::{Event, State, Supervisor};

/// How long a dropped handle waits for a clean end before the server is killed.
const DROP_GRACE: Duration = Duration::from_secs(2);
/// Beyond its grace time a stop only has to kill and reap.
const REAP: Duration = Duration::from_secs(5);

/// How the server is started.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The nats-server to run; `None`: found on PATH.
    pub program: Option<PathBuf>,
    /// yalo's data folder; the server's things lie in `nats` below it. Take its [`DataLock`] first.
    pub data_dir: PathBuf,
    /// How often the server calls fsync: `100ms`, or `always`.
    pub sync_interval: String,
    /// `nats.max_bytes`: the server is given room for it and for what lies beside it.
    pub max_bytes: i64,
    /// Opens the server's monitoring pages on 127.0.0.1. They know no password.
    pub monitor_port: Option<u16>,
    /// The yalo executable, which ties the server's life to ours (see [`exec_wrapper`]). `None`, for tests whose
    /// executable is not yalo: the server is started directly and outlives a killed yalo.
    pub wrapper: Option<PathBuf>,
    /// How long a start may take. After a crash the server reads its whole stream again: about 20 s for 10 GiB.
    pub ready_timeout: Duration,
}

impl ServerOptions {
    /// The defaults of `config/yalo.toml`, in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            program: None,
            data_dir: data_dir.into(),
            sync_interval: "100ms".to_owned(),
            max_bytes: 10 << 30,
            monitor_port: None,
            wrapper: None,
            ready_timeout: Duration::from_mins(1),
        }
    }
}

/// Why there is no managed server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Not on PATH, or not where the configuration says.
    #[error(
        "cannot find the program {program:?}: get a nats-server of {OLDEST} or newer (`make run` fetches one; or install it \
         from https://github.com/nats-io/nats-server/releases so that it is on PATH), then point yalo to it with --set \
         nats.server=FILE; or use a running NATS with --set nats.url=nats://HOST:4222"
    )]
    Missing {
        /// What was looked for.
        program: PathBuf,
    },
    /// There, but the system refuses to run it.
    #[error("cannot run {program:?} as nats-server; choose another one with --set nats.server=FILE")]
    CannotRun {
        /// What was run.
        program: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// It answers `--version` with something else.
    #[error("{program:?} is not a nats-server (it says {output:?}); choose another one with --set nats.server=FILE")]
    NotNatsServer {
        /// What was run.
        program: PathBuf,
        /// The first line of its answer.
        output: String,
    },
    /// Older than [`OLDEST`].
    #[error(
        "{program:?} is nats-server {version}, and yalo needs {OLDEST} or newer: `make run` fetches one, or choose another \
         one with --set nats.server=FILE"
    )]
    TooOld {
        /// What was run.
        program: PathBuf,
        /// What it is.
        version: Version,
    },
    /// The data folder can't be used.
    #[error(transparent)]
    Folder(#[from] LockError),
    /// An earlier server has not let go of the store.
    #[error("the store {dir:?} is still in use by another nats-server ({holder}); stop that process and start again")]
    StoreInUse {
        /// The server's folder.
        dir: PathBuf,
        /// Its process.
        holder: String,
    },
    /// It ended before it was ready.
    #[error("nats-server ended while starting ({status}); its last words:\n{log}")]
    EndedEarly {
        /// Exit code or signal.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// It was not ready in time and has been killed.
    #[error("nats-server was not ready after {} s; its last words:\n{log}", .waited.as_secs())]
    NotReady {
        /// How long it was given.
        waited: Duration,
        /// The end of its log.
        log: String,
    },
    /// It crashed too often, and is not started again.
    #[error("nats-server does not stay up: {reason}")]
    GaveUp {
        /// The last end.
        reason: String,
    },
    /// It was stopped on request.
    #[error("nats-server was stopped")]
    Stopped,
    /// A file or a process of the system failed.
    #[error("cannot {action} for nats-server")]
    System {
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// What the supervising thread tells when the server is ready for the first time.
struct Started {
    port: u16,
    password: String,
    version: Version,
}

/// A running nats-server. Dropping it stops it as well, but blocks for up to two seconds: use [`ManagedServer::stop`].
pub struct ManagedServer {
    port: u16,
    password: String,
    version: Version,
    events: SyncSender<Event>,
    state: watch::Receiver<State>,
    thread: Option<JoinHandle<()>>,
}

impl ManagedServer {
    /// Starts a server and waits until it is ready, which takes 20 to 50 ms with little data.
    pub async fn start(options: ServerOptions) -> Result<Self, ServerError> {
        let (started, ready) = oneshot::channel();
        let (supervisor, events, state) = Supervisor::new(options);
        let run = move || supervisor.run(started);
        // The death signal hangs on the thread that starts the child, so that thread lives as long as the server.
        let thread = std::thread::Builder::new().name("nats-server".to_owned()).spawn(run);
        let thread = thread.map_err(|source| ServerError::System { action: "start a thread", source })?;
        // The thread limits its own waits; if it panics, the sender is dropped and this ends as well.
        let Started { port, password, version } = ready.await.map_err(|_| ServerError::Stopped)??;
        Ok(Self { port, password, version, events, state, thread: Some(thread) })
    }

    /// Where it listens: `nats://127.0.0.1:<port>`, the same after a restart.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The user that it lets in.
    pub fn user(&self) -> &'static str {
        settings::USER
    }

    /// That user's password. Never log it.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// What it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its process, or `None` between a crash and the restart.
    pub fn pid(&self) -> Option<u32> {
        match *self.state.borrow() {
            State::Running { pid } | State::Full { pid } => Some(pid),
            State::Restarting | State::Ended { .. } => None,
        }
    }

    /// What keeps it from storing messages now, in words for an operator; `None` if nothing does.
    pub fn trouble(&self) -> Option<&'static str> {
        match *self.state.borrow() {
            State::Running { .. } => None,
            State::Full { .. } => Some(
                "the disk of the data folder is full: free some space; nothing that was accepted is lost, and \
                 nats-server goes on by itself when there is room",
            ),
            State::Restarting => Some("nats-server has ended and is being started again"),
            State::Ended { .. } => Some("nats-server has ended"),
        }
    }

    /// Ends when the server is down for good, with the reason. A crash that is healed by a restart does not count.
    pub async fn exited(&self) -> ServerError {
        let mut state = self.state.clone();
        match state.wait_for(|state| matches!(state, State::Ended { .. })).await.as_deref() {
            Ok(State::Ended { reason: Some(reason) }) => ServerError::GaveUp { reason: reason.clone() },
            _ => ServerError::Stopped,
        }
    }

    /// Asks the server to end, kills it after `grace`, and returns when its process is gone.
    pub async fn stop(self, grace: Duration) {
        // A full queue can't be: it has room for every event of one server and this one.
        self.events.try_send(Event::Stop { grace }).ok();
        if tokio::time::timeout(grace + REAP, self.exited()).await.is_err() {
            tracing::error!("nats-server was killed and its process is not gone yet");
        }
    }
}

impl Drop for ManagedServer {
    fn drop(&mut self) {
        self.events.try_send(Event::Stop { grace: DROP_GRACE }).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl fmt::Debug for ManagedServer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ManagedServer").field("port", &self.port).field("pid", &self.pid()).finish_non_exhaustive()
    }
}

/// A shorthand for the errors of files and processes.
fn system(action: &'static str) -> impl FnOnce(io::Error) -> ServerError {
    move |source| ServerError::System { action, source }
}

/// A shorthand for the errors of files in the server's folder.
fn in_folder(dir: &Path, action: &'static str) -> impl FnOnce(io::Error) -> ServerError {
    move |source| ServerError::Folder(LockError::NotWritable { dir: dir.to_owned(), action, source })
}

/// The name of a program without its folder, for people.
fn short(program: &Path) -> String {
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}
