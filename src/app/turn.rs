//! Whose turn it is to change what all processes share: one `init` at a time, by a key in the bucket of members.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::bus::{Bus, BusError};

/// The key that is held.
const KEY: &str = "init";
/// Whoever has held it for so long, by our own clock, has died over it: the changes themselves are limited to less.
const DEAD: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// Runs `work` while nobody else of this deployment runs theirs.
pub(super) async fn alone<T>(bus: &Bus, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    take(bus).await.context("wait for the turn of this init")?;
    let done = work.await;
    if let Err(error) = bus.remove_member(KEY).await {
        tracing::warn!(%error, "the turn could not be given back; the next init waits for {} s", DEAD.as_secs());
    }
    done
}

async fn take(bus: &Bus) -> anyhow::Result<()> {
    let mut since = Instant::now();
    let end = since + DEAD + DEAD;
    let mut seen = None;
    loop {
        let held = bus.members(KEY).await?.pop();
        let revision = held.as_ref().map(|held| held.revision);
        if revision != seen {
            (seen, since) = (revision, Instant::now());
        }
        let is_free = held.is_none_or(|held| held.value.is_empty()) || since.elapsed() > DEAD;
        if is_free {
            match bus.replace_member(KEY, "held".into(), revision.unwrap_or(0)).await {
                Ok(_) => return Ok(()),
                // Somebody was faster, or a replica that lags was asked.
                Err(BusError::Fenced) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if Instant::now() > end {
            bail!("another init goes on and on: see that only one runs, and try again");
        }
        tokio::time::sleep(LOOK).await;
    }
}
