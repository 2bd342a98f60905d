//! Files that are missing, damaged, foreign, newer, or used by several at once.

use std::fs;
use std::path::Path;
use std::process::Command;

use futures_util::future::join_all;
use rusqlite::Connection;

use super::{fresh, options};
use crate::domain::{Row, Timestamp};
use crate::store::sqlite::{BLOCK, Sqlite};
use crate::store::suite::{conversation, opened, row, seqs, with_payload};
use crate::store::{Contract, SqliteOptions, StoreError};

async fn refused(path: &Path, read_only: bool) -> StoreError {
    let options = SqliteOptions { path: path.to_owned(), readers: 1, read_only };
    let error = Sqlite::open(&options).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()), "names no file: {text}");
    error
}

#[tokio::test]
async fn a_store_that_was_only_dropped_opens_with_every_row() {
    let (folder, store) = fresh().await;
    for seq in 1..=50 {
        store.record(vec![row(seq, 1)]).await.unwrap();
    }
    drop(store);
    let store = Sqlite::open(&options(&folder)).await.unwrap();
    assert_eq!(store.totals().await.unwrap().messages, 50);
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let (folder, store) = fresh().await;
    store.record((1..=500).map(|seq| row(seq, 1)).collect::<Vec<_>>()).await.unwrap();
    // The files as a killed process leaves them. Another process copies: closing a file here would drop SQLite's locks.
    let crashed = tempfile::tempdir().unwrap();
    let source = format!("{}/.", folder.path().display());
    assert!(Command::new("cp").args(["-r", &source]).arg(crashed.path()).status().unwrap().success());
    let survivor = Sqlite::open(&options(&crashed)).await.unwrap();
    assert_eq!(survivor.scan(0, 1000).await.unwrap(), store.scan(0, 1000).await.unwrap());
    survivor.close().await.unwrap();
}

#[tokio::test]
async fn closing_folds_the_log_into_the_file() {
    let (folder, store) = fresh().await;
    store.record(vec![row(1, 1)]).await.unwrap();
    store.close().await.unwrap();
    let left = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(left, ["messages.db"]);
}

#[tokio::test]
async fn several_processes_may_open_a_new_store_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder);
    let stores = join_all((0..6).map(|_| Sqlite::open(&options))).await;
    let stores = stores.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    // Each brings the same rows and some of its own.
    join_all(stores.iter().zip(0..).map(|(store, number)| async move {
        for call in 0..10 {
            let own = 1000 + number * 100 + call;
            store.record(vec![row(call + 1, 1), row(own, 2)]).await.unwrap();
        }
    }))
    .await;
    let totals = stores[0].totals().await.unwrap();
    assert_eq!((totals.messages, totals.conversations), (70, Some(2)));
    assert_eq!(seqs(&stores[5].scan(0, 10).await.unwrap()), (1..=10).collect::<Vec<_>>());
    for store in stores {
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_waits_for_the_writer_that_makes_the_store_and_never_writes() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder);
    let reading = SqliteOptions { read_only: true, ..options.clone() };
    assert!(refused(&options.path, true).await.is_transient());
    fs::write(&options.path, "").unwrap();
    assert!(refused(&options.path, true).await.is_transient());
    let writer = Sqlite::open(&options).await.unwrap();
    let reader = Sqlite::open(&reading).await.unwrap();
    writer.record(vec![row(1, 1)]).await.unwrap();
    assert_eq!(reader.last_seq().await.unwrap(), Some(1));
    assert!(matches!(reader.record(vec![row(2, 1)]).await, Err(StoreError::ReadOnly { .. })));
    reader.ping().await.unwrap();
    reader.close().await.unwrap();
    writer.close().await.unwrap();
}

#[tokio::test]
async fn a_place_that_cannot_be_used_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("no/such/messages.db"), "/proc/messages.db".into()] {
        for read_only in [false, true] {
            let error = refused(&path, read_only).await;
            let waits = read_only && path.starts_with("/proc");
            assert_eq!(error.is_transient(), waits, "{error}");
            assert!(waits || matches!(error, StoreError::Unusable(_)), "{error}");
        }
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_the_way_out() {
    let (folder, store) = fresh().await;
    store.record((1..=500).map(|seq| row(seq, 1)).collect::<Vec<_>>()).await.unwrap();
    store.close().await.unwrap();
    let path = options(&folder).path;
    let whole = fs::read(&path).unwrap();
    // Not SQLite at all; cut off in the middle.
    for content in [b"this is not a database, but it is long enough to look like one".to_vec(), whole[..9000].to_vec()]
    {
        fs::write(&path, content).unwrap();
        let error = refused(&path, false).await;
        assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
        assert!(error.to_string().contains(".recover"), "{error}");
    }
    // The second half overwritten: it opens, and says so when it gets there.
    let mut holed = whole;
    let middle = holed.len() / 8192 * 4096;
    holed[middle..].fill(0x5a);
    fs::write(&path, holed).unwrap();
    let store = Sqlite::open(&options(&folder)).await.unwrap();
    let error = store.scan(0, 1000).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
}

#[tokio::test]
async fn a_newer_or_foreign_file_is_refused_untouched() {
    let (folder, store) = fresh().await;
    store.close().await.unwrap();
    let path = options(&folder).path;
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    for read_only in [false, true] {
        let error = refused(&path, read_only).await;
        assert!(matches!(error, StoreError::NewerVersion { found: 99, known: 2, .. }), "{error}");
    }
    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let before = fs::read(&foreign).unwrap();
    assert!(matches!(refused(&foreign, false).await, StoreError::Unusable(_)));
    assert_eq!(fs::read(&foreign).unwrap(), before);
}

/// A file of schema version 1, as its release left it: `sqlite3 messages.db .dump`.
const GOLDEN: &str = include_str!("../../../../tests/golden/store-v1.sql");

#[tokio::test]
async fn the_golden_store_of_version_1_opens_with_its_rows() {
    let (folder, new) = fresh().await;
    let path = folder.path().join("golden.db");
    let golden = Connection::open(&path).unwrap();
    golden.execute_batch(GOLDEN).unwrap();
    golden.execute_batch("PRAGMA application_id = 2036427887; PRAGMA user_version = 1").unwrap();
    let schema = "SELECT group_concat(sql, ';') FROM (SELECT sql FROM sqlite_schema ORDER BY type, name)";
    let old_schema: String = golden.query_row(schema, [], |row| row.get(0)).unwrap();
    drop(golden);
    let store = Sqlite::open(&SqliteOptions { path, ..options(&folder) }).await.unwrap();
    let rows = golden_rows();
    assert_eq!(store.scan(0, 10).await.unwrap(), rows);
    assert_eq!(store.record(rows).await.unwrap().known, 4);
    assert_eq!(store.totals().await.unwrap().conversations, Some(1));
    let settings = store.settings().await.unwrap();
    assert!(settings.iter().all(|setting| setting.fits), "{settings:?}");
    assert_eq!(store.conversation(conversation(1)).await.unwrap().unwrap().owner.as_deref(), Some("ada"));
    assert_eq!(store.streams().await.unwrap()[0].name, "YALO_CHAT");
    // The scripts lead to one schema, wherever they begin; and what the golden file has was never changed.
    let schema_of = async |store: &Sqlite| -> String {
        store.read("compare", move |connection| connection.query_row(schema, [], |row| row.get(0))).await.unwrap()
    };
    let new_schema = schema_of(&new).await;
    assert_eq!(schema_of(&store).await, new_schema);
    assert!(old_schema.split(';').all(|table| new_schema.contains(table)));
}

#[tokio::test]
async fn a_file_of_version_1_is_read_as_it_is_until_an_auditor_brings_it_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder);
    // As the release left it, its digests those of a real stream.
    fs::write(&options.path, include_bytes!("../../../../tests/golden/store-v1.db")).unwrap();
    let version = || -> i64 {
        let file = Connection::open(&options.path).unwrap();
        file.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    };
    for (read_only, expected) in [(true, 1), (false, 2), (true, 2)] {
        let store = Sqlite::open(&SqliteOptions { read_only, ..options.clone() }).await.unwrap();
        assert_eq!((store.last_seq().await.unwrap(), store.retired_below().await.unwrap()), (Some(33), 0));
        assert_eq!(seqs(&store.scan(0, 100).await.unwrap()), (1..=33).collect::<Vec<_>>());
        assert_eq!(store.totals().await.unwrap().conversations, Some(3));
        store.close().await.unwrap();
        assert_eq!(version(), expected);
    }
    let store = Sqlite::open(&options).await.unwrap();
    assert!(store.retire(Timestamp::now(), 20).await.unwrap().rows == 20);
    assert_eq!(seqs(&store.scan(0, 100).await.unwrap()), (21..=33).collect::<Vec<_>>());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_file_of_version_2_is_written_on_and_knows_what_it_has_retired() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder);
    fs::write(&options.path, include_bytes!("../../../../tests/golden/store-v2.db")).unwrap();
    let store = Sqlite::open(&options).await.unwrap();
    let rows = store.scan(0, 100).await.unwrap();
    assert_eq!((seqs(&rows), store.retired_below().await.unwrap()), ((21..=33).collect(), 21));
    let totals = store.totals().await.unwrap();
    assert_eq!((totals.messages, totals.conversations), (13, Some(2)));
    assert_eq!(store.record(rows).await.unwrap().known, 13);
    assert_eq!(store.record(vec![row(34, 1)]).await.unwrap().written, 1);
    assert_eq!(store.retire(Timestamp::now(), 30).await.unwrap().rows, 10);
    assert_eq!(
        (seqs(&store.scan(0, 100).await.unwrap()), store.retired_below().await.unwrap()),
        ((31..=34).collect(), 31)
    );
    store.close().await.unwrap();
}

fn golden_rows() -> Vec<Row> {
    let raw = Row { id: None, who: None, kind: None, author: None, ..with_payload(row(3, 1), "{") };
    let nowhere =
        Row { conversation: None, subject: Some("yalo.chat.x.y.z".to_owned()), ..Row { seq: 4, ..raw.clone() } };
    vec![opened(1, 1, "ada"), with_payload(row(2, 1), r#"{"v":1,"text":"grüß dich"}"#), raw, nowhere]
}

#[test]
fn the_size_of_a_block_is_part_of_the_format() {
    assert_eq!(BLOCK, 4096);
}
