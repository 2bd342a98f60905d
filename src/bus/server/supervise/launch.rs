//! One start of the server: from the lock on its store to its ports file.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use tracing::info;

use super::super::end::end;
use super::super::log::{LastWords, follow};
use super::super::settings::Folder;
use super::super::wrapper::WRAPPER_COMMAND;
use super::super::{ServerError, in_folder, lock, system};
use super::{Event, LOOK, NotStarted, Prepared, Running, State, Supervisor};
use crate::cores;

/// How long a start waits for an earlier server to let go of the store: it is told to end when its yalo dies.
const LET_GO: Duration = Duration::from_secs(10);

/// What Go reads, unless it is set by hand.
fn environment() -> [(&'static str, String); 2] {
    [
        // How much garbage it may hold, in percent of what it needs. Half as much as by default: a fifth less memory while
        // much passes, and no slower.
        ("GOGC", "50".to_owned()),
        // The other half is for those who use it.
        ("GOMAXPROCS", cores::half().to_string()),
    ]
}

impl Supervisor {
    /// One start: until the server is ready, or not.
    pub(super) fn launch(&mut self, prepared: &Prepared) -> Result<(Running, u16), NotStarted> {
        let folder = &prepared.folder;
        let mut store = self.locked_store(folder)?;
        folder.remove_ports_files().map_err(in_folder(folder.path(), "remove old ports files"))?;
        folder
            .configure(&self.options, &prepared.password, self.port)
            .map_err(in_folder(folder.path(), "write nats.conf"))?;
        // The store's lock is the child's standard input: it is held until the server is gone, whoever else lives or
        // dies, and by nothing else.
        let stdin = store.try_clone().map_err(system("hand on the store's lock"))?;
        let mut command = self.command(&prepared.program, &folder.configuration());
        // A process group of its own: a Ctrl-C in the terminal is for yalo, which stops the server last.
        command.process_group(0).stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(system("start the process"))?;
        drop(command);
        let pid = child.id();
        if let Err(source) = lock::sign(&mut store, pid) {
            // Left alone it would hold the store for ever.
            end(&mut child, Some(Duration::ZERO));
            return Err(in_folder(folder.path(), "write server.lock")(source).into());
        }
        drop(store);
        let words = LastWords::default();
        if let Some(stderr) = child.stderr.take() {
            let (words, sender) = (words.clone(), self.sender.clone());
            let read = move || {
                follow(stderr, &words);
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
        command.envs(environment().into_iter().filter(|(name, _)| std::env::var_os(name).is_none()));
        command
    }

    /// The store for us alone. The server of a yalo that was killed needs a moment to end.
    fn locked_store(&self, folder: &Folder) -> Result<File, NotStarted> {
        let mut file = lock::open(&folder.lock()).map_err(in_folder(folder.path(), "open server.lock"))?;
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
                Ok(Event::Ended { .. }) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(NotStarted::Stopped),
            }
            if Instant::now() > deadline {
                end(&mut running.child, Some(Duration::ZERO));
                let (waited, log) = (self.options.ready_timeout, running.words.text());
                return Err(ServerError::NotReady { waited, log }.into());
            }
        }
    }
}
