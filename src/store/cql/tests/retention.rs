//! What retention leaves in the tables, after whatever went wrong.

use std::collections::BTreeMap;

use super::{Cql, fresh};
use crate::domain::{Row, Timestamp};
use crate::store::Contract;
use crate::store::cql::place::FULL;
use crate::store::cql::retire as own;
use crate::store::suite::retention::{agrees, retire};
use crate::store::suite::{START_MS, conversation, opened, row, seqs};

/// Every table that holds something of messages or people.
const TABLES: [&str; 7] =
    ["log", "log_blocks", "messages", "conversation_parts", "conversations", "user_conversations", "activity"];

fn after(ms: u64) -> Timestamp {
    Timestamp::from_ms(START_MS + ms)
}

fn model(rows: impl IntoIterator<Item = Row>) -> BTreeMap<u64, Row> {
    rows.into_iter().map(|row| (row.seq, row)).collect()
}

async fn fill(store: &Cql, model: &BTreeMap<u64, Row>) {
    for rows in model.values().cloned().collect::<Vec<_>>().chunks(1000) {
        assert_eq!(store.record(rows.to_vec()).await.unwrap().refused, []);
    }
}

/// Rows of a table.
async fn count(store: &Cql, table: &str) -> i64 {
    let text = format!("SELECT count(*) FROM {}.{table}", store.shared.options.keyspace);
    let result = store.shared.flight.session.query_unpaged(text, ()).await.unwrap();
    result.into_rows_result().unwrap().single_row::<(i64,)>().unwrap().0
}

#[tokio::test]
async fn exactly_what_is_older_and_passed_goes_and_nothing_of_it_is_left() {
    let (_, store) = fresh().await;
    let far = 3 << 18;
    // Two conversations end, one of them across slots; one goes on in a later block.
    let early = [opened(1, 1, "ada"), opened(2, 2, "bob"), row(3, 1), row(4, 2), row(5, 3)];
    let late = [row(70_000, 2), row(70_001, 3), row(far, 3), row(far + 1, 3)];
    let model = model(early.into_iter().chain(late));
    fill(&store, &model).await;
    let left = async |below: u64, owners: i64| {
        assert_eq!(store.retired_below().await.unwrap(), below);
        let rows: Vec<Row> = model.range(below..).map(|(_, row)| row.clone()).collect();
        assert_eq!(store.scan(0, 100).await.unwrap(), rows);
        let rows = i64::try_from(rows.len()).unwrap();
        assert_eq!((count(&store, "log").await, count(&store, "messages").await), (rows, rows));
        assert_eq!((count(&store, "conversations").await, count(&store, "user_conversations").await), (owners, owners));
        assert_eq!(store.last_seq().await.unwrap(), Some(far + 1));
    };
    for (before, upto, below, owners) in
        [(1, 100, 0, 2), (4, 100, 4, 1), (99_999, 5, 6, 1), (70_001, far, 70_001, 0), (70_002, far, 70_002, 0)]
    {
        retire(&store, after(before), upto).await;
        left(below, owners).await;
    }
    assert_eq!(count(&store, "log_blocks").await, 2);
    assert_eq!(retire(&store, after(far + 2), far + 1).await, 2);
    left(far + 2, 0).await;
    assert_eq!(count(&store, "log_blocks").await, 1);
    for table in TABLES.into_iter().filter(|table| *table != "log_blocks" && *table != "conversation_parts") {
        assert_eq!(count(&store, table).await, 0, "{table}");
    }
    // What is delivered again is known; what is new is not.
    assert_eq!(store.record(model.values().cloned().collect::<Vec<_>>()).await.unwrap().known, model.len());
    assert_eq!(store.record(vec![row(far + 2, 1)]).await.unwrap().written, 1);
    assert_eq!(seqs(&store.scan(0, 100).await.unwrap()), [far + 2]);
    assert_eq!(store.conversation(conversation(1)).await.unwrap().unwrap().owner, None);
}

#[tokio::test]
async fn a_step_that_was_cut_off_is_done_by_the_next_and_late_copies_stay_away() {
    let (_, store) = fresh().await;
    let model = model((1..=500).map(|seq| row(seq, u8::try_from(seq % 5).unwrap())));
    fill(&store, &model).await;
    // It had said so, and deleted nothing yet.
    own::raise(&store.shared, 201).await.unwrap();
    own::raise(&store.shared, 7).await.unwrap();
    assert_eq!(seqs(&store.scan(0, 1000).await.unwrap()), (201..=500).collect::<Vec<_>>());
    assert_eq!(store.totals().await.unwrap().first.map(|first| first.seq), Some(201));
    assert_eq!(count(&store, "log").await, 500);
    assert_eq!(store.retire(after(0), 500).await.unwrap().rows, 0);
    assert_eq!((count(&store, "log").await, count(&store, "messages").await), (300, 300));
    agrees(&store, &model).await;
    // A writer that had looked before.
    let late: Vec<&Row> = model.values().take(10).collect();
    crate::store::cql::record::log(&store.shared, &late).await.unwrap();
    assert_eq!(count(&store, "log").await, 300);
}

#[tokio::test]
async fn a_busy_conversation_goes_part_by_part() {
    let (_, store) = fresh().await;
    let most = u64::from(FULL) * 3;
    let model = model((1..=most).map(|seq| row(seq, 1)));
    fill(&store, &model).await;
    for gone in [most / 3, most - 1] {
        retire(&store, after(gone + 1), most).await;
        assert_eq!(count(&store, "messages").await, i64::try_from(most - gone).unwrap());
        agrees(&store, &model).await;
    }
}
