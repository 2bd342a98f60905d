//! Which streams the rows came from.

use rusqlite::{Connection, TransactionBehavior, params};

use crate::domain::Timestamp;
use crate::store::{BoundStream, StreamBinding};

pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<BoundStream>> {
    connection
        .prepare_cached("SELECT name, created_ns, above_seq FROM streams ORDER BY number")?
        .query_map([], |row| {
            Ok(BoundStream { name: row.get(0)?, created: Timestamp::from_ns(row.get(1)?), above_seq: row.get(2)? })
        })?
        .collect()
}

pub(super) fn bind(connection: &mut Connection, name: &str, created: Timestamp) -> rusqlite::Result<StreamBinding> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let binding = match all(&transaction)?.pop() {
        Some(bound) if bound.name == name && bound.created == created => StreamBinding::Same,
        Some(bound) => StreamBinding::Other { bound, last_seq: super::rows::last_seq(&transaction)?.unwrap_or(0) },
        None => {
            add_above_all(&transaction, name, created)?;
            StreamBinding::New
        }
    };
    transaction.commit()?;
    Ok(binding)
}

pub(super) fn rebind(connection: &mut Connection, name: &str, created: Timestamp) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let present = all(&transaction)?.pop();
    // Several auditors may come to the same decision.
    if present.is_none_or(|bound| bound.name != name || bound.created != created) {
        add_above_all(&transaction, name, created)?;
    }
    transaction.commit()
}

fn add_above_all(connection: &Connection, name: &str, created: Timestamp) -> rusqlite::Result<()> {
    let above_seq = super::rows::last_seq(connection)?.unwrap_or(0);
    add(connection, name, created, above_seq)
}

pub(super) fn add(connection: &Connection, name: &str, created: Timestamp, above_seq: u64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO streams (name, created_ns, above_seq) VALUES (?1, ?2, ?3)";
    connection.execute(sql, params![name, created.ns(), above_seq]).map(drop)
}
