//! A fleet whose store is a real Cassandra: alone and as a ring of three, while nodes die, freeze and come back.

use serde_json::json;

use crate::client::{Api, number};
use crate::harness::record::publish;
use crate::harness::{OnCassandra, PATIENCE, Place, eventually};

/// One person who goes on talking.
struct Talk {
    me: Api,
    conversation: String,
    texts: Vec<String>,
    last: u64,
}

impl Talk {
    async fn begin(place: &Place) -> Self {
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        Self { me, conversation, texts: Vec::new(), last: 0 }
    }

    async fn say(&mut self, turns: usize) {
        for _ in 0..turns {
            let text = format!("turn {}", self.texts.len());
            let said = json!({"text": text, "conversation": self.conversation});
            self.last = number(&self.me.post("/v1/chat", said).await.expect(200)["answer"], "seq");
            self.texts.extend([text.clone(), text]);
        }
    }

    /// Waits until the store has all of it.
    async fn stored(&self, operator: &Api) {
        eventually(PATIENCE * 2, "everything in the store", async || {
            let call = operator.get("/admin/v1/stats").await;
            let stats = (call.status == 200).then(|| call.expect(200))?;
            (stats["audit_gap"]["behind"] == 0 && stats["last_seq"].as_u64() >= Some(self.last)).then_some(())
        })
        .await;
    }

    /// The transcript in the store is what was said, in order.
    async fn is_whole(&self, operator: &Api) {
        let id = &self.conversation;
        let mut after = "0-0".to_owned();
        let mut texts = Vec::new();
        loop {
            let page =
                operator.get(&format!("/admin/v1/conversations/{id}/messages?limit=7&after={after}")).await.expect(200);
            let messages = page["messages"].as_array().unwrap();
            texts.extend(messages.iter().filter_map(|message| message["text"].as_str().map(str::to_owned)));
            match messages.last() {
                Some(last) => last["cursor"].as_str().unwrap().clone_into(&mut after),
                None => break,
            }
        }
        assert_eq!(texts, self.texts);
        let recent = operator.get("/admin/v1/conversations?limit=5").await.expect(200);
        assert_eq!(recent["conversations"][0]["conversation"], self.conversation.as_str(), "{recent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_dies_freezes_and_comes_back_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = OnCassandra::start(folder.path(), 1).await;
    let place = all.fleet.place();
    let operator = Api::operator(&place).await;
    let mut talk = Talk::begin(&place).await;
    talk.say(10).await;
    talk.stored(&operator).await;
    // People talk on while there is no store.
    all.on_node(|node| node.kill(1)).await;
    talk.say(10).await;
    all.fleet.kill9("auditor-1");
    all.on_node(|node| node.up(1)).await;
    all.fleet.start_again("auditor-1").await;
    talk.stored(&operator).await;
    all.on_node(|node| node.pause(1)).await;
    talk.say(10).await;
    all.on_node(|node| node.resume(1)).await;
    talk.stored(&operator).await;
    talk.is_whole(&operator).await;
    let (code, report) = all.verify(&[]).await;
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])), "{report}");
    assert_eq!((&report["rows"], &report["compared"]), (&report["to"], &report["to"]));

    // What is done to the record is named. A table that was lost is put back from the stream.
    let session = all.session().await;
    session.query_unpaged("TRUNCATE log", ()).await.unwrap();
    let (code, report) = all.verify(&[]).await;
    assert_eq!((code, &report["findings"][0]["flaw"], &report["flawed"]), (Some(3), &json!("missing"), &report["to"]));
    let (code, report) = all.verify(&["--repair"]).await;
    // A write that the node had put off while it was frozen may have come back by itself.
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
    let complaints = all.cassandra.warnings();
    let ours: Vec<_> = complaints
        .iter()
        .filter(|line| ["Batch", "Aggregation", "tombstone"].iter().any(|word| line.contains(word)))
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_nodes_dies_and_nothing_stops() {
    let folder = tempfile::tempdir().unwrap();
    let all = OnCassandra::start(folder.path(), 3).await;
    let place = all.fleet.place();
    let operator = Api::operator(&place).await;
    let mut talk = Talk::begin(&place).await;
    talk.say(5).await;
    talk.stored(&operator).await;
    all.on_node(|ring| ring.kill(2)).await;
    talk.say(10).await;
    // Two of three copies are enough: it is stored and read while the node is away.
    talk.stored(&operator).await;
    talk.is_whole(&operator).await;
    all.on_node(|ring| ring.up(2)).await;
    all.on_node(|ring| ring.pause(3)).await;
    talk.say(5).await;
    talk.stored(&operator).await;
    all.on_node(|ring| ring.resume(3)).await;
    talk.is_whole(&operator).await;
    let (code, report) = all.verify(&[]).await;
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inits_that_run_at_once_make_one_keyspace() {
    let folder = tempfile::tempdir().unwrap();
    let all = OnCassandra::start(folder.path(), 1).await;
    let said = futures_util::future::join_all((0..3).map(|_| async {
        let more = ["init", "--set", "store.keyspace=other"];
        // The last word wins: the deployment's own settings name no keyspace.
        let (code, output, errors) = all.tool(&more).finish().await;
        assert_eq!(code, Some(0), "{errors}");
        output
    }))
    .await;
    let made = said.iter().filter(|output| output.contains("created keyspace other")).count();
    assert_eq!(made, 1, "{said:?}");
    // A role that finds no keyspace says so, and what to do.
    let (code, _, errors) = all.tool(&["auditor", "--set", "store.keyspace=missing"]).finish().await;
    assert!(code == Some(1) && errors.contains("yalo init") && errors.contains("missing"), "{code:?} {errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_goes_from_a_cluster_and_the_proof_knows_it_for_retired() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = OnCassandra::start_with(folder.path(), 1, &["store.retention_days=7"]).await;
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
