//! Reading the log: its ends, a sequence, a range of them, and the sequence of an instant.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::columns::{self, STREAM};
use super::place::{self, LAST, LogPlace, SHARDS, signed};
use super::{Shared, WIDTH, retire};
use crate::domain::{Row, Timestamp};
use crate::store::{Place, StoreError, drop_cut};

/// How far the times of two messages may be out of order: another leader's clock.
const SKEW: Duration = Duration::from_secs(10);
/// Sequences that are read at once.
const STRETCH: u64 = 2048;
/// Sequences whose time is remembered.
const REMEMBERED: usize = 4096;

/// Times of sequences that were met while looking for instants: the next look begins between two of them.
#[derive(Default)]
pub(super) struct Times(Mutex<BTreeMap<u64, i64>>);

impl Times {
    fn learn(&self, place: Place) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() >= REMEMBERED {
            times.clear();
        }
        times.insert(place.seq, place.at.ns());
    }

    /// The last known sequence before the instant, and the first known one after it.
    fn around(&self, instant: Timestamp) -> (Option<u64>, Option<u64>) {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = times.iter().rev().find(|(_, at)| **at < instant.ns()).map(|(seq, _)| *seq);
        let after = times.iter().find(|(_, at)| **at >= instant.ns()).map(|(seq, _)| *seq);
        (before, after)
    }
}

pub(super) async fn by_seq(shared: &Shared, seq: u64) -> Result<Option<Row>, StoreError> {
    if seq > LAST {
        return Ok(None);
    }
    let (action, place) = ("read a message from", place::log(seq));
    let values = (STREAM, place.block, place.shard, signed(seq));
    let result = shared.flight.rows(action, &shared.statements.log_one, values).await?;
    Ok(columns::read_log(&result).map_err(|error| shared.odd(action, error))?.into_iter().next())
}

pub(super) async fn scan(shared: &Shared, after_seq: u64, limit: usize) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    let (last, retired_below) = tokio::try_join!(last(shared), retire::below(shared))?;
    let Some(last) = last else { return Ok(rows) };
    let mut next = after_seq.saturating_add(1).max(retired_below);
    while rows.len() < limit && next <= last.seq {
        let wanted = u64::try_from(limit - rows.len()).unwrap_or(STRETCH).min(STRETCH);
        let to = last.seq.min(next.saturating_add(wanted - 1));
        let found = range(shared, next, to).await?;
        next = to.saturating_add(1);
        if found.is_empty() {
            // A hole: gone over in one step, however wide it is.
            let Some(place) = next_place(shared, next).await? else { break };
            next = place.seq;
        }
        rows.extend(found);
    }
    rows.truncate(limit);
    Ok(rows)
}

pub(super) async fn between(
    shared: &Shared,
    from: Timestamp,
    to: Timestamp,
    after_seq: u64,
    limit: usize,
) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    if from >= to || limit == 0 {
        return Ok(rows);
    }
    let begin = seq_at(shared, earlier(from)).await?.unwrap_or(u64::MAX);
    let mut after = after_seq.max(begin.saturating_sub(1));
    let over = later(to);
    while rows.len() < limit {
        let asked = limit.max(256);
        let mut found = scan(shared, after, asked).await?;
        drop_cut(&mut found, asked);
        let Some(last) = found.last() else { break };
        after = last.seq;
        let is_over = found.iter().any(|row| row.at >= over);
        rows.extend(found.into_iter().filter(|row| from <= row.at && row.at < to));
        if is_over {
            break;
        }
    }
    rows.truncate(limit);
    Ok(rows)
}

/// Sequences between two instants. Where clocks stepped back, those in the steps may be counted on the wrong side.
pub(super) async fn count_between(shared: &Shared, from: Timestamp, to: Timestamp) -> Result<u64, StoreError> {
    if from >= to {
        return Ok(0);
    }
    let (Some(first), Some(end)) = (seq_at(shared, from).await?, seq_at(shared, to).await?) else { return Ok(0) };
    Ok(end.saturating_sub(first))
}

fn earlier(instant: Timestamp) -> Timestamp {
    Timestamp::from_ns(instant.ns().saturating_sub(2 * nanoseconds(SKEW)))
}

fn later(instant: Timestamp) -> Timestamp {
    Timestamp::from_ns(instant.ns().saturating_add(2 * nanoseconds(SKEW)))
}

fn nanoseconds(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX / 4)
}

/// The first sequence at or after an instant, by bisection; one above the last if there is none. Everything before it is
/// older than the instant but for what clocks stepped back. `None`: nothing is stored.
pub(super) async fn seq_at(shared: &Shared, instant: Timestamp) -> Result<Option<u64>, StoreError> {
    let (Some(first), Some(last)) = tokio::try_join!(first(shared), last(shared))? else { return Ok(None) };
    if instant <= first.at {
        return Ok(Some(first.seq));
    }
    if instant > last.at {
        return Ok(Some(last.seq + 1));
    }
    let (before, after) = shared.times.around(instant);
    let mut low = before.unwrap_or(0).max(first.seq);
    let mut answer = after.unwrap_or(last.seq).min(last.seq);
    if low >= answer {
        (low, answer) = (first.seq, last.seq);
    }
    let mut high = answer;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match at_or_after(shared, middle).await? {
            Some(place) if place.seq < high => {
                shared.times.learn(place);
                if place.at < instant {
                    low = place.seq;
                } else {
                    (high, answer) = (middle, place.seq);
                }
            }
            _ => high = middle,
        }
    }
    Ok(Some(answer))
}

/// The row with the largest sequence.
pub(super) async fn last(shared: &Shared) -> Result<Option<Place>, StoreError> {
    for block in newest_blocks(shared).await? {
        let ends = of_shards(block, |place| shard_end(shared, place)).await?;
        if let Some(place) = ends.into_iter().max_by_key(|place| place.seq) {
            return Ok(Some(place));
        }
        // Listed, and its first row was never written.
    }
    Ok(None)
}

/// The row with the smallest sequence.
pub(super) async fn first(shared: &Shared) -> Result<Option<Place>, StoreError> {
    next_place(shared, retire::below(shared).await?).await
}

/// The first row at or above a sequence: mostly the very one.
async fn at_or_after(shared: &Shared, seq: u64) -> Result<Option<Place>, StoreError> {
    let place = place::log(seq);
    let values = (STREAM, place.block, place.shard, signed(seq));
    let (action, statement) = ("find an instant in", &shared.statements.log_time);
    let result = shared.flight.rows(action, statement, values).await?;
    match place_of(shared, action, &result)? {
        Some(place) => Ok(Some(place)),
        None => next_place(shared, seq).await,
    }
}

/// The first row at or above a sequence, across blocks that nothing is stored of.
pub(super) async fn next_place(shared: &Shared, seq: u64) -> Result<Option<Place>, StoreError> {
    let mut from = seq.min(LAST);
    while let Some(block) = next_block(shared, place::block(from)).await? {
        let sequences = place::sequences(block);
        from = from.max(*sequences.start());
        let heads = of_shards(block, |place| shard_next(shared, place, from)).await?;
        if let Some(place) = heads.into_iter().min_by_key(|place| place.seq) {
            return Ok(Some(place));
        }
        match sequences.end().checked_add(1).filter(|next| *next <= LAST) {
            Some(next) => from = next,
            None => break,
        }
    }
    Ok(None)
}

/// All rows between two sequences of at most [`STRETCH`].
async fn range(shared: &Shared, from: u64, to: u64) -> Result<Vec<Row>, StoreError> {
    let mut asked = Vec::new();
    for block in place::block(from)..=place::block(to) {
        let sequences = place::sequences(block);
        let (from, to) = (from.max(*sequences.start()), to.min(*sequences.end()));
        // Fewer runs than shards: only the shards that they lie in.
        let runs = (from / place::RUN..=to / place::RUN).take(usize::try_from(SHARDS).unwrap_or(usize::MAX));
        asked.extend(runs.map(|run| shard_range(shared, place::log((run * place::RUN).max(from)), from, to)));
    }
    let found: Vec<Vec<Row>> = stream::iter(asked).buffer_unordered(WIDTH).try_collect().await?;
    let mut rows: Vec<Row> = found.into_iter().flatten().collect();
    rows.sort_by(|one, other| (one.seq, &one.digest).cmp(&(other.seq, &other.digest)));
    Ok(rows)
}

async fn shard_range(shared: &Shared, place: LogPlace, from: u64, to: u64) -> Result<Vec<Row>, StoreError> {
    let values = (STREAM, place.block, place.shard, signed(from), signed(to));
    let result = shared.flight.rows("scan", &shared.statements.log_range, values).await?;
    columns::read_log(&result).map_err(|error| shared.odd("scan", error))
}

async fn shard_end(shared: &Shared, place: LogPlace) -> Result<Option<Place>, StoreError> {
    let action = "read the last sequence from";
    let values = (STREAM, place.block, place.shard);
    let result = shared.flight.rows(action, &shared.statements.log_last, values).await?;
    place_of(shared, action, &result)
}

async fn shard_next(shared: &Shared, place: LogPlace, from: u64) -> Result<Option<Place>, StoreError> {
    let action = "find the next sequence in";
    let values = (STREAM, place.block, place.shard, signed(from));
    let result = shared.flight.rows(action, &shared.statements.log_next, values).await?;
    place_of(shared, action, &result)
}

/// Asks all shards of a block.
async fn of_shards<F: Future<Output = Result<Option<Place>, StoreError>>>(
    block: i64,
    ask: impl Fn(LogPlace) -> F,
) -> Result<Vec<Place>, StoreError> {
    let places = (0..i16::try_from(SHARDS).unwrap_or_default()).map(|shard| LogPlace { block, shard });
    let asked: Vec<F> = places.map(ask).collect();
    let found: Vec<Option<Place>> = stream::iter(asked).buffer_unordered(WIDTH).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// The newest blocks that are listed, newest first; empty if none is.
async fn newest_blocks(shared: &Shared) -> Result<Vec<i64>, StoreError> {
    for era in numbers(shared, &shared.statements.eras_last, (STREAM,)).await? {
        let blocks = numbers(shared, &shared.statements.blocks_last, (STREAM, era)).await?;
        if !blocks.is_empty() {
            return Ok(blocks);
        }
    }
    Ok(Vec::new())
}

/// The first listed block at or above this one.
async fn next_block(shared: &Shared, block: i64) -> Result<Option<i64>, StoreError> {
    for era in numbers(shared, &shared.statements.eras_next, (STREAM, place::era(block))).await? {
        let found = numbers(shared, &shared.statements.blocks_next, (STREAM, era, block)).await?;
        if let Some(found) = found.first() {
            return Ok(Some(*found));
        }
    }
    Ok(None)
}

/// A column of numbers.
async fn numbers(
    shared: &Shared,
    statement: &scylla::statement::prepared::PreparedStatement,
    values: impl scylla::serialize::row::SerializeRow,
) -> Result<Vec<i64>, StoreError> {
    let action = "read the blocks of";
    let result = shared.flight.rows(action, statement, values).await?;
    let rows = result.rows::<(i64,)>().map_err(|error| shared.odd(action, error))?;
    rows.map(|row| row.map(|(block,)| block)).collect::<Result<_, _>>().map_err(|error| shared.odd(action, error))
}

fn place_of(
    shared: &Shared,
    action: &str,
    result: &scylla::response::query_result::QueryRowsResult,
) -> Result<Option<Place>, StoreError> {
    let row = result.maybe_first_row::<(i64, i64)>().map_err(|error| shared.odd(action, error))?;
    Ok(row.map(|(seq, at_ns)| Place { seq: seq.unsigned_abs(), at: Timestamp::from_ns(at_ns) }))
}
