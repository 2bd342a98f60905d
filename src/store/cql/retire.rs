//! Retention: the oldest rows go, a slot of sequences in a step, by deletions of whole ranges.
//!
//! One number says that everything below it was retired. It is raised first and never falls, so nothing comes back and no
//! new row comes to lie there, whatever is cut off half-way: a later step finds what is left by the log, of which rows go
//! last. The deletions are younger than any message, so what is delivered again while they are made stays deleted too.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;

use super::columns::{STREAM, uuid, written_at};
use super::place::{self, LogPlace, OwnerShard, Part, SHARDS, signed};
use super::{Shared, WIDTH, conversations, log, record};
use crate::domain::{ConversationId, Timestamp};
use crate::store::{Retired, StoreError};

/// Where the number is kept among the settings.
const BELOW: &str = "retired_below";
/// What errors call a deletion.
const ACTION: &str = "retire rows of";

/// Everything below was retired; 0 if nothing was.
pub(super) async fn below(shared: &Shared) -> Result<u64, StoreError> {
    let action = "read what was retired from";
    let result = shared.flight.rows(action, &shared.statements.setting, (BELOW,)).await?;
    let row = result.maybe_first_row::<(String,)>().map_err(|error| shared.odd(action, error))?;
    row.map_or(Ok(0), |(value,)| value.parse().map_err(|_| shared.odd(action, format!("it is {value:?}"))))
}

/// Says that everything below was retired. It never falls, whoever writes when: its own number is the time of the cell.
pub(super) async fn raise(shared: &Shared, below: u64) -> Result<(), StoreError> {
    let values = (BELOW, below.to_string(), signed(below));
    let statement = &shared.statements.insert_setting;
    shared.flight.write("write what was retired to", statement, values).await.map(drop)
}

/// The highest stored sequence, retired rows included.
pub(super) async fn last_seq(shared: &Shared) -> Result<Option<u64>, StoreError> {
    let (last, below) = tokio::try_join!(log::last(shared), below(shared))?;
    Ok(last.map(|last| last.seq).max(below.checked_sub(1)))
}

/// What retention has to know of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    seq: u64,
    at: Timestamp,
    conversation: Option<ConversationId>,
}

/// The heads of all rows between two sequences of one block, in order.
async fn heads(shared: &Shared, from: u64, to: u64) -> Result<Vec<Head>, StoreError> {
    let block = place::block(from);
    let places = (0..i16::try_from(SHARDS).unwrap_or_default()).map(|shard| LogPlace { block, shard });
    let asked: Vec<_> = places.map(|place| shard_heads(shared, place, from, to)).collect();
    let found: Vec<Vec<Head>> = stream::iter(asked).buffer_unordered(WIDTH).try_collect().await?;
    let mut heads: Vec<Head> = found.into_iter().flatten().collect();
    heads.sort_unstable();
    Ok(heads)
}

async fn shard_heads(shared: &Shared, place: LogPlace, from: u64, to: u64) -> Result<Vec<Head>, StoreError> {
    let action = "look for old rows in";
    let values = (STREAM, place.block, place.shard, signed(from), signed(to));
    let result = shared.flight.rows(action, &shared.statements.log_heads, values).await?;
    let rows = result.rows::<(i64, i64, Option<uuid::Uuid>)>().map_err(|error| shared.odd(action, error))?;
    let read = |row: Result<(i64, i64, Option<uuid::Uuid>), _>| {
        row.map(|(seq, at_ns, id)| Head {
            seq: seq.unsigned_abs(),
            at: Timestamp::from_ns(at_ns),
            conversation: id.map(|id| ConversationId::from_bytes(id.into_bytes())),
        })
    };
    rows.map(read).collect::<Result<_, _>>().map_err(|error| shared.odd(action, error))
}

/// One step: of the oldest slot that has rows, those that were stored before an instant and are at most `upto`, up to the
/// first one that stays.
pub(super) async fn retire(shared: &Shared, before: Timestamp, upto: u64) -> Result<Retired, StoreError> {
    let below = below(shared).await?;
    // A step that was cut off has left rows in its own slot at most.
    let from = *place::slot_sequences(below.saturating_sub(1)).start();
    let Some(first) = log::next_place(shared, from).await? else { return Ok(Retired::default()) };
    let heads = heads(shared, first.seq, *place::slot_sequences(first.seq).end()).await?;
    let goes = |head: &Head| head.seq < below || (head.seq <= upto && head.at < before);
    let going = heads.iter().position(|head| !goes(head)).unwrap_or(heads.len());
    let Some((going, last)) = heads.get(..going).and_then(|going| Some((going, going.last()?))) else {
        return Ok(Retired::default());
    };
    let end = last.seq + 1;
    if end > below {
        raise(shared, end).await?;
    }
    erase(shared, going.iter().filter_map(|head| head.conversation).collect(), end).await?;
    let rows = going.iter().filter(|head| head.seq >= below).count();
    Ok(Retired { rows: u64::try_from(rows).unwrap_or(u64::MAX), more: going.len() == heads.len() })
}

/// Deletes everything below a sequence in its slot, and of these conversations.
async fn erase(shared: &Shared, conversations: BTreeSet<ConversationId>, end: u64) -> Result<(), StoreError> {
    let statements = &shared.statements;
    let now = written_at(Timestamp::now());
    let asked: Vec<_> = conversations.into_iter().map(|id| shorten(shared, id, end, now)).collect();
    stream::iter(asked).buffer_unordered(WIDTH).try_collect::<()>().await?;
    let (slot, block) = (place::slot(end - 1), place::block(end - 1));
    delete(shared, &statements.delete_activity, (now, slot, signed(end))).await?;
    let places = (0..i16::try_from(SHARDS).unwrap_or_default()).map(|shard| LogPlace { block, shard });
    let asked = places
        .map(|place| delete(shared, &statements.delete_log, (now, STREAM, place.block, place.shard, signed(end))));
    stream::iter(asked.collect::<Vec<_>>()).buffer_unordered(WIDTH).try_collect::<()>().await?;
    // Blocks that lie wholly below.
    let block = place::block(end);
    delete(shared, &statements.delete_blocks, (now, STREAM, place::era(block), block)).await
}

/// Deletes what a conversation has below a sequence, and all that is known of it if nothing is left.
async fn shorten(shared: &Shared, id: ConversationId, end: u64, now: i64) -> Result<(), StoreError> {
    let statements = &shared.statements;
    let parts = conversations::parts(shared, id).await?;
    let owner = owner(shared, id, &parts, end).await?;
    for part in parts {
        let sequences = part.sequences();
        if *sequences.start() >= end {
            continue;
        }
        delete(shared, &statements.delete_messages, (now, uuid(&id), part.number(), signed(end))).await?;
        if *sequences.end() < end {
            delete(shared, &statements.delete_part, (now, uuid(&id), part.number())).await?;
        }
    }
    if let Some(owner) = owner
        && conversations::newest(shared, id).await?.is_none()
    {
        for shard in OwnerShard::all_of(id).filter(|_| id != OwnerShard::DIVIDED && record::has_list(&owner)) {
            delete(shared, &statements.delete_owned, (now, &owner, shard.number(), uuid(&id))).await?;
            if !conversations::is_divided(shared, &owner, shard).await? {
                break;
            }
        }
        delete(shared, &statements.delete_owner, (now, uuid(&id))).await?;
    }
    Ok(())
}

/// Who opened a conversation. If only a row says so that goes now, a cell says it from now on.
async fn owner(shared: &Shared, id: ConversationId, parts: &[Part], end: u64) -> Result<Option<String>, StoreError> {
    if let Some(owner) = conversations::written_owner(shared, id).await? {
        return Ok(Some(owner));
    }
    let Some(opening) = conversations::opening(shared, id, parts).await? else { return Ok(None) };
    if opening.seq < end {
        record::keep_owner(shared, &opening).await?;
    }
    Ok(opening.author)
}

async fn delete(shared: &Shared, statement: &PreparedStatement, values: impl SerializeRow) -> Result<(), StoreError> {
    shared.flight.write(ACTION, statement, values).await.map(drop)
}
