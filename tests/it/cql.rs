//! A fleet whose store is a real Cassandra: alone and as a ring of three, while nodes die, freeze and come back.

mod access;
mod consistency;
mod contact;
mod copies;
mod faults;
mod golden;
mod late;
mod overload;
mod reads;
mod replicas;
mod retention;
mod ring;
mod talk;
mod upgrade;

use std::time::Duration;

use serde_json::json;

use self::talk::Talk;
use crate::client::{Api, number};
use crate::harness::{Deployment, record};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_dies_freezes_and_comes_back_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Deployment::start(folder.path(), 1).await;
    let place = all.fleet.place();
    let operator = Api::operator(&place).await;
    let mut talk = Talk::begin(&place).await;
    talk.say(10).await;
    talk.stored(&operator).await;
    // People talk on while there is no store.
    all.on_node(|node| node.kill(1)).await;
    talk.say(10).await;
    let waiting = ["auditor-2", "admin"];
    for name in waiting {
        let ops = all.fleet.role(name).address("ops");
        late::says_what_it_waits_for(ops.trim_start_matches("http://"), &all.cassandra().addresses()[0]).await;
    }
    all.fleet.kill9("auditor-1");
    all.on_node(|node| node.up(1)).await;
    all.fleet.start_again("auditor-1").await;
    talk.stored(&operator).await;
    all.on_node(|node| node.pause(1)).await;
    talk.say(10).await;
    all.on_node(|node| node.resume(1)).await;
    talk.stored(&operator).await;
    talk.is_whole(&operator).await;
    for name in waiting {
        assert_eq!(all.fleet.role_mut(name).ended(), None, "{name} has ended");
    }
    let (code, report) = all.verify(&[]).await;
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])), "{report}");
    assert_eq!((&report["rows"], &report["compared"]), (&report["to"], &report["to"]));

    // What is done to the record is named. A table that was lost is put back from the stream.
    let session = all.session().await;
    session.query_unpaged("TRUNCATE log", ()).await.unwrap();
    let (code, report) = all.verify(&[]).await;
    // A write that the node had put off while it was frozen may have come back by itself.
    let missing = number(&report, "to") - number(&report, "rows");
    assert!(missing > 0, "{report}");
    let found = (code, &report["findings"][0]["flaw"], number(&report, "flawed"));
    assert_eq!(found, (Some(3), &json!("missing"), missing), "{report}");
    let (code, report) = all.verify(&["--repair"]).await;
    assert_eq!((code, &report["mended"]), (Some(0), &report["flawed"]), "{report}");
    assert_eq!(all.verify(&[]).await.0, Some(0));
    // Two auditors have met at one sequence.
    let seq = i64::try_from(talk.last).unwrap() - 1;
    let values = (seq >> 18, i16::try_from(seq / 32 % 16).unwrap(), seq);
    let digest = "00".repeat(32);
    let twin = format!(
        "INSERT INTO log (stream, block, shard, seq, digest, at_ns, payload, subject) VALUES (0, ?, ?, ?, 0x{digest}, 1, \
         0x7b7d, 'yalo.chat.other')"
    );
    session.query_unpaged(twin, values).await.unwrap();
    let (code, report) = all.verify(&[]).await;
    assert_eq!((code, &report["findings"][0]["flaw"], &report["flawed"]), (Some(3), &json!("twice"), &json!(1)));
    // What somebody has deleted is missing, and stays away: the messages' own times are older than the deletion.
    let there = "stream = 0 AND block = ? AND shard = ? AND seq = ?";
    session.query_unpaged(format!("DELETE FROM log WHERE {there}"), values).await.unwrap();
    let (code, report) = all.verify(&["--repair"]).await;
    assert_eq!((code, &report["findings"][0]["flaw"], &report["mended"]), (Some(3), &json!("missing"), &json!(0)));
    let complaints = all.cassandra().warnings();
    let ours: Vec<_> = complaints
        .iter()
        .filter(|line| ["Batch", "Aggregation", "tombstone"].iter().any(|word| line.contains(word)))
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_nodes_dies_and_nothing_stops() {
    let folder = tempfile::tempdir().unwrap();
    let all = Deployment::start(folder.path(), 3).await;
    let place = all.fleet.place();
    let operator = Api::operator(&place).await;
    let mut talk = Talk::begin(&place).await;
    talk.say(5).await;
    talk.stored(&operator).await;
    let away = async {
        all.on_node(|ring| ring.kill(2)).await;
        talk.say(10).await;
        // Two of three copies are enough: it is stored and read while the node is away.
        talk.stored(&operator).await;
        talk.is_whole(&operator).await;
        all.on_node(|ring| ring.up(2)).await;
        all.on_node(|ring| ring.pause(3)).await;
        record::publish(&all.fleet.nats_url(), 300, 30).await;
        talk.say(5).await;
        talk.stored(&operator).await;
        // Who comes now passes over the one that takes connections and never answers.
        let nodes = all.cassandra().addresses();
        let (code, _, errors) =
            all.tool(&["export"], &[&format!("store.nodes={},{}", nodes[2], nodes[0])]).finish().await;
        assert_eq!(code, Some(0), "{errors}");
        all.on_node(|ring| ring.resume(3)).await;
        talk.is_whole(&operator).await;
    };
    stay_ready(&all, away).await;
    // What one node had not answered, another was asked for: no write had to be begun again.
    for name in ring::READERS_AND_WRITERS {
        assert!(!all.fleet.role(name).says("the store is away"), "{name}");
    }
    let (code, report) = all.verify(&[]).await;
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])), "{report}");
}

/// Whoever needs the store says all the time that it has it.
async fn stay_ready(all: &Deployment, meanwhile: impl Future<Output = ()>) {
    let watch = async {
        loop {
            for name in ring::READERS_AND_WRITERS {
                let url = format!("{}/readyz", all.fleet.role(name).address("ops"));
                let answer = reqwest::get(url).await.unwrap();
                let status = answer.status();
                assert_eq!(status, 200, "{name}: {}", answer.text().await.unwrap());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = meanwhile => {}
        () = watch => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inits_that_run_at_once_make_one_keyspace() {
    let folder = tempfile::tempdir().unwrap();
    let all = Deployment::start(folder.path(), 1).await;
    let said = futures_util::future::join_all((0..3).map(|_| async {
        let (code, output, errors) = all.tool(&["init"], &["store.keyspace=other"]).finish().await;
        assert_eq!(code, Some(0), "{errors}");
        output
    }))
    .await;
    let made = said.iter().filter(|output| output.contains("created keyspace other")).count();
    assert_eq!(made, 1, "{said:?}");
    // A role that finds no keyspace says so, and what to do.
    let (code, _, errors) = all.tool(&["auditor"], &["store.keyspace=missing"]).finish().await;
    assert!(code == Some(1) && errors.contains("yalo init") && errors.contains("missing"), "{code:?} {errors}");
}
