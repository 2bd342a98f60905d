//! The answering side: pulls questions, answers each once and in order, publishes the record, then acknowledges.
//!
//! At least once delivery, once-only effect: an engine may be called more than once for one question, its record is
//! stored once. A crash between any two steps repeats work and never a record (`answer.rs`).

mod answer;
pub mod engines;
mod lanes;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::engines::Engine;
use self::lanes::{Lanes, Offer};
use super::Ctx;
use crate::bus::{Bus, Delivery, Pull, PullOptions};
use crate::config::BotConfig;
use crate::domain::{ConversationId, Timestamp, limits};
use crate::telemetry::{Hop, Metrics};

/// Conversations whose last record is remembered, so that their next question needs no read.
const MEMORIES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(65_535);
/// A waiting question says that often that it is not forgotten; the consumers' `ack_wait` is 10 s.
const PROGRESS_EVERY: Duration = Duration::from_secs(3);

/// What all lanes of one bot use.
struct Shared {
    bus: Bus,
    engine: Engine,
    config: BotConfig,
    metrics: Metrics,
    lanes: Lanes,
    /// Lanes that answer at the same time.
    running: Semaphore,
}

/// Runs one bot until `shutdown`.
pub(crate) async fn run(ctx: Ctx, config: BotConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let engine = Engine::open(config.engine, &config.rules)?;
    let lanes = Lanes::new(config.concurrency * 8, MEMORIES);
    let running = Semaphore::new(config.concurrency);
    let shared =
        Arc::new(Shared { bus: ctx.bus.clone(), engine, config, metrics: ctx.metrics.clone(), lanes, running });
    let mut pulls = Vec::new();
    for group in 0..limits::GROUPS {
        let options = PullOptions { batch: 64, expires: Duration::from_secs(30) };
        pulls.push(Pull::bind(&ctx.bus, &format!("bot-{group}"), options).await?);
    }
    ctx.ready();

    let pullers = TaskTracker::new();
    let workers = TaskTracker::new();
    // Two stages of stopping: first no more questions are taken, then what runs may finish, then it is cut off.
    let cut = CancellationToken::new();
    for pull in pulls {
        pullers.spawn(take(Arc::clone(&shared), pull, workers.clone(), shutdown.clone(), cut.clone()));
    }
    pullers.spawn(keep_alive(Arc::clone(&shared), cut.clone()));
    shutdown.cancelled().await;

    for delivery in shared.lanes.give_back() {
        delivery.give_back().await;
    }
    workers.close();
    // Half of the grace time for what runs; an unfinished question is unacknowledged and comes to another bot.
    if tokio::time::timeout(ctx.grace / 2, workers.wait()).await.is_err() {
        tracing::warn!("questions were still being answered at the end of the grace time, other bots take them over");
    }
    cut.cancel();
    workers.wait().await;
    pullers.close();
    pullers.wait().await;
    ctx.bus.close(ctx.grace / 4).await;
    Ok(())
}

/// Takes the questions of one group, as many as there is room for.
async fn take(
    shared: Arc<Shared>,
    mut pull: Pull,
    workers: TaskTracker,
    shutdown: CancellationToken,
    cut: CancellationToken,
) {
    loop {
        // Room first: what is not taken stays on the server, where another bot can have it.
        let taken = async {
            let room = shared.lanes.room().await?;
            Some((pull.next().await, room))
        };
        let (delivery, room) = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            taken = taken => match taken {
                Some(taken) => taken,
                None => return,
            },
        };
        let Some(subject) = shared.bus.subjects().parse(&delivery.subject) else {
            // Not of the grammar, so not a question; the auditor keeps it.
            delivery.ack().await;
            continue;
        };
        if let Offer::Opened = shared.lanes.offer(subject.conversation, delivery, room) {
            workers.spawn(work_off(Arc::clone(&shared), subject.conversation, cut.clone()));
        }
    }
}

/// Works a lane off until it is empty.
async fn work_off(shared: Arc<Shared>, conversation: ConversationId, cut: CancellationToken) {
    let mut memory = shared.lanes.recall(conversation);
    while let Some(entry) = shared.lanes.next(conversation, &mut memory) {
        let Ok(_permit) = shared.running.acquire().await else { return };
        shared.metrics.observe(Hop::Queue, Timestamp::now().since(entry.delivery.at));
        let handled = handle_alive(&shared, &mut memory, &entry.delivery, &cut).await;
        if handled {
            // A redelivery in the meantime made the first handle worthless.
            match shared.lanes.newest_handle(conversation) {
                Some(newest) => newest.ack().await,
                None => entry.delivery.ack().await,
            }
        }
    }
}

/// Answers one question and tells the server meanwhile that it is being worked on.
async fn handle_alive(
    shared: &Shared,
    memory: &mut Option<answer::Memory>,
    delivery: &Delivery,
    cut: &CancellationToken,
) -> bool {
    let handling = answer::handle(shared, memory, delivery, cut);
    tokio::pin!(handling);
    loop {
        tokio::select! {
            biased;
            handled = &mut handling => return handled.is_ok(),
            () = tokio::time::sleep(PROGRESS_EVERY) => delivery.progress().await,
        }
    }
}

/// Everything that waits in a lane is told of to the server, so that it is not handed to somebody else.
async fn keep_alive(shared: Arc<Shared>, cut: CancellationToken) {
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    loop {
        tokio::select! {
            biased;
            () = cut.cancelled() => return,
            _ = ticks.tick() => {}
        }
        for mark in shared.lanes.progress_marks() {
            mark.progress().await;
        }
    }
}
