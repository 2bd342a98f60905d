//! Between a row of the domain and the columns of `log` and `messages`.

use bytes::Bytes;
use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::row::SerializeRow;
use scylla::value::MaybeUnset::{self, Set, Unset};
use uuid::Uuid;

use super::place::{LogPlace, Part, signed};
use crate::domain::{ConversationId, Kind, MessageId, Row, Timestamp, Who};

/// The only stream so far.
pub(super) const STREAM: i16 = 0;

/// The columns that both tables share, as [`Columns`] reads them.
pub(super) const COLUMNS: &str = "seq, digest, at_ns, id, who, kind, author, subject, payload";

/// What [`COLUMNS`] come as. Time and payload are absent as long as a row is there in part: if its write was cut off at one
/// copy, whoever reads its key alone brings the others the key alone.
type Columns<'a> =
    (i64, &'a [u8], Option<i64>, Option<Uuid>, Option<i8>, Option<i8>, Option<&'a str>, Option<&'a str>, Option<Bytes>);

/// [`COLUMNS`] and the conversation, which in `log` is a column.
type LogColumns<'a> = (
    i64,
    &'a [u8],
    Option<i64>,
    Option<Uuid>,
    Option<i8>,
    Option<i8>,
    Option<&'a str>,
    Option<&'a str>,
    Option<Bytes>,
    Option<Uuid>,
);

/// The values that both tables share, in the order of the statements, behind those that are given: with the subject or not.
/// What is absent stays unset: a null would be a tombstone.
macro_rules! values {
    ($row:ident, [$($key:expr),*], [$($conversation:expr)?], [$($subject:expr)?]) => {
        (
            $($key,)*
            signed($row.seq),
            &$row.digest,
            $row.at.ns(),
            set($row.author.as_deref()),
            $($conversation,)?
            set($row.id.map(|id| Uuid::from_bytes(*id.as_bytes()))),
            set($row.kind.and_then(|kind| position(&Kind::ALL, &kind))),
            &$row.payload,
            $($subject,)?
            set($row.who.and_then(|who| position(&Who::ALL, &who))),
            written_at($row.at),
        )
    };
}

/// A row of `messages`.
pub(super) fn message((conversation, part): (ConversationId, Part), row: &Row) -> impl SerializeRow {
    values!(row, [uuid(&conversation), part.number()], [], [])
}

/// One with a subject of its own.
pub(super) fn stray_message((conversation, part): (ConversationId, Part), row: &Row) -> impl SerializeRow {
    values!(row, [uuid(&conversation), part.number()], [], [set(row.subject.as_deref())])
}

/// A row of `log`.
pub(super) fn log(place: LogPlace, row: &Row) -> impl SerializeRow {
    values!(row, [STREAM, place.block, place.shard], [set(row.conversation.as_ref().map(uuid))], [])
}

/// One with a subject of its own.
pub(super) fn stray_log(place: LogPlace, row: &Row) -> impl SerializeRow {
    let subject = set(row.subject.as_deref());
    values!(row, [STREAM, place.block, place.shard], [set(row.conversation.as_ref().map(uuid))], [subject])
}

/// A row of `activity`.
pub(super) fn activity(slot: i64, row: &Row) -> impl SerializeRow {
    (slot, signed(row.seq), row.conversation.as_ref().map(uuid), written_at(row.at))
}

/// The time of the cells, in microseconds: the message's own. A message that is delivered again can't undo an erasure.
pub(super) fn written_at(at: Timestamp) -> i64 {
    // 0 and less are not allowed by all servers.
    (at.ns() / 1000).max(1)
}

/// Rows of `messages`, which all belong to one conversation.
pub(super) fn read_messages(result: &QueryRowsResult, conversation: ConversationId) -> Result<Vec<Row>, String> {
    let rows = result.rows::<Columns<'_>>().map_err(|error| error.to_string())?;
    let rows = rows.map(|row| row_of(row.map_err(|error| error.to_string())?, Some(conversation)));
    rows.filter_map(Result::transpose).collect()
}

/// Rows of `log`.
pub(super) fn read_log(result: &QueryRowsResult) -> Result<Vec<Row>, String> {
    let rows = result.rows::<LogColumns<'_>>().map_err(|error| error.to_string())?;
    let rows = rows.map(|row| {
        let (seq, digest, at, id, who, kind, author, subject, payload, of) = row.map_err(|error| error.to_string())?;
        let of = of.map(|of| ConversationId::from_bytes(of.into_bytes()));
        row_of((seq, digest, at, id, who, kind, author, subject, payload), of)
    });
    rows.filter_map(Result::transpose).collect()
}

/// `None`: it is there in part, and stored only when it is delivered again.
fn row_of(columns: Columns<'_>, conversation: Option<ConversationId>) -> Result<Option<Row>, String> {
    let (seq, digest, at_ns, id, who, kind, author, subject, payload) = columns;
    let (Some(at_ns), Some(payload)) = (at_ns, payload) else { return Ok(None) };
    let number = |number: Option<i8>| number.and_then(|number| usize::try_from(number).ok());
    Ok(Some(Row {
        seq: u64::try_from(seq).map_err(|_| format!("the sequence {seq} is negative"))?,
        at: Timestamp::from_ns(at_ns),
        conversation,
        id: id.map(|id| MessageId::from_bytes(id.into_bytes())),
        // A number that this release does not know was written by a newer one: the row is shown raw.
        who: number(who).and_then(|number| Who::ALL.get(number).copied()),
        kind: number(kind).and_then(|number| Kind::ALL.get(number).copied()),
        author: author.map(str::to_owned),
        subject: subject.map(str::to_owned),
        payload,
        digest: digest.try_into().map_err(|_| format!("the digest of {seq} has {} bytes", digest.len()))?,
    }))
}

pub(super) fn uuid(conversation: &ConversationId) -> Uuid {
    Uuid::from_bytes(*conversation.as_bytes())
}

fn set<V>(value: Option<V>) -> MaybeUnset<V> {
    value.map_or(Unset, Set)
}

/// The number of a word: its place in the domain's list, which only ever grows at its end.
fn position<T: PartialEq>(all: &[T], one: &T) -> Option<i8> {
    all.iter().position(|other| other == one).and_then(|position| i8::try_from(position).ok())
}
