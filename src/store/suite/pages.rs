//! Pages of a conversation, scans, and single messages.

use super::{START_MS, conversation, id, row, seqs};
use crate::domain::{Row, Timestamp, Who};
use crate::store::{Contract, MAX_ROWS, PageQuery};

async fn page(store: &impl Contract, after: Option<u64>, before: Option<u64>, limit: usize) -> Vec<u64> {
    seqs(&store.page(conversation(1), PageQuery { after, before, limit }).await.unwrap())
}

/// Conversation 1 has the odd sequences 1 to 199, conversation 2 the even ones, and one more lies far above.
async fn fill(store: &impl Contract) {
    let far = row(1_000_000, 3);
    let rows = (1..=200).map(|seq| row(seq, if seq % 2 == 1 { 1 } else { 2 })).chain([far]).rev();
    store.record(rows.collect::<Vec<_>>()).await.unwrap();
}

fn odd(from: u64, to: u64) -> Vec<u64> {
    (from..=to).filter(|seq| seq % 2 == 1).collect()
}

pub(in crate::store) async fn pages_go_both_ways_without_gap_or_double(store: &impl Contract) {
    fill(store).await;
    let mut forward = page(store, Some(0), None, 7).await;
    for _ in 0..30 {
        let last = *forward.last().unwrap();
        let next = page(store, Some(last), None, 7).await;
        if next.is_empty() {
            break;
        }
        forward.extend(next);
    }
    assert_eq!(forward, odd(1, 199));
    let mut backward = page(store, None, None, 7).await;
    assert_eq!(backward, odd(187, 199));
    for _ in 0..30 {
        let first = *backward.first().unwrap();
        let mut previous = page(store, None, Some(first), 7).await;
        if previous.is_empty() {
            break;
        }
        previous.append(&mut backward);
        backward = previous;
    }
    assert_eq!(backward, odd(1, 199));
}

pub(in crate::store) async fn both_bounds_and_odd_limits_are_honoured(store: &impl Contract) {
    let none: [u64; 0] = [];
    fill(store).await;
    assert_eq!(page(store, Some(10), Some(21), 3).await, odd(11, 16));
    assert_eq!(page(store, Some(10), Some(21), 100).await, odd(11, 20));
    assert_eq!(page(store, Some(11), Some(13), 100).await, none);
    assert_eq!(page(store, Some(21), Some(10), 100).await, none);
    assert_eq!(page(store, None, None, usize::MAX).await, odd(1, 199));
    for limit in [0, 1, usize::MAX] {
        assert_eq!(page(store, Some(199), None, limit).await, none);
        assert_eq!(page(store, None, Some(0), limit).await, none);
        assert_eq!(page(store, None, Some(1), limit).await, none);
        assert_eq!(page(store, Some(u64::MAX), None, limit).await, none);
        assert_eq!(page(store, None, Some(u64::MAX), limit).await.len(), limit.min(100));
    }
    assert_eq!(store.recent(None, usize::MAX).await.unwrap().len(), 3);
    assert_eq!(store.recent(None, 0).await.unwrap(), []);
}

pub(in crate::store) async fn a_scan_meets_every_row_once(store: &impl Contract) {
    fill(store).await;
    let mut all = Vec::new();
    for _ in 0..20 {
        let rows = store.scan(all.last().copied().unwrap_or(0), 33).await.unwrap();
        if rows.is_empty() {
            break;
        }
        all.extend(seqs(&rows));
    }
    assert_eq!(all, (1..=200).chain([1_000_000]).collect::<Vec<_>>());
    assert_eq!(store.scan(0, 0).await.unwrap(), []);
    assert_eq!(store.scan(u64::MAX, 10).await.unwrap(), []);
    let totals = store.totals().await.unwrap();
    assert_eq!(totals.first.unwrap().seq, 1);
    assert_eq!(totals.last.unwrap().at, row(1_000_000, 3).at);
    assert_eq!(store.last_seq().await.unwrap(), Some(1_000_000));
    let many = (0..u64::try_from(MAX_ROWS).unwrap()).map(|seq| row(2_000_000 + seq, 4));
    store.record(many.collect::<Vec<_>>()).await.unwrap();
    assert_eq!(store.scan(0, usize::MAX).await.unwrap().len(), MAX_ROWS);
}

pub(in crate::store) async fn a_message_is_found_by_its_id(store: &impl Contract) {
    const DAY_MS: u64 = 86_400_000;
    let known = id(START_MS, 7);
    let stored =
        |seq: u64, at_ms: u64, number: u8| Row { id: Some(known), at: Timestamp::from_ms(at_ms), ..row(seq, number) };
    fill(store).await;
    let rows = vec![
        stored(300, START_MS - 29_000, 1), // its sender's clock was ahead
        stored(301, START_MS, 1),          // the same id again: a late publish
        stored(302, START_MS + 5 * DAY_MS, 2),
        Row { who: Some(Who::Log), ..stored(303, START_MS + 400 * DAY_MS, 3) }, // bulk ingest
        Row { who: Some(Who::Log), ..stored(304, START_MS - 400 * DAY_MS, 4) },
    ];
    store.record(rows).await.unwrap();
    for (number, seq) in [(1, Some(300)), (2, Some(302)), (3, Some(303)), (4, Some(304)), (5, None)] {
        let found = store.by_id(conversation(number), known).await.unwrap();
        assert_eq!(found.map(|row| row.seq), seq, "conversation {number}");
    }
    assert_eq!(store.by_id(conversation(1), id(START_MS, 8)).await.unwrap(), None);
    assert_eq!(store.by_seq(u64::MAX).await.unwrap(), None);
    assert_eq!(store.by_seq(0).await.unwrap(), None);
}
