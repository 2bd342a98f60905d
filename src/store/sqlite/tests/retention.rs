//! What SQLite's retention does to the row, and its receipts.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::{fresh, options};
use crate::domain::{Row, Timestamp};
use crate::store::Contract;
use crate::store::sqlite::Sqlite;
use crate::store::suite::retention::{agrees, retire};
use crate::store::suite::{START_MS, opened, row, seqs};

fn after(ms: u64) -> Timestamp {
    Timestamp::from_ms(START_MS + ms)
}

#[tokio::test]
async fn exactly_what_is_older_and_passed_goes() {
    let (_folder, store) = fresh().await;
    let rows = (1..=10_000).map(|seq| row(seq, u8::try_from(seq % 90).unwrap()));
    let model: BTreeMap<u64, Row> = rows.map(|row| (row.seq, row)).collect();
    store.record(model.values().cloned().collect::<Vec<_>>()).await.unwrap();
    // Before the first, within the first block, across its end, only what is passed, and all of it.
    for (before, upto, below) in [(1, 10_000, 0), (3000, 10_000, 3000), (9000, 10_000, 9000), (20_000, 9500, 9501)] {
        retire(&store, after(before), upto).await;
        assert_eq!(store.retired_below().await.unwrap(), below);
        agrees(&store, &model).await;
    }
    assert_eq!(retire(&store, after(20_000), 10_000).await, 500);
    assert_eq!(store.retired_below().await.unwrap(), 10_001);
    agrees(&store, &model).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_owner_stays_as_long_as_the_conversation_has_a_row() {
    let (_folder, store) = fresh().await;
    store.record(vec![opened(1, 1, "ada"), row(2, 1), row(3, 1)]).await.unwrap();
    retire(&store, after(3), 3).await;
    let [found] = &store.owned_by("ada", None, 10).await.unwrap()[..] else { panic!("one conversation") };
    assert_eq!((found.messages, found.last.seq, found.first_at), (Some(1), 3, after(3)));
    retire(&store, after(4), 3).await;
    assert_eq!(store.owned_by("ada", None, 10).await.unwrap(), []);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_day_has_one_receipt_and_a_step_is_one_block() {
    let (folder, store) = fresh().await;
    store.record((1..=10_000).map(|seq| row(seq, 1)).collect::<Vec<_>>()).await.unwrap();
    let steps = [(4095, true), (4096, true), (1808, false), (0, false)];
    for (rows, more) in steps {
        let retired = store.retire(after(10_000), 9_999).await.unwrap();
        assert_eq!((retired.rows, retired.more), (rows, more));
    }
    let other = Connection::open(options(&folder).path).unwrap();
    let receipt = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let receipts = |sql| -> Vec<(i64, i64)> {
        other.prepare(sql).unwrap().query_map([], receipt).unwrap().collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(receipts("SELECT below_seq, messages FROM retired"), [(10_000, 9999)]);
    // Yesterday's is closed.
    other.execute("UPDATE retired SET retired_ns = retired_ns - 86400000000000", []).unwrap();
    store.record(vec![row(10_001, 1)]).await.unwrap();
    retire(&store, after(10_001), 10_001).await;
    assert_eq!(receipts("SELECT below_seq, messages FROM retired ORDER BY 1"), [(10_000, 9999), (10_001, 1)]);
    drop(other);
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_an_older_release_brought_back_goes_again_and_the_receipt_never_falls() {
    let (folder, store) = fresh().await;
    store.record((1..=100).map(|seq| row(seq, 1)).collect::<Vec<_>>()).await.unwrap();
    retire(&store, after(51), 100).await;
    store.close().await.unwrap();
    // It knows no receipts, and it was delivered sequence 7 again.
    let path = options(&folder).path;
    let older = Connection::open(&path).unwrap();
    older.execute("UPDATE retired SET below_seq = 0", []).unwrap();
    let store = Sqlite::open(&options(&folder)).await.unwrap();
    store.record(vec![row(7, 1)]).await.unwrap();
    older.execute("UPDATE retired SET below_seq = 51", []).unwrap();
    assert_eq!(retire(&store, after(20), 100).await, 1);
    assert_eq!(store.retired_below().await.unwrap(), 51);
    assert_eq!(seqs(&store.scan(0, 100).await.unwrap()), (51..=100).collect::<Vec<_>>());
    assert_eq!(store.totals().await.unwrap().messages, 50);
    drop(older);
    store.close().await.unwrap();
}
