//! Retention: what is older than it has to be kept goes from the store, oldest first, once it is audited.
//!
//! Each auditor looks, none is elected: a step is short, may be repeated, and what has gone is gone for all.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, BusError};
use crate::domain::Timestamp;
use crate::store::{Contract, Store, StoreError};

/// How often it looks.
const LOOK: Duration = Duration::from_secs(60);
/// Rows go by the hour in which they get too old: in a cluster each step leaves marks behind for days.
const TOGETHER_NS: i64 = 3_600_000_000_000;
/// Rests between two steps, as a multiple of the step: writing goes first.
const REST: u32 = 4;
/// The least rest.
const LEAST_REST: Duration = Duration::from_millis(20);

/// Why it could not go on this time.
#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Looks until it is told to stop.
pub(super) async fn watch(bus: Bus, store: Store, keep: Duration, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match look(&bus, &store, keep, &shutdown).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "{rows} messages were older than store.retention_days and have gone"),
            Err(error) => tracing::warn!(%error, "what is too old could not go, it is tried again: {error}"),
        }
    }
}

/// Removes all that may go now, and says how much that was.
async fn look(bus: &Bus, store: &Store, keep: Duration, shutdown: &CancellationToken) -> Result<u64, RetentionError> {
    let keep_ns = i64::try_from(keep.as_nanos()).unwrap_or(i64::MAX);
    let before_ns = Timestamp::now().ns().saturating_sub(keep_ns);
    let before = Timestamp::from_ns(before_ns - before_ns.rem_euclid(TOGETHER_NS));
    // What the auditors have not acknowledged may still come: below it nothing may look retired.
    let passed = bus.consumer_state(super::CONSUMER).await?.ack_floor;
    let mut rows = 0;
    loop {
        let begun = Instant::now();
        let retired = store.retire(before, passed).await?;
        rows += retired.rows;
        if !retired.more {
            return Ok(rows);
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(rows),
            () = tokio::time::sleep((begun.elapsed() * REST).max(LEAST_REST)) => {}
        }
    }
}
