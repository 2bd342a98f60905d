//! What somebody else could have changed in the file, and what its promises rest on.

use std::path::Path;

use rusqlite::Connection;

use crate::store::Setting;

/// The log is folded into the file at 250 MiB; a larger one means that it can't be.
const LONG_LOG: u64 = 1 << 30;

pub(super) fn all(connection: &Connection, path: &Path) -> rusqlite::Result<Vec<Setting>> {
    let journal: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    let ours = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'";
    let triggers: u64 = connection.query_row(ours, [], |row| row.get(0))?;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let log = std::fs::metadata(log).map_or(0, |log| log.len());
    Ok(vec![
        Setting {
            name: "journal_mode",
            fits: journal == "wal",
            found: journal,
            wanted: "wal",
            risk: "readers and auditors wait for each other, and a power cut may leave a journal that has to be rolled back",
            mend: "start an auditor, which sets it; and see who set it otherwise",
        },
        Setting {
            name: "triggers",
            fits: triggers == 0,
            found: triggers.to_string(),
            wanted: "0",
            risk: "yalo makes none: a foreign one can refuse rows, which become dead letters, or alter them",
            mend: "see them with `.schema` in the sqlite3 shell, and drop them",
        },
        Setting {
            name: "bytes of its log",
            fits: log < LONG_LOG,
            found: log.to_string(),
            wanted: "less than 1 GiB",
            risk: "it grows until the disk is full, and reading gets slow",
            mend: "end whoever has read from the file for long, such as an open sqlite3 shell",
        },
    ])
}
