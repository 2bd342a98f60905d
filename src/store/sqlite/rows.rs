//! Reading rows: by sequence, by conversation, by id, by time.

use std::ops::RangeInclusive;

use rusqlite::{Connection, OptionalExtension, Params, params};

use super::BLOCK;
use super::columns::{self, COLUMNS};
use crate::domain::{ConversationId, MessageId, Row, Timestamp, limits};
use crate::store::{PageQuery, Place, Totals};

/// The largest sequence that a file can hold.
const LAST: i64 = i64::MAX;
/// What the clocks of frontend and stream may differ by when the time of an id is compared with that of its row.
const CLOCKS_MS: u64 = 30_000;

fn select(rest: &str) -> String {
    format!("SELECT {COLUMNS} FROM messages m {rest}")
}

fn list(connection: &Connection, sql: &str, parameters: impl Params) -> rusqlite::Result<Vec<Row>> {
    connection.prepare_cached(sql)?.query_map(parameters, |row| columns::read(row, 0))?.collect()
}

fn one(connection: &Connection, sql: &str, parameters: impl Params) -> rusqlite::Result<Option<Row>> {
    connection.prepare_cached(sql)?.query_row(parameters, |row| columns::read(row, 0)).optional()
}

/// A sequence as the file numbers it: above all of them if it is out of range.
fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(LAST)
}

pub(super) fn last_seq(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    connection.prepare_cached("SELECT max(seq) FROM messages")?.query_row([], |row| row.get(0))
}

pub(super) fn totals(connection: &Connection) -> rusqlite::Result<Totals> {
    let snapshot = connection.unchecked_transaction()?;
    let place = |order: &str| {
        let sql = format!("SELECT seq, at_ns FROM messages ORDER BY seq {order} LIMIT 1");
        snapshot
            .prepare_cached(&sql)?
            .query_row([], |row| Ok(Place { seq: row.get(0)?, at: Timestamp::from_ns(row.get(1)?) }))
            .optional()
    };
    let (first, last) = (place("ASC")?, place("DESC")?);
    snapshot
        .prepare_cached("SELECT messages, conversations FROM totals")?
        .query_row([], |row| Ok(Totals { messages: row.get(0)?, conversations: Some(row.get(1)?), first, last }))
}

pub(super) fn by_seq(connection: &Connection, seq: u64) -> rusqlite::Result<Option<Row>> {
    match i64::try_from(seq) {
        Ok(seq) => one(connection, &select("WHERE m.seq = ?1"), [seq]),
        Err(_) => Ok(None),
    }
}

pub(super) fn scan(connection: &Connection, after_seq: u64, limit: usize) -> rusqlite::Result<Vec<Row>> {
    list(connection, &scan_sql(), params![number(after_seq), limit])
}

pub(super) fn scan_sql() -> String {
    select("WHERE m.seq > ?1 ORDER BY m.seq LIMIT ?2")
}

pub(super) fn page(
    connection: &Connection,
    conversation: ConversationId,
    query: PageQuery,
) -> rusqlite::Result<Vec<Row>> {
    let after = query.after.map_or(-1, number);
    let upto = query.before.map_or(LAST, |before| before.checked_sub(1).map_or(-1, number));
    let newest_first = query.after.is_none();
    let parameters = params![conversation.as_bytes(), after, upto, query.limit];
    let mut rows = list(connection, &page_sql(newest_first), parameters)?;
    if newest_first {
        rows.reverse();
    }
    Ok(rows)
}

pub(super) fn page_sql(newest_first: bool) -> String {
    let order = if newest_first { "DESC" } else { "ASC" };
    select(&format!("WHERE m.conversation = ?1 AND m.seq > ?2 AND m.seq <= ?3 ORDER BY m.seq {order} LIMIT ?4"))
}

/// A message is stored within moments of the time in its id: the conversation is walked from there. Only if it is not
/// there (bulk ingest may bring old ids), all of the conversation is.
pub(super) fn by_id(
    connection: &Connection,
    conversation: ConversationId,
    id: MessageId,
) -> rusqlite::Result<Option<Row>> {
    let snapshot = connection.unchecked_transaction()?;
    let from = Timestamp::from_ms(id.time_ms().saturating_sub(limits::ID_AHEAD_MS + CLOCKS_MS));
    let to = Timestamp::from_ms(id.time_ms().saturating_add(limits::ID_BEHIND_MS + CLOCKS_MS));
    let find = |seqs: RangeInclusive<i64>| {
        let parameters = params![conversation.as_bytes(), id.as_bytes(), seqs.start(), seqs.end()];
        one(&snapshot, &by_id_sql(), parameters)
    };
    if let Some(seqs) = seqs_of(&snapshot, from, to)?
        && let Some(row) = find(seqs)?
    {
        return Ok(Some(row));
    }
    find(0..=LAST)
}

pub(super) fn by_id_sql() -> String {
    // The unary plus: rows are found by conversation and compared by id.
    select("WHERE m.conversation = ?1 AND m.seq BETWEEN ?3 AND ?4 AND +m.id = ?2 ORDER BY m.seq LIMIT 1")
}

/// The sequences from the first to the last block that holds a row of the span.
fn seqs_of(connection: &Connection, from: Timestamp, to: Timestamp) -> rusqlite::Result<Option<RangeInclusive<i64>>> {
    let sql = "SELECT min(block), max(block) FROM blocks WHERE last_at_ns >= ?1 AND first_at_ns < ?2";
    connection.prepare_cached(sql)?.query_row([from.ns(), to.ns()], |row| {
        let (first, last): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
        Ok(first.zip(last).map(|(first, last)| first * BLOCK..=end_of(last)))
    })
}

/// The last sequence of a block.
fn end_of(block: i64) -> i64 {
    block * BLOCK + (BLOCK - 1)
}

/// Walks the blocks that touch the span; clocks that step back cost a look at a block more, never a row.
pub(super) fn between(
    connection: &Connection,
    from: Timestamp,
    to: Timestamp,
    after_seq: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Row>> {
    let snapshot = connection.unchecked_transaction()?;
    let mut after_seq = number(after_seq);
    let mut rows = Vec::new();
    let mut next = snapshot.prepare_cached(
        "SELECT block FROM blocks WHERE block >= ?1 AND last_at_ns >= ?2 AND first_at_ns < ?3 ORDER BY block LIMIT 1",
    )?;
    while rows.len() < limit && after_seq < LAST {
        let parameters = params![(after_seq + 1) / BLOCK, from.ns(), to.ns()];
        let Some(block) = next.query_row(parameters, |row| row.get::<_, i64>(0)).optional()? else { break };
        let last = end_of(block);
        let wanted = limit - rows.len();
        rows.extend(list(
            &snapshot,
            &select("WHERE m.seq > ?1 AND m.seq <= ?2 AND m.at_ns >= ?3 AND m.at_ns < ?4 ORDER BY m.seq LIMIT ?5"),
            params![after_seq, last, from.ns(), to.ns(), wanted],
        )?);
        after_seq = last;
    }
    Ok(rows)
}

/// Blocks that lie wholly in the span count as they are; of those at its edges the rows are looked at.
pub(super) fn count_between(connection: &Connection, from: Timestamp, to: Timestamp) -> rusqlite::Result<u64> {
    let sql = format!(
        "SELECT coalesce(sum(iif(b.first_at_ns >= ?1 AND b.last_at_ns < ?2, b.messages,
            (SELECT count(*) FROM messages m
             WHERE m.seq BETWEEN b.block * {BLOCK} AND b.block * {BLOCK} + {BLOCK} - 1
             AND m.at_ns >= ?1 AND m.at_ns < ?2))), 0)
         FROM blocks b WHERE b.last_at_ns >= ?1 AND b.first_at_ns < ?2"
    );
    connection.prepare_cached(&sql)?.query_row([from.ns(), to.ns()], |row| row.get(0))
}
