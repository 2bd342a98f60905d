//! Two auditors in one process of a fleet.

use serde_json::{Value, json};

use crate::harness::deployment::{Deployment, shared};
use crate::harness::record::{acknowledged, publish};

#[tokio::test(flavor = "multi_thread")]
async fn two_auditors_of_one_process_share_the_work_and_a_stop_in_the_middle_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["store.user=cassandra", "store.password=cassandra", "store.timeout_ms=10000"];
    let node = shared().await.addresses().remove(0);
    let mut all = Deployment::start_with(folder.path(), node, "replicas", &settings).await;
    let nats = all.fleet.nats_url();
    for name in ["auditor-1", "auditor-2"] {
        all.fleet.stop_role(name).await;
    }
    let mut start = all.role("auditor-1", &[]);
    start.arguments.extend(["--replicas", "2"].map(str::to_owned));
    let mut both = start.run().await;
    let last = publish(&nats, 2000, 20).await;
    acknowledged(&nats, last).await;
    // Each has a connection, by which it acknowledges what it has written.
    let page = reqwest::get(format!("{}/connz", all.fleet.monitor())).await.unwrap().text().await.unwrap();
    let page: Value = serde_json::from_str(&page).unwrap();
    let connections = page["connections"].as_array().unwrap();
    let of = |name: &str| connections.iter().find(|one| one["name"] == name).map(|one| one["in_msgs"].as_u64());
    let said = ["yalo-auditor-0", "yalo-auditor-1"].map(|name| of(name).flatten());
    assert!(said.iter().all(|said| *said > Some(200)), "{said:?}");

    let publishing = publish(&nats, 5000, 20);
    let stopping = async {
        acknowledged(&nats, last + 500).await;
        both.stop().await;
    };
    let (last, ()) = tokio::join!(publishing, stopping);
    all.fleet.start_again("auditor-1").await;
    acknowledged(&nats, last).await;
    all.each_once(last, 0).await;
    let (code, report) = all.verify(&[]).await;
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])), "{report}");
    all.fleet.stop_role("auditor-1").await;
}
