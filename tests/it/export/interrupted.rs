//! Exports to a file that are killed, torn, met by others, or whose store fails.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;
use yalo::store::Contract;

use super::{export, fill, refused, start};
use crate::harness::record::{made, made_long, open_store};
use crate::harness::{PATIENCE, Start, eventually};

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// How many bytes are written down as written.
pub(super) fn saved(folder: &Path, name: &str) -> u64 {
    let state = fs::read(folder.join(format!("{name}.part.json"))).unwrap_or_default();
    serde_json::from_slice::<Value>(&state).map_or(0, |state| state["progress"]["bytes"].as_u64().unwrap())
}

/// Runs it until its file has so many bytes: then the system kills it, within a write.
pub(super) async fn killed_at(bytes: u64, start: Start) {
    let wrapper = vec!["prlimit".to_owned(), format!("--fsize={bytes}")];
    let (code, _, said) = Start { wrapper, ..start }.finish().await;
    assert_eq!(code, None, "it came to an end: {said}");
}

#[tokio::test]
async fn what_was_killed_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let rows = made_long(21_000, 200);
    fill(path, &rows[..20_000]).await;
    for name in ["a.ndjson", "b.csv.gz", "c.ndjson.zst", "d.ndjson.gz"] {
        let more: &[&str] = if name.starts_with('d') { &["--user", "ada"] } else { &[] };
        let whole = format!("whole-{name}");
        export(path, &[&["--output", &whole], more].concat()).await;
        let arguments = [&["--output", name, "--resume"], more].concat();
        let part = path.join(format!("{name}.part"));
        let end = length(&path.join(&whole));
        // The last one has fewer pieces: it is long enough for one death in the middle.
        let deaths = if more.is_empty() { vec![end / 2, end / 10 * 9] } else { vec![end / 10 * 9] };
        for died_at in deaths {
            let before = saved(path, name);
            killed_at(died_at, start(path, &arguments)).await;
            let saved = saved(path, name);
            assert!(before < saved && saved < length(&part), "{name}: {before} {saved} {}", length(&part));
            assert!(!path.join(name).exists());
            // Half a line, a torn member, and what a disk may leave behind.
            File::options().append(true).open(&part).unwrap().write_all(b"{\"seq\":\x1f\x8b\x08").unwrap();
        }
        export(path, &arguments).await;
        assert!(fs::read(path.join(name)).unwrap() == fs::read(path.join(&whole)).unwrap(), "{name}");
        let left = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(left.filter(|left| left.contains(".part")).count(), 0);
        fs::remove_file(path.join(whole)).unwrap();
    }
    // At any moment; and what was stored meanwhile is not in it.
    let mut process = start(path, &["--output", "e.csv.gz"]).spawn();
    eventually(PATIENCE, "a part", async || (saved(path, "e.csv.gz") > 0).then_some(())).await;
    process.kill9();
    let (saved, whole) = (saved(path, "e.csv.gz"), length(&path.join("b.csv.gz")));
    assert!(saved < whole && !path.join("e.csv.gz").exists(), "it came to its end: {saved} of {whole}");
    let store = open_store(&path.join("data/messages.db")).await;
    crate::harness::record::store(&store, &rows[20_000..]).await;
    store.close().await.unwrap();
    export(path, &["--output", "e.csv.gz", "--resume"]).await;
    assert!(fs::read(path.join("e.csv.gz")).unwrap() == fs::read(path.join("b.csv.gz")).unwrap());
}

#[tokio::test]
async fn nothing_is_written_over_and_nothing_is_mixed_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fill(path, &made(20_000)).await;
    fs::write(path.join("mine.ndjson"), "mine").unwrap();
    let (code, said) = refused(path, &["--output", "mine.ndjson"]).await;
    assert!(code == 2 && said.contains("is there already"), "{code} {said}");
    // Complete is complete.
    export(path, &["--output", "mine.ndjson", "--resume"]).await;
    assert_eq!(fs::read(path.join("mine.ndjson")).unwrap(), b"mine");

    let mut process = start(path, &["--output", "x.ndjson"]).spawn();
    eventually(PATIENCE, "a beginning", async || path.join("x.ndjson.part.json").exists().then_some(())).await;
    process.signal(rustix::process::Signal::STOP);
    let (code, said) = refused(path, &["--output", "x.ndjson", "--resume"]).await;
    assert!(code == 2 && said.contains("another export writes"), "{code} {said}");
    process.kill9();
    for (more, words) in [
        (&[][..], "go on with it by --resume"),
        (&["--resume", "--user", "ada"], "something else"),
        (&["--resume", "--format", "csv"], "something else"),
        (&["--resume", "--compress", "gzip"], "something else"),
        (&["--resume", "--to", "5"], "something else"),
    ] {
        let (code, said) = refused(path, &[&["--output", "x.ndjson"], more].concat()).await;
        assert!(code == 2 && said.contains(words), "{more:?}: {code} {said}");
    }
    export(path, &["--output", "x.ndjson", "--resume"]).await;
    assert_eq!(super::seqs(&fs::read_to_string(path.join("x.ndjson")).unwrap()).len(), 20_000);
    let (code, said) = refused(path, &["--output", "no/such/folder/x.ndjson"]).await;
    assert!(code == 1 && said.contains("no/such/folder"), "{code} {said}");
}

#[tokio::test]
async fn a_store_that_fails_in_the_middle_leaves_a_part_that_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fill(path, &made(20_000)).await;
    let whole = export(path, &[]).await;
    let database = path.join("data/messages.db");
    let content = fs::read(&database).unwrap();
    let (from, to) = (content.len() / 2, content.len() / 4 * 3);
    let spoil = |bytes: &[u8]| {
        let mut file = File::options().write(true).open(&database).unwrap();
        file.seek(SeekFrom::Start(from as u64)).unwrap();
        file.write_all(bytes).unwrap();
    };
    spoil(&vec![0x5a; to - from]);
    let (code, said) = refused(path, &["--output", "x.ndjson"]).await;
    assert!(code == 1 && said.contains("--resume") && !path.join("x.ndjson").exists(), "{code} {said}");
    let (code, output, said) = start(path, &[]).finish().await;
    // The last line that came names the way on.
    let last: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert!(code == Some(1) && output.ends_with('\n') && output.len() < whole.len(), "{code:?} {said}");
    assert!(said.contains(&format!("--after {}", last["cursor"].as_str().unwrap())), "{said}");
    spoil(&content[from..to]);
    export(path, &["--output", "x.ndjson", "--resume"]).await;
    assert!(fs::read_to_string(path.join("x.ndjson")).unwrap() == whole);
    let rest = export(path, &["--after", last["cursor"].as_str().unwrap()]).await;
    assert!(output + &rest == whole);
}

#[tokio::test]
async fn holes_are_told_also_those_before_an_interruption() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fill(path, &made_long(12_000, 200)).await;
    let connection = Connection::open(path.join("data/messages.db")).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(connection.execute("DELETE FROM messages WHERE seq BETWEEN 11 AND 14 OR seq = 11900", []).unwrap(), 5);
    killed_at(10 << 20, start(path, &["--output", "x.ndjson"])).await;
    assert!(saved(path, "x.ndjson") > 0);
    let (code, said) = refused(path, &["--output", "x.ndjson", "--resume"]).await;
    assert!(code == 3 && said.contains("5 messages") && said.contains("first is 11"), "{code} {said}");
    assert_eq!(super::seqs(&fs::read_to_string(path.join("x.ndjson")).unwrap()).len(), 11_995);
    // Where one begins that goes on with an earlier one, a hole is one too; before the first row there is none.
    connection.execute("DELETE FROM messages WHERE seq < 6", []).unwrap();
    let (code, said) = refused(path, &["--from", "12", "--to", "20"]).await;
    assert!(code == 3 && said.contains("3 messages") && said.contains("first is 12"), "{code} {said}");
    export(path, &["--from", "2", "--to", "10"]).await;
}
