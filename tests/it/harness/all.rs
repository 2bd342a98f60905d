//! `yalo all`: everything in one process, with a nats-server of its own.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Place, Process, Start, lasting_address, nats_server};

/// A running `yalo all`.
pub(crate) struct All {
    start: Start,
    process: Process,
    data: PathBuf,
}

impl All {
    /// Starts it on `folder`, on free ports.
    pub(crate) async fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[]).await
    }

    /// Starts it with more settings, such as `frontend.answer_timeout_ms=500`.
    pub(crate) async fn start_with(folder: &Path, settings: &[&str]) -> Self {
        Self::run(start(folder, "all", settings)).await
    }

    /// Runs a start of [`start`] that was changed.
    pub(crate) async fn run(start: Start) -> Self {
        let process = start.run().await;
        let data = start.folder.join("data");
        Self { start, process, data }
    }

    /// Starts it at addresses that a restart finds free again.
    pub(crate) async fn start_lasting(folder: &Path) -> Self {
        let frontend = format!("frontend.listen={}", lasting_address());
        let admin = format!("admin.listen={}", lasting_address());
        Self::start_with(folder, &[&frontend, &admin]).await
    }

    pub(crate) fn place(&self) -> Place {
        let token = fs::read_to_string(self.data.join("admin-token")).unwrap();
        Place {
            frontends: vec![self.process.address("chat")],
            admin: self.process.address("admin"),
            token: token.trim().to_owned(),
        }
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// `kill -9`: nothing is finished, nothing is flushed.
    pub(crate) fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts it again on the same folder.
    pub(crate) async fn restart(&mut self) {
        self.process = self.start.run().await;
    }

    /// It has been asked to end: it has to, cleanly and soon.
    pub(crate) async fn ends_cleanly(&mut self) {
        self.process.ends_cleanly().await;
    }

    /// Waits for its end, however it ends.
    pub(crate) async fn exit(&mut self, limit: std::time::Duration) -> std::process::ExitStatus {
        self.process.exit(limit).await
    }

    /// Asks it to end, and checks that it does so cleanly.
    pub(crate) async fn stop(&mut self) {
        self.process.stop().await;
    }
}

/// `yalo all` below `folder`, free ports unless `settings` say otherwise.
pub(crate) fn start(folder: &Path, name: &str, settings: &[&str]) -> Start {
    let server = format!("nats.server={}", nats_server().display());
    let usual = ["frontend.listen=127.0.0.1:0", "admin.listen=127.0.0.1:0", "ops.listen=127.0.0.1:0", &server];
    let settings = usual.iter().chain(settings).flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]);
    let data = folder.join("data").display().to_string();
    Start {
        name: name.to_owned(),
        folder: folder.to_owned(),
        arguments: ["all".to_owned(), "--data".to_owned(), data].into_iter().chain(settings).collect(),
        ..Start::default()
    }
}
