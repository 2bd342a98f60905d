//! The nats-server of the tests: where it is, and one that a fleet shares.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::lasting_address;
use super::process::{end_of, send_signal};

/// The server to test with: `YALO_TEST_NATS_SERVER`, else the one on PATH, else the one that `make` fetched.
pub(crate) fn nats_server() -> PathBuf {
    if let Some(given) = std::env::var_os("YALO_TEST_NATS_SERVER") {
        return PathBuf::from(given);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools");
    let fetched = fs::read_dir(tools).into_iter().flatten().flatten();
    let fetched = fetched.filter(|entry| entry.file_name().to_string_lossy().starts_with("nats-server-"));
    let mut places = on_path.chain(fetched.map(|entry| entry.path().join("nats-server")));
    places.find(|program| program.is_file()).expect(
        "these tests need a real nats-server: run scripts/nats-server.sh, which fetches one into .tools, or set \
         YALO_TEST_NATS_SERVER to its path",
    )
}

/// A server with JetStream on a free port; dropping it ends it.
pub(super) struct Nats {
    child: Child,
    folder: PathBuf,
    /// Where it listens, also when it is started again.
    address: String,
    /// How often it syncs to the disk.
    sync: &'static str,
    /// More lines of its configuration.
    more: String,
}

impl Nats {
    /// Starts one with its data below `folder`.
    pub(super) fn start(folder: &Path) -> Self {
        let folder = folder.join("nats");
        Self::start_with(folder, "100ms", String::new())
    }

    /// Starts one that syncs so often and has these lines more in its configuration, in a folder of its own.
    pub(super) fn start_with(folder: PathBuf, sync: &'static str, more: String) -> Self {
        fs::create_dir_all(&folder).unwrap();
        Self::launch(folder, &lasting_address(), sync, more)
    }

    pub(super) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Where its monitoring pages are.
    pub(super) fn monitor(&self) -> String {
        self.announced("monitoring")
    }

    /// Kills it.
    pub(super) fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills it and starts it again at the same address.
    pub(super) fn restart(&mut self) {
        self.kill9();
        self.start_again();
    }

    /// Starts it again after it was killed.
    pub(super) fn start_again(&mut self) {
        *self = Self::launch(self.folder.clone(), &self.address, self.sync, self.more.clone());
    }

    /// Sends a signal; what is stopped by it stands still from then on.
    pub(super) fn signal(&self, signal: Signal) {
        send_signal(&self.child, signal);
    }

    /// Empties its disk; it has been killed.
    pub(super) fn forget(&self) {
        fs::remove_dir_all(self.folder.join("jetstream")).unwrap();
    }

    fn launch(folder: PathBuf, address: &str, sync: &'static str, more: String) -> Self {
        let (config, shown) = (folder.join("nats.conf"), folder.display());
        let text = format!(
            "listen: \"{address}\"\nhttp: \"127.0.0.1:-1\"\nports_file_dir: \"{shown}\"\njetstream {{ store_dir: \"{shown}\", \
             sync_interval: \"{sync}\" }}\n{more}"
        );
        fs::write(&config, text).unwrap();
        let log = fs::File::create(folder.join("nats.log")).unwrap();
        let mut command = Command::new(nats_server());
        command.arg("--config").arg(&config).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let nats = Self { child: command.spawn().unwrap(), folder, address: address.to_owned(), sync, more };
        nats.announced("nats");
        nats
    }

    /// It writes its ports when it has them, and is ready a moment later: clients try again until then.
    fn announced(&self, what: &str) -> String {
        let ports = self.folder.join(format!("nats-server_{}.ports", self.child.id()));
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let text = fs::read_to_string(&ports).unwrap_or_default();
            let written = serde_json::from_str::<serde_json::Value>(&text).ok();
            let url = written.and_then(|ports| Some(ports[what][0].as_str()?.to_owned()));
            if let Some(url) = url {
                return url;
            }
            let log = || fs::read_to_string(self.folder.join("nats.log")).unwrap_or_default();
            assert!(Instant::now() < end, "nats-server wrote no {}: {}", ports.display(), log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.folder.join("nats.log");
            eprintln!("--- nats-server ({})\n{}", log.display(), end_of(&log).unwrap_or_default());
        }
        self.child.kill().and_then(|()| self.child.wait().map(drop)).ok();
    }
}
