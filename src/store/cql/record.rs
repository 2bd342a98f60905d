//! Recording: what is known is left alone, as far as it has to be looked for; then the rows by conversation, and the log
//! last.
//!
//! A row in the log says that everything else about it is written, so a crash in between repeats the row and loses
//! nothing of it. That it is known does not say that enough copies have it: it is written to the log once more, as it is.
//! The rows of one partition share a request; requests of a call run side by side.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::serialize::row::SerializeRow;

use super::columns::{self, STREAM, uuid, written_at};
use super::counts::{self, Open, Owned};
use super::flight::Written;
use super::place::{self, LAST, LogPlace, OwnerShard, signed};
use super::statements::{BATCH, Insert, Statements};
use super::{Shared, WIDTH, retire};
use crate::domain::{ConversationId, Kind, Row, Timestamp, Who};
use crate::store::{Recorded, Refused, StoreError};

/// A request holds no more than this, unless a single row does.
const REQUEST_BYTES: usize = 256 * 1024;
/// Rows of one log partition that lie further apart than this are asked for by themselves.
const FAR: u64 = 4096;
/// Of an owner in a key, both servers take no more: 65,535 bytes with its shard and the lengths of both.
const OWNER_BYTES: usize = 65_527;
/// Of two `opened` rows the first one names the owner: the time of the cell falls as the sequence rises. It lies in the
/// past (2001), so that a later erasure covers it.
const OWNER_TIME: i64 = 1_000_000_000_000_000;

/// Rows above `above` are not looked for.
pub(super) async fn record(shared: &Shared, rows: &[Row], above: u64) -> Result<Recorded, StoreError> {
    let mut recorded = Recorded::default();
    let (fresh, known) = sift(shared, rows, above, &mut recorded).await?;
    if fresh.is_empty() && known.is_empty() {
        return Ok(recorded);
    }
    list_blocks(shared, &fresh).await?;
    let placed = counts::place(shared, fresh.iter().copied().filter_map(Open::new).collect()).await?;
    let (mut refused, (), ()) =
        tokio::try_join!(messages(shared, &placed), activity(shared, &placed), owners(shared, &fresh))?;
    shared.is_the_same().await?;
    let logged: Vec<&Row> = fresh.iter().chain(&known).copied().filter(|row| !refused.contains_key(&row.seq)).collect();
    refused.extend(log(shared, &logged).await?);
    recorded.written = fresh.iter().filter(|row| !refused.contains_key(&row.seq)).count();
    recorded.known -= known.iter().filter(|row| refused.contains_key(&row.seq)).count();
    recorded.refused.extend(refused.into_iter().map(|(seq, reason)| Refused { seq, reason }));
    Ok(recorded)
}

/// The rows whose sequences are free, and those that the log has, in order.
async fn sift<'a>(
    shared: &Shared,
    rows: &'a [Row],
    above: u64,
    recorded: &mut Recorded,
) -> Result<(Vec<&'a Row>, Vec<&'a Row>), StoreError> {
    let mut candidates: Vec<&Row> = Vec::with_capacity(rows.len());
    for row in rows {
        if row.seq > LAST {
            let reason = format!("its sequence is above {LAST}");
            recorded.refused.push(Refused { seq: row.seq, reason });
        } else {
            candidates.push(row);
        }
    }
    // Stable: of two rows of one call at one sequence the first one counts.
    candidates.sort_by_key(|row| row.seq);
    let looked_for = candidates.partition_point(|row| row.seq <= above);
    let looked_for = candidates.get(..looked_for).unwrap_or_default();
    // What is new lies above whatever was retired.
    let retired = async || if looked_for.is_empty() { Ok(0) } else { retire::below(shared).await };
    let (mut stored, retired_below) = tokio::try_join!(digests(shared, looked_for), retired())?;
    let (mut fresh, mut known) = (Vec::with_capacity(candidates.len()), Vec::new());
    for row in candidates {
        let there = stored.entry(row.seq).or_default();
        if row.seq < retired_below {
            recorded.known += 1;
        } else if there.contains(&row.digest) {
            recorded.known += 1;
            known.push(row);
        } else if there.is_empty() {
            there.push(row.digest);
            fresh.push(row);
        } else {
            recorded.conflicts.push(row.seq);
        }
    }
    Ok((fresh, known))
}

/// What the log has at these sequences.
async fn digests(shared: &Shared, rows: &[&Row]) -> Result<HashMap<u64, Vec<[u8; 32]>>, StoreError> {
    let mut spans: Vec<(LogPlace, u64, u64)> = Vec::new();
    let mut open: HashMap<LogPlace, usize> = HashMap::new();
    for row in rows {
        let place = place::log(row.seq);
        match open.get(&place).and_then(|span| spans.get_mut(*span)) {
            Some((_, _, last)) if row.seq - *last <= FAR => *last = row.seq,
            _ => {
                open.insert(place, spans.len());
                spans.push((place, row.seq, row.seq));
            }
        }
    }
    let asked: Vec<_> = spans.into_iter().map(|span| span_digests(shared, span)).collect();
    let found: Vec<_> = stream::iter(asked).buffer_unordered(WIDTH).try_collect().await?;
    let mut stored: HashMap<u64, Vec<[u8; 32]>> = HashMap::new();
    for (seq, digest) in found.into_iter().flatten() {
        stored.entry(seq).or_default().push(digest);
    }
    Ok(stored)
}

async fn span_digests(
    shared: &Shared,
    (place, first, last): (LogPlace, u64, u64),
) -> Result<Vec<(u64, [u8; 32])>, StoreError> {
    let values = (STREAM, place.block, place.shard, signed(first), signed(last));
    let result = shared.flight.rows("look for rows in", &shared.statements.digests, values).await?;
    let read = |row: Result<(i64, &[u8], Option<i64>), _>| {
        let (seq, digest, _) = row.map_err(|error: scylla::errors::DeserializationError| error.to_string())?;
        let digest = digest.try_into().map_err(|_| format!("the digest of {seq} is too short"))?;
        Ok((seq.unsigned_abs(), digest))
    };
    let rows = result.rows().map_err(|error| shared.odd("look for rows in", error))?;
    rows.map(read).collect::<Result<_, String>>().map_err(|error| shared.odd("look for rows in", error))
}

/// Lists the blocks of these rows, once each as far as this process remembers.
async fn list_blocks(shared: &Shared, rows: &[&Row]) -> Result<(), StoreError> {
    let blocks: HashSet<i64> = rows.iter().map(|row| place::block(row.seq)).collect();
    for block in blocks {
        if shared.knows_block(block) {
            continue;
        }
        let (action, era, now) = ("list a block in", place::era(block), written_at(Timestamp::now()));
        shared.flight.write(action, &shared.statements.insert_era, (STREAM, era, now)).await?;
        shared.flight.write(action, &shared.statements.insert_block, (STREAM, era, block, now)).await?;
        shared.learn_block(block);
    }
    Ok(())
}

/// Writes rows by conversation; gives those that can't be stored.
async fn messages(shared: &Shared, placed: &[Open<'_>]) -> Result<HashMap<u64, String>, StoreError> {
    let Statements { insert_message, insert_stray_message, .. } = &shared.statements;
    let (strays, usual) =
        placed.iter().map(|open| ((open.conversation, open.part), open.row)).partition(|(_, row)| is_stray(row));
    let usual = partitions(shared, insert_message, usual, columns::message);
    let strays = partitions(shared, insert_stray_message, strays, columns::stray_message);
    let (mut refused, more) = tokio::try_join!(usual, strays)?;
    refused.extend(more);
    Ok(refused)
}

/// Writes rows into the log; gives those that can't be stored.
pub(super) async fn log(shared: &Shared, rows: &[&Row]) -> Result<HashMap<u64, String>, StoreError> {
    let Statements { insert_log, insert_stray_log, .. } = &shared.statements;
    let (strays, usual) = rows.iter().map(|row| (place::log(row.seq), *row)).partition(|(_, row)| is_stray(row));
    let usual = partitions(shared, insert_log, usual, columns::log);
    let strays = partitions(shared, insert_stray_log, strays, columns::stray_log);
    let (mut refused, more) = tokio::try_join!(usual, strays)?;
    refused.extend(more);
    Ok(refused)
}

/// Rows that have a subject of their own go by a statement of their own (`statements.rs`).
fn is_stray(row: &Row) -> bool {
    row.subject.is_some()
}

/// The newest row of each conversation in this call is a step in the list of recent ones.
async fn activity(shared: &Shared, placed: &[Open<'_>]) -> Result<(), StoreError> {
    let mut newest: HashMap<ConversationId, &Row> = HashMap::new();
    for open in placed {
        let row = newest.entry(open.conversation).or_insert(open.row);
        if row.seq < open.row.seq {
            *row = open.row;
        }
    }
    let steps = newest.into_values().map(|row| (place::slot(row.seq), row)).collect();
    partitions(shared, &shared.statements.insert_activity, steps, columns::activity).await.map(drop)
}

/// Writes rows, each with its partition; those of one partition share requests. Gives those that can't be stored.
async fn partitions<'a, K: Copy + Eq + Hash, V: SerializeRow>(
    shared: &Shared,
    insert: &Insert,
    rows: Vec<(K, &'a Row)>,
    values: impl Fn(K, &'a Row) -> V,
) -> Result<HashMap<u64, String>, StoreError> {
    let mut partitions: HashMap<K, Vec<&Row>> = HashMap::new();
    for (place, row) in rows {
        partitions.entry(place).or_default().push(row);
    }
    let mut requests = Vec::with_capacity(partitions.len());
    for (place, rows) in &partitions {
        for chunk in chunks(rows) {
            requests.push(put(shared, insert, chunk, |row| values(*place, row)));
        }
    }
    finish(requests).await
}

/// Who opened a conversation.
pub(super) struct Opened<'a> {
    pub(super) conversation: ConversationId,
    pub(super) owner: &'a str,
    /// Of several that name an owner, the one with the smallest sequence counts.
    pub(super) seq: u64,
    pub(super) at: Timestamp,
}

async fn owners(shared: &Shared, rows: &[&Row]) -> Result<(), StoreError> {
    let opened = rows.iter().filter_map(|row| {
        let (owner, conversation) = (opener(row)?, row.conversation?);
        Some(Opened { conversation, owner, seq: row.seq, at: row.at })
    });
    own(shared, &opened.collect::<Vec<_>>()).await
}

/// Whom a row names as the owner. Only the frontend's own word does: a user who sends a message of kind `opened` gains
/// nothing.
pub(super) fn opener(row: &Row) -> Option<&str> {
    let opens = row.kind == Some(Kind::Opened) && row.who == Some(Who::Meta);
    row.author.as_deref().filter(|_| opens)
}

/// Names the owner by the row that says so, younger than every deletion before the row was stored, older than all after it.
pub(super) async fn keep_owner(shared: &Shared, opening: &Row) -> Result<(), StoreError> {
    let (Some(owner), Some(conversation)) = (opener(opening), opening.conversation) else { return Ok(()) };
    let values = (uuid(&conversation), owner, written_at(opening.at));
    shared.flight.write("write an owner to", &shared.statements.insert_owner, values).await.map(drop)
}

/// Whether what somebody has opened is listed: of who can be no key it is not.
pub(super) fn has_list(owner: &str) -> bool {
    (1..=OWNER_BYTES).contains(&owner.len())
}

/// Writes who opened these, and what somebody has opened.
pub(super) async fn own(shared: &Shared, opened: &[Opened<'_>]) -> Result<(), StoreError> {
    let (flight, statements) = (&shared.flight, &shared.statements);
    let owned =
        opened.iter().filter(|opened| has_list(opened.owner)).map(|&Opened { conversation, owner, at, .. }| Owned {
            owner,
            conversation,
            at,
            shard: OwnerShard::first(conversation),
        });
    let owned = counts::place(shared, owned.collect()).await?;
    let named: Vec<_> = opened
        .iter()
        .map(|opened| {
            // Beyond 2^49 sequences the time would not be positive any more; the first of them keeps its turn.
            let time = (OWNER_TIME - signed(opened.seq)).max(1);
            flight.write(
                "write an owner to",
                &statements.insert_owner,
                (uuid(&opened.conversation), opened.owner, time),
            )
        })
        .collect();
    let listed: Vec<_> = owned
        .iter()
        .map(|owned| {
            let values = (owned.owner, owned.shard.number(), uuid(&owned.conversation), written_at(owned.at));
            flight.write("write what a user has opened to", &statements.insert_owned, values)
        })
        .collect();
    tokio::try_join!(all(named), all(listed)).map(drop)
}

/// Waits for writes of which it does not matter whether one is refused.
async fn all(writes: Vec<impl Future<Output = Result<Written, StoreError>>>) -> Result<(), StoreError> {
    stream::iter(writes).buffer_unordered(WIDTH).try_for_each(|_| async { Ok(()) }).await
}

/// Rows of one partition in requests of bounded size.
fn chunks<'a, 'b>(rows: &'b [&'a Row]) -> Vec<&'b [&'a Row]> {
    let (mut chunks, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (index, row) in rows.iter().enumerate() {
        let size = row.payload.len() + row.author.as_ref().map_or(0, String::len);
        if index - from == BATCH || (index > from && bytes + size > REQUEST_BYTES) {
            chunks.extend(rows.get(from..index));
            (from, bytes) = (index, 0);
        }
        bytes += size;
    }
    chunks.extend(rows.get(from..).filter(|last| !last.is_empty()));
    chunks
}

/// Stores rows of one partition. If they can't be stored together, each is tried by itself.
async fn put<'a, V: SerializeRow>(
    shared: &Shared,
    insert: &Insert,
    rows: &[&'a Row],
    values: impl Fn(&'a Row) -> V,
) -> Result<Vec<(u64, String)>, StoreError> {
    let action = "write rows to";
    if let ([_, _, ..], Some(batch)) = (rows, insert.batch(rows.len())) {
        let all: Vec<V> = rows.iter().map(|row| values(row)).collect();
        if let Written::Stored = shared.flight.batch(action, &insert.one, batch, &all).await? {
            return Ok(Vec::new());
        }
    }
    let mut refused = Vec::new();
    for row in rows {
        if let Written::Refused(reason) = shared.flight.write(action, &insert.one, values(row)).await? {
            refused.push((row.seq, reason));
        }
    }
    Ok(refused)
}

/// Waits for all of them; the first one that fails for good ends it.
async fn finish(
    requests: Vec<impl Future<Output = Result<Vec<(u64, String)>, StoreError>>>,
) -> Result<HashMap<u64, String>, StoreError> {
    let refused: Vec<_> = stream::iter(requests).buffer_unordered(WIDTH).try_collect().await?;
    Ok(refused.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::cql::tests::fresh;

    /// There is one for each row at random, all at once, and each is moved twice.
    #[tokio::test]
    async fn a_row_that_waits_for_its_turn_is_small() {
        let (_, store) = fresh().await;
        let shared = &store.shared;
        let place = place::log(1);
        let waiting = put(shared, &shared.statements.insert_log, &[], |row| columns::log(place, row));
        assert!(size_of_val(&waiting) <= 1024, "{} bytes", size_of_val(&waiting));
    }
}
