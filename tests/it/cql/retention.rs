//! What is too old goes from a cluster, while a fleet runs.

use serde_json::json;

use crate::client::{Api, number};
use crate::harness::deployment::{Deployment, shared};
use crate::harness::record::publish;
use crate::harness::{PATIENCE, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_goes_from_a_cluster_and_the_proof_knows_it_for_retired() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        ["store.user=cassandra", "store.password=cassandra", "store.timeout_ms=10000", "store.retention_days=7"];
    let node = shared().await.addresses().remove(0);
    let mut all = Deployment::start_with(folder.path(), node, "retention", &settings).await;
    let operator = Api::operator(&all.fleet.place()).await;
    let stats = async || operator.get("/admin/v1/stats").await.expect(200);
    let last = publish(&all.fleet.nats_url(), 300, 7).await;
    eventually(PATIENCE, "everything in the store", async || {
        let stats = stats().await;
        (stats["audit_gap"]["behind"] == 0 && stats["last_seq"].as_u64() == Some(last)).then_some(())
    })
    .await;
    for name in ["auditor-1", "auditor-2"] {
        all.fleet.stop_role(name).await;
    }
    // A month passes for the first hundred.
    let session = all.session().await;
    let shards: Vec<String> = (0..16).map(|shard| shard.to_string()).collect();
    let place = format!("stream = 0 AND block = 0 AND shard IN ({})", shards.join(", "));
    let rows = session.query_unpaged(format!("SELECT shard, seq, digest, at_ns FROM log WHERE {place}"), ()).await;
    let rows = rows.unwrap().into_rows_result().unwrap();
    for row in rows.rows::<(i16, i64, Vec<u8>, i64)>().unwrap().map(Result::unwrap).filter(|row| row.1 <= 100) {
        let (shard, seq, digest, at_ns) = row;
        let text = "UPDATE log SET at_ns = ? WHERE stream = 0 AND block = 0 AND shard = ? AND seq = ? AND digest = ?";
        let values = (at_ns - 30 * 86_400 * 1_000_000_000, shard, seq, digest);
        session.query_unpaged(text, values).await.unwrap();
    }
    for name in ["auditor-1", "auditor-2"] {
        all.fleet.start_again(name).await;
    }
    eventually(PATIENCE, "the first hundred gone", async || (stats().await["retired_below"] == 101).then_some(()))
        .await;
    // The stream still holds them: neither missing, nor brought back.
    for more in [&[][..], &["--repair"]] {
        let (code, report) = all.verify(more).await;
        assert_eq!((code, &report["findings"]), (Some(0), &json!([])), "{report}");
        assert_eq!((number(&report, "retired"), number(&report, "rows")), (100, 200), "{report}");
    }
    let stats = stats().await;
    assert_eq!((&stats["last_seq"], &stats["retired_below"]), (&json!(last), &json!(101)));
    all.fleet.stop().await;
}
