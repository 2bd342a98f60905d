//! What is done to a keyspace while a fleet writes to it, and what auditors do to each other.

use std::time::Duration;

use async_nats::jetstream::{self, consumer::PullConsumer, consumer::pull};
use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::json;
use yalo::domain::Who;
use yalo::wire::{self, Subjects};

use super::talk::Talk;
use crate::client::{Api, number};
use crate::harness::deployment::{Deployment, LARGEST, shared};
use crate::harness::{PATIENCE, eventually, record};
use crate::proxy::Proxy;

#[tokio::test(flavor = "multi_thread")]
async fn a_keyspace_dropped_in_mid_flight_is_made_anew_and_filled_from_the_stream() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Deployment::start_at(folder.path(), shared().await.addresses().remove(0), "dropped").await;
    let place = all.fleet.place();
    let operator = Api::operator(&place).await;
    all.fleet.stop_role("auditor-2").await;
    let mut talk = Talk::begin(&place).await;
    talk.say(5).await;
    talk.stored(&operator).await;
    let acknowledged = talk.last;
    let session = all.session().await;
    session.query_unpaged("DROP KEYSPACE dropped", ()).await.unwrap();
    // People talk on; who writes ends, with the way out, and acknowledges nothing.
    talk.say(5).await;
    all.fleet.role_mut("auditor-1").fails(&["dropped", "yalo init", "yalo audit verify --repair"]).await;
    let (code, _, errors) = all.tool(&["auditor"], &[]).finish().await;
    assert!(code == Some(1) && errors.contains("no keyspace dropped") && errors.contains("yalo init"), "{errors}");
    let (code, output, errors) = all.tool(&["init"], &[]).finish().await;
    assert!(code == Some(0) && output.contains("created keyspace dropped"), "{output} {errors}");
    all.fleet.start_again("auditor-1").await;
    talk.stored(&operator).await;
    // What was acknowledged before is named, and the stream still has it.
    let (code, report) = all.verify(&[]).await;
    let named = (&report["findings"][0]["flaw"], &report["flawed"]);
    assert_eq!((code, named), (Some(3), (&json!("missing"), &json!(acknowledged))), "{report}");
    let (code, report) = all.verify(&["--repair"]).await;
    assert_eq!((code, &report["mended"]), (Some(0), &json!(acknowledged)), "{report}");
    assert_eq!(all.verify(&[]).await.0, Some(0));
    talk.is_whole(&operator).await;

    // The same while nothing is written: who comes back to tables that were made anew remembers too much of the old ones.
    session.query_unpaged("DROP KEYSPACE dropped", ()).await.unwrap();
    assert_eq!(all.tool(&["init"], &[]).finish().await.0, Some(0));
    talk.say(3).await;
    all.fleet.role_mut("auditor-1").fails(&["dropped", "made anew", "start yalo again"]).await;
    all.fleet.start_again("auditor-1").await;
    talk.stored(&operator).await;
    assert_eq!(all.verify(&["--repair"]).await.0, Some(0));
    talk.is_whole(&operator).await;
    all.each_once(talk.last, 0).await;

    // A newer yalo was here.
    let version = "INSERT INTO dropped.settings (name, value) VALUES ('schema', '99')";
    session.query_unpaged(version, ()).await.unwrap();
    for words in [&["auditor"][..], &["admin"], &["init"], &["audit", "verify"]] {
        let (code, _, errors) = all.tool(words, &[]).finish().await;
        assert!(code == Some(1) && errors.contains("version 99") && errors.contains("newer"), "{words:?}: {errors}");
    }
}

/// The consumer of the auditors: redelivers after `wait` from now on, if that is given. What is delivered to somebody and
/// not acknowledged, and what nobody has yet.
async fn in_hand(nats_url: &str, wait: Option<Duration>) -> (usize, u64) {
    let context = jetstream::new(async_nats::connect(nats_url).await.unwrap());
    let stream = context.get_stream("YALO_CHAT").await.unwrap();
    let consumer: PullConsumer = stream.get_consumer("audit").await.unwrap();
    let info = consumer.cached_info();
    if let Some(ack_wait) = wait {
        let known = &info.config;
        let config = pull::Config {
            durable_name: Some("audit".to_owned()),
            ack_wait,
            max_ack_pending: known.max_ack_pending,
            max_deliver: known.max_deliver,
            ..pull::Config::default()
        };
        stream.update_consumer(config).await.unwrap();
    }
    (info.num_ack_pending, info.num_pending)
}

/// Writes to the store that a process has done.
async fn writes(ops: &str) -> Option<u64> {
    let text = reqwest::get(format!("{ops}/metrics")).await.ok()?.text().await.ok()?;
    text.lines().find_map(|line| line.strip_prefix("yalo_store_flush_rows_count ")?.parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_frozen_auditor_held_is_stored_once_by_another_and_what_was_deleted_stays_away() {
    let folder = tempfile::tempdir().unwrap();
    let line = Proxy::start(shared().await.addresses()).await;
    let mut all = Deployment::start_at(folder.path(), line.address().to_string(), "frozen").await;
    let place = all.fleet.place();
    let operator = Api::operator(&place).await;
    let nats = all.fleet.nats_url();
    all.fleet.stop_role("auditor-2").await;
    in_hand(&nats, Some(Duration::from_secs(2))).await;
    let mut talk = Talk::begin(&place).await;
    talk.say(2).await;
    talk.stored(&operator).await;
    // Nothing comes back from the store: what the auditor pulls stays in its hands.
    line.set(false, true, Duration::ZERO);
    talk.say(5).await;
    eventually(PATIENCE, "an auditor with all of it in hand", async || {
        let (held, left) = in_hand(&nats, None).await;
        (held >= 10 && left == 0).then_some(())
    })
    .await;
    let ops = all.fleet.role("auditor-1").address("ops");
    let before = writes(&ops).await.unwrap();
    all.fleet.role("auditor-1").signal(Signal::STOP);
    line.heal();
    all.fleet.start_again("auditor-2").await;
    talk.stored(&operator).await;
    // One of them is deleted, and then the first auditor goes on with what it holds.
    let deleted = talk.last - 3;
    let session = all.session().await;
    let there = "stream = 0 AND block = 0 AND shard = ? AND seq = ?";
    let values = (i16::try_from(deleted / 32 % 16).unwrap(), deleted.cast_signed());
    session.query_unpaged(format!("DELETE FROM log WHERE {there}"), values).await.unwrap();
    all.fleet.role("auditor-1").signal(Signal::CONT);
    eventually(PATIENCE, "a write of what it held", async || (writes(&ops).await? > before).then_some(())).await;
    // A stop finishes the rest of it.
    all.fleet.stop_role("auditor-1").await;
    talk.say(2).await;
    talk.stored(&operator).await;
    all.each_once(talk.last, 1).await;
    let (code, report) = all.verify(&[]).await;
    let found = (&report["flawed"], &report["findings"][0]["flaw"], &report["findings"][0]["from"]);
    assert_eq!((code, found), (Some(3), (&json!(1), &json!("missing"), &json!(deleted))), "{report}");
    talk.is_whole(&operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_large_for_the_cluster_is_a_dead_letter_and_its_neighbours_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let all = Deployment::start_at(folder.path(), shared().await.addresses().remove(0), "large").await;
    let place = all.fleet.place();
    let operator = Api::operator(&place).await;
    let context = jetstream::new(async_nats::connect(all.fleet.nats_url()).await.unwrap());
    let conversation = record::conversation(1);
    // All in the hands of one auditor at once.
    let sent = (0..9).map(|number| {
        let mut message = record::message(number, conversation, Who::Log);
        if number == 4 {
            message.text = Some("x".repeat(LARGEST));
        }
        let subject = Subjects::new("yalo").unwrap().record(conversation, Who::Log);
        let (context, payload) = (context.clone(), wire::encode(&message));
        async move { context.publish(subject, payload.into()).await.unwrap().await.unwrap().sequence }
    });
    let sent = join_all(sent).await;
    let large = sent[4];
    let letters = eventually(PATIENCE, "a dead letter", async || {
        let letters = operator.get("/admin/v1/dead-letters").await.expect(200);
        let letters = letters["letters"].as_array().unwrap().clone();
        (!letters.is_empty()).then_some(letters)
    })
    .await;
    assert_eq!((letters.len(), &letters[0]["role"], number(&letters[0], "seq")), (1, &json!("auditor"), large));
    assert!(letters[0].to_string().contains("oversized mutation"), "{letters:?}");
    let last = *sent.iter().max().unwrap();
    eventually(PATIENCE, "the neighbours", async || {
        let stats = operator.get("/admin/v1/stats").await.expect(200);
        (stats["audit_gap"]["behind"] == 0 && number(&stats, "last_seq") == last).then_some(())
    })
    .await;
    all.each_once(last, 1).await;
    let (code, report) = all.verify(&[]).await;
    let found = (&report["flawed"], &report["findings"][0]["from"]);
    assert_eq!((code, found), (Some(3), (&json!(1), &json!(large))), "{report}");
}
