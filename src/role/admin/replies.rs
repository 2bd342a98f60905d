//! What operators get: messages as users see them, and raw rows for what could not be decoded.

use serde::Serialize;

use crate::domain::{Conversation, ConversationId, Timestamp};
use crate::export::Shown;

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
