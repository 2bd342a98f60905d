//! Retention: the oldest rows go, at most a block in a transaction, and leave a receipt.
//!
//! All sums are kept: what is left of blocks and conversations is as if the rows had never been there, but for the owner
//! of a conversation, who stays as long as it has a row.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::BLOCK;
use super::rows::end_of;
use crate::domain::Timestamp;
use crate::store::Retired;

/// The version of the schema that has receipts.
const RECEIPTS: i64 = 2;
/// Rows of a conversation that are looked at for its new beginning: clocks step back by moments only.
const BEGINNING: i64 = 10;
const DAY_NS: i64 = 86_400_000_000_000;

/// Everything below was retired; 0 if nothing was.
pub(super) fn below(connection: &Connection) -> rusqlite::Result<i64> {
    // A reader may open a file, a backup say, that no auditor of this release has brought up to date.
    let version: i64 = connection.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get(0))?;
    if version < RECEIPTS {
        return Ok(0);
    }
    connection.prepare_cached("SELECT coalesce(max(below_seq), 0) FROM retired")?.query_row([], |row| row.get(0))
}

/// One step: of the oldest block, what was stored before `before` and is at most `upto`, up to the first row that stays.
pub(super) fn retire(connection: &mut Connection, before: Timestamp, upto: u64) -> rusqlite::Result<Retired> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let oldest = transaction
        .prepare_cached("SELECT block FROM blocks ORDER BY block LIMIT 1")?
        .query_row([], |row| row.get::<_, i64>(0))
        .optional()?;
    let Some(block) = oldest else { return Ok(Retired::default()) };
    let (first, end) = (block * BLOCK, end_of(block));
    let stays = transaction
        .prepare_cached("SELECT seq FROM messages WHERE seq BETWEEN ?1 AND ?2 AND at_ns >= ?3 ORDER BY seq LIMIT 1")?
        .query_row([first, end, before.ns()], |row| row.get::<_, i64>(0))
        .optional()?;
    let upto = i64::try_from(upto).unwrap_or(i64::MAX - 1);
    let below = stays.unwrap_or(end + 1).min(upto + 1);
    if below <= first {
        return Ok(Retired::default());
    }
    let touched = conversations(&transaction, first, below)?;
    let rows =
        transaction.prepare_cached("DELETE FROM messages WHERE seq >= ?1 AND seq < ?2")?.execute([first, below])?;
    let is_whole = below > end;
    if rows == 0 && !is_whole {
        return Ok(Retired::default());
    }
    let mut ended = 0;
    for (conversation, messages) in touched {
        ended += usize::from(shorten(&transaction, &conversation, messages)?);
    }
    shrink_block(&transaction, block, rows)?;
    transaction
        .prepare_cached("UPDATE totals SET messages = messages - ?1, conversations = conversations - ?2")?
        .execute([rows, ended])?;
    receipt(&transaction, below, rows, before)?;
    transaction.commit()?;
    Ok(Retired { rows: u64::try_from(rows).unwrap_or(u64::MAX), more: is_whole })
}

/// The conversations of the rows that are to go, and how many each loses.
fn conversations(connection: &Connection, first: i64, below: i64) -> rusqlite::Result<Vec<([u8; 16], i64)>> {
    connection
        .prepare_cached(
            "SELECT conversation, count(*) FROM messages
             WHERE seq >= ?1 AND seq < ?2 AND conversation IS NOT NULL GROUP BY conversation",
        )?
        .query_map([first, below], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Takes rows that are gone out of a conversation's sums; returns whether it has ended, since none is left.
fn shorten(connection: &Connection, conversation: &[u8; 16], messages: i64) -> rusqlite::Result<bool> {
    let first_at_ns: Option<i64> = connection
        .prepare_cached(
            "SELECT min(at_ns) FROM (SELECT at_ns FROM messages WHERE conversation = ?1 ORDER BY seq LIMIT ?2)",
        )?
        .query_row(params![conversation, BEGINNING], |row| row.get(0))?;
    let Some(first_at_ns) = first_at_ns else {
        connection.prepare_cached("DELETE FROM conversations WHERE conversation = ?1")?.execute([conversation])?;
        return Ok(true);
    };
    connection
        .prepare_cached("UPDATE conversations SET messages = messages - ?2, first_at_ns = ?3 WHERE conversation = ?1")?
        .execute(params![conversation, messages, first_at_ns])?;
    Ok(false)
}

fn shrink_block(connection: &Connection, block: i64, rows: usize) -> rusqlite::Result<()> {
    let left: Option<(i64, i64)> = connection
        .prepare_cached("SELECT min(at_ns), max(at_ns) FROM messages WHERE seq BETWEEN ?1 AND ?2")?
        .query_row([block * BLOCK, end_of(block)], |row| {
            let (first, last): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
            Ok(first.zip(last))
        })?;
    let Some((first_at_ns, last_at_ns)) = left else {
        return connection.prepare_cached("DELETE FROM blocks WHERE block = ?1")?.execute([block]).map(drop);
    };
    connection
        .prepare_cached(
            "UPDATE blocks SET messages = messages - ?2, first_at_ns = ?3, last_at_ns = ?4 WHERE block = ?1",
        )?
        .execute(params![block, rows, first_at_ns, last_at_ns])
        .map(drop)
}

/// Goes on with the last receipt, if it is of today, or writes a new one. The highest sequence never falls.
pub(super) fn receipt(connection: &Connection, below: i64, rows: usize, before: Timestamp) -> rusqlite::Result<()> {
    let now_ns = Timestamp::now().ns();
    let last: Option<(i64, i64)> = connection
        .prepare_cached("SELECT below_seq, retired_ns FROM retired ORDER BY below_seq DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((below_seq, retired_ns)) = last
        && (retired_ns / DAY_NS == now_ns / DAY_NS || below <= below_seq)
    {
        let sql = "UPDATE retired SET below_seq = max(below_seq, ?2), messages = messages + ?3, before_ns = ?4,
            retired_ns = ?5 WHERE below_seq = ?1";
        let values = params![below_seq, below, rows, before.ns(), now_ns];
        return connection.prepare_cached(sql)?.execute(values).map(drop);
    }
    let values = params![below, rows, before.ns(), now_ns];
    connection.prepare_cached("INSERT INTO retired VALUES (?1, ?2, ?3, ?4)")?.execute(values).map(drop)
}
