//! Whose turn it is to change what all processes share: one `init` at a time, by a key in the bucket of members.
//!
//! Whoever has it writes the key anew all the time. A key that stands still was left by somebody who died over it; who
//! can't write it leaves off long before others take it for dead.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use uuid::Uuid;

use crate::bus::{Bus, BusError};

/// The key that is held.
const KEY: &str = "init";
/// Between two writes of it.
const RENEW: Duration = Duration::from_secs(2);
/// Who could not write it for so long leaves off.
const LEAVE_OFF: Duration = Duration::from_secs(8);
/// Who has not written it for so long, by the clock of whoever waits, is dead.
const DEAD: Duration = Duration::from_secs(20);
/// How long others are waited for.
const PATIENCE: Duration = Duration::from_secs(240);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// Looks without an answer, one after the other, that are tried again.
const AGAIN: u32 = 4;

/// Runs `work` while nobody else of this deployment runs theirs.
pub(super) async fn alone<T>(bus: &Bus, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let own = Bytes::from(Uuid::now_v7().to_string());
    let revision = take(bus, &own).await.context("wait for the turn of this init")?;
    let done = tokio::select! {
        biased;
        () = lose(bus, &own, revision) => bail!("the turn is lost, another init may run by now: run `yalo init` again"),
        done = work => done,
    };
    if let Err(error) = give_back(bus, &own).await {
        tracing::warn!(%error, "the turn could not be given back; the next init waits for {} s", DEAD.as_secs());
    }
    done
}

/// Takes the turn; the key's revision.
async fn take(bus: &Bus, own: &Bytes) -> anyhow::Result<u64> {
    let mut seen = Seen { revision: None, since: Instant::now() };
    let end = seen.since + PATIENCE;
    let mut unanswered = 0;
    loop {
        match look(bus, own, &mut seen).await {
            Ok(Some(revision)) => return Ok(revision),
            Ok(None) => unanswered = 0,
            Err(error) if error.is_transient() && unanswered < AGAIN => unanswered += 1,
            Err(error) => return Err(error.into()),
        }
        if Instant::now() > end {
            bail!("another init goes on and on: see that only one runs, and try again");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What the key was when it was last looked at.
struct Seen {
    revision: Option<u64>,
    /// It has had this revision since then, or longer.
    since: Instant,
}

/// Takes the turn if nobody has it.
async fn look(bus: &Bus, own: &Bytes, seen: &mut Seen) -> Result<Option<u64>, BusError> {
    let held = bus.members(KEY).await?.pop();
    let revision = held.as_ref().map(|held| held.revision);
    if held.as_ref().is_some_and(|held| held.value == *own) {
        // It was written, and that not confirmed.
        return Ok(revision);
    }
    if revision != seen.revision {
        *seen = Seen { revision, since: Instant::now() };
    }
    let is_free = held.is_none_or(|held| held.value.is_empty()) || seen.since.elapsed() > DEAD;
    if !is_free {
        return Ok(None);
    }
    match bus.replace_member(KEY, own.clone(), revision.unwrap_or(0)).await {
        Ok(revision) => Ok(Some(revision)),
        // Somebody was faster, or a replica that lags was asked.
        Err(BusError::Fenced) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes the key, as long as it is our own: a process that was frozen may have lost it without seeing that.
async fn give_back(bus: &Bus, own: &Bytes) -> Result<(), BusError> {
    match bus.members(KEY).await?.pop() {
        Some(held) if held.value == own => bus.remove_member(KEY).await,
        _ => Ok(()),
    }
}

/// Keeps the turn; ends when it may be somebody else's.
async fn lose(bus: &Bus, own: &Bytes, mut revision: u64) {
    let mut written = Instant::now();
    loop {
        tokio::time::sleep(RENEW).await;
        // A process that was frozen finds this first.
        if written.elapsed() > LEAVE_OFF {
            return;
        }
        let now = Instant::now();
        match bus.replace_member(KEY, own.clone(), revision).await {
            Ok(next) => (revision, written) = (next, now),
            // It was stored and not confirmed, or somebody has taken over.
            Err(BusError::Fenced) => match bus.members(KEY).await.map(|mut held| held.pop()) {
                Ok(Some(held)) if held.value == own => revision = held.revision,
                Ok(Some(held)) if held.revision > revision => return,
                // A replica that lags.
                _ => {}
            },
            Err(error) => tracing::debug!(%error, "the turn could not be renewed: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::LinkEvents;
    use crate::bus::provision::{self, Plan};
    use crate::bus::server::testing::TestServer;
    use crate::config::{Config, Layers, Secret};

    #[tokio::test]
    async fn who_finds_that_somebody_has_taken_over_leaves_off() {
        let test = TestServer::start().await;
        let mut config = Config::load(&Layers::default()).unwrap().config;
        config.nats.url = test.server.url();
        test.server.user().clone_into(&mut config.nats.user);
        config.nats.password = Secret::new(test.server.password());
        let bus = super::super::connect(&config, "test", LinkEvents::default()).await.unwrap();
        let plan = Plan::members(bus.subjects(), &super::super::provision_options(&config, None));
        provision::reconcile(&bus.jetstream(), &plan, false).await.unwrap();
        assert_eq!(alone(&bus, async { Ok(7) }).await.unwrap(), 7);
        let work = async {
            // Longer than it takes to renew: the key moves all the time.
            let first = bus.members(KEY).await.unwrap().pop().unwrap();
            while bus.members(KEY).await.unwrap().pop().unwrap().revision == first.revision {
                tokio::time::sleep(LOOK).await;
            }
            bus.put_member(KEY, "another".into()).await.unwrap();
            std::future::pending::<anyhow::Result<()>>().await
        };
        let lost =
            tokio::time::timeout(LEAVE_OFF + DEAD, Box::pin(alone(&bus, work))).await.expect("an end").unwrap_err();
        assert!(lost.to_string().contains("another init"), "{lost}");
        // Its key is left to it.
        assert_eq!(bus.members(KEY).await.unwrap().pop().unwrap().value, "another");
    }
}
