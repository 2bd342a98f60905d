//! Runs named instances side by side: the first failure stops all and is named, and nothing outlives the grace time.

use std::future::Future;
use std::time::Duration;

use anyhow::{anyhow, bail};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::JoinMap;

/// A set of running instances.
pub struct Supervisor {
    instances: JoinMap<String, anyhow::Result<()>>,
    shutdown: CancellationToken,
    grace: Duration,
}

impl Supervisor {
    /// An empty set; cancelling `shutdown` asks every instance to stop, and each then has `grace` to do so.
    pub fn new(shutdown: CancellationToken, grace: Duration) -> Self {
        Self { instances: JoinMap::new(), shutdown, grace }
    }

    /// Starts one instance under its name.
    pub fn start(&mut self, name: String, instance: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.instances.spawn(name, instance);
    }

    /// Waits for all. Ends well only if every instance stopped well after it was asked to.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut culprit = None;
        while !self.shutdown.is_cancelled() {
            let ended = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                ended = self.instances.join_next() => ended,
            };
            let Some((name, result)) = ended else { break };
            culprit = Some(unasked(&name, result));
            self.shutdown.cancel();
        }
        let stopped = self.stop().await;
        match culprit {
            Some(error) => Err(error),
            None => stopped,
        }
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        let mut first = None;
        let all = async {
            while let Some((name, result)) = self.instances.join_next().await {
                let error = match result {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => error.context(format!("{name} failed while it stopped")),
                    Err(error) => anyhow!("{name} panicked while it stopped: {error}"),
                };
                tracing::error!("{error:#}");
                first.get_or_insert(error);
            }
        };
        if tokio::time::timeout(self.grace, all).await.is_err() {
            let deaf: Vec<String> = self.instances.keys().cloned().collect();
            self.instances.abort_all();
            bail!("not stopped within {} ms: {}", self.grace.as_millis(), deaf.join(", "));
        }
        first.map_or(Ok(()), Err)
    }
}

/// An instance that ended although nobody asked it to; one that was asked meanwhile may have ended well.
fn unasked(name: &str, result: Result<anyhow::Result<()>, JoinError>) -> anyhow::Error {
    match result {
        Ok(Ok(())) => anyhow!("{name} ended although nobody asked it to"),
        Ok(Err(error)) => error.context(format!("{name} failed")),
        Err(error) => anyhow!("{name} panicked: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervisor() -> (Supervisor, CancellationToken) {
        let shutdown = CancellationToken::new();
        (Supervisor::new(shutdown.clone(), Duration::from_millis(200)), shutdown)
    }

    #[tokio::test]
    async fn the_first_failure_stops_all_and_is_named() {
        let (mut supervisor, shutdown) = supervisor();
        let token = shutdown.clone();
        supervisor.start("calm".to_owned(), async move {
            token.cancelled().await;
            Ok(())
        });
        supervisor.start("broken".to_owned(), async { bail!("no luck") });
        let error = format!("{:#}", supervisor.run().await.unwrap_err());
        assert_eq!(error, "broken failed: no luck");
        assert!(shutdown.is_cancelled());
    }

    #[tokio::test]
    async fn a_panic_is_named_too() {
        let (mut supervisor, _shutdown) = supervisor();
        supervisor.start("hasty".to_owned(), async { panic!("ouch") });
        let error = supervisor.run().await.unwrap_err().to_string();
        assert!(error.starts_with("hasty panicked"), "{error}");
    }

    #[tokio::test]
    async fn who_does_not_stop_in_time_is_named() {
        let (mut supervisor, shutdown) = supervisor();
        supervisor.start("deaf".to_owned(), std::future::pending());
        shutdown.cancel();
        let error = supervisor.run().await.unwrap_err().to_string();
        assert_eq!(error, "not stopped within 200 ms: deaf");
    }

    #[tokio::test]
    async fn a_stop_that_was_asked_for_ends_well() {
        let (mut supervisor, shutdown) = supervisor();
        let token = shutdown.clone();
        supervisor.start("calm".to_owned(), async move {
            token.cancelled().await;
            Ok(())
        });
        shutdown.cancel();
        assert!(supervisor.run().await.is_ok());
    }
}
