//! The contract on SQLite, and what is SQLite's own: files, threads, other programs.

mod files;
mod people;
mod retention;
mod trouble;

use tempfile::TempDir;

use super::Sqlite;
use crate::store::{SqliteOptions, suite};

suite::cases!(fresh);

/// A store in a folder that goes away with the test.
async fn fresh() -> (TempDir, Sqlite) {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&options(&folder)).await.unwrap();
    (folder, store)
}

fn options(folder: &TempDir) -> SqliteOptions {
    SqliteOptions { path: folder.path().join("messages.db"), readers: 2, read_only: false }
}
