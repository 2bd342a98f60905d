//! One yalo process: its announcement is read line by line, its standard error is kept for the day when a test fails.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::time::timeout;

use super::PATIENCE;

/// A clean stop has to be done within this time.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// What to start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Start {
    /// A word for messages and the name of the log.
    pub(crate) name: String,
    /// Where logs are kept.
    pub(crate) folder: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// Words before the program, such as `prlimit --nofile=64`.
    pub(crate) wrapper: Vec<String>,
}

/// A running yalo; dropping it ends it.
pub(crate) struct Process {
    name: String,
    child: Child,
    killed: bool,
    lines: Option<Lines<BufReader<ChildStdout>>>,
    announced: Vec<String>,
    log: PathBuf,
}

impl Start {
    /// Runs it in a mount namespace of its own, with a new file system of so many bytes (read-only if there are none) at
    /// `folder`. Its files are reached through [`Process::inside`].
    pub(crate) fn with_disk(self, folder: &Path, bytes: usize) -> Self {
        let options = if bytes == 0 { "ro".to_owned() } else { format!("size={bytes}") };
        self.with_mount(folder, &options, "true")
    }

    /// The same with a small file system that is full already.
    pub(crate) fn with_full_disk(self, folder: &Path) -> Self {
        self.with_mount(folder, "size=64k", "{ head -c 1m /dev/zero > filler 2> log || true; }")
    }

    /// `fill` runs in the new file system.
    fn with_mount(mut self, folder: &Path, options: &str, fill: &str) -> Self {
        let namespace = if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" };
        let folder = folder.display();
        let mount =
            format!("mount -t tmpfs -o {options} none '{folder}' && (cd '{folder}' && {fill}) && exec \"$0\" \"$@\"");
        self.wrapper.splice(0..0, ["unshare", namespace, "sh", "-c", &mount].map(str::to_owned));
        self
    }

    fn command(&self) -> Command {
        let mut words = self.wrapper.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_yalo")]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        // Settings of whoever runs the tests must not reach the program.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("YALO_") || name.starts_with("NATS_")) {
                command.env_remove(name);
            }
        }
        command.current_dir(&self.folder).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Starts it and waits until it has announced that it is ready.
    pub(crate) async fn run(&self) -> Process {
        let mut process = self.spawn();
        process.announcement().await;
        process
    }

    /// Starts it.
    pub(crate) fn spawn(&self) -> Process {
        let log = self.folder.join(format!("{}.log", self.name));
        let errors = File::options().create(true).append(true).open(&log).unwrap();
        let mut child = self.command().stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        let output = ChildStdout::from_std(child.stdout.take().unwrap()).unwrap();
        let lines = Some(BufReader::new(output).lines());
        Process { name: self.name.clone(), child, killed: false, lines, announced: Vec::new(), log }
    }

    /// Runs it to its end: exit code, standard output and standard error.
    pub(crate) async fn finish(&self) -> (Option<i32>, String, String) {
        let mut command = tokio::process::Command::from(self.command());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let output = timeout(PATIENCE, command.output()).await.expect("an end within a minute").unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// Runs it to its end with a terminal for its standard error: exit code, standard output, and what came to the terminal.
    pub(crate) async fn finish_at_terminal(&self) -> (Option<i32>, String, String) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = openpt(flags).unwrap();
        unlockpt(&terminal).unwrap();
        let errors = ioctl_tiocgptpeer(&terminal, flags).unwrap();
        let mut command = tokio::process::Command::from(self.command());
        command.stdout(Stdio::piped()).stderr(errors).kill_on_drop(true);
        let child = command.spawn().unwrap();
        // Nobody else may have it open: its end is an error for who reads it.
        drop(command);
        let shown = tokio::task::spawn_blocking(move || {
            let mut shown = Vec::new();
            File::from(terminal).read_to_end(&mut shown).unwrap_err();
            shown
        });
        let output = timeout(PATIENCE, child.wait_with_output()).await.expect("an end within a minute").unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&shown.await.unwrap()))
    }
}

impl Process {
    /// Waits until it is ready: reads the announcement up to its last word on where things are.
    pub(crate) async fn announcement(&mut self) {
        let end = Instant::now() + PATIENCE;
        let lines = self.lines.as_mut().unwrap();
        loop {
            let line = timeout(end.saturating_duration_since(Instant::now()), lines.next_line()).await;
            let Ok(Ok(Some(line))) = line else {
                panic!("{} did not become ready: {line:?}", self.name);
            };
            let is_last = line.trim_start().starts_with("durable");
            self.announced.push(line);
            if is_last {
                return;
            }
        }
    }

    /// The address on the line `word` of the announcement: `http://127.0.0.1:40001`.
    pub(crate) fn address(&self, word: &str) -> String {
        let mut words = self.announced.iter().map(|line| line.split_whitespace());
        let found = words.find_map(|mut line| (line.next()? == word).then(|| line.next()).flatten());
        let found = found.unwrap_or_else(|| panic!("{} announced no {word}: {:?}", self.name, self.announced));
        found.trim_end_matches("/readyz").trim_end_matches('/').to_owned()
    }

    /// Whether the announcement has these words.
    pub(crate) fn announces(&self, words: &str) -> bool {
        self.announced.iter().any(|line| line.contains(words))
    }

    /// A file as the process sees it, which may have a file system of its own there.
    pub(crate) fn inside(&self, path: &Path) -> PathBuf {
        Path::new("/proc").join(self.pid().to_string()).join("root").join(path.strip_prefix("/").unwrap())
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without a word.
    pub(crate) fn kill9(&mut self) {
        self.killed = true;
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end: it has to, cleanly and soon, unless it was killed before.
    pub(crate) async fn stop(&mut self) {
        if self.killed {
            return;
        }
        if self.child.try_wait().unwrap().is_none() {
            self.signal(Signal::TERM);
        }
        self.ends_cleanly().await;
    }

    /// It has been asked to end.
    pub(crate) async fn ends_cleanly(&mut self) {
        let status = self.exit(STOP_WITHIN).await;
        assert_eq!(status.code(), Some(0), "{} ended with {status} when it was asked to stop", self.name);
    }

    /// Sends a signal; what is stopped by it stands still from then on.
    pub(crate) fn signal(&self, signal: Signal) {
        send_signal(&self.child, signal);
    }

    /// It ends by itself, with this code, and says these words.
    pub(crate) async fn fails(&mut self, words: &[&str]) {
        let status = self.exit(PATIENCE).await;
        self.killed = true;
        let log = fs::read_to_string(&self.log).unwrap();
        assert_eq!(status.code(), Some(1), "{log}");
        for word in words {
            assert!(log.contains(word), "{} does not say {word:?}: {log}", self.name);
        }
    }

    /// Whether it has written these words to its log.
    pub(crate) fn says(&self, words: &str) -> bool {
        fs::read_to_string(&self.log).unwrap().contains(words)
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub(crate) async fn exit(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "{} did not end within {limit:?}", self.name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        self.child.kill().and_then(|()| self.child.wait().map(drop)).ok();
        if std::thread::panicking() {
            eprintln!("--- {} ({})\n{}", self.name, self.log.display(), end_of(&self.log).unwrap_or_default());
        }
    }
}

/// Sends a signal. After SIGSTOP the kernel stops one thread after the other: this returns when all of them stand.
pub(super) fn send_signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), signal).unwrap();
    let end = Instant::now() + PATIENCE;
    while signal == Signal::STOP && !stands_still(child.id()) {
        assert!(Instant::now() < end, "process {} does not stop", child.id());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn stands_still(pid: u32) -> bool {
    let states = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let mut states = states.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    states.all(|status| status.contains("\nState:\tT"))
}

/// The processes that `pid` has started.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
}

/// The last lines of a log, and the errors before them.
pub(super) fn end_of(log: &Path) -> io::Result<String> {
    let text = fs::read_to_string(log)?;
    let lines: Vec<&str> = text.lines().collect();
    let (before, end) = lines.split_at(lines.len().saturating_sub(60));
    let errors = before.iter().filter(|line| line.contains("\"ERROR\""));
    Ok(errors.chain(end).copied().collect::<Vec<_>>().join("\n"))
}
