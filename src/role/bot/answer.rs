//! One question, one record: decides whether it is already answered, asks the engine, publishes under the fence.
//!
//! The stream alone decides. A question q is answered iff a record with a sequence above q's has `reply_to.seq` = q's.
//! A record is published only if the last sequence on its subject is still the one this lane knows; a refusal means
//! read again and decide again, it is never itself proof of an answer.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::engines::{Answer, EngineError, Question};
use super::lanes::Asked;
use crate::bus::{BusError, From, Publish, Record};
use crate::domain::{Kind, Message, MessageId, ReplyTo, Timestamp, Who};
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

/// The lane was stopped before the record was stored: the question stays unacknowledged and comes again.
pub(super) struct Stopped;

/// Works one question off. `Ok` means that its record is stored and it may be acknowledged.
pub(super) async fn handle(
    shared: &Shared,
    memory: &mut Option<Memory>,
    asked: &Asked,
    stop: &CancellationToken,
) -> Result<(), Stopped> {
    let stored = &asked.record;
    let Some(question) = read_question(shared, stored) else {
        // Not a question: the auditor keeps it raw and lays it down as a dead letter.
        return Ok(());
    };
    let subject = shared.bus.subjects().record(question.conversation, Who::Bot);
    let mut patience = Patience::new(stop);
    let mut record: Option<Message> = None;
    loop {
        let decided = match step(shared, &subject, memory, asked, &question, &mut record).await {
            Ok(decided) => decided,
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
                record = Some(make_record(shared, stored, &question, stop).await?);
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
    if !surely_open && is_answered(shared, subject, question, stored.seq).await? {
        return Ok(Step::Answered);
    }
    let Some(message) = record.as_ref() else { return Ok(Step::NeedsAnswer) };
    let published = shared
        .bus
        .publish(Publish {
            subject: subject.to_owned(),
            payload: Bytes::from(wire::encode(message)),
            expected_last: Some(known.last_record),
            ..Publish::default()
        })
        .await?;
    *memory = Some(Memory { last_record: published.seq, answered_to: Some(stored.seq) });
    shared.metrics.observe(Hop::Bot, Timestamp::now().since(stored.at));
    shared.metrics.messages("bot", Direction::Out).inc();
    Ok(Step::Answered)
}

async fn last_record(shared: &Shared, subject: &str) -> Result<Memory, BusError> {
    let Some(last) = shared.bus.last(subject).await? else {
        return Ok(Memory { last_record: 0, answered_to: Some(0) });
    };
    let answered_to = wire::decode(&last.payload).ok().and_then(|message| message.reply_to).map(|reply| reply.seq);
    Ok(Memory { last_record: last.seq, answered_to })
}

/// Reads all records after the question, page by page, for one that answers it.
async fn is_answered(shared: &Shared, subject: &str, question: &Message, seq: u64) -> Result<bool, BusError> {
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
            return Ok(false);
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

/// The record of a question: the engine's answer, or the apology after the last attempt.
async fn make_record(
    shared: &Shared,
    stored: &Record,
    question: &Message,
    stop: &CancellationToken,
) -> Result<Message, Stopped> {
    if question.kind != Kind::Text {
        return Ok(record_of(shared, stored, question, Kind::None, None));
    }
    let mut last_error = String::new();
    for attempt in 1..=shared.config.attempts {
        match ask_engine(shared, stored, question, stop).await? {
            Ok(answer) => return Ok(record_of(shared, stored, question, Kind::Text, Some(answer.text().to_owned()))),
            Err(error) => last_error = error,
        }
        tracing::warn!(
            conversation = %question.conversation, seq = stored.seq, attempt,
            "attempt {attempt} at question {} failed: {last_error}", stored.seq
        );
        if attempt < shared.config.attempts {
            pause(backoff(attempt), stop).await?;
        }
    }
    lay_down(shared, stored, question, &last_error, stop).await?;
    Ok(record_of(shared, stored, question, Kind::Apology, Some(shared.config.apology.clone())))
}

/// One attempt: a panic and a time-out are failures like any other.
async fn ask_engine(
    shared: &Shared,
    stored: &Record,
    question: &Message,
    stop: &CancellationToken,
) -> Result<Result<Answer, String>, Stopped> {
    let ask = Question {
        text: question.text.as_deref().unwrap_or_default(),
        conversation: question.conversation,
        id: question.id,
        seq: stored.seq,
        author: &question.author,
        bot: question.bot.as_deref(),
        data: question.data.as_deref(),
    };
    let limit = Duration::from_millis(shared.config.attempt_timeout_ms);
    let answering = AssertUnwindSafe(shared.engine.answer(&ask)).catch_unwind();
    let answered = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(Stopped),
        answered = tokio::time::timeout(limit, answering) => answered,
    };
    Ok(match answered {
        Ok(Ok(Ok(answer))) => Ok(answer),
        Ok(Ok(Err(error))) => Err(EngineError::to_string(&error)),
        Ok(Err(_)) => Err("the engine panicked".to_owned()),
        Err(_) => Err(format!("the engine gave no answer within {} ms", limit.as_millis())),
    })
}

fn record_of(shared: &Shared, stored: &Record, question: &Message, kind: Kind, text: Option<String>) -> Message {
    Message {
        id: MessageId::new(),
        conversation: question.conversation,
        who: Who::Bot,
        author: shared.engine.name().to_owned(),
        kind,
        text,
        reply_to: Some(ReplyTo { id: question.id, seq: stored.seq }),
        bot: Some(shared.engine.name().to_owned()),
        sent_at: Timestamp::now(),
        data: None,
    }
}

/// Keeps a question that no attempt could answer, with the reason. Repeatable: its id is the question's sequence.
async fn lay_down(
    shared: &Shared,
    stored: &Record,
    question: &Message,
    reason: &str,
    stop: &CancellationToken,
) -> Result<(), Stopped> {
    let payload = serde_json::json!({
        "v": 1, "role": "bot", "seq": stored.seq, "subject": stored.subject, "reason": reason, "at": stored.at,
        "message": question,
    });
    let mut patience = Patience::new(stop);
    loop {
        let publish = Publish {
            subject: shared.bus.subjects().dead("bot", Some(question.conversation)),
            payload: payload.to_string().into(),
            message_id: Some(format!("dead/bot/{}", stored.seq)),
            ..Publish::default()
        };
        match shared.bus.publish(publish).await {
            Ok(_) => break,
            Err(error) => patience.wait(&error).await?,
        }
    }
    shared.metrics.dead_letters("bot").inc();
    tracing::error!(
        conversation = %question.conversation, seq = stored.seq,
        "question {} is a dead letter after {} attempts: {reason}", stored.seq, shared.config.attempts
    );
    Ok(())
}

/// Waits longer after each failure, up to 2 s, and says so once in a while.
struct Patience<'a> {
    stop: &'a CancellationToken,
    failures: u32,
}

impl<'a> Patience<'a> {
    fn new(stop: &'a CancellationToken) -> Self {
        Self { stop, failures: 0 }
    }

    async fn wait(&mut self, error: &BusError) -> Result<(), Stopped> {
        self.failures += 1;
        if self.failures % 16 == 1 {
            tracing::warn!(%error, failures = self.failures, "a record waits: {error}");
        }
        pause(backoff(self.failures), self.stop).await
    }
}

async fn pause(wait: Duration, stop: &CancellationToken) -> Result<(), Stopped> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Stopped),
        () = tokio::time::sleep(wait) => Ok(()),
    }
}

/// 50 ms doubling to 2 s, half of it random.
fn backoff(failures: u32) -> Duration {
    let most = (50u64 << failures.min(6)).min(2000);
    Duration::from_millis(fastrand::u64(most / 2..=most))
}
