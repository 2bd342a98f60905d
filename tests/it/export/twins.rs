//! An export from a cluster in which two rows stand at one sequence.

use yalo::domain::{Row, Timestamp, Who};
use yalo::store::Contract;

use super::seqs;
use crate::harness::Start;
use crate::harness::keyspace::Keyspace;
use crate::harness::record::{conversation, message, row};

#[tokio::test]
async fn both_rows_of_a_sequence_are_exported_wherever_a_page_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (keyspace, store) = Keyspace::make("twins").await;
    let made =
        |seq: u64| row(seq, Timestamp::from_ms(1_764_000_000_000 + seq), &message(seq, conversation(1), Who::User));
    // Whoever does not look stores another row beside the first one. An odd row before them has even pages cut a pair.
    for rows in [1..=1200, 2..=1200] {
        store.record_above(0, rows.map(made).collect::<Vec<Row>>()).await.unwrap();
    }
    store.close().await.unwrap();
    let expected: Vec<u64> = [1].into_iter().chain((2..=1200).flat_map(|seq| [seq, seq])).collect();
    let one = conversation(1).to_string();
    for selection in [&[][..], &["--conversation", &one], &["--to", "2099-01-01T00:00:00Z"]] {
        let arguments = ["export"].iter().chain(selection).map(|word| (*word).to_owned());
        let arguments = keyspace.keys("--set").into_iter().chain(arguments).collect();
        let name = "export".to_owned();
        let (code, output, said) =
            Start { name, folder: folder.path().to_owned(), arguments, ..Start::default() }.finish().await;
        assert_eq!(code, Some(0), "{selection:?}: {said}");
        assert_eq!(seqs(&output), expected, "{selection:?}");
    }
}
