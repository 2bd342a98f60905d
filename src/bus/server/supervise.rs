//! The thread that owns the server process: starts it, starts it again after a crash, and stops it.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};

use super::end::end;
use super::log::{LastWords, follow};
use super::settings::Folder;
use super::wrapper::WRAPPER_COMMAND;
use super::{ServerError, ServerOptions, Started, lock, program, short, system};

/// More crashes than this within [`WINDOW`] and the server is given up.
const RESTARTS: usize = 5;
const WINDOW: Duration = Duration::from_mins(1);
/// The first pause before a restart; each further one within the window is twice as long.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long a start waits for an earlier server to let go of the store: it is told to end when its yalo dies.
const LET_GO: Duration = Duration::from_secs(10);
/// A server that could not write is started again when so many bytes are free.
const ROOM: u64 = 8 << 20;
/// Pause between two looks at the disk.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(500);
/// How long a server may take to end that could not write.
const STUCK_GRACE: Duration = Duration::from_secs(2);
/// Pause between two looks at a file or a process that is about to change.
const LOOK: Duration = Duration::from_millis(3);

/// What the thread waits for.
#[derive(Debug)]
pub(super) enum Event {
    /// The handle wants the server to end.
    Stop {
        /// How long it may take to end by itself.
        grace: Duration,
    },
    /// The process could not write, and stores nothing until it is started again.
    Stuck {
        /// Which process.
        pid: u32,
    },
    /// The process closed its log, as it does when it ends.
    Ended {
        /// Which process.
        pid: u32,
    },
}

/// What the handle sees.
#[derive(Debug)]
pub(super) enum State {
    /// Ready, as this process.
    Running {
        /// Its process id.
        pid: u32,
    },
    /// Crashed, or not ready yet.
    Restarting,
    /// Down for good; without a reason if it was asked to.
    Ended {
        /// What the last crash said.
        reason: Option<String>,
    },
}

/// What is found out once, before the first start.
struct Prepared {
    folder: Folder,
    program: PathBuf,
    password: String,
}

/// A process that has been started.
struct Running {
    child: Child,
    words: LastWords,
}

/// Why a start did not lead to a ready server.
enum NotStarted {
    /// The handle wants it to end.
    Stopped,
    /// It can't.
    Failed(ServerError),
}

impl From<ServerError> for NotStarted {
    fn from(error: ServerError) -> Self {
        Self::Failed(error)
    }
}

/// The thread's own state.
pub(super) struct Supervisor {
    options: ServerOptions,
    events: Receiver<Event>,
    sender: SyncSender<Event>,
    state: watch::Sender<State>,
    /// Known from the first start on, and kept: clients come back to it.
    port: Option<u16>,
}

impl Supervisor {
    pub(super) fn new(options: ServerOptions) -> (Self, SyncSender<Event>, watch::Receiver<State>) {
        // Room for a stop, a second one from the handle's drop, and the end of a process.
        let (sender, events) = sync_channel(8);
        let (state, seen) = watch::channel(State::Restarting);
        let supervisor = Self { options, events, sender: sender.clone(), state, port: None };
        (supervisor, sender, seen)
    }

    /// The life of the thread.
    pub(super) fn run(mut self, started: oneshot::Sender<Result<Started, ServerError>>) {
        let reason = match self.first_start() {
            Err(error) => {
                started.send(Err(error)).ok();
                None
            }
            Ok((prepared, mut running, told)) => {
                if started.send(Ok(told)).is_ok() {
                    self.keep(&prepared, running)
                } else {
                    // Nobody waits for it any more.
                    end(&mut running.child, Some(Duration::ZERO));
                    None
                }
            }
        };
        self.state.send_replace(State::Ended { reason });
    }

    fn first_start(&mut self) -> Result<(Prepared, Running, Started), ServerError> {
        let (program, version) = program::checked(self.options.program.as_deref())?;
        let folder = Folder::make(&self.options.data_dir)?;
        let password = folder.password().map_err(system("make a password"))?;
        let prepared = Prepared { folder, program, password: password.clone() };
        let (running, port) = self.launch(&prepared).map_err(|refusal| match refusal {
            NotStarted::Stopped => ServerError::Stopped,
            NotStarted::Failed(error) => error,
        })?;
        self.port = Some(port);
        let name = short(&prepared.program);
        info!("{name} {version} is ready on 127.0.0.1:{port} as process {}", running.child.id());
        Ok((prepared, running, Started { port, password, version }))
    }

    /// Watches the server until it is to stop (`None`) or crashes too often (the reason).
    fn keep(&mut self, prepared: &Prepared, mut running: Running) -> Option<String> {
        let mut crashes = VecDeque::new();
        loop {
            let grace = match self.events.recv() {
                Ok(Event::Stop { grace }) => {
                    end(&mut running.child, Some(grace));
                    return None;
                }
                Ok(Event::Stuck { pid }) if pid == running.child.id() => {
                    if self.stopped_before_room(&prepared.folder) {
                        end(&mut running.child, Some(STUCK_GRACE));
                        return None;
                    }
                    Some(STUCK_GRACE)
                }
                Ok(Event::Ended { pid }) if pid == running.child.id() => None,
                Ok(Event::Ended { .. } | Event::Stuck { .. }) => continue,
                Err(_) => return None,
            };
            self.state.send_replace(State::Restarting);
            let status = end(&mut running.child, grace);
            let mut reason = format!("it ended ({status}); its last words:\n{}", running.words.text());
            warn!("nats-server ended ({status}); starting it again");
            running = loop {
                let Some(pause) = next_pause(&mut crashes, Instant::now()) else {
                    return Some(reason);
                };
                if self.stopped_within(pause) {
                    return None;
                }
                match self.launch(prepared) {
                    Ok((again, _)) => break again,
                    Err(NotStarted::Stopped) => return None,
                    Err(NotStarted::Failed(error)) => {
                        warn!("nats-server is not back: {error}");
                        reason = error.to_string();
                    }
                }
            };
            info!("nats-server is back as process {}", running.child.id());
        }
    }

    /// One start: until the server is ready, or not.
    fn launch(&mut self, prepared: &Prepared) -> Result<(Running, u16), NotStarted> {
        let folder = &prepared.folder;
        let mut store = self.locked_store(folder)?;
        folder.remove_ports_files().map_err(system("remove old ports files"))?;
        folder.configure(&self.options, &prepared.password, self.port).map_err(system("write nats.conf"))?;
        // The store's lock is the child's standard input: it is held until the server is gone, whoever else lives or
        // dies, and by nothing else.
        let stdin = store.try_clone().map_err(system("hand on the store's lock"))?;
        let mut command = self.command(&prepared.program, &folder.configuration());
        // A process group of its own: a Ctrl-C in the terminal is for yalo, which stops the server last.
        command.process_group(0).stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(system("start the process"))?;
        drop(command);
        let pid = child.id();
        lock::sign(&mut store, pid).map_err(system("sign the store's lock"))?;
        drop(store);
        let words = LastWords::default();
        if let Some(stderr) = child.stderr.take() {
            let (words, sender) = (words.clone(), self.sender.clone());
            let read = move || {
                // Said once is enough, and a full queue has heard it.
                follow(stderr, &words, || drop(sender.try_send(Event::Stuck { pid })));
                sender.send(Event::Ended { pid }).ok();
            };
            let reader = std::thread::Builder::new().name("nats-server-log".to_owned()).spawn(read);
            if let Err(source) = reader {
                end(&mut child, Some(Duration::ZERO));
                return Err(system("start a thread")(source).into());
            }
        }
        let mut running = Running { child, words };
        let port = self.ready(folder, &mut running)?;
        self.state.send_replace(State::Running { pid });
        Ok((running, port))
    }

    fn command(&self, program: &Path, configuration: &Path) -> Command {
        let mut command = match &self.options.wrapper {
            Some(wrapper) => {
                let mut command = Command::new(wrapper);
                command.args([WRAPPER_COMMAND, &std::process::id().to_string(), "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("-c").arg(configuration);
        command
    }

    /// The store for us alone. The server of a yalo that was killed needs a moment to end.
    fn locked_store(&self, folder: &Folder) -> Result<File, NotStarted> {
        let mut file = lock::open(&folder.lock()).map_err(system("open the store's lock"))?;
        let deadline = Instant::now() + LET_GO;
        let mut told = false;
        while !lock::try_lock(&file).map_err(system("lock the store"))? {
            let holder = lock::holder(&mut file);
            if Instant::now() > deadline {
                return Err(ServerError::StoreInUse { dir: folder.path().to_owned(), holder }.into());
            }
            if !told {
                info!("waiting for an earlier nats-server to end ({holder})");
                told = true;
            }
            if self.stopped_within(LOOK) {
                return Err(NotStarted::Stopped);
            }
        }
        Ok(file)
    }

    /// Waits for the ports file, which the server writes when it takes connections.
    fn ready(&self, folder: &Folder, running: &mut Running) -> Result<u16, NotStarted> {
        let pid = running.child.id();
        let deadline = Instant::now() + self.options.ready_timeout;
        loop {
            if let Some(port) = folder.port(pid) {
                return Ok(port);
            }
            match self.events.recv_timeout(LOOK) {
                Ok(Event::Stop { grace }) => {
                    end(&mut running.child, Some(grace));
                    return Err(NotStarted::Stopped);
                }
                Ok(Event::Ended { pid: ended }) if ended == pid => {
                    let status = end(&mut running.child, None);
                    return Err(ServerError::EndedEarly { status, log: running.words.text() }.into());
                }
                Ok(Event::Ended { .. } | Event::Stuck { .. }) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(NotStarted::Stopped),
            }
            if Instant::now() > deadline {
                end(&mut running.child, Some(Duration::ZERO));
                let (waited, log) = (self.options.ready_timeout, running.words.text());
                return Err(ServerError::NotReady { waited, log }.into());
            }
        }
    }

    /// Waits until there is room on the server's disk; `true` if it is to end before. Nothing that was acknowledged is at
    /// risk meanwhile: what the server could not write it has refused.
    fn stopped_before_room(&self, folder: &Folder) -> bool {
        let free = || rustix::fs::statvfs(folder.path()).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize);
        let path = folder.path().display();
        error!(
            "nats-server cannot write below {path} ({} bytes are free) and takes no messages; make room on that disk: it \
             is started again as soon as there are {ROOM}",
            free()
        );
        while free() < ROOM {
            if self.stopped_within(LOOK_FOR_ROOM) {
                return true;
            }
        }
        false
    }

    /// Waits; `true` as soon as the handle wants the server to end.
    fn stopped_within(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Ended { .. } | Event::Stuck { .. }) => {}
                Ok(Event::Stop { .. }) | Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }
}

/// The pause before the next restart, or `None` if there were too many.
fn next_pause(crashes: &mut VecDeque<Instant>, now: Instant) -> Option<Duration> {
    crashes.retain(|crash| now.duration_since(*crash) < WINDOW);
    crashes.push_back(now);
    let doublings = u32::try_from(crashes.len() - 1).unwrap_or(u32::MAX);
    (crashes.len() <= RESTARTS).then(|| BACK_OFF.saturating_mul(2u32.saturating_pow(doublings)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_it_is_given_up_and_old_crashes_are_forgotten() {
        let (mut crashes, start) = (VecDeque::new(), Instant::now());
        let pauses: Vec<_> = (0..6).map(|_| next_pause(&mut crashes, start).map(|pause| pause.as_millis())).collect();
        assert_eq!(pauses, [Some(100), Some(200), Some(400), Some(800), Some(1600), None]);
        let later = start + WINDOW;
        assert_eq!(next_pause(&mut crashes, later), Some(BACK_OFF));
    }
}
