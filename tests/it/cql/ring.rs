//! All nodes of a ring are gone at once; and each knows at once what `yalo init` has made through another.

use serde_json::json;

use super::late::{is_ready, says_what_it_waits_for};
use super::talk::Talk;
use crate::client::{Api, number};
use crate::harness::{Deployment, PATIENCE, eventually};

/// Who needs the store.
pub(super) const READERS_AND_WRITERS: [&str; 3] = ["auditor-1", "auditor-2", "admin"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute or two in which three nodes start twice, for `make cassandra`; of one node see the test beside"]
async fn three_nodes_die_at_once_and_come_back_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Deployment::start(folder.path(), 3).await;
    let place = all.fleet.place();
    let operator = Api::operator(&place).await;
    let mut talk = Talk::begin(&place).await;
    talk.say(5).await;
    talk.stored(&operator).await;
    let before = READERS_AND_WRITERS.map(|name| all.fleet.role(name).pid());
    // While people talk, and on: it is they who notice nothing.
    tokio::join!(talk.say(20), all.on_node(|ring| (1..=3).for_each(|node| ring.kill(node))));
    talk.say(5).await;
    for name in READERS_AND_WRITERS {
        let ops = all.fleet.role(name).address("ops");
        says_what_it_waits_for(ops.trim_start_matches("http://"), &all.cassandra().addresses()[0]).await;
    }
    eventually(PATIENCE, "a word to the operator", async || {
        let call = operator.get("/admin/v1/stats").await;
        (call.status == 503).then(|| call.refused(503, "store_unavailable"))
    })
    .await;
    // The first one alone is too few.
    all.on_node(|ring| ring.up(1)).await;
    talk.say(5).await;
    assert_eq!(operator.get("/admin/v1/stats").await.status, 503);
    all.on_node(|ring| (2..=3).for_each(|node| ring.up(node))).await;
    talk.stored(&operator).await;
    talk.is_whole(&operator).await;
    for name in READERS_AND_WRITERS {
        is_ready(all.fleet.role(name).address("ops").trim_start_matches("http://")).await;
    }
    let (code, report) = all.verify(&[]).await;
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])), "{report}");
    assert_eq!((number(&report, "rows"), number(&report, "to")), (talk.last, talk.last), "{report}");
    all.each_once(talk.last, 0).await;
    // Nobody had to start a role again.
    for (name, pid) in READERS_AND_WRITERS.into_iter().zip(before) {
        let role = all.fleet.role_mut(name);
        assert_eq!((role.pid(), role.ended()), (pid, None), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a ring of three, for `make cassandra`"]
async fn what_init_has_made_through_one_node_is_found_through_each_other_one_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Deployment::start(folder.path(), 3).await;
    all.fleet.stop_role("admin").await;
    let nodes = all.cassandra().addresses().into_iter().map(|node| format!("store.nodes={node}")).collect::<Vec<_>>();
    for (round, node) in nodes.iter().enumerate() {
        let keyspace = format!("store.keyspace=agreed_{round}");
        let (code, _, errors) = all.tool(&["init"], &[node, &keyspace]).finish().await;
        assert_eq!(code, Some(0), "{errors}");
        for other in nodes.iter().filter(|other| *other != node) {
            let mut admin = all.role("admin", &[other, &keyspace]).run().await;
            admin.stop().await;
        }
    }
}
