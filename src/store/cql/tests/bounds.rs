//! No partition grows without end, however much is loaded into one conversation, or opened by one owner.

use std::sync::Arc;

use super::{Cql, CqlOptions, fresh};
use crate::domain::{ConversationId, Kind, Row, Timestamp, Who};
use crate::store::cql::place::MOST_ROWS;
use crate::store::suite::{conversation, row, seqs};
use crate::store::{Contract, PageQuery};

/// Every table whose partitions grow.
const TABLES: [&str; 8] = [
    "log",
    "log_blocks",
    "log_eras",
    "messages",
    "conversation_parts",
    "conversations",
    "user_conversations",
    "activity",
];

/// The partition of a table that has the most rows, by what the cluster holds.
async fn largest(store: &Cql, table: &str) -> u64 {
    let session = &store.shared.flight.session;
    let keyspace = &store.shared.options.keyspace;
    let metadata = session.get_cluster_state();
    let keys = &metadata.get_keyspace(keyspace).unwrap().tables[table].partition_key;
    let text = format!("SELECT DISTINCT {} FROM {keyspace}.{table}", keys.join(", "));
    let partitions = session.query_unpaged(text, ()).await.unwrap().into_rows_result().unwrap();
    // One by one: to count all of them at once is too much for a small node.
    let place: Vec<String> = keys.iter().map(|key| format!("{key} = ?")).collect();
    let text = format!("SELECT count(*) FROM {keyspace}.{table} WHERE {}", place.join(" AND "));
    let count = session.prepare(text).await.unwrap();
    let mut most = 0;
    for partition in partitions.rows::<scylla::value::Row>().unwrap() {
        let counted = session.execute_unpaged(&count, partition.unwrap().columns).await.unwrap();
        let rows = counted.into_rows_result().unwrap().single_row::<(i64,)>().unwrap().0;
        most = most.max(rows.unsigned_abs());
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
    for table in TABLES {
        assert!(largest(&store, table).await <= MOST_ROWS, "{table}");
    }
    // Four parts are full; the finest one, of 65,536 sequences, has the rest.
    assert_eq!(largest(&store, "messages").await, ROWS - 4 * 2048);
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
    for table in TABLES {
        let rows = largest(&store, table).await;
        assert!(rows <= MOST_ROWS, "{rows} in a partition of {table}");
    }
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
    let other = other_process(&store).await;
    // The first part is full for it too: one row more would be in it if it had not looked.
    other.record(vec![row(2049, 1)]).await.unwrap();
    assert_eq!(largest(&store, "messages").await, 2048);
    // Both write the same row, each into the part that it believes in: it is read once.
    let page = store.page(conversation(1), PageQuery { after: Some(2040), before: None, limit: 50 }).await.unwrap();
    assert_eq!(seqs(&page), (2041..=2049).collect::<Vec<_>>());
    other.close().await.unwrap();
    store.close().await.unwrap();
}

/// What another process opens: it knows nothing of what this one knows.
async fn other_process(store: &Cql) -> Cql {
    let options = CqlOptions { fullness: Arc::default(), ..store.shared.options.clone() };
    Cql::open(&options).await.unwrap()
}

#[tokio::test]
async fn the_replicas_of_a_process_are_one_writer() {
    let (_, store) = fresh().await;
    let mut replicas = Vec::new();
    for _ in 0..8 {
        replicas.push(Cql::open(&store.shared.options).await.unwrap());
    }
    // Each writes while the first part is not full for the process: by themselves they would write 512 each into it.
    store.record(vec![row(1, 1)]).await.unwrap();
    let shares = replicas.iter().zip((2..).step_by(512)).map(async |(replica, first)| {
        let rows: Vec<Row> = (first..first + 512).map(|seq| row(seq, 1)).collect();
        assert_eq!(replica.record(rows).await.unwrap().written, 512);
    });
    futures_util::future::join_all(shares).await;
    assert_eq!(largest(&store, "messages").await, 2048);
    for store in replicas.into_iter().chain([store]) {
        store.close().await.unwrap();
    }
}

/// That `owner` opened a conversation; all of these have the same last byte.
fn opened(seq: u64, number: u64, owner: &str) -> Row {
    let conversation = ConversationId::from_bytes((u128::from(number) << 8).to_be_bytes());
    let (kind, who) = (Some(Kind::Opened), Some(Who::Meta));
    Row { conversation: Some(conversation), author: Some(owner.to_owned()), kind, who, ..row(seq, 1) }
}

#[tokio::test]
async fn the_conversations_of_a_busy_owner_are_divided_and_listed_as_one() {
    const OPENED: u64 = 3000;
    let (_, store) = fresh().await;
    for first in (1..=OPENED).step_by(1000) {
        let rows: Vec<Row> = (first..first + 1000).map(|seq| opened(seq, seq, "ada")).collect();
        assert_eq!(store.record(rows).await.unwrap().written, 1000);
    }
    // All would be in one shard: it is full, and has one row that says so.
    assert_eq!(largest(&store, "user_conversations").await, 2048 + 1);
    // Another process that knows of nothing: what it writes again stands in the finer ones too, and is listed once.
    let other = other_process(&store).await;
    let again = (1..=10).map(|number| opened(OPENED + number, number, "ada"));
    assert_eq!(other.record(again.collect::<Vec<_>>()).await.unwrap().written, 10);
    assert_eq!(largest(&store, "user_conversations").await, 2048 + 1);
    other.record(vec![opened(OPENED + 11, 1, "bob")]).await.unwrap();
    let listed = async || {
        let page = other.owned_by("ada", None, 10_000).await.unwrap();
        page.into_iter().map(|conversation| conversation.last.seq).collect::<Vec<_>>()
    };
    let expected = (OPENED + 2..=OPENED + 10).rev().chain((11..=OPENED).rev());
    assert_eq!(listed().await, [OPENED + 11].into_iter().chain(expected).collect::<Vec<_>>());
    assert_eq!(other.owned_by("bob", None, 10).await.unwrap(), [], "ada was the first");
    assert_eq!(other.all_owned_by("bob").await.unwrap(), [], "ada was the first");
    let all = other.all_owned_by("ada").await.unwrap();
    assert!(all.len() == usize::try_from(OPENED).unwrap() && all.is_sorted(), "{} are listed", all.len());
    // Retired, wherever they stand.
    while other.retire(Timestamp::now(), OPENED - 10).await.unwrap().more {}
    assert_eq!(listed().await.len(), 10 + 10);
    // Ten of the newest; ten twice, one of them under bob too; and that the shard is divided.
    let text = format!("SELECT count(*) FROM {}.user_conversations", store.shared.options.keyspace);
    let left = store.shared.flight.session.query_unpaged(text, ()).await.unwrap().into_rows_result().unwrap();
    assert_eq!(left.single_row::<(i64,)>().unwrap().0, 10 + 2 * 10 + 1 + 1);
    for store in [store, other] {
        store.close().await.unwrap();
    }
}
