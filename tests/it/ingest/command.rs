//! `yalo ingest`: files, whole and with bad lines.

use std::path::Path;
use std::time::{Duration, Instant};

use async_compression::tokio::write::ZstdEncoder;
use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::{TOKEN, all, are_in_order, counts, lines, long_lines, stored};
use crate::client::{new_id, number};
use crate::harness::{CLEARED, PATIENCE, Place, Start, eventually};

/// `yalo ingest` as somebody would type it: exit code, its report, and what it says besides.
pub(super) async fn command(folder: &Path, place: &Place, words: &[&str]) -> (Option<i32>, Value, String) {
    let (code, output, errors) = start(folder, place, words).finish().await;
    // Who never began has nothing to report.
    let report = if output.is_empty() { Value::Null } else { serde_json::from_str(&output).unwrap() };
    (code, report, errors)
}

pub(super) fn start(folder: &Path, place: &Place, words: &[&str]) -> Start {
    let usual = ["ingest", "--json", "--url", place.frontends[0].as_str()];
    let token = if words.contains(&"--token") { &[][..] } else { &["--token", TOKEN] };
    let arguments = usual.iter().chain(token).chain(words).map(|word| (*word).to_owned()).collect();
    Start { name: "ingest".to_owned(), folder: folder.to_owned(), arguments, ..Start::default() }
}

#[tokio::test]
async fn the_command_brings_files_in_and_says_what_became_of_them() {
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

    let (code, _, errors) = command(folder.path(), &place, &["--token", "wrong", &path]).await;
    assert!(code == Some(1) && errors.contains("unauthorized"), "{errors}");
    all.stop().await;
    let (code, _, errors) = command(folder.path(), &place, &[&path]).await;
    assert!(code == Some(4) && errors.contains("is `yalo all` or `yalo frontend` running there?"), "{errors}");
    assert!(!folder.path().join("messages.ndjson.zst.yalo-ingest").exists());
}

#[tokio::test]
async fn questions_of_a_file_are_answered_once_and_the_answers_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &[]).await;
    let place = all.place();
    let file = folder.path().join("questions.ndjson");
    let line = |number: u64| {
        let (key, id) = (number % 3, new_id());
        format!("{{\"key\":\"talk {key}\",\"author\":\"eve\",\"text\":\"question {number}\",\"id\":\"{id}\"}}\n")
    };
    std::fs::write(&file, (1..=30).map(line).collect::<String>()).unwrap();
    let words = ["--as", "user", &file.display().to_string()];
    // The second time nobody is asked.
    for expected in [[30, 0, 0, 30], [0, 30, 0, 30]] {
        let (code, report, errors) = command(folder.path(), &place, &words).await;
        assert_eq!((code, counts(&report)), (Some(0), expected), "{errors}");
    }
    let store = Connection::open(folder.path().join("data/messages.db")).unwrap();
    store.busy_timeout(Duration::from_secs(10)).unwrap();
    let said = |who: &str| -> Vec<(String, String)> {
        let text = "SELECT conversation, text FROM v_messages WHERE who = ?1 ORDER BY conversation, seq";
        let mut query = store.prepare(text).unwrap();
        query.query_map([who], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    };
    eventually(PATIENCE, "an answer to each", async || (said("bot").len() >= 30).then_some(())).await;
    let asked = said("user");
    assert_eq!(asked.len(), 30);
    assert_eq!(said("bot"), asked);
    all.stop().await;
    assert_eq!(said("bot"), asked);
}

#[tokio::test]
async fn at_a_terminal_a_bar_shows_how_far_it_is_and_elsewhere_nothing_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &[]).await;
    let file = folder.path().join("messages.ndjson");
    // Two chunks.
    std::fs::write(&file, long_lines(1..2001)).unwrap();
    let environment = vec![("TERM".to_owned(), "xterm".to_owned())];
    let start = Start { environment, ..start(folder.path(), &all.place(), &[&file.display().to_string()]) };
    let (code, output, shown) = start.finish_at_terminal().await;
    assert_eq!((code, counts(&serde_json::from_str(&output).unwrap())), (Some(0), [2000, 0, 0, 2000]), "{shown:?}");
    let drawn: Vec<&str> = shown.split(CLEARED).collect();
    let is_bar = |line: &&&str| line.contains(" MiB, ") && line.chars().count() <= 80;
    assert!(drawn.len() > 2 && drawn[..drawn.len() - 1].iter().all(|line| is_bar(&line)), "{shown:?}");
    let lines = drawn.iter().filter_map(|line| line.split_once(" lines, ")?.0.rsplit(' ').next()?.parse::<u64>().ok());
    let lines: Vec<u64> = lines.collect();
    assert!(lines.is_sorted() && lines.iter().any(|lines| (1..2000).contains(lines)), "{shown:?}");
    // It is gone in the end.
    assert_eq!(drawn.last(), Some(&""), "{shown:?}");
    let (code, _, said) = start.finish().await;
    assert_eq!((code, said.as_str()), (Some(0), ""));
    all.stop().await;
}

#[tokio::test]
async fn with_a_rate_the_next_chunk_waits_until_it_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &[]).await;
    let place = all.place();
    std::fs::write(folder.path().join("lines"), lines(1..111)).unwrap();
    // So slowly that it comes in two chunks.
    let script = "{ head -n 100 lines; sleep 2; tail -n +101 lines; } | \"$@\"";
    let wrapper = ["bash", "-c", script, "bash"].map(str::to_owned).to_vec();
    let words = ["--rate", "20", "-"];
    let begun = Instant::now();
    let (code, output, errors) = Start { wrapper, ..start(folder.path(), &place, &words) }.finish().await;
    assert_eq!((code, counts(&serde_json::from_str(&output).unwrap())), (Some(0), [110, 0, 0, 110]), "{errors}");
    assert!(begun.elapsed() >= Duration::from_secs(100 / 20), "{:?}", begun.elapsed());
    all.stop().await;
}

#[tokio::test]
async fn a_file_that_a_run_is_at_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &[]).await;
    let place = all.place();
    let file = folder.path().join("messages.ndjson");
    std::fs::write(&file, lines(1..120_001)).unwrap();
    let path = file.display().to_string();
    let mut process = start(folder.path(), &place, &[&path]).spawn();
    eventually(PATIENCE, "a run", async || file.with_extension("ndjson.yalo-ingest").exists().then_some(())).await;
    process.signal(Signal::STOP);
    for words in [&[&path[..]][..], &["--resume", &path]] {
        let (code, _, errors) = command(folder.path(), &place, words).await;
        assert!(code == Some(1) && errors.contains("another run of `yalo ingest` is at it"), "{errors}");
    }
    process.signal(Signal::CONT);
    assert_eq!(process.exit(PATIENCE).await.code(), Some(0));
    are_in_order(&stored(&place, folder.path(), 120_000).await, 120_000);
    all.stop().await;
}
