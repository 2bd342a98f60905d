//! A nats-server for one measurement, on a free port, with a store that goes away with it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A running nats-server; it is ended when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Starts a server with JetStream in `folder`, as yalo starts its own one.
    pub fn start(binary: &Path, folder: &Path) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        let environment = [("GOGC", "50".to_owned()), ("GOMAXPROCS", cores.to_string())];
        Self::start_with(binary, folder, environment.into())
    }

    /// Starts one that is left to itself, for a floor, and synced like the other.
    pub fn start_plain(binary: &Path, folder: &Path) -> Result<Self> {
        Self::start_with(binary, folder, Vec::new())
    }

    fn start_with(binary: &Path, folder: &Path, environment: Vec<(&str, String)>) -> Result<Self> {
        let configuration = format!(
            "listen: 127.0.0.1:-1\nports_file_dir: {folder:?}\n\
             jetstream {{ store_dir: {:?}, max_file: 40G, sync_interval: 100ms }}\n",
            folder.join("jetstream"),
        );
        let path = folder.join("nats.conf");
        fs::write(&path, configuration).context("write the server's configuration")?;
        let log = fs::File::create(folder.join("nats.log")).context("make the server's log")?;
        let mut command = Command::new(binary);
        command.envs(environment.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()));
        command.arg("--config").arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().with_context(|| format!("start {binary:?}"))?;
        let mut server = Self { child, url: String::new() };
        server.url = server.await_url(binary, folder)?;
        Ok(server)
    }

    /// The file `<executable>_<pid>.ports` is how the server tells which port it found.
    fn await_url(&self, binary: &Path, folder: &Path) -> Result<String> {
        let executable = binary.file_name().unwrap_or_default().to_string_lossy();
        let ports = folder.join(format!("{executable}_{}.ports", self.pid()));
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            let text = fs::read_to_string(&ports).unwrap_or_default();
            let ports: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            if let Some(url) = ports["nats"][0].as_str() {
                return Ok(url.to_owned());
            }
            thread::sleep(Duration::from_millis(2));
        }
        bail!("no ports file; the server's log: {}", fs::read_to_string(folder.join("nats.log")).unwrap_or_default())
    }

    /// Where clients connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
