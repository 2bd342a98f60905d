//! yalo's processes during a measurement, and another's: started with a log, asked to end, and never left behind.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// A running yalo, or another program.
#[derive(Debug)]
pub struct Process {
    pub name: String,
    child: Child,
    log: PathBuf,
}

/// Which yalo, in which folder, with which settings.
#[derive(Debug, Clone)]
pub struct Launch<'a> {
    pub yalo: &'a Path,
    pub folder: &'a Path,
    /// `section.key=value`.
    pub settings: Vec<String>,
}

impl Launch<'_> {
    /// `words`: a role, or a command such as `audit verify`.
    fn command(&self, words: &str, log: &Path) -> Result<Command> {
        let log = File::create(log).context("make a log")?;
        let mut command = Command::new(self.yalo);
        command.args(words.split(' ')).arg("--set").arg(format!("data.dir={}", self.folder.display()));
        command.arg("--set").arg("log.level=warn");
        for setting in &self.settings {
            command.arg("--set").arg(setting);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }

    /// Starts a role.
    pub fn start(&self, role: &str) -> Result<Process> {
        self.start_with(role, None)
    }

    /// Starts one process with so many auditors.
    pub fn auditors(&self, number: u64) -> Result<Process> {
        self.start(&format!("auditor --replicas {number}"))
    }

    /// Starts a role that makes a mistake on purpose.
    pub fn start_with(&self, role: &str, mistake: Option<&str>) -> Result<Process> {
        let log = self.folder.join(format!("{role}.log"));
        let mut command = self.command(role, &log)?;
        command.envs(mistake.map(|name| ("DELIBERATE_MISTAKE", name)));
        Process::start(command, &format!("yalo {role}"), log)
    }

    /// Runs a command to its end.
    pub fn finish(&self, command: &str) -> Result<()> {
        let log = self.folder.join(format!("{command}.log"));
        let status =
            self.command(command, &log)?.status().with_context(|| format!("start {:?} {command}", self.yalo))?;
        if !status.success() {
            bail!("yalo {command} ended with {status}: {}", end_of(&log));
        }
        Ok(())
    }
}

impl Process {
    /// Starts a program that writes to this log.
    pub fn start(mut command: Command, name: &str, log: PathBuf) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("start {:?}", command.get_program()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended well; fails if it has ended otherwise.
    pub fn has_ended(&mut self) -> Result<bool> {
        match self.child.try_wait()? {
            Some(status) if !status.success() => bail!("{} ended with {status}: {}", self.name, end_of(&self.log)),
            status => Ok(status.is_some()),
        }
    }

    /// Has it stand still until it goes on.
    pub fn freeze(&self) -> Result<()> {
        self.signal("-STOP")
    }

    /// Has it go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let status = Command::new("kill").args([signal, &self.pid().to_string()]).status().context("start kill")?;
        ensure!(status.success(), "{} is not there for {signal}", self.name);
        Ok(())
    }

    /// What it has written.
    pub fn words(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("read {:?}", self.log))
    }

    /// Fails if it has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        ensure!(!self.has_ended()?, "{} has ended: {}", self.name, end_of(&self.log));
        Ok(())
    }

    /// Waits until `/readyz` answers 200.
    pub async fn ready(&mut self, ops: &str) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            self.check()?;
            if timeout(Duration::from_secs(2), is_ready(ops)).await.is_ok_and(|ready| ready.unwrap_or(false)) {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        bail!("{} was not ready in 30 s: {}", self.name, end_of(&self.log))
    }

    /// Waits until it has ended by itself, and well.
    pub async fn ended(&mut self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.has_ended()? {
            ensure!(Instant::now() < end, "{} did not end within 60 s", self.name);
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Asks it to end and waits.
    pub async fn stop(mut self) -> Result<()> {
        self.signal("-TERM")?;
        let end = Instant::now() + Duration::from_secs(15);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                if status.success() {
                    return Ok(());
                }
                bail!("{} ended with {status}: {}", self.name, end_of(&self.log));
            }
            sleep(Duration::from_millis(20)).await;
        }
        bail!("{} did not end within 15 s", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn is_ready(ops: &str) -> Result<bool> {
    let mut socket = TcpStream::connect(ops).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {ops}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}

fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// An address that nobody listens at.
pub fn free_address() -> Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr()?.to_string())
}
