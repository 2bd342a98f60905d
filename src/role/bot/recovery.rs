//! Reads the questions that were handed to somebody and never acknowledged, before anything younger is answered.
//!
//! From the consumer's ack floor to the newest delivery, in order, from the stream itself; those that have a record
//! already are left out. Replicas lag: the end of a read is believed only if it lies behind the newest delivery, or if
//! the stream's leader knows of nothing between them.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::group::Group;
use crate::bus::{BusError, Delivery, From, Record};
use crate::domain::{Partition, Who};
use crate::mistake::{self, Mistake};
use crate::wire;

/// Messages of one read.
const PAGE: usize = 256;

/// Leaves word that the group is this bot's now, and finds what became of the one before it ([`super::poison`]): whether it
/// has ended. Tries until it has succeeded, and so does [`recover`]: nothing may be answered before.
pub(super) async fn take_over(group: &Group) -> bool {
    let mut failures = Failures::default();
    loop {
        match group.shared.poison.take_over(group.number).await {
            Ok(has_ended) => return has_ended,
            Err(error) => failures.pause(group.number, &error).await,
        }
    }
}

/// Offers every open question of the group to its lane. Gives the number of the newest delivery that is covered.
pub(super) async fn recover(group: &Group) -> u64 {
    let mut failures = Failures::default();
    loop {
        match attempt(group).await {
            Ok(deliveries) => return deliveries,
            Err(error) => failures.pause(group.number, &error).await,
        }
    }
}

/// While groups are added, an old one may still be handed what a new one has by now. Those before it in its conversation are
/// no longer looked for here, so it is not answered here: it stays unacknowledged until the new group has answered it, since
/// a bot that knows of the old groups only looks for it behind the floor of this one.
pub(super) async fn pass_on(group: &Group, delivery: &Delivery, partition: Partition) {
    let seq = delivery.record.seq;
    match answered_from(group, partition, seq).await {
        Ok(answered) if answered.contains(&seq) => delivery.handle.ack().await,
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, seq, "not known whether it is answered: it comes again"),
    }
}

/// How often something has failed in a row.
#[derive(Default)]
struct Failures(u32);

impl Failures {
    /// Waits longer after each, up to a second, and says so once in a while.
    async fn pause(&mut self, group: u8, error: &BusError) {
        self.0 += 1;
        if self.0 % 16 == 1 {
            tracing::warn!(group, %error, "group {group} waits: {error}");
        }
        let most = (50u64 << self.0.min(5)).min(1000);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(most / 2..=most))).await;
    }
}

async fn attempt(group: &Group) -> Result<u64, BusError> {
    let bus = &group.shared.bus;
    let consumer = bus.consumer_state(&group.consumer()).await?;
    // In this order: `init` says that there are more groups before it takes partitions from the old ones. Those that a
    // consumer has no more say nothing to its floor, and what is read behind it may not be the first that is open.
    let stream = bus.stream_state().await?;
    if stream.groups != group.of {
        let reason = format!("there are {} groups by now, and this bot goes by {}", stream.groups, group.of);
        return Err(BusError::unavailable("recover", reason));
    }
    let range = stream.first_seq.max(consumer.ack_floor + 1)..=consumer.delivered;
    let mut open = 0;
    if !range.is_empty() && !mistake::made(Mistake::NoRecovery) {
        for partition in (0..=u8::MAX).map(Partition).filter(|partition| partition.group(group.of) == group.number) {
            open += offer_open(group, partition, &range).await?;
        }
    }
    if open > 0 {
        group.shared.metrics.recovered.inc_by(open);
        tracing::info!(group = group.number, open, "group {}: {open} open questions were read", group.number);
    }
    Ok(consumer.deliveries)
}

/// Offers the open questions of one partition, in order; how many there were.
async fn offer_open(group: &Group, partition: Partition, range: &RangeInclusive<u64>) -> Result<u64, BusError> {
    let bus = &group.shared.bus;
    let filter = bus.subjects().side(partition, Who::User);
    let (mut open, mut next) = (0, *range.start());
    let mut answered = None;
    loop {
        let page = bus.read(&filter, From::Seq(next), PAGE).await?;
        next = page.records.last().map_or(next, |record| record.seq + 1);
        for record in page.records.into_iter().filter(|record| range.contains(&record.seq)) {
            if answered.is_none() {
                answered = Some(answered_from(group, partition, *range.start()).await?);
            }
            if !answered.as_ref().is_some_and(|answered| answered.contains(&record.seq)) {
                open += u64::from(offer(group, record).await);
            }
        }
        if next > *range.end() {
            return Ok(open);
        }
        if !page.more {
            if mistake::made(Mistake::LaggingReplicaBelieved) {
                return Ok(open);
            }
            return match bus.next_by_leader(&filter, next).await? {
                Some(seq) if seq <= *range.end() => {
                    Err(BusError::unavailable("recover", "the replica that answered lags behind the leader"))
                }
                _ => Ok(open),
            };
        }
    }
}

/// The questions of a partition from `from` on that have a record.
async fn answered_from(group: &Group, partition: Partition, from: u64) -> Result<HashSet<u64>, BusError> {
    let bus = &group.shared.bus;
    let filter = bus.subjects().side(partition, Who::Bot);
    let (mut answered, mut next) = (HashSet::new(), from);
    loop {
        let page = bus.read(&filter, From::Seq(next), PAGE).await?;
        for record in &page.records {
            let reply_to = wire::decode(&record.payload).ok().and_then(|message| message.reply_to);
            answered.extend(reply_to.map(|reply| reply.seq).filter(|seq| *seq >= from));
            next = record.seq + 1;
        }
        if !page.more {
            return Ok(answered);
        }
    }
}

async fn offer(group: &Group, record: Record) -> bool {
    let Some(subject) = group.shared.bus.subjects().parse(&record.subject) else { return false };
    let Some(room) = group.shared.lanes.room().await else { return false };
    group.offer(subject.conversation, record.into(), room);
    true
}
