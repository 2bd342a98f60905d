//! `yalo ingest`: files and pipes, torn and taken up again.

use std::path::Path;

use async_compression::tokio::write::ZstdEncoder;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::{TOKEN, all, are_in_order, counts, lines, stored};
use crate::client::number;
use crate::harness::{Place, Start};

/// `yalo ingest` as somebody would type it: exit code, its report, and what it says besides.
async fn command(folder: &Path, place: &Place, words: &[&str]) -> (Option<i32>, Value, String) {
    let usual = ["ingest", "--json", "--url", place.frontends[0].as_str()];
    let token = if words.contains(&"--token") { &[][..] } else { &["--token", TOKEN] };
    let arguments = usual.iter().chain(token).chain(words).map(|word| (*word).to_owned()).collect();
    let start = Start { name: "ingest".to_owned(), folder: folder.to_owned(), arguments, ..Start::default() };
    let (code, output, errors) = start.finish().await;
    let report = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output} {errors}"));
    (code, report, errors)
}

#[tokio::test]
async fn the_command_brings_files_in_and_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &[]).await;
    let place = all.place();
    let file = folder.path().join("messages.ndjson.zst");
    let mut zstd = ZstdEncoder::new(Vec::new());
    // Several chunks.
    zstd.write_all(lines(1..60_001).as_bytes()).await.unwrap();
    zstd.shutdown().await.unwrap();
    std::fs::write(&file, zstd.into_inner()).unwrap();
    let path = file.display().to_string();
    let (code, report, errors) = command(folder.path(), &place, &[&path]).await;
    assert_eq!((code, counts(&report)), (Some(0), [60_000, 0, 0, 60_000]), "{errors}");
    assert!(!folder.path().join("messages.ndjson.zst.yalo-ingest").exists());
    // Again: nothing is doubled.
    let (code, report, _) = command(folder.path(), &place, &["--from-line", "50001", &path]).await;
    assert_eq!((code, counts(&report)), (Some(0), [0, 10_000, 0, 10_000]));
    are_in_order(&stored(&place, folder.path(), 60_000).await, 60_000);

    // Lines that are refused make it end with 3, and are named.
    let bad = folder.path().join("bad.ndjson");
    let long = "x".repeat(400_000);
    std::fs::write(&bad, format!("{}nonsense\n{long}\n{}", lines(1..3), lines(3..4))).unwrap();
    let (code, report, errors) = command(folder.path(), &place, &[&bad.display().to_string()]).await;
    assert_eq!((code, counts(&report)), (Some(3), [3, 0, 2, 5]), "{errors}");
    let mut named: Vec<_> = report["first_errors"].as_array().unwrap().iter().map(|e| number(e, "line")).collect();
    named.sort_unstable();
    assert_eq!(named, [3, 4], "{report}");

    // A frontend that goes away in the middle: it ends with 4, and says how to go on.
    all.stop().await;
    let (code, report, errors) = command(folder.path(), &place, &["--timeout", "1", &path]).await;
    assert_eq!((code, number(&report, "lines")), (Some(4), 0), "{errors}");
    assert!(errors.contains("--resume"), "{errors}");
    let state = folder.path().join("messages.ndjson.zst.yalo-ingest");
    let place_of = |text: String| number(&serde_json::from_str::<Value>(&text).unwrap(), "next_line");
    assert_eq!(place_of(std::fs::read_to_string(&state).unwrap()), 1);
    let known = std::fs::read_to_string(&state).unwrap().replace("\"next_line\":1}", "\"next_line\":59001}");
    std::fs::write(&state, known).unwrap();
    all.restart().await;
    let place = all.place();
    let (code, report, errors) = command(folder.path(), &place, &["--resume", &path]).await;
    assert_eq!((code, number(&report, "lines")), (Some(0), 1000), "{errors}");
    assert!(!state.exists());
    let (code, _, errors) = command(folder.path(), &place, &["--token", "wrong", &path]).await;
    assert!(code == Some(1) && errors.contains("unauthorized"), "{errors}");
    all.stop().await;
}
