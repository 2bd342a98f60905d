//! Spans of time: exact, whatever the clocks did.

use super::{START_MS, counts, row, seqs};
use crate::domain::{Row, Timestamp};
use crate::store::Contract;

/// Reads a span in pages of `limit`, and checks both answers against a plain look at all rows.
async fn check(store: &impl Contract, rows: &[Row], from: Timestamp, to: Timestamp, limit: usize) {
    let expected = rows.iter().filter(|row| from <= row.at && row.at < to).map(|row| row.seq).collect::<Vec<_>>();
    let mut found = Vec::new();
    // Bounded: pages that turn in circles fail below.
    for _ in 0..100 {
        let page = store.between(from, to, found.last().copied().unwrap_or(0), limit).await.unwrap();
        if page.is_empty() {
            break;
        }
        found.extend(seqs(&page));
    }
    assert_eq!(found, expected, "{from} to {to}");
    let count = usize::try_from(store.count_between(from, to).await.unwrap()).unwrap();
    assert!(!counts(store).await || count == expected.len(), "{from} to {to}: {count}");
}

pub(in crate::store) async fn spans_hold_exactly_their_rows(store: &impl Contract) {
    // One row a millisecond over several blocks of any store, with a hole of missing sequences.
    let rows = (1..=9_000).chain(20_000..=21_000).map(|seq| row(seq, 1)).collect::<Vec<_>>();
    for call in rows.chunks(1000) {
        store.record(call.to_vec()).await.unwrap();
    }
    let at = |seq: u64| Timestamp::from_ms(START_MS + seq);
    let whole = (Timestamp::from_ns(i64::MIN), Timestamp::from_ns(i64::MAX));
    let spans =
        [(1, 1), (1, 2), (0, 30_000), (4_000, 4_200), (4_095, 4_097), (8_999, 20_001), (10_000, 15_000), (9, 3)];
    for (from, to) in spans.map(|(from, to)| (at(from), at(to))).into_iter().chain([whole]) {
        check(store, &rows, from, to, 997).await;
    }
    let middle = store.between(at(100), at(200), 150, 10).await.unwrap();
    assert_eq!(seqs(&middle), (151..=160).collect::<Vec<_>>());
    assert_eq!(store.between(at(100), at(200), 0, 0).await.unwrap(), []);
    assert_eq!(store.between(at(100), at(200), u64::MAX, 10).await.unwrap(), []);
}

pub(in crate::store) async fn clocks_that_step_back_lose_no_row(store: &impl Contract) {
    // Every 100 rows a new leader, whose clock is up to 5 s behind the last one's.
    let shifted =
        |seq: u64| Row { at: Timestamp::from_ms(START_MS + seq * 10 - (seq / 100 % 3) * 2_500), ..row(seq, 1) };
    let rows = (1..=3_000).map(shifted).collect::<Vec<_>>();
    // Stored in an order of its own: every third row first.
    for start in 0..3 {
        let part = rows.iter().skip(start).step_by(3).cloned().collect::<Vec<_>>();
        store.record(part).await.unwrap();
    }
    for from in (0..30_000).step_by(1_700) {
        let span = |ms: u64| Timestamp::from_ms(START_MS + ms);
        check(store, &rows, span(from), span(from + 900), 50).await;
        check(store, &rows, span(from), span(from + 12_000), 999).await;
    }
}
