//! From SQLite's error codes to what the caller can do.

use std::path::Path;

use rusqlite::{Error, ErrorCode};

use super::holder;
use crate::store::{StoreError, Trouble};

/// What `error` means for somebody who tried to `action` ("open", "write to") the store `path`.
pub(super) fn explain(action: &str, path: &Path, error: &Error) -> StoreError {
    let trouble = |next: String| Trouble {
        action: action.to_owned(),
        place: path.display().to_string(),
        cause: error.to_string(),
        next,
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            let next = match holder::of(path) {
                Some(holder) => format!("{holder} holds its lock; it is tried again"),
                None => "another connection holds its lock; it is tried again".to_owned(),
            };
            StoreError::Locked(trouble(next))
        }
        None if matches!(error, Error::NulError(_) | Error::InvalidPath(_)) => {
            StoreError::Unusable(trouble("set store.path to a path that the system can open".to_owned()))
        }
        // Unknown: a table is not what yalo made. No code: a column holds what yalo never writes.
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) | None => {
            StoreError::Corrupt(trouble(damaged(path)))
        }
        Some(ErrorCode::DiskFull) => StoreError::Unavailable(trouble(
            "free some space on that disk; nothing is lost, it is tried again".to_owned(),
        )),
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => StoreError::Unusable(
            trouble("make the file and its folder writable for yalo, or set store.path".to_owned()),
        ),
        Some(_) => {
            StoreError::Unavailable(trouble("look at the disk and the system's log; it is tried again".to_owned()))
        }
    }
}

fn damaged(path: &Path) -> String {
    let file = path.display();
    format!(
        "stop yalo, save the file with `sqlite3 {file} .recover > saved.sql`, move {file} with its -wal and -shm away and \
         start again: what the stream still holds is stored anew"
    )
}
