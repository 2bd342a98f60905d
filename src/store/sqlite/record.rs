//! Recording: rows, the conversations and blocks that they belong to, and the totals, in one transaction.

use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior};

use super::tally::{Tally, Touched};
use super::{columns, retire};
use crate::domain::{Kind, Row, Who};
use crate::store::{Recorded, Refused};

/// Writes several calls' rows in one transaction, synced once. Either all of it is durable, or none of it happened.
pub(super) fn record(connection: &mut Connection, calls: &[Arc<[Row]>]) -> rusqlite::Result<Vec<Recorded>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut tally = Tally::with_capacity(calls.iter().map(|rows| rows.len()).sum());
    let retired_below = retire::below(&transaction)?;
    let mut answers = Vec::with_capacity(calls.len());
    for rows in calls {
        answers.push(insert(&transaction, rows, retired_below, &mut tally)?);
    }
    tally.write(&transaction)?;
    transaction.commit()?;
    Ok(answers)
}

fn insert<'a>(
    connection: &Connection,
    rows: &'a [Row],
    retired_below: i64,
    tally: &mut Tally<'a>,
) -> rusqlite::Result<Recorded> {
    let mut statement = connection.prepare_cached(columns::INSERT)?;
    let mut recorded = Recorded::default();
    for row in rows {
        let Ok(seq) = i64::try_from(row.seq) else {
            let reason = "its sequence is above 9223372036854775807".to_owned();
            recorded.refused.push(Refused { seq: row.seq, reason });
            continue;
        };
        if seq < retired_below {
            recorded.known += 1;
            continue;
        }
        match columns::insert(&mut statement, seq, row) {
            Ok(1) => {
                recorded.written += 1;
                tally.add(touched(seq, row));
            }
            Ok(_) if is_stored(connection, seq, &row.digest)? => recorded.known += 1,
            Ok(_) => recorded.conflicts.push(row.seq),
            // SQLite has undone this one statement and nothing else.
            Err(error) if is_about_the_row(&error) => {
                recorded.refused.push(Refused { seq: row.seq, reason: error.to_string() });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(recorded)
}

fn touched(seq: i64, row: &Row) -> Touched<'_> {
    // Only the frontend's own word makes an owner: a user who sends a message of kind `opened` gains nothing.
    let opens = row.kind == Some(Kind::Opened) && row.who == Some(Who::Meta);
    let owner = if opens { row.author.as_deref() } else { None };
    Touched { seq, at_ns: row.at.ns(), conversation: row.conversation.as_ref(), owner }
}

fn is_stored(connection: &Connection, seq: i64, digest: &[u8; 32]) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached("SELECT digest FROM messages WHERE seq = ?1")?;
    let stored: Option<[u8; 32]> = statement.query_row([seq], |row| row.get(0)).optional()?;
    Ok(stored.as_ref() == Some(digest))
}

fn is_about_the_row(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
    )
}
