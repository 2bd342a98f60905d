//! What was said before: the stream for what it still holds, the store for what it does not.
//!
//! The store is asked through `yalo.rpc`, and believed up to the sequence that it says it is complete to; above that the
//! stream is read. If nobody answers and the stream does not reach back, that is said: never "not found".

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::hub::read_record;
use crate::bus::{Bus, BusError, From, RpcError};
use crate::domain::{ConversationId, Stored};
use crate::wire::rpc::{HistoryReply, HistoryRequest, StoredMessage};

/// Why history could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum HistoryError {
    /// The stream could not be read now.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store is needed and nobody answers for it.
    #[error("the store is needed for this and does not answer: {0}")]
    Store(#[from] RpcError),
}

/// A page, oldest first, of what users see.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) messages: Vec<Stored>,
    /// Everything of the conversation up to here has been looked at, shown or not.
    pub(super) read_to: u64,
    /// More behind the last one.
    pub(super) newer: bool,
    /// More before the first one.
    pub(super) older: bool,
}

/// One request to the reading side.
pub(super) async fn ask<Q: Serialize, A: DeserializeOwned>(bus: &Bus, name: &str, request: &Q) -> Result<A, RpcError> {
    let payload = serde_json::to_vec(request).map_err(|error| RpcError::Failed(error.to_string()))?;
    let answer = bus.rpc(name, Bytes::from(payload)).await?;
    serde_json::from_slice(&answer).map_err(|error| RpcError::Failed(error.to_string()))
}

/// Up to `limit` messages above `after`.
pub(super) async fn after(
    bus: &Bus,
    conversation: ConversationId,
    after: u64,
    limit: usize,
) -> Result<Page, HistoryError> {
    let page = stream_after(bus, conversation, after, limit).await?;
    // Asked afterwards: if the stream began at or below the cursor then, nothing was trimmed under the read.
    let reaches_back = bus.first_seq().await? <= after + 1;
    if reaches_back {
        return Ok(page);
    }
    let request = HistoryRequest { conversation, after: Some(after), before: None, limit };
    let stored: HistoryReply = ask(bus, "history", &request).await?;
    let messages = complete(shown(&stored), stored.complete_to);
    if let Some(read_to) = stored.read_to.filter(|read_to| *read_to <= stored.complete_to) {
        return Ok(Page { messages, read_to, newer: true, older: true });
    }
    // The store has no more up to where it is complete; the rest is in the stream.
    let from = stored.complete_to.max(after);
    let rest = stream_after(bus, conversation, from, limit - messages.len()).await?;
    let messages = messages.into_iter().chain(rest.messages).collect();
    Ok(Page { messages, older: true, ..rest })
}

/// The newest `limit` messages.
pub(super) async fn newest(bus: &Bus, conversation: ConversationId, limit: usize) -> Result<Page, HistoryError> {
    before(bus, conversation, None, limit).await
}

/// The newest `limit` messages below `before`.
pub(super) async fn before(
    bus: &Bus,
    conversation: ConversationId,
    before: Option<u64>,
    limit: usize,
) -> Result<Page, HistoryError> {
    let request = HistoryRequest { conversation, after: None, before, limit };
    let asked: Result<HistoryReply, RpcError> = ask(bus, "history", &request).await;
    let (mut messages, complete_to, mut older) = match asked {
        Ok(stored) => (complete(shown(&stored), stored.complete_to), stored.complete_to, stored.older),
        // Without the store the stream alone serves, if it holds the conversation from its beginning.
        Err(error) if !stream_has_beginning(bus, conversation).await? => return Err(error.into()),
        Err(_) => (Vec::new(), 0, false),
    };
    let bound = before.unwrap_or(u64::MAX);
    let mut from = complete_to;
    while from < bound {
        let rest = stream_after(bus, conversation, from, 256).await?;
        let known = messages.last().map_or(0, |message: &Stored| message.seq);
        messages.extend(rest.messages.into_iter().filter(|message| message.seq > known && message.seq < bound));
        if messages.len() > limit {
            older = true;
            messages.drain(..messages.len() - limit);
        }
        if !rest.newer {
            break;
        }
        from = rest.read_to;
    }
    let read_to = messages.last().map_or(0, |message| message.seq);
    Ok(Page { messages, read_to, newer: before.is_some(), older })
}

async fn stream_after(bus: &Bus, conversation: ConversationId, after: u64, limit: usize) -> Result<Page, HistoryError> {
    let filter = bus.subjects().conversation(conversation);
    let read = bus.read(&filter, From::Seq(after + 1), limit.max(1)).await?;
    let read_to = read.records.last().map_or(after, |record| record.seq);
    let messages = read.records.iter().filter_map(|record| read_record(bus, record)).filter(Stored::is_shown).collect();
    Ok(Page { messages, read_to, newer: read.more, older: false })
}

/// Whether the stream holds the message that opened the conversation, and so all of it.
async fn stream_has_beginning(bus: &Bus, conversation: ConversationId) -> Result<bool, BusError> {
    let filter = bus.subjects().conversation(conversation);
    let first = bus.read(&filter, From::Seq(1), 1).await?;
    let opened = first.records.first().and_then(|record| read_record(bus, record));
    Ok(opened.is_some_and(|stored| stored.message.kind == crate::domain::Kind::Opened))
}

/// What the store holds above the sequence that it is complete to may have holes (several auditors write): the stream
/// tells it whole.
fn complete(mut messages: Vec<Stored>, complete_to: u64) -> Vec<Stored> {
    messages.retain(|message| message.seq <= complete_to);
    messages
}

fn shown(stored: &HistoryReply) -> Vec<Stored> {
    stored.messages.iter().filter_map(StoredMessage::read).filter(Stored::is_shown).collect()
}
