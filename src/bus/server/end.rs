//! The end of the server process: asked for, waited for, forced.

use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tracing::warn;

/// Pause between two looks at the process.
const LOOK: Duration = Duration::from_millis(3);

/// Reaps the process and says how it ended. With a `grace` it is asked to end; without one it is about to end by itself.
/// When the time is over it is killed.
pub(super) fn end(child: &mut Child, grace: Option<Duration>) -> String {
    // Only this thread reaps, so the process id is still the child's.
    if grace.is_some() {
        kill_process(Pid::from_child(child), Signal::TERM).ok();
    }
    let deadline = Instant::now() + grace.unwrap_or(Duration::from_secs(1));
    let mut killed = false;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.to_string(),
            Ok(None) if !killed && Instant::now() >= deadline => {
                if grace.is_some_and(|grace| !grace.is_zero()) {
                    warn!("nats-server did not end in time and is killed");
                }
                child.kill().ok();
                killed = true;
            }
            // Killed and still there: it hangs in the kernel, and nothing here can end it.
            Ok(None) if killed && Instant::now() >= deadline + Duration::from_secs(3) => return "it hangs".to_owned(),
            Ok(None) => std::thread::sleep(LOOK),
            Err(error) => return error.to_string(),
        }
    }
}
