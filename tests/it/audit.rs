//! `yalo audit verify`: a clean record is proved, and whatever is done to one is named.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::{Value, json};
use yalo::domain::Timestamp;

use crate::client::{Api, Call, number};
use crate::harness::{All, Fleet, PATIENCE, Place, Start, eventually};

/// Says some words in several conversations and waits for the store.
async fn talk(place: &Place, turns: usize) {
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let mut last = 0;
    for turn in 0..turns {
        let said = me.post("/v1/chat", json!({"text": format!("turn {turn}"), "conversation": conversation})).await;
        last = number(&said.expect(200)["answer"], "seq");
    }
    let operator = Api::operator(place).await;
    eventually(PATIENCE, "everything in the store", async || {
        let stats = operator.get("/admin/v1/stats").await.expect(200);
        (stats["audit_gap"]["behind"] == 0 && stats["last_seq"].as_u64() >= Some(last)).then_some(())
    })
    .await;
}

/// Runs it as an operator would: the exit code and its report.
async fn verify(start: &Start, more: &[&str]) -> (Option<i32>, Value) {
    let arguments = [&["audit", "verify", "--json"], more].concat();
    let arguments = arguments.into_iter().map(str::to_owned).collect();
    let (code, output, errors) = Start { name: "verify".to_owned(), arguments, ..start.clone() }.finish().await;
    let report = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output} {errors}"));
    (code, report)
}

fn store(folder: &Path) -> PathBuf {
    folder.join("data/messages.db")
}

/// The one finding of a report.
#[track_caller]
fn only(report: &Value) -> &Value {
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{report}");
    &findings[0]
}

#[tokio::test]
async fn each_way_to_spoil_a_record_is_named_and_what_the_stream_holds_is_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    talk(&fleet.place(), 20).await;
    let start = fleet.start_of("admin");
    let (code, report) = verify(&start, &[]).await;
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])), "{report}");
    let last = number(&report, "to");
    assert_eq!((&report["rows"], &report["compared"]), (&json!(last), &json!(last)));

    let path = store(folder.path());
    let spoil = |sql: &str| {
        let connection = Connection::open(&path).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
    };
    let whole = |seq: u64| -> Vec<u8> {
        let connection = Connection::open(&path).unwrap();
        connection.query_row("SELECT payload FROM messages WHERE seq = ?1", [seq], |row| row.get(0)).unwrap()
    };
    let before = whole(7);
    // One byte of a payload.
    spoil("UPDATE messages SET payload = CAST(replace(CAST(payload AS TEXT), 'turn', 'torn') AS BLOB) WHERE seq = 7");
    let (code, report) = verify(&start, &[]).await;
    assert_eq!((code, &only(&report)["flaw"], &only(&report)["from"]), (Some(3), &json!("altered"), &json!(7)));
    let restored = Connection::open(&path).unwrap();
    restored.execute("UPDATE messages SET payload = ?1 WHERE seq = 7", [before]).unwrap();
    // A column that people search by.
    spoil("UPDATE messages SET author = 'somebody else' WHERE seq = 9");
    let (code, report) = verify(&start, &[]).await;
    assert_eq!((code, &only(&report)["flaw"], &only(&report)["name"]), (Some(3), &json!("column"), &json!("author")));
    // Elsewhere everything is well.
    let (code, report) = verify(&start, &["--from", "10"]).await;
    assert_eq!((code, &report["rows"]), (Some(0), &json!(last - 9)), "{report}");
    let author: String = serde_json::from_slice::<Value>(&whole(9)).unwrap()["author"].as_str().unwrap().to_owned();
    restored.execute("UPDATE messages SET author = ?1 WHERE seq = 9", [author]).unwrap();
    assert_eq!(verify(&start, &[]).await.0, Some(0));

    // Rows that are gone: named, and stored again from the stream.
    restored.execute("DELETE FROM messages WHERE seq BETWEEN 11 AND 14", []).unwrap();
    let (code, report) = verify(&start, &[]).await;
    assert_eq!(code, Some(3));
    assert_eq!(only(&report), &json!({"from": 11, "to": 14, "flaw": "missing", "in_stream": true, "mended": false}));
    let (code, report) = verify(&start, &["--repair"]).await;
    assert_eq!((code, &only(&report)["mended"], &report["mended"]), (Some(0), &json!(true), &json!(4)), "{report}");
    let (code, report) = verify(&start, &[]).await;
    assert_eq!((code, &report["compared"]), (Some(0), &json!(last)));

    // Past the stream's memory the sequences and the digests prove it.
    let context = async_nats::jetstream::new(async_nats::connect(fleet.nats_url()).await.unwrap());
    context.get_stream("YALO_CHAT").await.unwrap().purge().sequence(last - 1).await.unwrap();
    let (code, report) = verify(&start, &[]).await;
    assert_eq!((code, &report["rows"], &report["compared"]), (Some(0), &json!(last), &json!(2)), "{report}");
    restored.execute("DELETE FROM messages WHERE seq = 3", []).unwrap();
    let (code, report) = verify(&start, &["--repair"]).await;
    assert_eq!((code, &only(&report)["from"], &only(&report)["in_stream"]), (Some(3), &json!(3), &json!(false)));
    drop(restored);
    fleet.stop().await;
}

#[tokio::test]
async fn what_is_done_to_a_record_under_a_running_admin_is_found_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    // Fast rounds: what has been checked before is met again within seconds.
    let mut fleet = Fleet::start_with(folder.path(), &["admin.recheck_per_second=100000"]).await;
    let place = fleet.place();
    talk(&place, 10).await;
    let operator = Api::operator(&place).await;
    // Somebody who watches: admin looks at the stream each second.
    let watcher = operator.events(Call { path: "/admin/v1/events", ..Call::default() }).await;
    let proof = async || operator.get("/admin/v1/stats").await.expect(200)["proof"].clone();
    let last = eventually(PATIENCE, "all of it checked", async || {
        let stats = operator.get("/admin/v1/stats").await.expect(200);
        assert_eq!(stats["proof"]["flawed"], 0, "{stats}");
        (stats["proof"]["to"] == stats["last_seq"]).then(|| number(&stats, "last_seq"))
    })
    .await;

    let connection = Connection::open(store(folder.path())).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    let whole: Vec<u8> =
        connection.query_row("SELECT payload FROM messages WHERE seq = 7", [], |row| row.get(0)).unwrap();
    connection.execute("UPDATE messages SET payload = X'00' WHERE seq = 7", []).unwrap();
    connection.execute("DELETE FROM messages WHERE seq BETWEEN 11 AND 14", []).unwrap();
    let found = eventually(PATIENCE, "both findings", async || {
        let proof = proof().await;
        (proof["flawed"] == 5).then_some(proof)
    })
    .await;
    let [altered, missing] = found["findings"].as_array().unwrap().as_slice() else { panic!("{found}") };
    assert_eq!((&altered["flaw"], &altered["from"], &altered["to"]), (&json!("altered"), &json!(7), &json!(7)));
    assert_eq!(
        (&missing["flaw"], &missing["from"], &missing["to"], &missing["in_stream"]),
        (&json!("missing"), &json!(11), &json!(14), &json!(true))
    );
    assert!(missing["words"].as_str().unwrap().contains("--repair"), "{missing}");
    let metrics = format!("{}/metrics", fleet.role("admin").address("ops"));
    let page = reqwest::get(metrics).await.unwrap().text().await.unwrap();
    assert!(page.contains("\nyalo_audit_gap_messages 5\n"), "{page}");

    // What is new is no alarm, also while the store lags behind.
    for auditor in ["auditor-1", "auditor-2"] {
        fleet.stop_role(auditor).await;
    }
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    for turn in 0..5 {
        me.post("/v1/chat", json!({"text": format!("later {turn}"), "conversation": conversation})).await.expect(200);
    }
    let at = |value: &Value| Timestamp::parse(value["at"].as_str().unwrap()).unwrap();
    let said = at(&operator.get("/admin/v1/stats").await.expect(200));
    let lagging = eventually(PATIENCE, "a look at what was said", async || {
        let proof = proof().await;
        (at(&proof) > said).then_some(proof)
    })
    .await;
    assert_eq!((&lagging["flawed"], &lagging["to"]), (&json!(5), &json!(last)));
    fleet.start_again("auditor-1").await;
    eventually(PATIENCE, "what is new checked", async || {
        let proof = proof().await;
        assert_eq!(proof["flawed"], 5, "{proof}");
        (number(&proof, "to") == last + 11).then_some(())
    })
    .await;

    // Mended, it is well again; and each finding was told once.
    connection.execute("UPDATE messages SET payload = ?1 WHERE seq = 7", [whole]).unwrap();
    drop(connection);
    assert_eq!(verify(&fleet.start_of("admin"), &["--repair"]).await.0, Some(0));
    eventually(PATIENCE, "a record without findings", async || (proof().await["flawed"] == 0).then_some(())).await;
    let log = std::fs::read_to_string(folder.path().join("admin.log")).unwrap();
    assert_eq!(log.matches("the record is not as it must be").count(), 2, "{log}");
    drop(watcher);
    fleet.stop().await;
}

#[tokio::test]
async fn a_yalo_all_is_verified_while_it_runs_and_when_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start(folder.path()).await;
    talk(&all.place(), 3).await;
    let server = format!("nats.server={}", crate::harness::nats_server().display());
    let data = format!("data.dir={}", folder.path().join("data").display());
    let start = Start { folder: folder.path().to_owned(), ..Start::default() };
    let settings = ["--set", &data, "--set", &server];
    let (code, running) = verify(&start, &settings).await;
    assert_eq!((code, &running["rows"]), (Some(0), &json!(7)), "{running}");
    all.stop().await;
    let (code, stopped) = verify(&start, &settings).await;
    assert_eq!((code, &stopped), (Some(0), &running));
    // Nothing is left behind: it starts as ever.
    all.restart().await;
    all.stop().await;
}
