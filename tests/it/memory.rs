//! A perfect memory: what was said is there after everything has been stopped, and is never denied while its keeper is
//! away.

use serde_json::{Value, json};

use crate::client::{Api, text};
use crate::harness::{All, Fleet, PATIENCE, Place, eventually};

/// Says some words; the caller, the conversation, and its page.
async fn talk(place: &Place) -> (Api, String, Value) {
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    for words in ["first", "second", "third"] {
        me.post("/v1/chat", json!({"text": words, "conversation": conversation})).await.expect(200);
    }
    let page = me.get(&format!("/v1/conversations/{conversation}/messages")).await.expect(200);
    assert_eq!(page["messages"].as_array().unwrap().len(), 7);
    (me, conversation, page)
}

/// Everything is as it was, and goes on.
async fn remembers(place: &Place, (me, conversation, page): (Api, String, Value)) {
    for frontend in &place.frontends {
        let me = me.at(frontend);
        let path = format!("/v1/conversations/{conversation}/messages");
        assert_eq!(me.get(&path).await.expect(200), page);
        // Lists come from the store: what an auditor had not written when it was stopped comes again.
        eventually(PATIENCE, "the list with the last message", async || {
            let list = me.get("/v1/conversations").await.expect(200);
            (list["conversations"][0]["last"] == page["messages"][6]).then_some(())
        })
        .await;
    }
    let operator = Api::operator(place).await;
    eventually(PATIENCE, "the whole transcript", async || {
        let transcript = operator.get(&format!("/admin/v1/conversations/{conversation}/messages")).await.expect(200);
        (transcript["messages"] == page["messages"]).then_some(())
    })
    .await;
    let more = me.at(&place.frontends[0]);
    let said = more.post("/v1/chat", json!({"text": "fourth", "conversation": conversation})).await.expect(200);
    assert_eq!(said["answer"]["text"], "fourth");
}

#[tokio::test]
async fn yalo_all_finds_its_conversations_again_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start(folder.path()).await;
    let before = talk(&all.place()).await;
    all.stop().await;
    all.restart().await;
    remembers(&all.place(), before).await;
    all.stop().await;
}

#[tokio::test]
async fn a_fleet_finds_its_conversations_again_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let before = talk(&fleet.place()).await;
    fleet.restart().await;
    remembers(&fleet.place(), before).await;
    fleet.stop().await;
}

#[tokio::test]
async fn while_admin_is_away_nothing_is_said_to_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let place = fleet.place();
    let (me, conversation, _) = talk(&place).await;
    fleet.kill9("admin");
    me.get("/v1/conversations").await.refused(503, "store_unavailable");
    // Someone else may know this conversation: without the store nobody can say that there is none.
    let missing = crate::client::new_id();
    let path = format!("/v1/conversations/{missing}/messages");
    let refused = me.get(&path).await;
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    refused.refused(503, "store_unavailable");
    // What the stream holds goes on as ever.
    let said = me.post("/v1/chat", json!({"text": "still", "conversation": conversation})).await.expect(200);
    assert_eq!(said["answer"]["text"], "still");
    fleet.start_again("admin").await;
    eventually(PATIENCE, "the list after admin's return", async || {
        let list = me.get("/v1/conversations").await;
        (list.status == 200 && list.body["conversations"][0]["last"] == said["answer"]).then_some(())
    })
    .await;
    me.get(&path).await.refused(404, "not_found");
    fleet.stop().await;
}

#[tokio::test]
async fn a_bot_and_nats_may_die_in_the_middle_of_a_talk() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let place = fleet.place();
    let (me, conversation, _) = talk(&place).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    for (round, name) in ["bot-1", "bot-2", "nats"].into_iter().enumerate() {
        let accepted = me.post(&path, json!({"text": name})).await.expect(202);
        match name {
            "nats" => fleet.restart_nats(),
            bot => fleet.kill9(bot),
        }
        let answer = eventually(PATIENCE, "an answer by those who are left", async || {
            let page = me.get(&format!("{path}?after={}&wait=10", text(&accepted, "cursor"))).await;
            (page.status == 200).then(|| page.body["messages"][0].clone()).filter(Value::is_object)
        })
        .await;
        assert_eq!((&answer["text"], &answer["reply_to"]["seq"]), (&json!(name), &accepted["seq"]), "round {round}");
    }
    let page = me.get(&path).await.expect(200);
    assert_eq!(page["messages"].as_array().unwrap().len(), 13, "each question once, each answer once: {page}");
    fleet.stop().await;
}

#[tokio::test]
async fn a_conversation_is_read_whole_when_the_stream_has_forgotten_its_head() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let place = fleet.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    // Pages of the store are cut where they outgrow one message of NATS: 80 texts of 16 KiB are three of them.
    let path = format!("/v1/conversations/{conversation}/messages");
    let long = |turn: usize| format!("{turn} {}", "x".repeat(16 * 1024 - 8));
    let mut last = Value::Null;
    for turn in 0..40 {
        last = me.post("/v1/chat", json!({"text": long(turn), "conversation": conversation})).await.expect(200);
    }
    let whole = me.get(&format!("{path}?limit=500&after=0-0")).await.expect(200);
    assert_eq!(whole["messages"].as_array().unwrap().len(), 81);
    let operator = Api::operator(&place).await;
    eventually(PATIENCE, "everything in the store", async || {
        let stats = operator.get("/admin/v1/stats").await.expect(200);
        (stats["audit_gap"]["behind"] == 0 && stats["last_seq"] == last["answer"]["seq"]).then_some(())
    })
    .await;
    // All but the last turn goes.
    let context = async_nats::jetstream::new(async_nats::connect(fleet.nats_url()).await.unwrap());
    let stream = context.get_stream("YALO_CHAT").await.unwrap();
    stream.purge().sequence(crate::client::number(&last["message"], "seq")).await.unwrap();

    for limit in [1, 7, 500] {
        let (mut forward, mut after) = (Vec::new(), "0-0".to_owned());
        loop {
            let page = me.get(&format!("{path}?limit={limit}&after={after}")).await.expect(200);
            let messages = page["messages"].as_array().unwrap();
            let Some(newest) = messages.last() else { break };
            after = text(newest, "cursor");
            forward.extend(messages.clone());
        }
        assert!(json!(forward) == whole["messages"], "{limit} forward: {} messages", forward.len());
        let (mut backward, mut before) = (Vec::new(), String::new());
        loop {
            let page = me.get(&format!("{path}?limit={limit}{before}")).await.expect(200);
            backward.splice(..0, page["messages"].as_array().unwrap().clone());
            let Some(previous) = page["previous"].as_str() else { break };
            before = format!("&before={previous}");
        }
        assert!(json!(backward) == whole["messages"], "{limit} backward: {} messages", backward.len());
    }
    // Who follows from the beginning hears all of it once, and then what is new.
    let events = format!("/v1/conversations/{conversation}/events?after=0-0");
    let mut events = me.events(crate::client::Call { path: &events, ..Default::default() }).await;
    for expected in whole["messages"].as_array().unwrap() {
        assert_eq!(events.message().await.data["seq"], expected["seq"]);
    }
    let said = me.post("/v1/chat", json!({"text": "new", "conversation": conversation})).await.expect(200);
    assert_eq!(events.message().await.data, said["message"]);
    fleet.stop().await;
}
