//! Reads that a cluster does not answer hold up no others.

use std::time::Duration;

use futures_util::future::join_all;
use scylla_proxy::{Condition, Reaction, RequestReaction, RequestRule, RunningProxy};
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::overload::between;
use crate::harness::deployment::{Deployment, shared};
use crate::harness::{PATIENCE, Process, eventually};

/// More lists than are answered at the same time, of whatever kind.
const MANY: usize = 100;

/// An admin whose cluster answers nothing about one whose name begins with `hanger`.
struct Hanging {
    admin: Process,
    proxy: RunningProxy,
    lost: UnboundedReceiver<(scylla_proxy::RequestFrame, Option<u16>)>,
}

impl Hanging {
    async fn start(all: &Deployment, node: &str, request_timeout_ms: u64) -> Self {
        let (mut proxy, address) = between(node).await;
        let settings = [
            format!("store.nodes={address}"),
            "store.timeout_ms=600000".to_owned(),
            format!("nats.request_timeout_ms={request_timeout_ms}"),
        ];
        let admin = all.role("admin", &settings.each_ref().map(String::as_str)).run().await;
        let (done, lost) = mpsc::unbounded_channel();
        let name = Condition::BodyContainsCaseSensitive((*b"hanger").into());
        let drops = RequestRule(name, RequestReaction::drop_frame().with_feedback_when_performed(done));
        proxy.running_nodes[0].change_request_rules(Some(vec![drops]));
        Self { admin, proxy, lost }
    }

    async fn stop(mut self) {
        self.admin.kill9();
        self.proxy.finish().await.ok();
    }
}

/// Asks as a frontend does; a refusal has no document.
async fn ask(client: &async_nats::Client, name: &str, question: Value) -> Option<Value> {
    let answer = client.request(format!("yalo.rpc.{name}"), question.to_string().into()).await.ok()?;
    serde_json::from_slice(&answer.payload).ok()
}

async fn list(client: &async_nats::Client, owner: &str) -> Option<Value> {
    ask(client, "conversations", json!({ "owner": owner, "limit": 10 })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_hang_hold_up_nobodys_history_and_leave_room_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let node = shared().await.addresses().remove(0);
    let mut all = Deployment::start_at(folder.path(), node.clone(), "reads").await;
    all.fleet.kill9("admin");
    let patient = async_nats::ConnectOptions::new().request_timeout(Some(Duration::from_secs(3)));
    let client = patient.connect(all.fleet.nats_url()).await.unwrap();
    let history = json!({ "conversation": "019a0000-0000-7000-8000-000000000001", "after": 0, "limit": 10 });
    let names: Vec<String> = (0..MANY).map(|number| format!("hanger {number}")).collect();

    // Nobody gives up before this test does.
    let mut admin = Hanging::start(&all, &node, 600_000).await;
    let lists = join_all(names.iter().map(|name| list(&client, name)));
    let found = async {
        tokio::time::timeout(PATIENCE, admin.lost.recv()).await.expect("a list that hangs").unwrap();
        eventually(PATIENCE, "a history", async || ask(&client, "history", history.clone()).await).await
    };
    let (lists, found) = tokio::join!(lists, found);
    assert_eq!(found["messages"], json!([]));
    assert!(lists.iter().all(Option::is_none), "{lists:?}");
    admin.stop().await;

    // Callers are gone after a second: so is what was asked for them.
    let admin = Hanging::start(&all, &node, 1000).await;
    let lists = join_all(names.iter().map(|name| list(&client, name))).await;
    assert!(lists.iter().all(Option::is_none), "{lists:?}");
    eventually(PATIENCE, "a list of somebody else", async || list(&client, "somebody").await).await;
    admin.stop().await;
}
