//! The requests between frontends and admin: `yalo.rpc.<name>`, JSON both ways.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::{ConversationId, ListCursor, Message, MessageId, Row, Stored, Timestamp};

/// `yalo.rpc.history`: a page of one conversation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HistoryRequest {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Only messages above this sequence.
    #[serde(default)]
    pub after: Option<u64>,
    /// Only messages below this sequence.
    #[serde(default)]
    pub before: Option<u64>,
    /// At most so many; with neither bound, the newest.
    pub limit: usize,
}

/// The answer: oldest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HistoryReply {
    /// The messages that could be decoded.
    pub messages: Vec<StoredMessage>,
    /// Everything up to this sequence is in the store: what is above is read from the stream.
    pub complete_to: u64,
    /// Whether older ones exist.
    pub older: bool,
    /// Of a page read forward that the store could go on with: everything up to here has been looked at.
    #[serde(default)]
    pub read_to: Option<u64>,
}

/// `yalo.rpc.message`: one message by its id.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MessageRequest {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Which message.
    pub id: MessageId,
}

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MessageReply {
    /// The message, if the store has it.
    pub message: Option<StoredMessage>,
    /// As in [`HistoryReply`].
    pub complete_to: u64,
}

/// `yalo.rpc.conversation`: who owns it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConversationRequest {
    /// Which conversation.
    pub conversation: ConversationId,
}

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConversationReply {
    /// What the store knows of it.
    pub summary: Option<Summary>,
    /// As in [`HistoryReply`].
    pub complete_to: u64,
}

/// `yalo.rpc.conversations`: those of one user, newest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConversationsRequest {
    /// The user.
    pub owner: String,
    /// Only those behind this one.
    #[serde(default)]
    pub before: Option<ListCursor>,
    /// At most so many.
    pub limit: usize,
}

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConversationsReply {
    /// Newest first.
    pub conversations: Vec<Summary>,
}

/// A conversation in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// Which.
    pub conversation: ConversationId,
    /// Who opened it.
    pub owner: Option<String>,
    /// When its first message was stored.
    pub first_at: Timestamp,
    /// When its newest message was stored.
    pub last_at: Timestamp,
    /// How many messages are stored; `None` where the store does not count them.
    pub messages: Option<u64>,
    /// The newest message, if it could be decoded.
    pub last: Option<StoredMessage>,
}

/// A stored message on its way between roles: the payload as it lies in the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredMessage {
    /// Its sequence.
    pub seq: u64,
    /// When it was stored, in nanoseconds since 1970.
    pub at_ns: i64,
    /// The envelope.
    pub payload: Box<RawValue>,
}

impl StoredMessage {
    /// From a row whose payload is an envelope; `None` for raw rows.
    pub fn from_row(row: &Row) -> Option<Self> {
        row.id?;
        let payload = serde_json::from_slice(&row.payload).ok()?;
        Some(Self { seq: row.seq, at_ns: row.at.ns(), payload })
    }

    /// The message in it.
    pub fn read(&self) -> Option<Stored> {
        let message: Message = super::decode(self.payload.get().as_bytes()).ok()?;
        Some(Stored { seq: self.seq, at: Timestamp::from_ns(self.at_ns), message })
    }
}

impl Summary {
    /// Where a list that ends with this one goes on.
    pub fn list_cursor(&self) -> ListCursor {
        ListCursor { last_at: self.last_at, conversation: self.conversation }
    }

    /// From what a store lists.
    pub fn from_store(conversation: &crate::domain::Conversation) -> Self {
        Self {
            conversation: conversation.id,
            owner: conversation.owner.clone(),
            first_at: conversation.first_at,
            last_at: conversation.last.at,
            messages: conversation.messages,
            last: StoredMessage::from_row(&conversation.last),
        }
    }
}
