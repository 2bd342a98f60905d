//! Accepting a user's message: "accepted" is said only when the stream has it, and the same id is the same message.

use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::history::{self, HistoryError};
use super::hub::read_record;
use super::problems;
use super::state::Front;
use crate::bus::{From, Publish};
use crate::domain::{ConversationId, Kind, Message, MessageId, Stored, Timestamp, Who, limits};
use crate::mistake::{self, Mistake};
use crate::telemetry::{Direction, Hop};
use crate::web::ApiError;
use crate::wire;
use crate::wire::rpc::{MessageReply, MessageRequest};

/// What a user wants to say, already checked for length and form.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) id: Option<MessageId>,
    pub(super) text: String,
    pub(super) bot: Option<String>,
    pub(super) data: Option<Box<RawValue>>,
    /// When it was said; none: now.
    pub(super) sent_at: Option<Timestamp>,
    pub(super) traceparent: Option<String>,
}

/// The stream has it.
#[derive(Debug, Clone)]
pub(super) struct Accepted {
    pub(super) seq: u64,
    /// The id was known: this is the first result.
    pub(super) duplicate: bool,
    /// The stored message, where it was read anyway.
    known: Option<Stored>,
}

impl Accepted {
    pub(super) fn new(seq: u64, duplicate: bool) -> Self {
        Self { seq, duplicate, known: None }
    }

    /// The message as it was stored: in the stream, or in the store once the stream has let it go.
    pub(super) async fn stored(&self, front: &Front, conversation: ConversationId) -> Result<Stored, ApiError> {
        if let Some(known) = &self.known {
            return Ok(known.clone());
        }
        for wait in [20, 40, 80, 160, 320, 0] {
            let record = front.bus.record(self.seq).await.map_err(|error| problems::from_bus(&error))?;
            if let Some(stored) = record.and_then(|record| read_record(&front.bus, &record)) {
                return Ok(stored);
            }
            // A replica that lags behind the leader does not know it yet.
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        // One that was away for longer is not waited for: the leader has it.
        let led = front.bus.record_by_leader(">", self.seq).await;
        let led = led.map_err(|error| problems::from_bus(&error))?.filter(|record| record.seq == self.seq);
        if let Some(stored) = led.and_then(|record| read_record(&front.bus, &record)) {
            return Ok(stored);
        }
        let page = history::after(&front.bus, conversation, self.seq - 1, 1).await;
        let page = page.map_err(|error| problems::from_history(&error))?;
        let stored = page.messages.into_iter().find(|stored| stored.seq == self.seq);
        stored.ok_or_else(|| problems::unreadable(self.seq))
    }
}

/// Stores one message of `user` in a conversation that is theirs.
pub(super) async fn accept(
    front: &Front,
    conversation: ConversationId,
    user: &str,
    said: Said,
) -> Result<Accepted, ApiError> {
    accept_unless(front, conversation, user, said, || None).await
}

/// The same, unless there is a reason against it when the conversation's turn has come.
pub(super) async fn accept_unless(
    front: &Front,
    conversation: ConversationId,
    user: &str,
    said: Said,
    reason: impl Fn() -> Option<ApiError>,
) -> Result<Accepted, ApiError> {
    let begun = Timestamp::now();
    let id = said.id.unwrap_or_default();
    id.check_time(begun).map_err(|error| problems::from_id_time("id", &error))?;
    let message = Message {
        id,
        conversation,
        who: Who::User,
        author: user.to_owned(),
        kind: Kind::Text,
        text: Some(said.text),
        reply_to: None,
        bot: said.bot,
        sent_at: said.sent_at.unwrap_or(begun),
        data: said.data,
        side: None,
    };
    // One publish in flight per conversation: what was said first is stored first.
    let _turn = front.order.of(conversation).lock().await;
    if let Some(reason) = reason() {
        return Err(reason);
    }
    let accepted = store(front, &message, said.traceparent).await?;
    if !accepted.duplicate {
        front.metrics.observe(Hop::Accept, Timestamp::now().since(begun));
        front.metrics.messages("frontend", Direction::In).inc();
    }
    Ok(accepted)
}

async fn store(front: &Front, message: &Message, traceparent: Option<String>) -> Result<Accepted, ApiError> {
    let age = Timestamp::now().since(Timestamp::from_ms(message.id.time_ms()));
    if age > Duration::from_millis(limits::ID_LATE_MS) && !mistake::made(Mistake::NoLateLookUp) {
        // The duplicate window no longer vouches for this id.
        if let Some(first) = late_look_up(front, message).await.map_err(|error| problems::from_history(&error))? {
            return same_or_reused(first, message);
        }
    }
    let begun = Timestamp::now();
    let publish = Publish {
        subject: front.bus.subjects().record(message.conversation, Who::User),
        payload: Bytes::from(wire::encode(message)),
        message_id: (!mistake::made(Mistake::NoMessageId)).then(|| format!("{}/{}", message.conversation, message.id)),
        traceparent,
        ..Publish::default()
    };
    let published = front.publish(publish).await.map_err(|error| problems::from_bus(&error))?;
    let now = Timestamp::now();
    front.metrics.observe(Hop::PublishAck, now.since(begun));
    if published.attempts > 1 {
        front.metrics.publish_retries.inc_by(u64::from(published.attempts - 1));
    }
    if published.duplicate {
        let first = Accepted::new(published.seq, true).stored(front, message.conversation).await?;
        // A retry of this very call also counts as a duplicate; its record says the same.
        let own_retry = published.attempts > 1 && first.message.sent_at == message.sent_at;
        let result = same_or_reused(first, message)?;
        return Ok(Accepted { duplicate: !own_retry, ..result });
    }
    Ok(Accepted::new(published.seq, false))
}

/// Looks for an id that may have been stored before the duplicate window: in the stream from shortly before the id's own
/// time, and below the stream's beginning in the store.
async fn late_look_up(front: &Front, message: &Message) -> Result<Option<Stored>, HistoryError> {
    let bus = &front.bus;
    let filter = bus.subjects().record(message.conversation, Who::User);
    let mut from = From::Time(Timestamp::from_ms(message.id.time_ms().saturating_sub(limits::ID_LATE_MS)));
    loop {
        let page = bus.read(&filter, from, 256).await?;
        let found = page.records.iter().filter_map(|record| read_record(bus, record));
        if let Some(first) = found.into_iter().find(|stored| stored.message.id == message.id) {
            return Ok(Some(first));
        }
        let Some(last) = page.records.last().filter(|_| page.more) else { break };
        from = From::Seq(last.seq + 1);
    }
    let reaches_back = match bus.first_record().await? {
        // Empty: it never held anything, or all of it was trimmed or grew too old.
        None => bus.first_seq().await? == 1,
        Some(first) => first.seq == 1 || first.at.ms() + limits::ID_LATE_MS < message.id.time_ms(),
    };
    if reaches_back {
        return Ok(None);
    }
    let request = MessageRequest { conversation: message.conversation, id: message.id };
    let reply: MessageReply = history::ask(bus, "message", &request).await?;
    Ok(reply.message.and_then(|stored| stored.read()))
}

/// The same id in the same conversation is the same message: same words, or it is refused.
fn same_or_reused(first: Stored, message: &Message) -> Result<Accepted, ApiError> {
    if !first.message.says_the_same_as(message) {
        return Err(problems::id_reused(message.id));
    }
    Ok(Accepted { seq: first.seq, duplicate: true, known: Some(first) })
}
