//! Finding the nats-server program, and refusing one that is too old by its name and version.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::ServerError;
use super::version::{OLDEST, Version};

/// The name that is looked up on PATH when none is configured.
const NAME: &str = "nats-server";
/// How long `--version` may take; it takes 10 to 20 ms.
const ANSWER: Duration = Duration::from_secs(5);

/// The program to start, with its version: `given`, or `nats-server` on PATH.
///
/// PATH is searched by the system when the program is started, so nothing here reads the environment.
pub(super) fn checked(given: Option<&Path>) -> Result<(PathBuf, Version), ServerError> {
    let program = given.unwrap_or(Path::new(NAME));
    let output = version_output(program)?;
    let Some(version) = Version::parse_output(&output) else {
        let output = output.lines().next().unwrap_or_default().chars().take(80).collect();
        return Err(ServerError::NotNatsServer { program: program.to_owned(), output });
    };
    if version < OLDEST {
        return Err(ServerError::TooOld { program: program.to_owned(), version });
    }
    Ok((program.to_owned(), version))
}

fn version_output(program: &Path) -> Result<String, ServerError> {
    let cannot_run = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => ServerError::Missing { program: program.to_owned() },
        _ => ServerError::CannotRun { program: program.to_owned(), source },
    };
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(cannot_run)?;
    let deadline = Instant::now() + ANSWER;
    while child.try_wait().map_err(cannot_run)?.is_none() {
        if Instant::now() > deadline {
            child.kill().and_then(|()| child.wait()).map_err(cannot_run)?;
            return Err(ServerError::NotNatsServer { program: program.to_owned(), output: "no answer".to_owned() });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(4096).read_to_end(&mut output).map_err(cannot_run)?;
    }
    Ok(String::from_utf8_lossy(&output).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn script(dir: &Path, body: &str) -> PathBuf {
        let path = dir.join("fake-nats-server");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn an_older_server_is_refused_by_name_and_version() {
        let dir = tempfile::tempdir().unwrap();
        let old = script(dir.path(), "echo 'nats-server: v2.9.10'");
        let refusal = checked(Some(&old)).unwrap_err().to_string();
        assert!(refusal.contains("fake-nats-server") && refusal.contains("2.9.10"), "{refusal}");
        assert!(refusal.contains("2.11") && refusal.contains("make run"), "{refusal}");
    }

    #[test]
    fn a_missing_server_says_how_to_get_one() {
        let refusal = checked(Some(Path::new("/nowhere/nats-server"))).unwrap_err();
        assert!(matches!(refusal, ServerError::Missing { .. }), "{refusal:?}");
        let refusal = refusal.to_string();
        for way in ["make run", "PATH", "nats.server", "/nowhere/nats-server"] {
            assert!(refusal.contains(way), "{refusal}");
        }
    }

    #[test]
    fn another_program_is_not_taken_for_a_server() {
        let dir = tempfile::tempdir().unwrap();
        let other = script(dir.path(), "echo 'hello'; exit 3");
        assert!(matches!(checked(Some(&other)), Err(ServerError::NotNatsServer { .. })));
        let file = dir.path().join("plain");
        std::fs::write(&file, "text").unwrap();
        assert!(matches!(checked(Some(&file)), Err(ServerError::CannotRun { .. })));
    }
}
