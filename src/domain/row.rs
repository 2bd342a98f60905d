//! What every store keeps: one row for each message of the stream, and one for each conversation.

use bytes::Bytes;

use super::{ConversationId, Kind, ListCursor, MessageId, Timestamp, Who};

/// One message of the stream as a store keeps it. The payload is the truth, byte for byte; the other columns are what
/// yalo reads and searches by, all taken from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The stream sequence: the key.
    pub seq: u64,
    /// The stream's own time of the message.
    pub at: Timestamp,
    /// The conversation; `None` when neither payload nor subject names one.
    pub conversation: Option<ConversationId>,
    /// The message id; `None` when the payload could not be decoded.
    pub id: Option<MessageId>,
    /// The side; `None` when the payload could not be decoded.
    pub who: Option<Who>,
    /// The kind; `None` when the payload could not be decoded.
    pub kind: Option<Kind>,
    /// The author; `None` when the payload could not be decoded. Of an `opened` row: the conversation's owner.
    pub author: Option<String>,
    /// The subject, when it is not the one that conversation and side give.
    pub subject: Option<String>,
    /// What the publisher sent.
    pub payload: Bytes,
    /// SHA-256 of subject, payload, sequence and time (`wire::digest`).
    pub digest: [u8; 32],
}

/// A conversation as the reading side lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Which.
    pub id: ConversationId,
    /// Who opened it; `None` for ingested ones.
    pub owner: Option<String>,
    /// When its first stored message was stored: the smallest time, or the time of the smallest sequence.
    pub first_at: Timestamp,
    /// The newest message.
    pub last: Row,
    /// Stored messages in it; `None` where a store would have to count them one by one.
    pub messages: Option<u64>,
}

impl Conversation {
    /// Where a list that ends with this one goes on.
    pub fn list_cursor(&self) -> ListCursor {
        ListCursor { last_at: self.last.at, conversation: self.id }
    }
}
