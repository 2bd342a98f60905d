//! What operators get: messages as users see them, and raw rows for what could not be decoded.

use base64::Engine as _;
use serde::Serialize;

use crate::domain::{Conversation, ConversationId, Cursor, Row, Stored, Timestamp};
use crate::wire;

/// A row for people.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Shown {
    Message(Box<Stored>),
    Raw(RawReply),
}

/// A row whose payload could not be decoded, byte for byte.
#[derive(Serialize)]
pub(super) struct RawReply {
    seq: u64,
    at: Timestamp,
    cursor: String,
    subject: Option<String>,
    raw: String,
    conversation: Option<ConversationId>,
}

impl From<&Row> for Shown {
    fn from(row: &Row) -> Self {
        if let Some(stored) = read(row) {
            return Self::Message(Box::new(stored));
        }
        Self::Raw(RawReply {
            seq: row.seq,
            at: row.at,
            cursor: Cursor::new(row.at, row.seq).to_string(),
            subject: row.subject.clone(),
            raw: base64::engine::general_purpose::STANDARD.encode(&row.payload),
            conversation: row.conversation,
        })
    }
}

fn read(row: &Row) -> Option<Stored> {
    // A raw row has no id: its payload may look like an envelope and yet contradict its subject.
    row.id?;
    let message = wire::decode(&row.payload).ok()?;
    Some(Stored { seq: row.seq, at: row.at, message })
}

/// A page of rows.
#[derive(Serialize)]
pub(super) struct PageReply {
    pub(super) messages: Vec<Shown>,
    pub(super) next: Option<String>,
    pub(super) previous: Option<String>,
}

/// Rows between two instants.
#[derive(Serialize)]
pub(super) struct BetweenReply {
    pub(super) messages: Vec<Shown>,
    pub(super) next: Option<String>,
}

/// A page of conversations, newest first.
#[derive(Serialize)]
pub(super) struct ConversationsReply {
    pub(super) conversations: Vec<ConversationReply>,
    pub(super) next: Option<String>,
}

/// One conversation.
#[derive(Serialize)]
pub(super) struct ConversationReply {
    conversation: ConversationId,
    owner: Option<String>,
    first_at: Timestamp,
    last_at: Timestamp,
    messages: Option<u64>,
    last: Shown,
}

impl From<&Conversation> for ConversationReply {
    fn from(conversation: &Conversation) -> Self {
        Self {
            conversation: conversation.id,
            owner: conversation.owner.clone(),
            first_at: conversation.first_at,
            last_at: conversation.last.at,
            messages: conversation.messages,
            last: Shown::from(&conversation.last),
        }
    }
}
