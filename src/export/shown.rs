//! A row for people and programs outside: a message as users see it, or the raw bytes of what could not be decoded.

use base64::Engine as _;
use serde::Serialize;

use crate::domain::{ConversationId, Cursor, Row, Stored, Timestamp};
use crate::wire;

/// As JSON: the fields of [`Stored`], or `seq`, `at`, `cursor`, `subject`, `raw` (base64) and `conversation`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Shown {
    /// A message.
    Message(Box<Stored>),
    /// What could not be decoded.
    Raw(RawRow),
}

/// A row whose payload could not be decoded, byte for byte.
#[derive(Debug, Serialize)]
pub struct RawRow {
    pub(super) seq: u64,
    pub(super) at: Timestamp,
    pub(super) cursor: String,
    pub(super) subject: Option<String>,
    pub(super) raw: String,
    pub(super) conversation: Option<ConversationId>,
}

impl From<&Row> for Shown {
    fn from(row: &Row) -> Self {
        if let Some(stored) = read(row) {
            return Self::Message(Box::new(stored));
        }
        Self::Raw(RawRow {
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
