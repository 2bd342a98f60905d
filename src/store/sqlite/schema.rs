//! The file: how it is opened, what is in it, and how an older one is brought up to date.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::trouble::explain;
use crate::store::{StoreError, Trouble};

/// "yalo" in ASCII: the mark of our files, which `file` and SQLite's tools show.
const APPLICATION_ID: i64 = 0x7961_6c6f;
/// How long SQLite itself waits for a lock.
const BUSY: Duration = Duration::from_secs(5);
/// One script for each version of the schema; the next one goes to the end, and none is ever changed.
const MIGRATIONS: &[&str] = &[include_str!("schema/1.sql")];

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Making, migrating and writing.
    Write,
    /// Reading, beside a writer of this process.
    Read,
    /// Reading a store that other processes write, which may be on a medium that can't be written.
    ReadOnly,
}

/// Opens one connection. A writing one makes the schema or brings it up to date.
pub(super) fn connect(path: &Path, purpose: Use) -> Result<Connection, StoreError> {
    let failed = |error: rusqlite::Error| explain("open", path, &error);
    let flags = match purpose {
        Use::Write => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        Use::Read => OpenFlags::SQLITE_OPEN_READ_WRITE,
        Use::ReadOnly => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    // One thread owns each connection, so SQLite's own mutexes are not needed.
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    if purpose == Use::Write {
        prepare(&mut connection, path)?;
        connection.execute_batch(WRITER).map_err(failed)?;
    } else {
        if version_of_ours(&connection, path)? == 0 {
            return Err(not_yet(path));
        }
        connection.execute_batch(READER).map_err(failed)?;
    }
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// FULL syncs the log at every commit: what is acknowledged survives a power cut. A checkpoint every 64,000 pages
/// (250 MiB) instead of 1,000 nearly doubles the speed of scattered writes. No memory map: its pages would count as
/// memory of the process, and a truncated file would kill it.
const WRITER: &str = "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 64000; PRAGMA cache_size = -16384;
    PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;";
const READER: &str = "PRAGMA query_only = ON; PRAGMA cache_size = -2048; PRAGMA temp_store = MEMORY;
    PRAGMA mmap_size = 0;";

/// The store is to be made by a writer: a reader waits for it.
pub(super) fn not_yet(path: &Path) -> StoreError {
    StoreError::Unavailable(Trouble {
        action: "open".to_owned(),
        place: path.display().to_string(),
        cause: "nothing has been stored there yet".to_owned(),
        next: "start an auditor, which makes it; it is tried again".to_owned(),
    })
}

/// Makes the schema or migrates it, in one transaction: two processes that start together do it once.
fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| explain("make the tables of", path, &error);
    version_of_ours(connection, path)?;
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(|error| explain("switch to a write-ahead log", path, &error))?;
    if mode != "wal" {
        return Err(StoreError::Unusable(Trouble {
            action: "switch to a write-ahead log".to_owned(),
            place: path.display().to_string(),
            cause: format!("the journal mode stays {mode:?}"),
            next: "put it on a local disk: write-ahead logs need shared memory, network folders have none".to_owned(),
        }));
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let version = version_of_ours(&transaction, path)?;
    if version < MIGRATIONS.len() {
        for script in MIGRATIONS.iter().skip(version) {
            transaction.execute_batch(script).map_err(failed)?;
        }
        let newest = MIGRATIONS.len();
        let mark = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {newest};");
        transaction.execute_batch(&mark).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// The schema's version, 0 in an empty file; a file that is not ours or too new for us is refused.
fn version_of_ours(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
    let failed = |error: rusqlite::Error| explain("open", path, &error);
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let application_id = number("PRAGMA application_id")?;
    let found = number("PRAGMA user_version")?;
    if application_id == 0 && tables == 0 {
        return Ok(0);
    }
    if application_id != APPLICATION_ID {
        return Err(StoreError::Unusable(Trouble {
            action: "open".to_owned(),
            place: path.display().to_string(),
            cause: "it is an SQLite file of another program".to_owned(),
            next: "set store.path to a file of yalo's own".to_owned(),
        }));
    }
    let version = usize::try_from(found).unwrap_or(usize::MAX);
    if version > MIGRATIONS.len() {
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        return Err(StoreError::NewerVersion { place: path.display().to_string(), found, known });
    }
    Ok(version)
}
