//! One question, one record: decides whether it is already answered, asks the engine, publishes under the fence.
//!
//! The stream alone decides. A question q is answered iff a record with a sequence above q's has `reply_to.seq` = q's.
//! A record is published only if the last sequence on its subject is still the one this lane knows; a refusal means
//! read again and decide again, it is never itself proof of an answer.

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::lanes::{Asked, Entry};
use super::making::{Patience, Stopped, make_record};
use crate::bus::{BusError, From, Publish, Record};
use crate::domain::{Message, Timestamp, Who};
use crate::mistake::{self, Mistake};
use crate::telemetry::{Direction, Hop};
use crate::wire;

/// What a lane knows of the records of its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// The last sequence on the record subject; 0 if there is none.
    last_record: u64,
    /// Every question up to this sequence has its record; `None` if the last record does not tell.
    answered_to: Option<u64>,
}

impl Memory {
    /// Of a conversation without records.
    pub(super) const NONE: Self = Self { last_record: 0, answered_to: Some(0) };
}

/// Works one question off. `Ok` means that its record is stored and it may be acknowledged.
pub(super) async fn handle(
    shared: &Shared,
    memory: &mut Option<Memory>,
    entry: &Entry,
    cut: &CancellationToken,
) -> Result<(), Stopped> {
    let asked = &entry.asked;
    let stored = &asked.record;
    let Some(question) = read_question(shared, stored) else {
        // Not a question: the auditor keeps it raw and lays it down as a dead letter.
        return Ok(());
    };
    let subject = shared.bus.subjects().record(question.conversation, Who::Bot);
    let mut patience = Patience::new(cut);
    let mut record: Option<Message> = None;
    loop {
        let decided = match step(shared, &subject, memory, asked, &question, &mut record).await {
            Ok(decided) => decided,
            Err(BusError::Fenced) if mistake::made(Mistake::RefusalIsAnswer) => return Ok(()),
            Err(BusError::Fenced) => {
                *memory = None;
                continue;
            }
            Err(error) => {
                patience.wait(&error).await?;
                *memory = None;
                continue;
            }
        };
        match decided {
            Step::Answered => return Ok(()),
            Step::NeedsAnswer => {
                record = Some(make_record(shared, entry, &question, cut).await?);
            }
        }
    }
}

enum Step {
    Answered,
    NeedsAnswer,
}

/// One round of reading, deciding and, if the record is there, publishing.
async fn step(
    shared: &Shared,
    subject: &str,
    memory: &mut Option<Memory>,
    asked: &Asked,
    question: &Message,
    record: &mut Option<Message>,
) -> Result<Step, BusError> {
    let stored = &asked.record;
    let known = match *memory {
        Some(known) => known,
        None => *memory.insert(last_record(shared, subject).await?),
    };
    let surely_open =
        known.last_record == 0 || (asked.first && known.answered_to.is_some_and(|answered| stored.seq > answered));
    if mistake::made(Mistake::LastRecordDecides) && !surely_open && known.last_record > stored.seq {
        return Ok(Step::Answered);
    }
    if !surely_open && is_answered(shared, subject, question, stored.seq, known.last_record).await? {
        return Ok(Step::Answered);
    }
    let Some(message) = record.as_ref() else { return Ok(Step::NeedsAnswer) };
    let published = shared
        .bus
        .publish(Publish {
            subject: subject.to_owned(),
            payload: Bytes::from(wire::encode(message)),
            expected_last: (!unfenced()).then_some(known.last_record),
            ..Publish::default()
        })
        .await?;
    *memory = Some(Memory { last_record: published.seq, answered_to: Some(stored.seq) });
    shared.metrics.observe(Hop::Bot, Timestamp::now().since(stored.at));
    shared.metrics.messages("bot", Direction::Out).inc();
    Ok(Step::Answered)
}

fn unfenced() -> bool {
    mistake::made(Mistake::NoFence) || mistake::made(Mistake::NoOrder)
}

async fn last_record(shared: &Shared, subject: &str) -> Result<Memory, BusError> {
    let Some(last) = shared.bus.last(subject).await? else {
        return Ok(Memory::NONE);
    };
    let answered_to = wire::decode(&last.payload).ok().and_then(|message| message.reply_to).map(|reply| reply.seq);
    Ok(Memory { last_record: last.seq, answered_to })
}

/// Reads all records after the question, page by page, for one that answers it. Up to `last`, the one that the fence is
/// set to: a replica that lags behind the one that told of it would show no answer, and the fence would let a second pass.
async fn is_answered(
    shared: &Shared,
    subject: &str,
    question: &Message,
    seq: u64,
    last: u64,
) -> Result<bool, BusError> {
    let mut from = seq + 1;
    loop {
        let page = shared.bus.read(subject, From::Seq(from), 256).await?;
        for record in &page.records {
            let reply_to = wire::decode(&record.payload).ok().and_then(|message| message.reply_to);
            if reply_to.is_some_and(|reply| reply.seq == seq && reply.id == question.id) {
                return Ok(true);
            }
            from = record.seq + 1;
        }
        if !page.more {
            let lags = from <= last && !mistake::made(Mistake::LaggingReplicaBelieved);
            return if lags {
                Err(BusError::unavailable("answer", "a replica lags behind another"))
            } else {
                Ok(false)
            };
        }
    }
}

fn read_question(shared: &Shared, stored: &Record) -> Option<Message> {
    let subject = shared.bus.subjects().parse(&stored.subject)?;
    match wire::decode(&stored.payload) {
        Ok(message) if message.conversation == subject.conversation && message.who == subject.who => Some(message),
        Ok(_) => {
            tracing::warn!(seq = stored.seq, "message {} names another conversation than its subject", stored.seq);
            None
        }
        Err(error) => {
            tracing::warn!(seq = stored.seq, %error, "message {} is not a question: {error}", stored.seq);
            None
        }
    }
}
