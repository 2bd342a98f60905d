//! No partition grows without end, however much is loaded into one conversation.

use super::{Cql, fresh};
use crate::domain::Row;
use crate::store::cql::columns::STREAM;
use crate::store::cql::place::{self, MOST_ROWS, SHARDS};
use crate::store::suite::{conversation, row, seqs};
use crate::store::{Contract, PageQuery};

/// The largest partition of a table, in rows, by what the cluster holds.
async fn largest(store: &Cql, key: &str, table: &str) -> i64 {
    let session = &store.shared.flight.session;
    let table = format!("{}.{table}", store.shared.options.keyspace);
    let keys = session.query_unpaged(format!("SELECT DISTINCT {key} FROM {table}"), ()).await.unwrap();
    let mut most = 0;
    for key in keys.into_rows_result().unwrap().rows::<(uuid::Uuid, i64)>().unwrap() {
        let text = format!("SELECT count(*) FROM {table} WHERE conversation = ? AND part = ?");
        let counted = session.query_unpaged(text, key.unwrap()).await.unwrap().into_rows_result().unwrap();
        most = most.max(counted.single_row::<(i64,)>().unwrap().0);
    }
    most
}

#[tokio::test]
async fn a_busy_conversation_is_cut_into_parts_and_read_as_one() {
    const ROWS: u64 = 12_000;
    let (_, store) = fresh().await;
    for first in (0..ROWS).step_by(2000) {
        let rows: Vec<Row> = (first + 1..=first + 2000).map(|seq| row(seq, 1)).collect();
        assert_eq!(store.record(rows).await.unwrap().written, 2000);
    }
    // A redelivery, after which the parts are fuller than they were, stores nothing anew.
    let again: Vec<Row> = (1..=500).map(|seq| row(seq, 1)).collect();
    assert_eq!(store.record(again).await.unwrap().known, 500);
    // Four parts are full; the finest one, of 65,536 sequences, has the rest.
    assert_eq!(largest(&store, "conversation, part", "messages").await, i64::try_from(ROWS).unwrap() - 4 * 2048);
    for (mut after, limit) in [(0, 700), (1999, 64)] {
        let mut all = Vec::new();
        let first = after + 1;
        while all.len() < 5000 {
            let page =
                store.page(conversation(1), PageQuery { after: Some(after), before: None, limit }).await.unwrap();
            let Some(last) = page.last() else { break };
            after = last.seq;
            all.extend(seqs(&page));
        }
        assert!(all.iter().copied().eq((first..).take(all.len())) && all.len() >= 5000, "{limit}");
    }
    let (mut before, mut count) = (None, 0);
    loop {
        let page = store.page(conversation(1), PageQuery { after: None, before, limit: 900 }).await.unwrap();
        let Some(first) = page.first() else { break };
        assert_eq!(page.last().unwrap().seq, before.unwrap_or(ROWS + 1) - 1);
        (before, count) = (Some(first.seq), count + page.len());
    }
    assert_eq!(count, usize::try_from(ROWS).unwrap());
    store.close().await.unwrap();
}

#[tokio::test]
#[ignore = "a bulk load of a minute or two, for `make cassandra`"]
async fn a_million_messages_of_one_conversation_stay_in_bounds_and_are_read_both_ways() {
    const ROWS: u64 = 1_000_000;
    let (_, store) = fresh().await;
    for first in (1..=ROWS).step_by(10_000) {
        let rows: Vec<Row> = (first..first + 10_000).map(|seq| row(seq, 1)).collect();
        assert_eq!(store.record_above(0, rows).await.unwrap().written, 10_000);
    }
    let most = i64::try_from(MOST_ROWS).unwrap();
    assert!(largest(&store, "conversation, part", "messages").await <= most);
    let session = &store.shared.flight.session;
    let log = format!("{}.log", store.shared.options.keyspace);
    let mut logged = 0;
    for (block, shard) in (0..=place::block(ROWS)).flat_map(|block| (0..SHARDS).map(move |shard| (block, shard))) {
        let text = format!("SELECT count(*) FROM {log} WHERE stream = ? AND block = ? AND shard = ?");
        let values = (STREAM, block, i16::try_from(shard).unwrap());
        let counted = session.query_unpaged(text, values).await.unwrap().into_rows_result().unwrap();
        let rows = counted.single_row::<(i64,)>().unwrap().0;
        assert!(rows <= most, "{rows} in shard {shard} of block {block}");
        logged += rows;
    }
    assert_eq!(logged, i64::try_from(ROWS).unwrap());
    // A page anywhere is as good as any other, and the walks from both ends meet every row.
    for at in [1, 2048, 70_000, 123_456, 500_000, ROWS - 60, ROWS] {
        let after = PageQuery { after: Some(at - 1), before: None, limit: 50 };
        assert_eq!(
            seqs(&store.page(conversation(1), after).await.unwrap()),
            (at..=ROWS.min(at + 49)).collect::<Vec<_>>()
        );
        let before = PageQuery { after: None, before: Some(at), limit: 50 };
        let expected: Vec<u64> = (at.saturating_sub(50).max(1)..at).collect();
        assert_eq!(seqs(&store.page(conversation(1), before).await.unwrap()), expected);
    }
    let mut after = 0;
    while after < ROWS {
        let page =
            store.page(conversation(1), PageQuery { after: Some(after), before: None, limit: 10_000 }).await.unwrap();
        assert!(page.iter().map(|row| row.seq).eq(after + 1..=after + 10_000));
        after += 10_000;
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn another_process_goes_on_where_the_first_one_filled() {
    let (_, store) = fresh().await;
    let rows: Vec<Row> = (1..=2048).map(|seq| row(seq, 1)).collect();
    store.record(rows).await.unwrap();
    let other = Cql::open(&store.shared.options).await.unwrap();
    // The first part is full for it too: one row more would be in it if it had not looked.
    other.record(vec![row(2049, 1)]).await.unwrap();
    assert_eq!(largest(&store, "conversation, part", "messages").await, 2048);
    // Both write the same row, each into the part that it believes in: it is read once.
    let page = store.page(conversation(1), PageQuery { after: Some(2040), before: None, limit: 50 }).await.unwrap();
    assert_eq!(seqs(&page), (2041..=2049).collect::<Vec<_>>());
    other.close().await.unwrap();
    store.close().await.unwrap();
}
