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
    let mut row = Row {
        seq: record.seq,
        at: record.at,
        conversation: None,
        id: None,
        who: None,
        kind: None,
        author: None,
        // The subject follows from conversation and side: `subjects.record` gives it back.
        subject: None,
        payload: record.payload.clone(),
        digest: wire::digest(&record.subject, record.seq, record.at, &record.payload),
    };
    let raw =
        |row: Row, dead: Option<String>| Decoded { row: Row { subject: Some(record.subject.clone()), ..row }, dead };
    let Some(place) = subjects.parse(&record.subject) else {
        return raw(row, Some("the subject is not of yalo's grammar".to_owned()));
    };
    row.conversation = Some(place.conversation);
    let head = match wire::head(&record.payload) {
        Ok(head) => head,
        Err(newer @ DecodeError::Newer(_)) => {
            tracing::debug!(seq = record.seq, %newer, "message {} is of a newer release, kept raw", record.seq);
            return raw(row, None);
        }
        Err(error) => return raw(row, Some(error.to_string())),
    };
    if head.conversation != place.conversation || head.who != place.who {
        return raw(row, Some("the payload names another conversation or side than the subject".to_owned()));
    }
    row.id = Some(head.id);
    row.who = Some(head.who);
    row.kind = Some(head.kind);
    row.author = Some(head.author.into_owned());
    Decoded { row, dead: None }
}
