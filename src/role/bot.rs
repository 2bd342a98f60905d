//! The answering side: pulls questions, answers each once and in order, publishes the record, then acknowledges.
//!
//! At least once delivery, once-only effect: an engine may be called more than once for one question, its record is
//! stored once. A crash between any two steps repeats work and never a record (`answer.rs`).

mod answer;
mod continuity;
pub mod engines;
mod group;
mod lanes;
mod making;
mod members;
mod poison;
mod recovery;
mod repeat;
mod share;
mod view;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::answer::Memory;
use self::engines::Engine;
use self::group::Group;
use self::lanes::{Entry, Lanes};
use self::members::{Membership, Share};
use self::poison::Poison;
use super::{Beside, Ctx};
use crate::bus::Bus;
use crate::bus::provision::Names;
use crate::config::BotConfig;
use crate::domain::limits::MOST_GROUPS;
use crate::domain::{ConversationId, Timestamp};
use crate::telemetry::{Hop, Metrics};
use crate::wire::Control;

/// Conversations whose last record is remembered, so that their next question needs no read.
const MEMORIES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(65_535);
/// A waiting question says that often that it is not forgotten; the consumers' `ack_wait` is 10 s.
const PROGRESS_EVERY: Duration = Duration::from_secs(3);

/// What all lanes of one bot use.
struct Shared {
    bus: Bus,
    beside: Beside,
    engine: Engine,
    config: BotConfig,
    metrics: Metrics,
    lanes: Lanes,
    poison: Poison,
    /// The groups that are this bot's now.
    share: watch::Receiver<Share>,
    /// Lanes that answer at the same time.
    running: Semaphore,
}

/// Runs one bot until `shutdown`.
pub(crate) async fn run(ctx: Ctx, config: BotConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let engine = Engine::open(config.engine, &config.rules)?;
    // Each group holds a place while it waits for its next question; the others are for questions.
    let lanes = Lanes::new(config.concurrency * 8 + usize::from(MOST_GROUPS), MEMORIES);
    let running = Semaphore::new(config.concurrency);
    let life = format!("{}.{:08x}", ctx.member, fastrand::u32(..));
    let poison = Poison::new(&ctx.bus, &life);
    let (bus, beside, metrics) = (ctx.bus.clone(), ctx.beside.clone(), ctx.metrics.clone());
    let (mut membership, share) = Membership::new(&ctx);
    let shared = Arc::new(Shared { bus, beside, engine, config, metrics, lanes, poison, share, running });

    let (pullers, keepers, workers) = (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
    // Three stages of stopping: first no more questions are taken, then what runs may finish, then it is cut off. The
    // others take over after that, since only then this bot leaves.
    let (left, cut) = (CancellationToken::new(), CancellationToken::new());
    let beside = &shared.beside;
    let stops = (shutdown.clone(), cut.clone());
    let serving = serve_all(Arc::clone(&shared), pullers.clone(), workers.clone(), stops);
    beside.spawn(&pullers, "serving the groups", serving);
    beside.spawn(&keepers, "holding what waits", keep_alive(Arc::clone(&shared), left.clone()));
    let controls = ctx.bus.subscribe(ctx.bus.subjects().controls()).await?;
    beside.spawn(&keepers, "listening for cancellations", listen(Arc::clone(&shared), controls, left.clone()));
    let leaving = left.clone();
    let member = beside.spawn(&keepers, "the membership", async move {
        membership.keep(&leaving).await;
        membership
    });
    ctx.ready();

    shutdown.cancelled().await;
    pullers.close();
    pullers.wait().await;
    for handle in shared.lanes.drop_waiting(|_| true) {
        handle.give_back().await;
    }
    workers.close();
    // Half of the grace time for what runs; an unfinished question is unacknowledged and comes to another bot.
    if tokio::time::timeout(ctx.grace / 2, workers.wait()).await.is_err() {
        tracing::warn!("questions were still being answered at the end of the grace time, other bots take them over");
    }
    cut.cancel();
    workers.wait().await;
    left.cancel();
    keepers.close();
    shared.poison.give_all_back().await;
    if let Some(membership) = member.await? {
        membership.leave().await;
    }
    keepers.wait().await;
    ctx.bus.close(ctx.grace / 4).await;
    Ok(())
}

impl Shared {
    /// The group that a conversation belongs to now.
    fn group_of(&self, conversation: ConversationId) -> u8 {
        conversation.partition().group(self.share.borrow().of)
    }
}

/// Serves every group that there is, and those that are added later.
async fn serve_all(
    shared: Arc<Shared>,
    pullers: TaskTracker,
    workers: TaskTracker,
    (stop, cut): (CancellationToken, CancellationToken),
) {
    let (mut share, mut served) = (shared.share.clone(), 0);
    loop {
        let of = share.borrow_and_update().of;
        for (number, _) in Names::bots(of).skip(usize::from(served)) {
            let group = Group { shared: Arc::clone(&shared), number, of, workers: workers.clone(), cut: cut.clone() };
            shared.beside.spawn(&pullers, "serving a group", group.serve(share.clone(), stop.clone()));
        }
        served = of.max(served);
        match stop.run_until_cancelled(share.changed()).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return,
        }
    }
}

/// Works a lane off until it is empty.
async fn work_off(shared: Arc<Shared>, conversation: ConversationId, cut: CancellationToken) {
    let mut memory = shared.lanes.recall(conversation);
    while let Some(entry) = shared.lanes.next(conversation, &mut memory) {
        let Ok(_alone) = shared.poison.enter(shared.group_of(conversation), entry.asked.record.seq, &cut).await else {
            return;
        };
        let Ok(_permit) = shared.running.acquire().await else { return };
        shared.metrics.observe(Hop::Queue, Timestamp::now().since(entry.asked.record.at));
        if answer::handle(&shared, &mut memory, &entry, &cut).await.is_ok()
            && let Some(newest) = shared.lanes.running_handle(conversation)
        {
            newest.ack().await;
        }
    }
}

/// Answers one question beside all others: [`crate::mistake::Mistake::NoOrder`].
async fn answer_alone(shared: Arc<Shared>, entry: Entry, cut: CancellationToken) {
    let Ok(_permit) = shared.running.acquire().await else { return };
    if answer::handle(&shared, &mut Some(Memory::NONE), &entry, &cut).await.is_ok()
        && let Some(handle) = &entry.asked.handle
    {
        handle.ack().await;
    }
}

/// Hears what users want of the bot that answers them. All bots hear it, the one that makes the answer obeys.
async fn listen(shared: Arc<Shared>, mut controls: async_nats::Subscriber, left: CancellationToken) {
    while let Some(Some(message)) = left.run_until_cancelled(controls.next()).await {
        let conversation = shared.bus.subjects().parse_control(message.subject.as_str());
        if let (Some(conversation), Ok(Control::Stop)) = (conversation, serde_json::from_slice(&message.payload)) {
            shared.lanes.stop(conversation);
        }
    }
}

/// Everything that waits or runs is told of to the server, so that it is not handed to somebody else.
async fn keep_alive(shared: Arc<Shared>, cut: CancellationToken) {
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    loop {
        tokio::select! {
            biased;
            () = cut.cancelled() => return,
            _ = ticks.tick() => {}
        }
        for handle in shared.lanes.handles() {
            handle.progress().await;
        }
    }
}
