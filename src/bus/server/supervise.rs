//! The thread that owns the server process: starts it, starts it again after a crash, and stops it.

mod launch;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};

use super::end::end;
use super::log::LastWords;
use super::settings::Folder;
use super::{ServerError, ServerOptions, Started, in_folder, program, room, short};

/// More crashes than this within [`WINDOW`] and the server is given up.
const RESTARTS: usize = 5;
const WINDOW: Duration = Duration::from_mins(1);
/// The first pause before a restart; each further one within the window is twice as long.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How often a running server is looked at for failed writes, and a full disk for room.
const ROOM_LOOK: Duration = Duration::from_secs(1);
/// How long a server that could not write may take to end by itself.
const STUCK_GRACE: Duration = Duration::from_secs(5);
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
    /// It runs, but its disk is full: it stores nothing until there is room and it has been started anew.
    Full {
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

/// How the disk is for a running server.
enum Disk {
    Fine,
    /// A write found no room, and there is none.
    Full,
    /// There was none, and there is again.
    RoomAgain,
    /// A write failed although there is room.
    Failing,
}

/// Why a start did not lead to a ready server.
enum NotStarted {
    /// The handle wants it to end.
    Stopped,
    /// It ran, and ended by itself: what it said.
    Crashed(String),
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
        let password = folder.password().map_err(in_folder(folder.path(), "make a password"))?;
        let prepared = Prepared { folder, program, password: password.clone() };
        let (running, port) = self.launch(&prepared).map_err(|refusal| match refusal {
            NotStarted::Stopped => ServerError::Stopped,
            NotStarted::Crashed(reason) => ServerError::GaveUp { reason },
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
            let begun = match self.events.recv_timeout(ROOM_LOOK) {
                Ok(Event::Stop { grace }) => {
                    end(&mut running.child, Some(grace));
                    return None;
                }
                Ok(Event::Ended { pid }) if pid == running.child.id() => {
                    self.state.send_replace(State::Restarting);
                    let status = end(&mut running.child, None);
                    warn!("nats-server ended ({status}); starting it again");
                    Err(NotStarted::Crashed(format!("it ended ({status}); its last words:\n{}", running.words.text())))
                }
                Err(RecvTimeoutError::Timeout) => match self.look_at_disk(prepared, &running) {
                    Disk::Fine | Disk::Full => continue,
                    Disk::RoomAgain => {
                        self.state.send_replace(State::Restarting);
                        info!("there is room on the disk again; starting nats-server anew");
                        end(&mut running.child, Some(STUCK_GRACE));
                        // Not a crash: however often a disk fills up, the server is not given up for it.
                        self.launch(prepared)
                    }
                    Disk::Failing => {
                        self.state.send_replace(State::Restarting);
                        warn!("nats-server could not write; starting it again");
                        end(&mut running.child, Some(STUCK_GRACE));
                        Err(NotStarted::Crashed(format!("it cannot write; its last words:\n{}", running.words.text())))
                    }
                },
                Ok(Event::Ended { .. }) => continue,
                Err(RecvTimeoutError::Disconnected) => return None,
            };
            running = match self.launch_again(prepared, &mut crashes, begun) {
                Ok(again) => again,
                Err(reason) => return reason,
            };
            info!("nats-server is back as process {}", running.child.id());
        }
    }

    /// Starts again until it works, with pauses; the reason if it ended too often, `None` if it is to stop.
    fn launch_again(
        &mut self,
        prepared: &Prepared,
        crashes: &mut VecDeque<Instant>,
        mut begun: Result<(Running, u16), NotStarted>,
    ) -> Result<Running, Option<String>> {
        loop {
            let reason = match begun {
                Ok((again, _)) => return Ok(again),
                Err(NotStarted::Stopped) => return Err(None),
                Err(NotStarted::Crashed(reason)) => reason,
                Err(NotStarted::Failed(error)) => {
                    warn!("nats-server is not back: {error}");
                    error.to_string()
                }
            };
            let Some(pause) = next_pause(crashes, Instant::now()) else { return Err(Some(reason)) };
            if self.stopped_within(pause) {
                return Err(None);
            }
            begun = self.launch(prepared);
        }
    }

    /// What the disk of a running server is to it; says so once when it is full.
    fn look_at_disk(&self, prepared: &Prepared, running: &Running) -> Disk {
        if !running.words.has_missed_a_write() {
            return Disk::Fine;
        }
        let folder = prepared.folder.path();
        let was_full = matches!(*self.state.borrow(), State::Full { .. });
        match (was_full, room::is_there(folder)) {
            (true, true) => Disk::RoomAgain,
            (false, true) => Disk::Failing,
            (true, false) => Disk::Full,
            (false, false) => {
                self.state.send_replace(State::Full { pid: running.child.id() });
                error!("the disk of {} is full: nothing more is accepted until there is room", folder.display());
                Disk::Full
            }
        }
    }

    /// Waits; `true` as soon as the handle wants the server to end.
    fn stopped_within(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Ended { .. }) => {}
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
