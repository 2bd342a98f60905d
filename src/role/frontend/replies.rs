//! What clients get: one shape for HTTP, SSE and WebSocket, so that each is written once.

use serde::Serialize;

use crate::domain::{ConversationId, MessageId, Stored, Timestamp};
use crate::wire::rpc::Summary;

/// Answer to `POST /v1/chat`.
#[derive(Serialize)]
pub(super) struct ChatReply<'a> {
    pub(super) conversation: ConversationId,
    pub(super) message: &'a Stored,
    pub(super) answer: Option<&'a Stored>,
    pub(super) cursor: String,
    pub(super) duplicate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<&'a str>,
}

/// A message was stored.
#[derive(Serialize)]
pub(super) struct AcceptedReply {
    pub(super) id: MessageId,
    pub(super) seq: u64,
    pub(super) at: Timestamp,
    pub(super) cursor: String,
    pub(super) duplicate: bool,
}

impl AcceptedReply {
    /// Of a message as it lies in the stream.
    pub(super) fn new(stored: &Stored, duplicate: bool) -> Self {
        let Stored { seq, at, ref message } = *stored;
        Self { id: message.id, seq, at, cursor: stored.cursor().to_string(), duplicate }
    }
}

/// The same for one who asked to wait for the answer.
#[derive(Serialize)]
pub(super) struct AnsweredReply {
    #[serde(flatten)]
    pub(super) accepted: AcceptedReply,
    pub(super) answer: Option<Stored>,
}

/// A conversation was opened.
#[derive(Serialize)]
pub(super) struct OpenedReply<'a> {
    pub(super) conversation: ConversationId,
    pub(super) cursor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<&'a str>,
}

/// A page of messages.
#[derive(Serialize)]
pub(super) struct PageReply {
    pub(super) messages: Vec<Stored>,
    pub(super) next: Option<String>,
    pub(super) previous: Option<String>,
}

/// A page of conversations.
#[derive(Serialize)]
pub(super) struct ConversationsReply {
    pub(super) conversations: Vec<ConversationReply>,
    pub(super) next: Option<String>,
}

/// One conversation in a list.
#[derive(Serialize)]
pub(super) struct ConversationReply {
    conversation: ConversationId,
    first_at: Timestamp,
    last_at: Timestamp,
    messages: Option<u64>,
    last: Option<Stored>,
}

impl From<Summary> for ConversationReply {
    fn from(summary: Summary) -> Self {
        let Summary { conversation, first_at, last_at, messages, last, .. } = summary;
        let last = last.and_then(|last| last.read()).filter(Stored::is_shown);
        Self { conversation, first_at, last_at, messages, last }
    }
}

/// Some messages were not told of in order: read them again.
#[derive(Serialize)]
pub(super) struct GapEvent {
    pub(super) conversation: ConversationId,
    pub(super) after: String,
    pub(super) before: String,
}
