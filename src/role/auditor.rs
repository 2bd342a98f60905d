//! The writing side of the store: every message of the stream becomes one row, and is acknowledged after that.
//!
//! Several auditors compete for the same consumer; order does not matter, the key decides. While the store is away
//! nothing is pulled and nothing is lost: the stream holds everything.

mod fill;
mod keeper;
mod retention;
mod writer;

use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::fill::fill;
use self::writer::Writer;
use super::Ctx;
use super::opened::{self, Opened};
use crate::bus::{Pull, PullOptions};
use crate::config::AuditorConfig;
use crate::store::StoreOptions;

/// The consumer that gets everything.
pub(crate) const CONSUMER: &str = "audit";

/// How soon a reconnect is noticed without traffic.
const LOOK: Duration = Duration::from_millis(500);

/// Runs one auditor until `shutdown`. What is older than `keep` goes from the store, if that is given.
pub(crate) async fn run(
    ctx: Ctx,
    config: AuditorConfig,
    store: StoreOptions,
    keep: Option<Duration>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Some(Opened { store, ready }) = opened::open(&ctx, &store, &shutdown).await? else {
        return Ok(());
    };
    let options = PullOptions { batch: config.batch, expires: Duration::from_secs(30) };
    let mut pull = Pull::bind(&ctx.bus, CONSUMER, options).await?;
    let writer = Writer::new(&ctx, &config, store.clone(), ready);
    let mut checked = ctx.events.reconnects();
    writer.check_stream(&shutdown).await?;
    // A few batches are written while the next is collected; a store that lags stops the collecting, and so the pulling.
    let (batches, waiting) = mpsc::channel(1);
    let tasks = TaskTracker::new();
    let written = tasks.spawn(writer.clone().run(waiting, shutdown.clone()));
    let beside = &ctx.beside;
    beside.spawn(&tasks, "the care for room in the stream", keeper::keep(ctx.bus.clone(), shutdown.clone()));
    if let Some(keep) = keep {
        beside.spawn(&tasks, "the retention", retention::watch(ctx.bus.clone(), store, keep, shutdown.clone()));
    }
    ctx.ready();

    let mut batch = Vec::with_capacity(config.flush_rows);
    let mut looks = tokio::time::interval(LOOK);
    let mut refused = None;
    loop {
        let filled = {
            // Filled to its end beside the looks: begun anew with each, a row that is alone would never be written, and a
            // flow that broke never be asked for again.
            let mut filling = pin!(fill(&mut pull, &config, &mut batch));
            loop {
                let filled = tokio::select! {
                    biased;
                    () = shutdown.cancelled() => break false,
                    _ = looks.tick() => false,
                    () = &mut filling => true,
                };
                // It may be another server, or the same one without its tail: found out before anything of it is written.
                let reconnects = ctx.events.reconnects();
                if reconnects != checked {
                    checked = reconnects;
                    refused = writer.check_stream(&shutdown).await.err();
                }
                if filled || refused.is_some() {
                    break filled;
                }
            }
        };
        if !filled || refused.is_some() {
            break;
        }
        let full = std::mem::replace(&mut batch, Vec::with_capacity(config.flush_rows));
        if batches.send(full).await.is_err() {
            break;
        }
        if writer.is_away() {
            // What the server still sends for the open question comes again after `ack_wait`.
            pull.stop();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = writer.back() => {}
            }
        }
    }
    pull.stop();
    for delivery in batch {
        delivery.handle.give_back().await;
    }
    drop(batches);
    tasks.close();
    let result = written.await?;
    ctx.bus.close(ctx.grace / 4).await;
    refused.map_or(result, Err)
}
