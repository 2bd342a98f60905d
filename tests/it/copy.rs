//! `yalo store copy` between SQLite and a real Cassandra: there and back, killed, beside a fleet that writes, and what it
//! refuses or names.

use std::path::Path;

use serde_json::{Value, json};
use yalo::domain::{Row, Timestamp};
use yalo::store::{Contract, Store};

use crate::client::number;
use crate::harness::keyspace::Keyspace;
use crate::harness::record::{self, OWNERS, acknowledged, made, made_long, open_store, publish};
use crate::harness::{Fleet, PATIENCE, Start, eventually};

/// `yalo store copy` whose configured store is the file `name` in `folder`.
fn start(folder: &Path, name: &str, arguments: &[String]) -> Start {
    let path = format!("store.path={}", folder.join(name).display());
    let usual = ["--set", &path, "store", "copy"].map(str::to_owned);
    let arguments = usual.into_iter().chain(arguments.iter().cloned()).collect();
    Start { name: "copy".to_owned(), folder: folder.to_owned(), arguments, ..Start::default() }
}

/// Copies, to an end where both are equal: what it said.
async fn copy(folder: &Path, name: &str, arguments: &[String]) -> String {
    let (code, output, errors) = start(folder, name, arguments).finish().await;
    assert_eq!(code, Some(0), "{arguments:?}: {output}{errors}");
    assert!(output.contains("\nequal: "), "{output}");
    output + &errors
}

/// Copies, to an end that is another: the code and what it said.
async fn refused(folder: &Path, name: &str, arguments: &[String]) -> (i32, String) {
    let (code, output, errors) = start(folder, name, arguments).finish().await;
    assert_ne!(code, Some(0), "{arguments:?}: {output}");
    (code.unwrap(), output + &errors)
}

/// The number before a word: `1200 rows were copied`.
fn count(said: &str, word: &str) -> u64 {
    let before = said.split(word).next().unwrap();
    before.rsplit(' ').find_map(|part| part.parse().ok()).unwrap_or_else(|| panic!("no {word} in {said}"))
}

/// All that a store holds, and what it knows besides.
async fn whole(store: &Store) -> (Vec<Row>, u64, Vec<(String, u64)>, Vec<Vec<String>>) {
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let more = store.scan(rows.last().map_or(0, |row| row.seq), 5000).await.unwrap();
        if more.is_empty() {
            break;
        }
        rows.extend(more);
    }
    let streams = store.streams().await.unwrap();
    let streams = streams.into_iter().map(|stream| (format!("{} {}", stream.name, stream.created), stream.above_seq));
    let mut owned = Vec::new();
    for owner in OWNERS {
        let mut listed = store.owned_by(owner, None, 100).await.unwrap();
        // Where the clock stepped back, a file goes by time and a cluster by sequence.
        listed.sort_by_key(|one| one.last.seq);
        owned.push(listed.iter().map(|one| format!("{} {} {:?}", one.id, one.last.seq, one.owner)).collect());
    }
    (rows, store.retired_below().await.unwrap(), streams.collect(), owned)
}

#[tokio::test]
async fn there_and_back_it_is_the_same_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let rows = made(6000);
    let source = open_store(&path.join("a.db")).await;
    source.bind_stream("YALO_CHAT", Timestamp::from_ms(1)).await.unwrap();
    record::store(&source, &rows[..4000]).await;
    source.rebind_stream("YALO_CHAT", Timestamp::from_ms(2)).await.unwrap();
    record::store(&source, &rows[4000..]).await;
    // The rows that opened the conversations are gone.
    while source.retire(rows[1000].at, 1000).await.unwrap().more {}
    let below = source.retired_below().await.unwrap();
    assert!(below > record::CONVERSATIONS, "{below}");
    let (keyspace, cluster) = Keyspace::make("there").await;
    let said = copy(path, "a.db", &keyspace.keys("--to")).await;
    assert_eq!(count(&said, "rows were copied"), 6001 - below);
    let expected = whole(&source).await;
    assert_eq!(expected.3.iter().map(Vec::len).sum::<usize>() as u64, record::CONVERSATIONS);
    assert!(whole(&cluster).await == expected);
    copy(path, "b.db", &keyspace.keys("--from")).await;
    let back = open_store(&path.join("b.db")).await;
    assert!(whole(&back).await == expected);
    assert_eq!(back.totals().await.unwrap(), source.totals().await.unwrap());
    // What was retired comes back nowhere.
    for store in [&cluster, &back] {
        assert_eq!(store.record(rows[..500].to_vec()).await.unwrap().known, 500);
        assert_eq!(store.last_seq().await.unwrap(), Some(6000));
    }
    assert!(whole(&cluster).await == expected && whole(&back).await == expected);
}

#[tokio::test]
async fn what_was_killed_goes_on_where_it_ended() {
    const ROWS: usize = 45_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let source = open_store(&path.join("a.db")).await;
    let rows = made_long(ROWS as u64, 20);
    record::store(&source, &rows).await;
    let (keyspace, cluster) = Keyspace::make("killed").await;
    let back = open_store(&path.join("b.db")).await;
    let there = |store: &Store| {
        let store = store.clone();
        async move { store.last_seq().await.unwrap().unwrap_or(0) }
    };
    for (name, keys, target) in [("a.db", keyspace.keys("--to"), &cluster), ("b.db", keyspace.keys("--from"), &back)] {
        for least in [3000, 9000] {
            let mut process = start(path, name, &keys).spawn();
            eventually(PATIENCE, "a part of it", async || (there(target).await > least).then_some(())).await;
            process.kill9();
            let left = whole(target).await.0.len();
            // Windows are stored side by side: the highest sequence says little about how many there are.
            assert!((1..ROWS).contains(&left), "{name}: {left}");
        }
        let left = whole(target).await.0.len() as u64;
        let said = copy(path, name, &keys).await;
        // None that was there is copied again, and a cluster may still have written what the dead one had asked it for.
        let (copied, missing) = (count(&said, "rows were copied"), ROWS as u64 - left);
        let is_cluster = name == "a.db";
        assert!(copied == missing || (is_cluster && copied < missing), "{left} were there: {said}");
        assert_eq!(count(&said, "compared, in"), ROWS as u64, "{said}");
        assert!(whole(target).await == whole(&source).await);
        assert_eq!(count(&copy(path, name, &keys).await, "rows were copied"), 0);
    }
}

#[tokio::test]
async fn what_differs_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let source = open_store(&path.join("a.db")).await;
    record::store(&source, &made(3000)).await;
    let (keyspace, cluster) = Keyspace::make("differs").await;
    copy(path, "a.db", &keyspace.keys("--to")).await;
    let session = keyspace.session().await;
    let place = |seq: i64| format!("stream = 0 AND block = 0 AND shard = {} AND seq = {seq}", seq / 32 % 16);
    // A byte of it, the whole row, and one that nobody sent beside it.
    let digest = cluster.by_seq(700).await.unwrap().unwrap().digest;
    let altered = format!("UPDATE log SET author = 'mallory' WHERE {} AND digest = ?", place(700));
    session.query_unpaged(altered, (&digest[..],)).await.unwrap();
    session.query_unpaged(format!("DELETE FROM log WHERE {}", place(800)), ()).await.unwrap();
    let twin = "INSERT INTO log (stream, block, shard, seq, digest, at_ns, payload, subject) VALUES (0, 0, 28, 900, ";
    let twin = twin.replace("28", &(900 / 32 % 16).to_string());
    session.query_unpaged(format!("{twin}0x{}, 1, 0x7b7d, 'yalo.chat.other')", "00".repeat(32)), ()).await.unwrap();
    for keys in [keyspace.keys("--to"), [keyspace.keys("--to"), vec!["--begin".to_owned(), "650".to_owned()]].concat()]
    {
        let (code, said) = refused(path, "a.db", &keys).await;
        assert_eq!(code, 3, "{said}");
        let lines: Vec<&str> = said.lines().collect();
        for (line, words) in ["700: another row", "800: does not stay", "900: another row"].into_iter().enumerate() {
            assert!(lines[line].starts_with(words), "{said}");
        }
        assert!(said.contains("\nnot equal: ") && said.contains("differ at 3 sequences"), "{said}");
    }
    copy(path, "a.db", &[keyspace.keys("--to"), vec!["--begin".to_owned(), "901".to_owned()]].concat()).await;
    // The other way round: a file keeps one row at a sequence, and which one it has is named.
    let back = open_store(&path.join("b.db")).await;
    let other = Row { digest: [7; 32], ..made(3000)[9].clone() };
    back.record(vec![other.clone()]).await.unwrap();
    let (code, said) = refused(path, "b.db", &keyspace.keys("--from")).await;
    assert!(code == 3 && said.starts_with("10: another row") && said.contains("\n900: another row"), "{code} {said}");
    assert_eq!(back.by_seq(10).await.unwrap(), Some(other));
}

#[tokio::test]
async fn what_can_be_no_copy_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let one = |key: &str| vec!["--to".to_owned(), key.to_owned()];
    let file = |name: &str| format!("store.path={}", path.join(name).display());
    let says = async |arguments: Vec<String>, code: i32, words: &[&str]| {
        let (ended, said) = refused(path, "a.db", &arguments).await;
        assert!(ended == code && words.iter().all(|word| said.contains(word)), "{arguments:?}: {ended} {said}");
    };
    says(one(&file("b.db")), 1, &["copy from", "a.db", "nothing has been stored"]).await;
    let source = open_store(&path.join("a.db")).await;
    says(one(&file("b.db")), 1, &["is empty"]).await;
    source.bind_stream("YALO_CHAT", Timestamp::from_ms(1)).await.unwrap();
    record::store(&source, &made(10)).await;
    std::os::unix::fs::symlink(path.join("a.db"), path.join("c.db")).unwrap();
    says(one("store.readers=2"), 2, &["both sides", "a.db"]).await;
    says(one(&file("c.db")), 2, &["both sides"]).await;
    says(one("data.dir=/tmp"), 2, &["--to takes keys of [store]", "data.dir"]).await;
    says(one("store.knd=cql"), 2, &["--to", "store.kind"]).await;
    says(one(&file("no/b.db")), 1, &["copy to", "no folder"]).await;
    let missing = Keyspace::missing("nobody_made_it").await;
    says(missing.keys("--to"), 1, &["copy to", "nobody_made_it", "yalo init"]).await;
    let other = open_store(&path.join("o.db")).await;
    other.bind_stream("YALO_CHAT", Timestamp::from_ms(2)).await.unwrap();
    says(one(&file("o.db")), 1, &["another stream", "YALO_CHAT"]).await;
    assert_eq!(other.last_seq().await.unwrap(), None);
    // The same keyspace by another address of the same node.
    let (keyspace, cluster) = Keyspace::make("same").await;
    let nodes = keyspace.options.nodes[0].replace("127.0.0.1", "localhost");
    let more = ["--to".to_owned(), format!("store.nodes={nodes}")];
    let configured: Vec<String> = keyspace.keys("--set").into_iter().chain(more).collect();
    says(configured, 2, &["both sides", "same"]).await;
    assert_eq!(cluster.last_seq().await.unwrap(), None);
}

/// Moves a fleet, which has these settings, into another store, which differs from its own in these keys, while it writes.
async fn moves_while_it_writes(mut fleet: Fleet, settings: &[String], other: &[String], target: &Store) {
    let nats = fleet.nats_url();
    let keys = |flag: &str, keys: &[String]| -> Vec<String> {
        keys.iter().flat_map(|key| [flag.to_owned(), key.clone()]).collect()
    };
    let (own, moved) = (keys("--set", settings), keys("--set", other));
    let tool = |words: &[&str], more: &[String]| {
        let words = words.iter().map(|word| (*word).to_owned());
        let arguments = words.chain(own.iter().chain(more).cloned()).collect();
        Start { name: "tool".to_owned(), arguments, ..fleet.start_of("admin") }
    };
    let copies = tool(&["store", "copy"], &keys("--to", other));
    let verify = tool(&["audit", "verify", "--json"], &moved);
    let before = publish(&nats, 5000, 20).await;
    acknowledged(&nats, before).await;
    // It goes on being written to from before the first row is copied until after the last.
    let stop = tokio_util::sync::CancellationToken::new();
    let writing = async {
        let mut last = before;
        while !stop.is_cancelled() {
            last = publish(&nats, 50, 20).await;
        }
        last
    };
    let copying = async {
        let (code, output, errors) = copies.finish().await;
        stop.cancel();
        assert_eq!(code, Some(0), "{output}{errors}");
        output + &errors
    };
    let (last, said) = tokio::join!(writing, copying);
    let upto: u64 = said.split(": ").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!((before..last).contains(&upto), "{before} {last}: {said}");
    assert_eq!(target.last_seq().await.unwrap(), Some(upto));

    for name in ["auditor-1", "auditor-2", "admin"] {
        fleet.stop_role(name).await;
    }
    let last = publish(&nats, 100, 20).await;
    let begin = said.trim_end().rsplit(' ').next().unwrap().to_owned();
    assert!((before..=upto + 1).contains(&begin.parse().unwrap()), "{said}");
    let arguments = [&copies.arguments[..], &["--begin".to_owned(), begin.clone()]].concat();
    let rest = Start { arguments, ..copies };
    let (code, output, errors) = rest.finish().await;
    assert_eq!(code, Some(0), "{output}{errors}");
    assert!(output.starts_with(&format!("{begin} to ")) && count(&output, "rows were copied") > 0, "{output}");
    // The auditors go on there; nothing is missing, and nothing was stored twice.
    let auditor = fleet.start_of("auditor-1");
    let arguments = [&auditor.arguments[..], &moved].concat();
    let mut auditor = Start { name: "auditor-moved".to_owned(), arguments, ..auditor }.run().await;
    acknowledged(&nats, last).await;
    let (code, output, errors) = verify.finish().await;
    let report: Value = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output} {errors}"));
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])), "{report}");
    assert_eq!((number(&report, "rows"), number(&report, "compared")), (last, last));
    auditor.stop().await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_moves_to_a_cluster_while_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    let (keyspace, cluster) = Keyspace::make("moved").await;
    let fleet = Fleet::start(folder.path()).await;
    moves_while_it_writes(fleet, &[], &keyspace.settings(), &cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_moves_from_a_cluster_to_a_file_while_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Keyspace::missing("moved_back").await.settings();
    let fleet = Fleet::start_with(folder.path(), &settings.each_ref().map(String::as_str)).await;
    let file = open_store(&folder.path().join("data/messages.db")).await;
    moves_while_it_writes(fleet, &settings, &["store.kind=sqlite".to_owned()], &file).await;
}
