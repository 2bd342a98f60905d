//! Which rows an export is about.

use serde::{Deserialize, Serialize};

use crate::domain::{Bound, ConversationId, Row};

/// Whose messages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// Everything, in the order of record.
    #[default]
    Everyone,
    /// One conversation, in its order.
    Conversation(ConversationId),
    /// All conversations that this user opened, one after the other in the order of their ids, which is that of their
    /// beginnings.
    User(String),
}

/// Whose, and from when to when.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Selection {
    /// Whose messages.
    pub whose: Whose,
    /// From this message or instant on.
    pub from: Option<Bound>,
    /// Up to this message, or to what was stored before this instant.
    pub to: Option<Bound>,
}

impl Selection {
    /// Whether instants bound it.
    pub(super) fn is_by_time(&self) -> bool {
        matches!(self.from, Some(Bound::At(_))) || matches!(self.to, Some(Bound::At(_)))
    }

    /// Whether no sequence may be missing between its rows. By instants one may be: clocks step back.
    pub(super) fn is_consecutive(&self) -> bool {
        self.whose == Whose::Everyone && !self.is_by_time()
    }

    /// Whether a row lies within the bounds.
    pub(super) fn has(&self, row: &Row) -> bool {
        let begun = match self.from {
            None => true,
            Some(Bound::Seq(seq)) => row.seq >= seq,
            Some(Bound::At(at)) => row.at >= at,
        };
        let over = match self.to {
            None => false,
            Some(Bound::Seq(seq)) => row.seq > seq,
            Some(Bound::At(at)) => row.at >= at,
        };
        begun && !over
    }
}
