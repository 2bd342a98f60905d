//! Export: each selection in each form is the record, whatever happens on the way.

mod again;
mod api;
mod cluster;
mod interrupted;
mod twins;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use serde_json::{Value, json};
use yalo::domain::{Cursor, Kind, Row, Who};
use yalo::store::Contract;
use yalo::wire;

use crate::harness::record::{self, CONVERSATIONS, conversation, made, open_store};
use crate::harness::{CLEARED, Start};

/// Puts a record where a deployment in `folder` keeps it.
async fn fill(folder: &Path, rows: &[Row]) {
    std::fs::create_dir_all(folder.join("data")).unwrap();
    let store = open_store(&folder.join("data/messages.db")).await;
    record::store(&store, rows).await;
    store.close().await.unwrap();
}

/// `yalo export` with these arguments on the record in `folder`.
fn start(folder: &Path, arguments: &[&str]) -> Start {
    let data = format!("data.dir={}", folder.join("data").display());
    let arguments = [&["--set", &data, "export"], arguments].concat();
    Start {
        name: "export".to_owned(),
        folder: folder.to_owned(),
        arguments: arguments.into_iter().map(str::to_owned).collect(),
        ..Start::default()
    }
}

/// Runs it to its good end: what it wrote to standard output.
async fn export(folder: &Path, arguments: &[&str]) -> String {
    let (code, output, errors) = start(folder, arguments).finish().await;
    assert_eq!(code, Some(0), "{arguments:?}: {errors}");
    output
}

/// Runs it to an end that is none: the exit code and what it said.
async fn refused(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let (code, _, errors) = start(folder, arguments).finish().await;
    assert_ne!(code, Some(0), "{arguments:?}");
    (code.unwrap(), errors)
}

fn seqs(ndjson: &str) -> Vec<u64> {
    ndjson.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect()
}

/// The cells of a CSV as RFC 4180 has them.
fn table(csv: &str) -> Vec<Vec<String>> {
    let (mut lines, mut cells, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut letters = csv.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => cell.extend(letters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {
                assert_eq!(letters.next(), Some('\n'));
                cells.push(std::mem::take(&mut cell));
                lines.push(std::mem::take(&mut cells));
            }
            _ => cell.push(letter),
        }
    }
    assert!(!quoted && cells.is_empty() && cell.is_empty(), "the last line is not whole");
    lines
}

/// Runs a program of the system on some bytes.
pub(super) fn pipe(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}");
        output.stdout
    })
}

#[tokio::test]
async fn everything_is_the_record_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let rows = made(3000);
    fill(folder.path(), &rows).await;
    let output = export(folder.path(), &[]).await;
    assert!(output.ends_with('\n') && output.lines().count() == rows.len());
    for (line, row) in output.lines().zip(&rows) {
        let read: Value = serde_json::from_str(line).unwrap();
        assert_eq!(read["seq"], row.seq, "{line}");
        assert_eq!(read["at"], row.at.to_string());
        assert_eq!(read["cursor"], Cursor::new(row.at, row.seq).to_string());
        assert_eq!(read["conversation"], json!(row.conversation));
        let Ok(message) = wire::decode(&row.payload) else {
            let raw = base64::engine::general_purpose::STANDARD.decode(read["raw"].as_str().unwrap()).unwrap();
            assert_eq!((&raw[..], &read["subject"]), (&row.payload[..], &json!(row.subject)));
            continue;
        };
        let expected = [
            ("id", json!(message.id)),
            ("who", json!(message.who)),
            ("author", json!(message.author)),
            ("kind", json!(message.kind)),
            ("text", json!(message.text)),
            ("reply_to", json!(message.reply_to)),
            ("bot", json!(message.bot)),
            ("side", json!(message.side)),
            ("sent_at", json!(message.sent_at)),
        ];
        for (name, value) in expected {
            assert_eq!(read[name], value, "{name} of {line}");
        }
        if let Some(data) = message.data {
            assert!(line.contains(&data.get().replace('\n', " ")), "{line}");
        }
    }
    let kinds = |kind: Kind| rows.iter().filter(|row| row.kind == Some(kind)).count();
    let raw = rows.iter().filter(|row| row.id.is_none()).count();
    assert!(kinds(Kind::None) > 10 && kinds(Kind::Opened) > 10 && raw > 10, "too plain a record");
}

#[tokio::test]
async fn each_selection_has_its_rows_and_no_others_in_both_forms() {
    let folder = tempfile::tempdir().unwrap();
    let rows = made(5000);
    fill(folder.path(), &rows).await;
    let of = |number: u64| rows.iter().filter(move |row| row.conversation == Some(conversation(number)));
    let seqs_of = |rows: Vec<&Row>| rows.into_iter().map(|row| row.seq).collect::<Vec<_>>();
    let (seven, from, to) = (conversation(7).to_string(), rows[1000].at, rows[3000].at);
    let within = |row: &&Row| from <= row.at && row.at < to;
    let (from, to) = (from.to_string(), to.to_string());
    let ada = (0..CONVERSATIONS).step_by(2);
    let everything: Vec<u64> = (1..=5000).collect();
    let cases: Vec<(Vec<&str>, Vec<u64>)> = vec![
        (vec![], everything.clone()),
        (vec!["--conversation", &seven], seqs_of(of(7).collect())),
        // Conversation 0 was opened by the 20th row.
        (vec!["--user", "ada"], seqs_of(ada.clone().flat_map(of).collect())),
        (vec!["--from", "100", "--to", "4200"], (100..=4200).collect()),
        (vec!["--from", "4999", "--to", "99999"], vec![4999, 5000]),
        (vec!["--from", &from, "--to", &to], seqs_of(rows.iter().filter(within).collect())),
        (
            vec!["--from", &from, "--to", "3000"],
            seqs_of(rows[..3000].iter().filter(|row| row.at >= rows[1000].at).collect()),
        ),
        (vec!["--conversation", &seven, "--from", &from, "--to", &to], seqs_of(of(7).filter(within).collect())),
        (
            vec!["--user", "ada", "--from", "2500"],
            seqs_of(ada.clone().flat_map(of).filter(|row| row.seq >= 2500).collect()),
        ),
        (vec!["--from", "6000"], vec![]),
        (vec!["--from", "2099-01-01T00:00:00Z"], vec![]),
    ];
    for (arguments, expected) in cases {
        assert!(expected.len() != 1 && (expected.is_empty() || expected[0] <= 5000), "{arguments:?}");
        let ndjson = export(folder.path(), &arguments).await;
        assert_eq!(seqs(&ndjson), expected, "{arguments:?}");
        let csv = table(&export(folder.path(), &[&arguments[..], &["--format", "csv"]].concat()).await);
        assert_eq!(csv[0].len(), 17, "{:?}", csv[0]);
        assert_eq!(csv[0][..5], ["seq", "at", "cursor", "conversation", "id"]);
        let numbers: Vec<u64> = csv[1..].iter().map(|cells| cells[0].parse().unwrap()).collect();
        assert_eq!(numbers, expected, "{arguments:?}");
        for cells in &csv[1..] {
            assert_eq!(cells.len(), 17, "{cells:?}");
            assert!(cells.iter().all(|cell| !cell.starts_with(['=', '+', '@'])), "{cells:?}");
        }
        // Behind any cursor comes the rest.
        if expected.len() > 10 && !arguments.contains(&"--user") {
            let middle = expected[expected.len() / 3];
            let cursor = csv[1..].iter().find(|cells| cells[0] == middle.to_string()).unwrap()[2].clone();
            let rest = export(folder.path(), &[&arguments[..], &["--after", &cursor]].concat()).await;
            assert_eq!(seqs(&rest), expected[expected.len() / 3 + 1..], "{arguments:?}");
        }
    }
    let csv = table(&export(folder.path(), &["--format", "csv"]).await);
    for (cells, row) in csv[1..].iter().zip(&rows) {
        let Ok(message) = wire::decode(&row.payload) else { continue };
        let text = message.text.unwrap_or_default();
        assert_eq!(cells[9].strip_prefix('\'').unwrap_or(&cells[9]), text, "{cells:?}");
        assert_eq!(cells[9].starts_with('\''), text.starts_with(['=', '\'']), "{cells:?}");
        assert_eq!(cells[14], message.data.map(|data| data.get().to_owned()).unwrap_or_default());
        assert_eq!(cells[5], message.who.as_str());
        // Who spoke, of what was ingested.
        assert_eq!(cells[6], message.side.map_or("", Who::as_str));
    }
    assert!(csv.iter().any(|cells| cells[5] == "agent"));
    assert!(["user", "bot"].iter().all(|side| csv.iter().any(|cells| cells[5] == "log" && cells[6] == *side)));

    for (arguments, code, words) in [
        (&["--conversation", "0198c0de-0000-7000-8000-0000000000ff"][..], 1, "is stored"),
        (&["--user", "nobody"], 1, "nobody"),
        // A cursor of one of a user's conversations once cut off those before it.
        (&["--user", "bob", "--after", "1764000000200-20"], 2, "--from SEQ"),
        (&["--resume"], 2, "--after"),
    ] {
        let (found, said) = refused(folder.path(), arguments).await;
        assert!(found == code && said.contains(words), "{arguments:?}: {found} {said}");
    }
}

#[tokio::test]
async fn the_next_export_has_what_is_new_in_every_conversation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let rows = made(3000);
    let late = 1990;
    let (now, then): (Vec<_>, Vec<_>) = rows.iter().cloned().partition(|row| row.seq <= 2000 && row.seq != late);
    fill(path, &now).await;
    let seven = conversation(7).to_string();
    let (at, after) = (rows[999].at.to_string(), "2099-01-01T00:00:00Z");
    // A user's conversations that come first have new messages as well.
    let whose = [vec![], vec!["--conversation", &seven], vec!["--user", "ada"]];
    // The clock stepped back just before the instant.
    let ends = [(&[][..], late), (&["--to", "1500"], 1501), (&["--to", &at], 997), (&["--to", after], late)];
    let cases = whose.iter().flat_map(|whose| ends.map(|(to, next)| (whose, [&whose[..], to].concat(), next)));
    let exports = cases.map(|(whose, arguments, next)| async move {
        let (code, output, said) = start(path, &arguments).finish().await;
        // Of everything it is known that one is missing.
        let expected = if arguments.is_empty() { 3 } else { 0 };
        assert_eq!(code, Some(expected), "{arguments:?}: {said}");
        assert!(said.contains(&format!("--from {next}\n")), "{arguments:?}: {said}");
        (whose, seqs(&output), next.to_string())
    });
    let exports = futures_util::future::join_all(exports).await;
    let store = open_store(&path.join("data/messages.db")).await;
    record::store(&store, &then).await;
    store.close().await.unwrap();
    for (whose, mut had, next) in exports {
        had.extend(seqs(&export(path, &[&whose[..], &["--from", &next]].concat()).await));
        had.sort_unstable();
        had.dedup();
        let mut all = seqs(&export(path, whose).await);
        all.sort_unstable();
        assert_eq!(had, all, "{whose:?} --from {next}");
    }
}

#[tokio::test]
async fn what_is_packed_opens_with_the_tools_of_the_system() {
    let folder = tempfile::tempdir().unwrap();
    // Several members.
    fill(folder.path(), &made(12_000)).await;
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    for (name, other) in [("all.ndjson", "empty.ndjson"), ("all.csv", "empty.csv")] {
        export(folder.path(), &["--output", name]).await;
        export(folder.path(), &["--output", other, "--from", "99999"]).await;
        let plain = read(name);
        assert!(plain.len() > 2 << 20, "one member only: {}", plain.len());
        for name in [name, other] {
            let more = if name == other { &["--from", "99999"][..] } else { &[] };
            let (gzip, zstd) = (format!("{name}.gz"), format!("{name}.zst"));
            export(folder.path(), &[&["--output", &gzip], more].concat()).await;
            export(folder.path(), &[&["--output", &zstd], more].concat()).await;
            pipe("gzip", &["-t"], &read(&gzip));
            assert!(pipe("gzip", &["-dc"], &read(&gzip)) == read(name), "{gzip}");
            assert!(unzstd(&read(&zstd)).await == read(name), "{zstd}");
            assert!(name == other || read(&gzip).len() * 3 < plain.len(), "{gzip} is hardly packed");
        }
    }
    // The name can be overruled.
    export(folder.path(), &["--output", "odd.csv.gz", "--format", "ndjson", "--compress", "none"]).await;
    assert!(read("odd.csv.gz") == read("all.ndjson"));
    let piped = start(folder.path(), &["--compress", "gzip", "--to", "3"]);
    let (code, ..) = piped.finish().await;
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn at_a_terminal_a_bar_shows_how_far_it_is_and_elsewhere_nothing_does() {
    let folder = tempfile::tempdir().unwrap();
    // Several pieces.
    fill(folder.path(), &made(12_000)).await;
    let environment = vec![("TERM".to_owned(), "xterm".to_owned())];
    let start = Start { environment, ..start(folder.path(), &[]) };
    let (code, _, shown) = start.finish_at_terminal().await;
    assert_eq!(code, Some(0), "{shown:?}");
    let mut drawn: Vec<&str> = shown.split(CLEARED).collect();
    let told = drawn.pop().unwrap();
    assert!(drawn.iter().all(|line| line.chars().count() <= 80), "{shown:?}");
    assert!(drawn.iter().all(|line| line.contains("/s, ") && !line.contains('.')), "whole messages: {shown:?}");
    let done = drawn.iter().map(|line| line.split_once(" of 12,000 messages, ")?.0.rsplit(' ').next());
    let done: Vec<u64> = done.map(|done| done.unwrap().replace(',', "").parse().unwrap()).collect();
    assert!(done.is_sorted() && done.iter().any(|done| (1..12_000).contains(done)), "{shown:?}");
    // It is gone in the end.
    assert_eq!(told, "12000 messages were exported; what is stored later begins with --from 12001\r\n");
    let (code, _, said) = start.finish().await;
    assert_eq!((code, said), (Some(0), told.replace('\r', "")));
}

/// By the system's own program where it is, else by the library.
async fn unzstd(bytes: &[u8]) -> Vec<u8> {
    use tokio::io::AsyncReadExt;
    let on_path = Command::new("zstd").arg("--version").stdout(Stdio::null()).status().is_ok();
    if on_path {
        return pipe("zstd", &["-dc"], bytes);
    }
    let mut plain = Vec::new();
    let mut decoder = async_compression::tokio::bufread::ZstdDecoder::new(bytes);
    decoder.multiple_members(true);
    decoder.read_to_end(&mut plain).await.unwrap();
    plain
}
