//! Two rows at one sequence, as two writers that knew nothing of each other leave them.

use super::fresh;
use crate::domain::Row;
use crate::store::suite::{row, seqs, with_payload};
use crate::store::{Contract, within};

#[tokio::test]
async fn a_span_has_all_rows_of_a_sequence_wherever_it_is_cut() {
    let (_, store) = fresh().await;
    let rows: Vec<Row> = (1..=40).map(|seq| row(seq, 1)).collect();
    store.record_above(0, rows).await.unwrap();
    // Whoever does not look stores another row beside the first one.
    let twins: Vec<Row> = [16, 17, 33].into_iter().map(|seq| with_payload(row(seq, 1), "twin")).collect();
    store.record_above(0, twins).await.unwrap();
    let expected = |from: u64, to: u64| {
        let all = (from..=to).flat_map(|seq| vec![seq; if [16, 17, 33].contains(&seq) { 2 } else { 1 }]);
        all.collect::<Vec<_>>()
    };
    for about in 0..=45 {
        for (from, to) in [(1, 40), (1, 16), (17, 33), (2, 39)] {
            let found = within(&store, from, to, about).await.unwrap();
            assert_eq!(seqs(&found), expected(from, to), "{from} to {to}, {about} at once");
        }
    }
    // A sequence with more rows than are read at once.
    let many: Vec<Row> = (0..50).map(|one| with_payload(row(20, 1), &one.to_string())).collect();
    for one in many {
        store.record_above(0, vec![one]).await.unwrap();
    }
    let found = within(&store, 19, 21, 0).await.unwrap();
    assert_eq!((found[0].seq, found.last().unwrap().seq), (19, 21));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_time_span_has_all_rows_of_a_sequence_where_a_read_of_the_log_ends() {
    let (_, store) = fresh().await;
    store.record_above(0, (1..=300).map(|seq| row(seq, 1)).collect::<Vec<Row>>()).await.unwrap();
    // The log is read 256 rows at a time, and only a few of the first ones are wanted.
    store.record_above(0, vec![with_payload(row(256, 1), "twin")]).await.unwrap();
    let found = store.between(row(250, 1).at, row(260, 1).at, 0, 100).await.unwrap();
    assert_eq!(seqs(&found), [250, 251, 252, 253, 254, 255, 256, 256, 257, 258, 259]);
    store.close().await.unwrap();
}
