//! Exports from a cluster: the same as from a file, also after an interruption.

use std::fs;
use std::path::Path;

use serde_json::Value;
use yalo::store::Contract;

use super::interrupted::{killed_at, saved};
use super::{export, fill};
use crate::harness::Start;
use crate::harness::keyspace::Keyspace;
use crate::harness::record::{self, conversation, made_long};

/// `yalo export` with these arguments on the record in `keyspace`.
pub(super) fn start_on(folder: &Path, keyspace: &Keyspace, more: &[&str]) -> Start {
    let arguments = ["export"].iter().chain(more).map(|word| (*word).to_owned());
    let arguments = keyspace.keys("--set").into_iter().chain(arguments).collect();
    Start { name: "export".to_owned(), folder: folder.to_owned(), arguments, ..Start::default() }
}

#[tokio::test]
async fn each_selection_is_that_of_a_file_with_the_same_record_and_goes_on_where_it_was_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let rows = made_long(20_000, 200);
    fill(path, &rows).await;
    let (keyspace, store) = Keyspace::make("exported").await;
    record::store(&store, &rows).await;
    store.close().await.unwrap();
    let seven = conversation(7).to_string();
    for selection in [["--user", "ada"], ["--conversation", &seven], ["--from", "19000"]] {
        for format in ["ndjson", "csv"] {
            let arguments = [&selection[..], &["--format", format]].concat();
            let (code, output, said) = start_on(path, &keyspace, &arguments).finish().await;
            assert!(code == Some(0) && output == export(path, &arguments).await, "{arguments:?}: {code:?} {said}");
        }
    }
    // To a file: killed within a write, once of a user's conversations.
    for (name, more) in [("all.csv", &[][..]), ("ada.csv", &["--user", "ada"])] {
        let arguments = [&["--output", name, "--resume"], more].concat();
        let whole = export(path, &[&["--format", "csv"], more].concat()).await;
        killed_at(whole.len() as u64 / 10 * 9, start_on(path, &keyspace, &arguments)).await;
        assert!(!path.join(name).exists() && saved(path, name) > 0);
        let (code, _, said) = start_on(path, &keyspace, &arguments).finish().await;
        assert!(code == Some(0) && fs::read_to_string(path.join(name)).unwrap() == whole, "{name}: {said}");
    }
    // To a pipe that its reader has left: the cursor of the last line is where the rest begins.
    let wrapper = ["bash", "-c", "\"$@\" | head -n 2345", "bash"].map(str::to_owned).into();
    let (_, output, said) = Start { wrapper, ..start_on(path, &keyspace, &[]) }.finish().await;
    let last: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert_eq!(last["seq"], 2345, "{said}");
    let (code, rest, said) = start_on(path, &keyspace, &["--after", last["cursor"].as_str().unwrap()]).finish().await;
    assert!(code == Some(0) && output + &rest == export(path, &[]).await, "{said}");
}
