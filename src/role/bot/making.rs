//! Makes the record of a question: asks the engine, as often as it takes, says meanwhile that it is being worked on, and
//! ends it if its asker wants no answer any more.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::engines::{Answer, EngineError, Question};
use super::lanes::Entry;
use super::repeat;
use crate::bus::{BusError, Publish, Record};
use crate::domain::{Kind, Message, MessageId, ReplyTo, Timestamp, Who};
use crate::wire::Draft;

/// Who asks hears nothing of an answer that is faster than this, else that it is being worked on...
const WORKING_AFTER: Duration = Duration::from_millis(150);
/// ...and again that often, for those who come later.
const WORKING_EVERY: Duration = Duration::from_secs(1);

/// The lane was stopped before the record was stored: the question stays unacknowledged and comes again.
pub(super) struct Stopped;

/// The record of a question: an answer, an apology, or that it was stopped.
pub(super) async fn make_record(
    shared: &Shared,
    entry: &Entry,
    question: &Message,
    cut: &CancellationToken,
) -> Result<Message, Stopped> {
    let stored = &entry.asked.record;
    if question.kind != Kind::Text {
        return Ok(record_of(shared, stored, question, Kind::None, None));
    }
    if is_repeat(shared, stored, question, cut).await? {
        tracing::warn!(
            conversation = %question.conversation, seq = stored.seq, id = %question.id,
            "question {} is one that was asked before: it gets no second answer", stored.seq
        );
        return Ok(record_of(shared, stored, question, Kind::None, None));
    }
    if shared.poison.is_culprit(shared.group_of(question.conversation), stored.seq) {
        let reason = "two processes ended while they answered nothing else, after others had: it is not tried again";
        lay_down(shared, stored, question, reason, cut).await?;
        return Ok(apology(shared, stored, question));
    }
    tokio::select! {
        biased;
        record = try_often(shared, stored, question, cut) => record,
        () = entry.stop.cancelled() => Ok(record_of(shared, stored, question, Kind::Stopped, None)),
        () = say_working(shared, stored, question) => Err(Stopped),
    }
}

async fn is_repeat(
    shared: &Shared,
    stored: &Record,
    question: &Message,
    stop: &CancellationToken,
) -> Result<bool, Stopped> {
    let mut patience = Patience::new(stop);
    loop {
        match repeat::is_repeat(&shared.bus, stored, question).await {
            Ok(repeat) => return Ok(repeat),
            Err(error) => patience.wait(&error).await?,
        }
    }
}

/// Tells those who watch that an answer is under way, for as long as it is.
async fn say_working(shared: &Shared, stored: &Record, question: &Message) {
    tokio::time::sleep(WORKING_AFTER).await;
    let reply_to = ReplyTo { id: question.id, seq: stored.seq };
    let working = Draft::Working { conversation: question.conversation, reply_to };
    let payload = Bytes::from(serde_json::to_vec(&working).unwrap_or_default());
    loop {
        let subject = shared.bus.subjects().draft(question.conversation);
        if let Err(error) = shared.bus.send(subject, payload.clone()).await {
            tracing::debug!(%error, "nobody hears that question {} is worked on", stored.seq);
        }
        tokio::time::sleep(WORKING_EVERY).await;
    }
}

/// The engine's answer, or the apology after the last attempt.
async fn try_often(
    shared: &Shared,
    stored: &Record,
    question: &Message,
    stop: &CancellationToken,
) -> Result<Message, Stopped> {
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
    let reason = format!("after {} attempts: {last_error}", shared.config.attempts);
    lay_down(shared, stored, question, &reason, stop).await?;
    Ok(apology(shared, stored, question))
}

fn apology(shared: &Shared, stored: &Record, question: &Message) -> Message {
    record_of(shared, stored, question, Kind::Apology, Some(shared.config.apology.clone()))
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
        side: None,
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
        "question {} is a dead letter: {reason}", stored.seq
    );
    Ok(())
}

/// Waits longer after each failure, up to 2 s, and says so once in a while.
pub(super) struct Patience<'a> {
    stop: &'a CancellationToken,
    failures: u32,
}

impl<'a> Patience<'a> {
    pub(super) fn new(stop: &'a CancellationToken) -> Self {
        Self { stop, failures: 0 }
    }

    pub(super) async fn wait(&mut self, error: &BusError) -> Result<(), Stopped> {
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
