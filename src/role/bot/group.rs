//! One group of partitions, as long as it is this bot's: pulled in order, without a hole.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::continuity::Continuity;
use super::lanes::{Asked, Entry, Offer};
use super::members::{ALONE_AFTER, Share};
use super::{Shared, answer_alone, recovery, work_off};
use crate::bus::{Pull, PullOptions};
use crate::domain::ConversationId;
use crate::mistake::{self, Mistake};

/// Short, since a frozen process still gets what its open pull asks for.
const PULL: PullOptions = PullOptions { batch: 64, expires: Duration::from_secs(3) };

/// Who has not given a group back may be handed some of it until then: it has renewed its share, and heard who is there, or
/// has let it run out.
const OTHER_ENDS: Duration = ALONE_AFTER.saturating_add(Duration::from_secs(1));

/// What serves one group.
#[derive(Clone)]
pub(super) struct Group {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u8,
    /// Of how many groups.
    pub(super) of: u16,
    pub(super) workers: TaskTracker,
    pub(super) cut: CancellationToken,
}

impl Group {
    /// Serves the group whenever it is this bot's, until `stop`.
    pub(super) async fn serve(mut self, mut share: watch::Receiver<Share>, stop: CancellationToken) {
        let number = self.number;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                mine = share.wait_for(|share| share.has(number)) => match mine {
                    Ok(share) => self.of = share.of,
                    Err(_) => return,
                },
            }
            let of = self.of;
            self.shared.metrics.groups.inc();
            let mut losing = share.clone();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                _ = losing.wait_for(|share| !share.has_of(number, of)) => {}
                () = self.pull(share.clone()) => {}
            }
            self.shared.metrics.groups.dec();
            if stop.is_cancelled() {
                return;
            }
            // Whoever has it now reads them again, in order. What runs may finish: the fence decides.
            self.shared.lanes.drop_waiting(|conversation| conversation.partition().group(of) == number);
            self.shared.poison.give_back(number).await;
        }
    }

    /// Recovers, then pulls for ever, and recovers again whenever a delivery is missing.
    async fn pull(&self, share: watch::Receiver<Share>) {
        let mut pull = Pull::new(&self.shared.bus, &self.consumer(), PULL);
        let mut continuity = Continuity::default();
        let mut other_has_ended = recovery::take_over(self).await;
        continuity.recovered(recovery::recover(self).await);
        let other_ends = tokio::time::sleep(OTHER_ENDS);
        tokio::pin!(other_ends);
        loop {
            // Room first: what is not taken stays on the server, where another bot can have it.
            let Some(room) = self.shared.lanes.room().await else { return };
            let delivery = tokio::select! {
                biased;
                () = &mut other_ends, if !other_has_ended => {
                    // What it was handed meanwhile and dropped: without another delivery nobody would miss it.
                    other_has_ended = true;
                    continuity.recovered(recovery::recover(self).await);
                    continue;
                }
                delivery = pull.next() => delivery,
            };
            // A process that was frozen finds out here that it is not the owner any more.
            if !share.borrow().has_of(self.number, self.of) {
                return;
            }
            let follows = continuity.follows(delivery.consumer_seq);
            if !follows && !mistake::made(Mistake::NoContinuity) && !mistake::made(Mistake::NoOrder) {
                tracing::info!(group = self.number, "a delivery of group {} is missing: reading them", self.number);
                continuity.recovered(recovery::recover(self).await);
            }
            let Some(subject) = self.shared.bus.subjects().parse(&delivery.record.subject) else {
                // Not of the grammar, so not a question; the auditor keeps it.
                delivery.handle.ack().await;
                continue;
            };
            if subject.conversation.partition().group(self.of) != self.number {
                recovery::pass_on(self, &delivery, subject.conversation.partition()).await;
                continue;
            }
            if mistake::made(Mistake::NoOrder) {
                let entry = Entry::new(delivery.into(), room);
                let alone = answer_alone(Arc::clone(&self.shared), entry, self.cut.clone());
                self.shared.beside.spawn(&self.workers, "answering", alone);
                continue;
            }
            if mistake::made(Mistake::AckBeforeAnswer) {
                delivery.handle.ack().await;
            }
            if mistake::made(Mistake::NakInsteadOfLane) && self.shared.lanes.is_busy(subject.conversation) {
                delivery.handle.give_back().await;
                continue;
            }
            self.offer(subject.conversation, delivery.into(), room);
        }
    }

    /// Puts a question into its lane, and starts the lane if it was empty.
    pub(super) fn offer(&self, conversation: ConversationId, asked: Asked, room: tokio::sync::OwnedSemaphorePermit) {
        if let Offer::Opened = self.shared.lanes.offer(conversation, asked, room) {
            let lane = work_off(Arc::clone(&self.shared), conversation, self.cut.clone());
            self.shared.beside.spawn(&self.workers, "working a lane off", lane);
        }
    }

    /// The name of its consumer.
    pub(super) fn consumer(&self) -> String {
        crate::bus::provision::Names::bot(self.number)
    }
}
