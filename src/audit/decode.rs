//! From a message of the stream to a row. What can't be decoded becomes a raw row under its sequence, so the record still adds up.

use crate::bus::Record;
use crate::domain::Row;
use crate::wire::{self, DecodeError, Subjects};

/// A row, and why its message belongs to the dead letters, if it does.
pub struct Decoded {
    /// What the store keeps.
    pub row: Row,
    /// The reason.
    pub dead: Option<String>,
}

/// Reads one message of the stream. The subject is the truth about conversation and side: a payload that contradicts it
/// was not written by yalo.
pub fn decode(subjects: &Subjects, record: &Record) -> Decoded {
    let digest = wire::digest(&record.subject, record.seq, record.at, &record.payload);
    let place = subjects.parse(&record.subject);
    let mut row = Row {
        seq: record.seq,
        at: record.at,
        conversation: place.map(|place| place.conversation),
        id: None,
        who: None,
        kind: None,
        author: None,
        subject: Some(record.subject.clone()),
        payload: record.payload.clone(),
        digest,
    };
    let Some(place) = place else {
        return Decoded { row, dead: Some("the subject is not of yalo's grammar".to_owned()) };
    };
    let message = match wire::decode(&record.payload) {
        Ok(message) => message,
        Err(newer @ DecodeError::Newer(_)) => {
            tracing::debug!(seq = record.seq, %newer, "message {} is of a newer release, kept raw", record.seq);
            return Decoded { row, dead: None };
        }
        Err(error) => return Decoded { row, dead: Some(error.to_string()) },
    };
    if message.conversation != place.conversation || message.who != place.who {
        return Decoded {
            row,
            dead: Some("the payload names another conversation or side than the subject".to_owned()),
        };
    }
    row.id = Some(message.id);
    row.who = Some(message.who);
    row.kind = Some(message.kind);
    row.author = Some(message.author);
    // The subject follows from conversation and side: `subjects.record` gives it back.
    row.subject = None;
    Decoded { row, dead: None }
}
