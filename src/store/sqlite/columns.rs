//! Between a row of the domain and the columns of `messages`.

use bytes::Bytes;
use rusqlite::types::{FromSqlError, ValueRef};
use rusqlite::{CachedStatement, params};

use crate::domain::{ConversationId, Kind, MessageId, Row, Timestamp, Who};

/// The columns that [`read`] expects, in its order.
pub(super) const COLUMNS: &str =
    "m.seq, m.at_ns, m.conversation, m.id, m.who, m.kind, m.author, m.subject, m.payload, m.digest";

/// Stores a row unless its sequence is taken: 1 if stored, 0 if not.
pub(super) const INSERT: &str = "INSERT INTO messages (seq, at_ns, conversation, id, who, kind, author, subject, payload, \
     digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (seq) DO NOTHING";

/// Runs [`INSERT`].
pub(super) fn insert(statement: &mut CachedStatement<'_>, seq: i64, row: &Row) -> rusqlite::Result<usize> {
    statement.execute(params![
        seq,
        row.at.ns(),
        row.conversation.as_ref().map(ConversationId::as_bytes),
        row.id.as_ref().map(MessageId::as_bytes),
        row.who.and_then(|who| position(&Who::ALL, &who)),
        row.kind.and_then(|kind| position(&Kind::ALL, &kind)),
        row.author,
        row.subject,
        &row.payload[..],
        row.digest,
    ])
}

/// The columns `first..` of a result, as [`COLUMNS`] names them.
pub(super) fn read(columns: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Row> {
    let conversation: Option<[u8; 16]> = columns.get(first + 2)?;
    let id: Option<[u8; 16]> = columns.get(first + 3)?;
    // A number that this release does not know was written by a newer one: the row is shown raw.
    let who = columns.get::<_, Option<usize>>(first + 4)?.and_then(|number| Who::ALL.get(number).copied());
    let kind = columns.get::<_, Option<usize>>(first + 5)?.and_then(|number| Kind::ALL.get(number).copied());
    Ok(Row {
        seq: columns.get(first)?,
        at: Timestamp::from_ns(columns.get(first + 1)?),
        conversation: conversation.map(ConversationId::from_bytes),
        id: id.map(MessageId::from_bytes),
        who,
        kind,
        author: columns.get(first + 6)?,
        subject: columns.get(first + 7)?,
        payload: Bytes::copy_from_slice(blob(columns.get_ref(first + 8)?)?),
        digest: columns.get(first + 9)?,
    })
}

/// Somebody may have edited the payload as text in a shell: that shows in the digest, not as an unreadable row.
fn blob(value: ValueRef<'_>) -> Result<&[u8], FromSqlError> {
    match value {
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Ok(bytes),
        _ => Err(FromSqlError::InvalidType),
    }
}

/// The number of a word: its place in the domain's list, which only ever grows at its end.
fn position<T: PartialEq>(all: &[T], one: &T) -> Option<usize> {
    all.iter().position(|other| other == one)
}
