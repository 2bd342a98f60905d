//! A real nats-server for the tests of this crate, and the waiting that tests need.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions};

use super::{ManagedServer, ServerOptions};

/// The nats-server for tests: `YALO_TEST_NATS_SERVER`, `.tools/nats-server` in the project, or the one on PATH.
pub(crate) fn program() -> PathBuf {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/nats-server");
    let found = match std::env::var_os("YALO_TEST_NATS_SERVER") {
        Some(given) => PathBuf::from(given),
        None if fetched.is_file() => fetched,
        None => PathBuf::from("nats-server"),
    };
    if let Err(error) = super::program::checked(Some(&found)) {
        panic!("these tests need a real server; `make test` fetches one, or set YALO_TEST_NATS_SERVER: {error}");
    }
    found
}

/// Options for a server in `data_dir`, started directly since the test executable is not yalo.
pub(crate) fn options(data_dir: &Path) -> ServerOptions {
    ServerOptions { program: Some(program()), max_bytes: 1 << 30, ..ServerOptions::new(data_dir) }
}

/// A server with a folder that goes away with it.
pub(crate) struct TestServer {
    // Declared first: dropped, and so stopped, before its folder is removed.
    pub(crate) server: ManagedServer,
    pub(crate) folder: tempfile::TempDir,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = ManagedServer::start(options(folder.path())).await.unwrap();
        Self { server, folder }
    }

    pub(crate) async fn client(&self) -> Client {
        client(&self.server).await
    }
}

/// A connection as the server's own user.
pub(crate) async fn client(server: &ManagedServer) -> Client {
    let options = ConnectOptions::with_user_and_password(server.user().to_owned(), server.password().to_owned());
    options.connect(server.url()).await.unwrap()
}

/// Waits for a condition that other processes bring about; fails loudly after ten seconds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether there is such a process that is not a zombie.
pub(crate) fn process_lives(pid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !status.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z')
}
