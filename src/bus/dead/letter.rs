//! One dead letter: what it says, and what can be done about it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{NATS, Record};
use crate::domain::{ConversationId, Message, Timestamp, Who};

/// What yalo writes into a letter. An advisory of the server has nothing of it.
#[derive(Debug, Default, Deserialize)]
struct Written {
    #[serde(default)]
    role: String,
    #[serde(default)]
    reason: String,
    seq: Option<u64>,
    message: Option<Message>,
}

/// A letter as lists show it.
#[derive(Debug, Clone, Serialize)]
pub struct Letter {
    /// Its number: its sequence in the stream of dead letters.
    pub letter: u64,
    /// When it was laid down.
    pub at: Timestamp,
    /// Who laid it down: `bot`, `auditor`, `nats`.
    pub role: String,
    /// The conversation of the message, if it has one.
    pub conversation: Option<ConversationId>,
    /// The sequence of the message.
    pub seq: Option<u64>,
    /// Why.
    pub reason: String,
    /// Whether it is about a question, which can be asked again.
    pub replayable: bool,
    #[serde(skip)]
    pub(super) message: Option<Message>,
    #[serde(skip)]
    record: Record,
}

/// A letter with everything in it.
#[derive(Debug, Clone, Serialize)]
pub struct LetterInFull {
    /// As in lists.
    #[serde(flatten)]
    pub letter: Letter,
    /// The subject that it was laid down on.
    pub subject: String,
    /// What it holds: an object of yalo or of the server, else its bytes as text.
    pub inside: Value,
}

impl Letter {
    pub(super) fn read(record: Record) -> Self {
        let Written { role, reason, seq, message } = serde_json::from_slice(&record.payload).unwrap_or_default();
        let by_server = role.is_empty();
        let conversation = message.as_ref().map(|message| message.conversation);
        Self {
            letter: record.seq,
            at: record.at,
            role: if by_server { NATS.to_owned() } else { role },
            // What could not be decoded has its conversation, if any, in the subject only.
            conversation: conversation
                .or_else(|| ConversationId::parse(record.subject.rsplit('.').next().unwrap_or_default()).ok()),
            seq,
            reason: if by_server { record.subject.clone() } else { reason },
            replayable: seq.is_some() && message.as_ref().is_some_and(|message| message.who == Who::User),
            message,
            record,
        }
    }

    /// With what it holds.
    pub fn in_full(self) -> LetterInFull {
        let payload = &self.record.payload;
        let inside = serde_json::from_slice(payload)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(payload).into_owned()));
        LetterInFull { subject: self.record.subject.clone(), inside, letter: self }
    }
}
