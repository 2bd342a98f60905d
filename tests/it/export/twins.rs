//! An export from a cluster in which two rows stand at one sequence.

use std::path::Path;

use yalo::domain::{Row, Timestamp, Who};
use yalo::store::Contract;

use super::cluster::start_on;
use super::seqs;
use crate::harness::keyspace::Keyspace;
use crate::harness::record::{conversation, message, row};

#[tokio::test]
async fn both_rows_of_a_sequence_are_exported_wherever_a_page_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (keyspace, store) = Keyspace::make("twins").await;
    // Whoever does not look stores another row beside the first one. An odd row before them has even pages cut a pair.
    for rows in [1..=1200, 2..=1200] {
        store.record_above(0, rows.map(made).collect::<Vec<Row>>()).await.unwrap();
    }
    store.close().await.unwrap();
    let expected: Vec<u64> = [1].into_iter().chain((2..=1200).flat_map(|seq| [seq, seq])).collect();
    let one = conversation(1).to_string();
    for selection in [&[][..], &["--conversation", &one], &["--to", "2099-01-01T00:00:00Z"]] {
        let (output, _) = export(folder.path(), &keyspace, selection).await;
        assert_eq!(seqs(&output), expected, "{selection:?}");
    }
}

fn made(seq: u64) -> Row {
    row(seq, Timestamp::from_ms(1_764_000_000_000 + seq), &message(seq, conversation(1), Who::User))
}

async fn export(folder: &Path, keyspace: &Keyspace, more: &[&str]) -> (String, String) {
    let (code, output, said) = start_on(folder, keyspace, more).finish().await;
    assert_eq!(code, Some(0), "{more:?}: {said}");
    (output, said)
}

#[tokio::test]
async fn the_next_export_has_a_row_that_was_there_in_part() {
    let folder = tempfile::tempdir().unwrap();
    let (keyspace, store) = Keyspace::make("parts").await;
    store.record((1..=3).map(made).collect::<Vec<Row>>()).await.unwrap();
    // What is left of a write that was cut off.
    let text = "INSERT INTO log (stream, block, shard, seq, digest, at_ns) VALUES (0, 0, 0, 4, ?, ?)";
    let fourth = made(4);
    keyspace.session().await.query_unpaged(text, (&fourth.digest[..], fourth.at.ns())).await.unwrap();
    let (output, said) = export(folder.path(), &keyspace, &[]).await;
    assert_eq!(seqs(&output), [1, 2, 3]);
    assert!(said.contains("begins with --from 4"), "{said}");
    store.record(vec![fourth]).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(seqs(&export(folder.path(), &keyspace, &["--from", "4"]).await.0), [4]);
}
