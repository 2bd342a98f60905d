//! A cluster that has too much to do, or loses what it is told: a proxy between an auditor and a real node says so.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use scylla_proxy::{
    Condition, Node, Proxy, Reaction, RequestOpcode, RequestReaction, RequestRule, ResponseFrame, ResponseOpcode,
    ResponseReaction, ResponseRule, RunningProxy, ShardAwareness, example_db_errors as errors,
};
use serde_json::json;
use tokio::sync::mpsc;

use crate::harness::deployment::{Deployment, shared};
use crate::harness::{PATIENCE, lasting_address, record};

/// Requests or answers of the cluster that fare ill at a time.
const ILL: usize = 30;

/// A proxy in front of a node, and its address.
pub(super) async fn between(node: &str) -> (RunningProxy, String) {
    let address = lasting_address();
    let node = Node::builder()
        .real_address(node.parse().unwrap())
        .proxy_address(address.parse().unwrap())
        .shard_awareness(ShardAwareness::Unaware)
        .build();
    (Proxy::new([node]).run().await.unwrap(), address)
}

/// The first so many requests with rows fare so.
pub(super) fn rule(opcode: RequestOpcode, count: usize, reaction: &RequestReaction) -> RequestRule {
    // In this order: what the first ones do not let through is not counted.
    let of_the_driver = Condition::ConnectionRegisteredAnyEvent;
    let rows = Condition::RequestOpcode(opcode).and(Condition::not(of_the_driver));
    RequestRule(rows.and(Condition::TrueForLimitedTimes(count)), reaction.clone())
}

/// What a phase does to the first so many requests with rows of one partition, and to the first so many others.
fn requests(count: usize, reaction: &RequestReaction) -> Vec<RequestRule> {
    [RequestOpcode::Batch, RequestOpcode::Execute].map(|opcode| rule(opcode, count, reaction)).into()
}

/// A time-out is what comes back of the first so many that the node has answered: what they wrote is written.
fn answer() -> ResponseReaction {
    let late = |frame: ResponseFrame| ResponseFrame::forged_error(frame.params, errors::write_timeout(), None).unwrap();
    ResponseReaction::transform_frame(Arc::new(late))
}

/// How often the auditor has taken fewer requests at once.
fn halvings(log: &Path) -> usize {
    fs::read_to_string(log).unwrap().matches("requests under way at most for now").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_overloaded_or_forgets_is_asked_less_and_again_and_gets_each_row_once() {
    let folder = tempfile::tempdir().unwrap();
    let node = shared().await.addresses().remove(0);
    let mut all = Deployment::start_at(folder.path(), node.clone(), "overload").await;
    let nats = all.fleet.nats_url();
    all.fleet.stop_auditors().await;
    let (mut proxy, address) = between(&node).await;
    let start = all.role("auditor-1", &[&format!("store.nodes={address}")]);
    let log = folder.path().join(format!("{}.log", start.name));
    let mut auditor = start.run().await;
    let forge = RequestReaction::forge();
    let mut last = 0;
    for (what, count, reaction, is_busy) in [
        ("time-outs", ILL, forge.write_timeout(), true),
        ("overload", ILL, forge.overloaded(), true),
        ("too few nodes", ILL, forge.unavailable(), true),
        ("failures", ILL, forge.write_failure(), true),
        ("lost requests", 4, RequestReaction::drop_frame(), true),
        ("slowness", ILL, RequestReaction::delay(Duration::from_millis(500)), false),
        ("cut connections", 4, RequestReaction::drop_connection(), false),
        ("errors of the server", ILL, forge.server_error(), false),
    ] {
        let (done, mut seen) = mpsc::unbounded_channel();
        let before = halvings(&log);
        let rules = requests(count, &reaction.with_feedback_when_performed(done));
        proxy.running_nodes[0].change_request_rules(Some(rules));
        last = record::publish(&nats, 300, 10).await;
        record::acknowledged(&nats, last).await;
        let (mut batches, mut others) = (0, 0);
        while let Ok((frame, _)) = seen.try_recv() {
            let which = if frame.opcode == RequestOpcode::Batch { &mut batches } else { &mut others };
            *which += 1;
        }
        println!("{what}: {batches} batches, {others} others, {} times fewer at once", halvings(&log) - before);
        assert!(batches > 0 && others > 0, "{what}: {batches} batches and {others} others fared ill");
        // One halving a second at most: a phase that was over sooner than that after the last one needs none.
        assert!(is_busy || halvings(&log) == before, "{what}");
    }
    assert!(halvings(&log) >= 2, "{}", fs::read_to_string(&log).unwrap());
    proxy.running_nodes[0].change_request_rules(None);
    let rule = Condition::ResponseOpcode(ResponseOpcode::Result).and(Condition::TrueForLimitedTimes(ILL));
    proxy.running_nodes[0].change_response_rules(Some(vec![ResponseRule(rule, answer())]));
    last = last.max(record::publish(&nats, 300, 10).await);
    record::acknowledged(&nats, last).await;
    auditor.stop().await;
    proxy.finish().await.ok();
    all.each_once(last, 0).await;
    let (code, report) = all.verify(&[]).await;
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_answer_is_asked_no_more_than_fits_into_its_room() {
    let folder = tempfile::tempdir().unwrap();
    let node = shared().await.addresses().remove(0);
    let mut all = Deployment::start_at(folder.path(), node.clone(), "room").await;
    all.fleet.stop_auditors().await;
    let (mut proxy, address) = between(&node).await;
    let places =
        [format!("store.nodes={address}"), "store.in_flight=8".to_owned(), "store.timeout_ms=60000".to_owned()];
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let mut auditor = all.role("auditor-1", &places).run().await;
    // With it the auditor knows that the block of the log is listed, which is asked for before anything else.
    let first = record::publish(&all.fleet.nats_url(), 1, 1).await;
    record::acknowledged(&all.fleet.nats_url(), first).await;
    let (done, mut seen) = mpsc::unbounded_channel();
    let unanswered = RequestReaction::drop_frame().with_feedback_when_performed(done);
    proxy.running_nodes[0].change_request_rules(Some(requests(usize::MAX, &unanswered)));
    record::publish(&all.fleet.nats_url(), 300, 100).await;
    for _ in 0..8 {
        tokio::time::timeout(PATIENCE, seen.recv()).await.expect("a request").unwrap();
    }
    // There are a hundred conversations, and so as many partitions, to be asked about.
    let more = tokio::time::timeout(Duration::from_secs(1), seen.recv()).await;
    assert!(more.is_err(), "{more:?}");
    auditor.kill9();
    proxy.finish().await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_hangs_holds_up_none_of_the_next_and_is_acknowledged_after_them() {
    let folder = tempfile::tempdir().unwrap();
    let node = shared().await.addresses().remove(0);
    let settings = ["store.user=cassandra", "store.password=cassandra", "store.timeout_ms=10000"];
    let mut all = Deployment::start_with(folder.path(), node.clone(), "hangs", &settings).await;
    let nats = all.fleet.nats_url();
    all.fleet.stop_auditors().await;
    let (mut proxy, address) = between(&node).await;
    let mut auditor = all.role("auditor-1", &[&format!("store.nodes={address}")]).run().await;
    let first = record::publish(&nats, 1, 1).await;
    record::acknowledged(&nats, first).await;
    let client = async_nats::connect(&nats).await.unwrap();
    let mut acks = client.subscribe("$JS.ACK.YALO_CHAT.audit.>").await.unwrap();
    client.flush().await.unwrap();
    let mut next_ack = async || -> u64 {
        let ack = tokio::time::timeout(PATIENCE, acks.next()).await.expect("an acknowledgement").unwrap();
        // $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>. ...
        ack.subject.split('.').nth(5).unwrap().parse().unwrap()
    };
    // The first thing that is asked for the next message gets lost on the way.
    let (done, mut seen) = mpsc::unbounded_channel();
    let lost = RequestReaction::drop_frame().with_feedback_when_performed(done);
    proxy.running_nodes[0].change_request_rules(Some(vec![rule(RequestOpcode::Execute, 1, &lost)]));
    let hanging = record::publish(&nats, 1, 1).await;
    tokio::time::timeout(PATIENCE, seen.recv()).await.expect("a request that is lost").unwrap();
    let mut last = hanging;
    for _ in 0..2 {
        last = record::publish(&nats, 1, 1).await;
        assert_eq!(next_ack().await, last, "{hanging} hangs");
    }
    assert_eq!(next_ack().await, hanging);
    auditor.stop().await;
    proxy.finish().await.ok();
    all.each_once(last, 0).await;
}
