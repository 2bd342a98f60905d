//! Retention by age: what is old goes once it is audited, the proof knows it for retired, and it does not come back.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream;
use rusqlite::Connection;
use serde_json::{Value, json};
use yalo::domain::Timestamp;
use yalo::store::Contract;

use crate::client::{Api, Call, number};
use crate::harness::record::{acknowledged, open_store, publish};
use crate::harness::{Fleet, PATIENCE, Start, eventually};

fn path(folder: &Path) -> PathBuf {
    folder.join("data/messages.db")
}

async fn verify(fleet: &Fleet, more: &[&str]) -> (Option<i32>, Value) {
    let arguments = [&["audit", "verify", "--json"], more].concat().into_iter().map(str::to_owned).collect();
    let start = Start { name: "verify".to_owned(), arguments, ..fleet.start_of("admin") };
    let (code, output, errors) = start.finish().await;
    (code, serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output} {errors}")))
}

async fn chat(fleet: &Fleet) -> jetstream::stream::Stream {
    let context = jetstream::new(async_nats::connect(fleet.nats_url()).await.unwrap());
    context.get_stream("YALO_CHAT").await.unwrap()
}

/// The smallest sequence, and how many rows there are.
fn rows(connection: &Connection) -> (u64, u64) {
    connection.query_row("SELECT min(seq), count(*) FROM messages", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

#[tokio::test]
async fn what_is_old_and_audited_goes_is_known_for_retired_and_stays_away() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["store.retention_days=7", "admin.recheck_per_second=100000"];
    let mut fleet = Fleet::start_with(folder.path(), &settings).await;
    let last = publish(&fleet.nats_url(), 300, 7).await;
    acknowledged(&fleet.nats_url(), last).await;
    for name in ["auditor-1", "auditor-2", "admin"] {
        fleet.stop_role(name).await;
    }
    // A month passes for the first hundred.
    let connection = Connection::open(path(folder.path())).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    assert_eq!(rows(&connection), (1, 300));
    let month = "at_ns = at_ns - 30 * 86400 * 1000000000";
    assert_eq!(connection.execute(&format!("UPDATE messages SET {month} WHERE seq <= 100"), []).unwrap(), 100);
    for name in ["auditor-1", "auditor-2", "admin"] {
        fleet.start_again(name).await;
    }
    eventually(PATIENCE, "the first hundred gone", async || (rows(&connection) == (101, 200)).then_some(())).await;
    let receipt = "SELECT below_seq, messages FROM retired";
    let receipt: (u64, u64) = connection.query_row(receipt, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(receipt, (101, 100));

    // The stream still holds them: neither missing, nor brought back.
    for more in [&[][..], &["--repair"], &["--from", "50"]] {
        let (code, report) = verify(&fleet, more).await;
        assert_eq!((code, &report["findings"]), (Some(0), &json!([])), "{report}");
        let expected = if more.contains(&"50") { 51 } else { 100 };
        assert_eq!((&report["retired"], &report["compared"]), (&json!(expected), &json!(200)), "{report}");
        assert_eq!(rows(&connection), (101, 200));
    }
    // Delivered again from the first one on.
    for name in ["auditor-1", "auditor-2"] {
        fleet.stop_role(name).await;
    }
    chat(&fleet).await.delete_consumer("audit").await.unwrap();
    fleet.init().await;
    fleet.start_again("auditor-1").await;
    acknowledged(&fleet.nats_url(), last).await;
    assert_eq!(rows(&connection), (101, 200));

    // Above, a hole is a hole, for the proof in admin too.
    let operator = Api::operator(&fleet.place()).await;
    let watcher = operator.events(Call { path: "/admin/v1/events", ..Call::default() }).await;
    let proof = async |flawed: u64| {
        eventually(PATIENCE, "the proof of admin", async || {
            let stats = operator.get("/admin/v1/stats").await.expect(200);
            assert_eq!(stats["retired_below"], 101);
            let is_there = stats["proof"]["flawed"] == flawed && stats["proof"]["to"] == last;
            is_there.then(|| stats["proof"]["findings"].clone())
        })
        .await
    };
    assert_eq!(proof(0).await, json!([]));
    connection.execute("DELETE FROM messages WHERE seq BETWEEN 101 AND 104", []).unwrap();
    let (code, report) = verify(&fleet, &[]).await;
    let missing = json!({"from": 101, "to": 104, "flaw": "missing", "in_stream": true, "mended": false});
    assert_eq!((code, &report["findings"], &report["retired"]), (Some(3), &json!([missing]), &json!(100)), "{report}");
    let found = proof(4).await;
    assert_eq!((number(&found[0], "from"), number(&found[0], "to")), (101, 104), "{found}");
    assert_eq!(verify(&fleet, &["--repair"]).await.0, Some(0));
    assert_eq!(rows(&connection), (101, 200));
    proof(0).await;

    // Once the stream has forgotten them too, nothing changes.
    chat(&fleet).await.purge().sequence(150).await.unwrap();
    let (code, report) = verify(&fleet, &[]).await;
    assert_eq!((code, &report["retired"], &report["rows"]), (Some(0), &json!(100), &json!(200)), "{report}");
    drop((connection, watcher));
    fleet.start_again("auditor-2").await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_proof_beside_a_retention_misses_nothing_and_accuses_nobody() {
    const MESSAGES: u64 = 6000;
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(folder.path(), &["admin.recheck_per_second=100000"]).await;
    let last = publish(&fleet.nats_url(), MESSAGES, 50).await;
    acknowledged(&fleet.nats_url(), last).await;
    let operator = Api::operator(&fleet.place()).await;
    let watcher = operator.events(Call { path: "/admin/v1/events", ..Call::default() }).await;
    let store = open_store(&path(folder.path())).await;
    let done = Cell::new(false);
    let retiring = async {
        // Many small steps, so that each proof meets some.
        for upto in (1..=MESSAGES).step_by(10) {
            store.retire(Timestamp::now(), upto).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        done.set(true);
    };
    let proving = async {
        let mut between = 0;
        while !done.get() {
            let (code, report) = verify(&fleet, &[]).await;
            assert_eq!((code, &report["findings"]), (Some(0), &json!([])), "{report}");
            assert_eq!(number(&report, "retired") + number(&report, "rows"), MESSAGES, "{report}");
            between += u32::from((1..MESSAGES - 100).contains(&number(&report, "retired")));
            let stats = operator.get("/admin/v1/stats").await.expect(200);
            assert_eq!(stats["proof"]["flawed"], 0, "{stats}");
        }
        between
    };
    let ((), between) = tokio::join!(retiring, proving);
    assert!(between > 1, "only {between} proofs ran beside it");
    let totals = store.totals().await.unwrap();
    assert_eq!(totals.messages, MESSAGES - store.retired_below().await.unwrap() + 1);
    store.close().await.unwrap();
    drop(watcher);
    fleet.stop().await;
}
