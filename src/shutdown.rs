//! Signals to a stop: SIGINT or SIGTERM cancels a token, a second one ends the process at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The exit code of a process that was interrupted, as shells count it.
const INTERRUPTED: i32 = 130;
/// The exit code of a process that was terminated before it had stopped cleanly.
const FORCED: i32 = 1;

/// Listens for signals for as long as it lives.
#[derive(Debug)]
pub struct Shutdown {
    token: CancellationToken,
    _watch: JoinSet<()>,
}

impl Shutdown {
    /// Starts to listen. From here on SIGINT and SIGTERM end the process only through the token, or when sent twice.
    pub fn listen() -> io::Result<Self> {
        let mut signals =
            Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? };
        let token = CancellationToken::new();
        let mut watch = JoinSet::new();
        let stop = token.clone();
        watch.spawn(async move {
            let first = signals.next().await;
            info!("{first:?}: stopping; send it again to end at once");
            stop.cancel();
            let second = signals.next().await;
            warn!("{second:?} again: ending at once");
            force(second);
        });
        Ok(Self { token, _watch: watch })
    }

    /// Cancelled by the first signal.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

#[derive(Debug, Clone, Copy)]
enum Heard {
    Interrupt,
    Terminate,
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.interrupt.recv() => Heard::Interrupt,
            _ = self.terminate.recv() => Heard::Terminate,
        }
    }
}

#[expect(clippy::exit, clippy::disallowed_methods, reason = "the operator asked twice, so nothing is awaited any more")]
fn force(second: Heard) {
    std::process::exit(match second {
        Heard::Interrupt => INTERRUPTED,
        Heard::Terminate => FORCED,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    // One test: signals are process-wide, and a second one would end the test run.
    #[tokio::test]
    async fn the_first_signal_cancels_the_token() {
        let shutdown = Shutdown::listen().unwrap();
        let token = shutdown.token();
        assert!(!token.is_cancelled());
        kill_process(getpid(), Signal::TERM).unwrap();
        tokio::time::timeout(Duration::from_secs(5), token.cancelled()).await.unwrap();
    }
}
