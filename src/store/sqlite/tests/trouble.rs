//! Trouble while running: a full disk, a lock, a file that goes away. Nothing acknowledged is lost.

use std::fs;
use std::time::Duration;

use rusqlite::Connection;

use super::{fresh, options};
use crate::store::suite::{row, seqs};
use crate::store::{Contract, StoreError};

#[tokio::test]
async fn a_full_disk_is_transient_and_loses_nothing() {
    let (_folder, store) = fresh().await;
    let rows = |from: u64| (from..from + 200).map(|seq| row(seq, 1)).collect::<Vec<_>>();
    store.record(rows(1)).await.unwrap();
    let limit = |pages: u32| {
        store.write("limit", move |connection| {
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
        })
    };
    limit(1).await.unwrap();
    for _ in 0..2 {
        let error = store.record(rows(201)).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert!(error.to_string().contains("free some space"), "{error}");
    }
    assert_eq!(store.totals().await.unwrap().messages, 200);
    store.ping().await.unwrap();
    limit(1_000_000).await.unwrap();
    assert_eq!(store.record(rows(101)).await.unwrap().written, 100);
    assert_eq!(store.record(rows(201)).await.unwrap().written, 100);
    assert_eq!(seqs(&store.scan(0, 1000).await.unwrap()), (1..=400).collect::<Vec<_>>());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_lock_held_elsewhere_is_transient_and_names_the_holder() {
    let (folder, store) = fresh().await;
    store.write("shorten", |connection| connection.busy_timeout(Duration::from_millis(5))).await.unwrap();
    let other = Connection::open(options(&folder).path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.record(vec![row(1, 1)]).await.unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)), "{error}");
    assert!(error.is_transient());
    if fs::read_to_string("/proc/locks").is_ok_and(|locks| locks.contains("POSIX")) {
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    }
    // Reading goes on beside a writer.
    assert_eq!(store.last_seq().await.unwrap(), None);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.record(vec![row(1, 1)]).await.unwrap().written, 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn rows_are_not_acknowledged_into_a_file_that_is_gone() {
    let (folder, store) = fresh().await;
    store.record(vec![row(1, 1)]).await.unwrap();
    fs::rename(options(&folder).path, folder.path().join("elsewhere.db")).unwrap();
    let error = store.record(vec![row(2, 1)]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unusable(_)), "{error}");
    assert!(store.ping().await.is_err());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_caller_who_gives_up_leaves_the_store_at_work() {
    let (_folder, store) = fresh().await;
    for seq in 1..=300 {
        let given_up = tokio::time::timeout(Duration::ZERO, store.record(vec![row(seq, 1)])).await;
        assert!(given_up.is_err() || given_up.unwrap().is_ok());
        tokio::time::timeout(Duration::ZERO, store.scan(0, 10)).await.ok();
    }
    store.record((1..=300).map(|seq| row(seq, 1)).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(store.totals().await.unwrap().messages, 300);
    store.close().await.unwrap();
}
