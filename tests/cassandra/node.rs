//! A real Cassandra for tests, alone or as a ring: a child process that outlives neither the test nor its process.
//!
//! `node.sh` beside this file starts it, and ends it when its standard input ends. The kernel closes that with whoever
//! holds it, so nothing is left behind by a panic, by `kill -9`, or by a static that nobody drops.

#![allow(dead_code, reason = "several programs include this file, and none of them uses all of it")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The one node that all tests of a process share, each with a keyspace of its own.
static SHARED: OnceLock<Cassandra> = OnceLock::new();

/// A running Cassandra; dropping it ends every node and removes the folder. Its methods block: the start takes 7 s or
/// more, `up` as long again, the others milliseconds.
pub(crate) struct Cassandra {
    guard: Child,
    folder: PathBuf,
    addresses: Vec<String>,
    /// Where each node's log ended when the start was done.
    started: Vec<usize>,
    line: Mutex<Option<Line>>,
}

/// Commands to the guard, one a line, and its answers.
struct Line {
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Cassandra {
    /// Starts so many nodes and waits until each answers and sees the others. Data centre `datacenter1`.
    pub(crate) fn start(nodes: usize) -> Self {
        Self::start_with(nodes, &[])
    }

    /// The same with variables of `node.sh`: `("CASSANDRA_AUTH", "1")`, `("CASSANDRA_TLS", "1")`, `("CASSANDRA_YAML", ..)`,
    /// `("CASSANDRA_MODE", "bench")`, `("TMPDIR", ..)`.
    pub(crate) fn start_with(nodes: usize, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(script());
        command.arg(nodes.to_string()).env("YALO_TEST_CASSANDRA_LIB", jars()).envs(environment.iter().copied());
        // A group of its own: Ctrl-C ends the tests, and their end ends the nodes.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut guard = command.spawn().expect("bash runs tests/cassandra/node.sh");
        let commands = guard.stdin.take().expect("a pipe");
        let mut answers = BufReader::new(guard.stdout.take().expect("a pipe"));
        let mut said = Vec::new();
        loop {
            let line = line_of(&mut answers);
            assert!(!line.is_empty(), "no Cassandra: what tests/cassandra/node.sh says stands above");
            if line == "ready" {
                break;
            }
            said.push(line);
        }
        let folder = PathBuf::from(said.remove(0));
        let line = Mutex::new(Some(Line { commands, answers }));
        let mut cassandra = Self { guard, folder, addresses: said, started: Vec::new(), line };
        cassandra.started = (1..=nodes).map(|n| cassandra.log(n).len()).collect();
        cassandra
    }

    /// One node for the whole process, started by whoever asks first; it ends with the process.
    pub(crate) fn shared() -> &'static Self {
        SHARED.get_or_init(|| Self::start(1))
    }

    /// `HOST:PORT` of each node.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    /// The same with TLS, if it was started so.
    pub(crate) fn tls_addresses(&self) -> Vec<String> {
        let above = |address: &String| {
            let (host, port) = address.rsplit_once(':').expect("HOST:PORT");
            format!("{host}:{}", port.parse::<u16>().expect("a port") + 2)
        };
        self.addresses.iter().map(above).collect()
    }

    /// The process id of node `n`; the first is 1.
    pub(crate) fn pid(&self, n: usize) -> u32 {
        let path = self.folder.join(format!("node{n}/pid"));
        fs::read_to_string(&path).ok().and_then(|pid| pid.trim().parse().ok()).expect("a node with this number")
    }

    /// `kill -9`; the data stay.
    pub(crate) fn kill(&self, n: usize) {
        self.tell("kill", n);
    }

    /// Starts a killed node on its old data and waits until it answers and sees all others; they have to run.
    pub(crate) fn up(&self, n: usize) {
        self.tell("up", n);
    }

    /// Freezes a node: it still takes connections, and never answers.
    pub(crate) fn pause(&self, n: usize) {
        self.tell("pause", n);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self, n: usize) {
        self.tell("resume", n);
    }

    /// The log of a node, system.log.
    pub(crate) fn log(&self, n: usize) -> String {
        let path = self.folder.join(format!("node{n}/log/system.log"));
        String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned()
    }

    /// What the nodes have complained about since they were started.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let logs = (1..).zip(&self.started).map(|(n, start)| self.log(n).split_off(*start));
        let is_complaint = |line: &&str| [" WARN ", " ERROR "].iter().any(|level| line.contains(level));
        logs.flat_map(|log| log.lines().filter(is_complaint).map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// Where everything of it lies.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn tell(&self, verb: &str, n: usize) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let Line { commands, answers } = line.as_mut().expect("it is there until the drop");
        writeln!(commands, "{verb} {n}").expect("the guard listens");
        let answer = line_of(answers);
        assert!(answer == "ok", "{verb} {n}: {answer}");
    }
}

impl Drop for Cassandra {
    fn drop(&mut self) {
        // Also after a panic in the middle of a command: the guard ends with this line, and nobody would wait for it else.
        self.line.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        self.guard.wait().ok();
    }
}

/// One line without its end; nothing at the end of the output.
fn line_of(answers: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    answers.read_line(&mut line).expect("text");
    line.trim_end().to_owned()
}

/// `node.sh`, from whichever workspace this file is built in.
fn script() -> PathBuf {
    let places = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut scripts = places.map(|folder| folder.join("tests/cassandra/node.sh"));
    scripts.find(|script| script.is_file()).expect("tests/cassandra/node.sh")
}

/// The folder of the jars: `YALO_TEST_CASSANDRA_LIB`, else the one that `make` fetched.
fn jars() -> PathBuf {
    if let Some(given) = std::env::var_os("YALO_TEST_CASSANDRA_LIB") {
        return PathBuf::from(given);
    }
    let tools = script().ancestors().nth(3).map(|root| root.join(".tools")).unwrap_or_default();
    let mut found = fs::read_dir(tools).into_iter().flatten().flatten();
    let found = found.find(|entry| entry.file_name().to_string_lossy().starts_with("cassandra-"));
    found.map(|entry| entry.path()).expect(
        "these tests need a real Cassandra: run scripts/cassandra.sh, which fetches its jars into .tools, or set \
         YALO_TEST_CASSANDRA_LIB to their folder",
    )
}
