//! The hidden subcommand that ties the server's life to ours: it asks the kernel for a signal at yalo's death, then
//! becomes the server.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, getppid};

/// The hidden subcommand: `yalo __nats-server <process id of yalo> -- <program> <arguments>`.
pub const WRAPPER_COMMAND: &str = "__nats-server";

/// Becomes the program named in `args` (what follows [`WRAPPER_COMMAND`]); returns only if that fails.
///
/// Between our start and the request for the signal yalo may have died already; then nobody would ever send it, so the
/// parent is looked at once more and the server is not started.
pub fn exec_wrapper(args: impl IntoIterator<Item = OsString>) -> io::Error {
    let mut args = args.into_iter();
    let parent = args.next().and_then(|arg| arg.to_str()?.parse().ok()).and_then(Pid::from_raw);
    // The argument parser may have kept the separator or dropped it.
    let program = args.next().and_then(|arg| if arg == "--" { args.next() } else { Some(arg) });
    let (Some(parent), Some(program)) = (parent, program) else {
        return io::Error::new(io::ErrorKind::InvalidInput, "this command is yalo's own: it starts nats-server");
    };
    if let Err(error) = die_with_parent() {
        return error;
    }
    if getppid() != Some(parent) {
        return io::Error::other("yalo is gone");
    }
    Command::new(program).args(args).exec()
}

/// SIGTERM, so that the server writes down its consumers' state; its store stays locked until it is gone.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?)
}

/// Elsewhere there is no such signal: a killed yalo leaves its server behind, and the next start names it.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn die_with_parent() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use super::*;
    use crate::bus::server::testing::{eventually, process_lives};

    const ARGS: &str = "YALO_TEST_WRAPPER_ARGS";

    /// Not a test of its own: with the variable set, this process is the hidden subcommand.
    #[test]
    fn act_as_the_hidden_subcommand() {
        if let Some(args) = std::env::var_os(ARGS) {
            panic!("{}", exec_wrapper(args.to_str().unwrap().split('|').map(OsString::from)));
        }
    }

    fn shell(script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(std::env::current_exe().unwrap());
        shell.args(["bus::server::wrapper::tests::act_as_the_hidden_subcommand", "--exact", "--nocapture"]);
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        shell
    }

    #[test]
    fn the_program_dies_when_its_parent_is_killed() {
        let script = format!("export {ARGS}=\"$$|--|sh|-c|echo ready; exec sleep 60\"; \"$@\" & echo pid $!; wait");
        let mut parent = shell(&script).spawn().unwrap();
        // Both write to one pipe, in whatever order.
        let (mut pid, mut is_ready) = (None, false);
        for line in BufReader::new(parent.stdout.take().unwrap()).lines().map(Result::unwrap) {
            pid = pid.or_else(|| line.rsplit_once("pid ")?.1.parse::<u32>().ok());
            is_ready = is_ready || line.ends_with("ready");
            if pid.is_some() && is_ready {
                break;
            }
        }
        let pid = pid.filter(|_| is_ready).expect("the program runs");
        assert!(process_lives(pid));
        parent.kill().unwrap();
        parent.wait().unwrap();
        eventually("the program is gone", || !process_lives(pid));
    }

    #[test]
    fn nothing_is_started_for_a_parent_that_is_gone() {
        let output = shell(&format!("export {ARGS}='1|--|echo|started'; \"$@\"")).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(said.contains("yalo is gone") && !said.contains("started"), "{said}");
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for args in [vec![], vec!["x"], vec!["12"], vec!["0", "--", "true"]] {
            let error = exec_wrapper(args.into_iter().map(OsString::from));
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
