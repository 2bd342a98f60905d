//! A stream that lost its tail, as after a power cut or from an old backup: its sequences would be used a second time.

use std::path::Path;

use serde_json::json;

use crate::client::{Api, number, text};
use crate::harness::{Fleet, PATIENCE, eventually};

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

async fn wait_for_the_store(operator: &Api, seq: u64) {
    eventually(PATIENCE, "everything in the store", async || {
        let stats = operator.get("/admin/v1/stats").await;
        (stats.status == 200 && stats.body["last_seq"].as_u64() >= Some(seq)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn auditors_refuse_a_stream_that_lost_its_tail_and_init_leads_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let place = fleet.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let operator = Api::operator(&place).await;
    let say = async |words: &str| {
        let said = me.post("/v1/chat", json!({"text": words, "conversation": conversation})).await.expect(200);
        number(&said["answer"], "seq")
    };
    let data = folder.path().join("nats/jetstream");
    wait_for_the_store(&operator, say("before the backup").await).await;
    fleet.stop_nats();
    copy(&data, &folder.path().join("backup"));
    fleet.restart_nats();
    let last = eventually(PATIENCE, "an answer", async || {
        let message = json!({"text": "after the backup", "conversation": conversation});
        let said = me.post("/v1/chat", message).await;
        (said.status == 200).then(|| number(&said.body["answer"], "seq"))
    })
    .await;
    wait_for_the_store(&operator, last).await;
    let transcript = format!("/admin/v1/conversations/{conversation}/messages?limit=500");
    let before = operator.get(&transcript).await.expect(200);

    fleet.stop_nats();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&folder.path().join("backup"), &data);
    fleet.restart_nats();
    for auditor in ["auditor-1", "auditor-2"] {
        fleet.role_mut(auditor).fails(&["YALO_CHAT", "lost its tail", &last.to_string(), "yalo init"]).await;
    }
    assert_eq!(operator.get(&transcript).await.expect(200), before, "nothing was overwritten");

    // The way out, as it was told: the stream is removed, `init` begins a new one above what is stored.
    let context = async_nats::jetstream::new(async_nats::connect(fleet.nats_url()).await.unwrap());
    context.delete_stream("YALO_CHAT").await.unwrap();
    assert!(fleet.init().await.contains("created"), "init says what it made");
    fleet.start_again("auditor-1").await;
    fleet.start_again("auditor-2").await;
    let said = eventually(PATIENCE, "an answer", async || {
        let said = me.post("/v1/chat", json!({"text": "go on", "conversation": conversation})).await;
        (said.status == 200).then_some(said.body)
    })
    .await;
    assert!(number(&said["message"], "seq") > last, "{said}");
    wait_for_the_store(&operator, number(&said["answer"], "seq")).await;
    let after = operator.get(&transcript).await.expect(200);
    let words = |page: &serde_json::Value| -> Vec<String> {
        let messages = page["messages"].as_array().unwrap().iter();
        messages.filter(|message| message["kind"] == "text").map(|message| text(message, "text")).collect()
    };
    assert!(words(&after).starts_with(&words(&before)), "{after}");
    assert_eq!(words(&after).iter().filter(|words| *words == "go on").count() % 2, 0, "{after}");
    fleet.stop().await;
}
