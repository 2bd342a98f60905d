//! What `store.consistency` says is on the wire, in front of a real node.

use std::collections::BTreeSet;

use scylla::frame::protocol_features::ProtocolFeatures;
use scylla_proxy::{Reaction, RequestFrame, RequestOpcode, RequestReaction};
use tokio::sync::mpsc;

use super::overload::{between, rule};
use crate::harness::deployment::{Deployment, shared};
use crate::harness::record;

/// Kinds of request, and how many copies they were to wait for.
fn asked(frames: &mut mpsc::UnboundedReceiver<(RequestFrame, Option<u16>)>) -> BTreeSet<String> {
    let frames = std::iter::from_fn(|| frames.try_recv().ok());
    let words = frames.map(|(frame, _)| {
        let request = frame.deserialize(&ProtocolFeatures::default()).unwrap();
        format!("{:?} {:?}", frame.opcode, request.get_consistency().unwrap())
    });
    words.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_consistency_is_what_every_read_and_write_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let node = shared().await.addresses().remove(0);
    let mut all = Deployment::start_at(folder.path(), node.clone(), "consistency").await;
    all.fleet.stop_auditors().await;
    let (mut proxy, address) = between(&node).await;
    let (done, mut seen) = mpsc::unbounded_channel();
    let seen_by = RequestReaction::noop().with_feedback_when_performed(done);
    let rules = [RequestOpcode::Batch, RequestOpcode::Execute].map(|opcode| rule(opcode, usize::MAX, &seen_by));
    proxy.running_nodes[0].change_request_rules(Some(rules.into()));
    for (word, writes, reads) in [
        ("local_quorum", "LocalQuorum", "LocalQuorum"),
        ("quorum", "Quorum", "Quorum"),
        ("each_quorum", "EachQuorum", "LocalQuorum"),
        ("one", "One", "One"),
    ] {
        let settings = [format!("store.nodes={address}"), format!("store.consistency={word}")];
        let settings = settings.each_ref().map(String::as_str);
        let mut auditor = all.role("auditor-1", &settings).run().await;
        let last = record::publish(&all.fleet.nats_url(), 100, 10).await;
        record::acknowledged(&all.fleet.nats_url(), last).await;
        auditor.stop().await;
        let asked_for = |kinds: &[(&str, &str)]| -> BTreeSet<String> {
            kinds.iter().map(|(kind, copies)| format!("{kind} {copies}")).collect()
        };
        // An auditor reads too: how full a part is, and whether the tables are still the same.
        let of_auditor = asked_for(&[("Batch", writes), ("Execute", writes), ("Execute", reads)]);
        assert_eq!(asked(&mut seen), of_auditor, "written with {word}");
        let (code, _, errors) = all.tool(&["export"], &settings).finish().await;
        assert_eq!(code, Some(0), "{errors}");
        assert_eq!(asked(&mut seen), asked_for(&[("Execute", reads)]), "read with {word}");
    }
    proxy.finish().await.ok();
}
