//! Retries that come late: an outbox that wakes up after an hour, or after days, makes no second message.

use std::time::Duration;

use async_nats::jetstream::{self, stream};
use serde_json::{Value, json};

use crate::client::{Api, id_at, number};
use crate::harness::{All, Fleet, PATIENCE, eventually};

/// Two minutes in earnest; so short here that the server forgets an id before it comes again.
const WINDOW: Duration = Duration::from_millis(100);
const AGES_MS: [i64; 2] = [10 * 60 * 1000, 5 * 86_400_000];

async fn chat_stream(fleet: &Fleet) -> stream::Stream {
    let client = async_nats::connect(fleet.nats_url()).await.unwrap();
    jetstream::new(client).get_stream("YALO_CHAT").await.unwrap()
}

/// From now on the server itself knows no id for longer than [`WINDOW`].
async fn forget_ids(fleet: &Fleet) {
    shorten_window(async_nats::connect(fleet.nats_url()).await.unwrap()).await;
}

async fn shorten_window(client: async_nats::Client) {
    let context = jetstream::new(client);
    let mut config = context.get_stream("YALO_CHAT").await.unwrap().cached_info().config.clone();
    config.duplicate_window = WINDOW;
    context.update_stream(config).await.unwrap();
}

/// Sends a message that was sent before: it has to be found, with its first result.
async fn is_found_again(me: &Api, path: &str, message: &Value, first: &Value) {
    let again = me.post(path, message.clone()).await.expect(202);
    assert_eq!(again["duplicate"], true, "{message}: {again}");
    assert_eq!((&again["seq"], &again["at"]), (&first["seq"], &first["at"]));
}

#[tokio::test]
async fn a_late_retry_is_found_in_the_stream_by_any_frontend_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    forget_ids(&fleet).await;
    let (me, conversation) = Api::guest(&fleet.place().frontends[0]).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    let mut sent = Vec::new();
    for age in AGES_MS {
        let message = json!({"text": format!("{age} ms late"), "id": id_at(-age)});
        let first = me.post(&path, message.clone()).await.expect(202);
        assert_eq!(first["duplicate"], false);
        sent.push((message, first));
    }
    for round in ["the window has passed", "all processes have started anew"] {
        println!("{round}");
        // Time itself is what is waited for.
        tokio::time::sleep(3 * WINDOW).await;
        for frontend in &fleet.place().frontends {
            for (message, first) in &sent {
                is_found_again(&me.at(frontend), &path, message, first).await;
                let other = json!({"text": "other words", "id": message["id"]});
                me.at(frontend).post(&path, other).await.refused(409, "id_reused");
            }
        }
        fleet.restart().await;
    }
    let me = me.at(&fleet.place().frontends[0]);
    let page = eventually(PATIENCE, "both answers", async || {
        let page = me.get(&path).await.expect(200);
        (page["messages"].as_array().unwrap().len() >= 5).then_some(page)
    })
    .await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 5, "{page}");
    fleet.stop().await;
}

#[tokio::test]
async fn a_late_retry_is_found_on_a_laptop_too_before_and_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start(folder.path()).await;
    let (me, conversation) = Api::guest(&all.place().frontends[0]).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    let message = json!({"text": "from an outbox", "id": id_at(-AGES_MS[0])});
    let first =
        me.post("/v1/chat", json!({"text": message["text"], "id": message["id"], "conversation": conversation}));
    let first = first.await.expect(200);
    for round in ["it runs on", "it was killed"] {
        println!("{round}");
        // A start puts the window right again.
        let server = yalo::bus::server::running(&folder.path().join("data")).unwrap().unwrap();
        let client = async_nats::ConnectOptions::with_user_and_password(server.user, server.password);
        shorten_window(client.connect(server.url).await.unwrap()).await;
        tokio::time::sleep(3 * WINDOW).await;
        let me = me.at(&all.place().frontends[0]);
        is_found_again(&me, &path, &message, &first["message"]).await;
        let page = me.get(&format!("{path}?after=0-0")).await.expect(200);
        assert_eq!(page["messages"].as_array().unwrap().len(), 3, "{page}");
        all.kill9();
        all.restart().await;
    }
    all.stop().await;
}

#[tokio::test]
async fn two_late_retries_at_once_make_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let place = fleet.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    for round in 0..20 {
        let message = json!({"text": format!("round {round}"), "id": id_at(-AGES_MS[0])});
        let (here, there) = (me.at(&place.frontends[0]), me.at(&place.frontends[1]));
        let (one, other) = tokio::join!(here.post(&path, message.clone()), there.post(&path, message));
        let (one, other) = (one.expect(202), other.expect(202));
        assert_eq!((&one["seq"], &one["at"]), (&other["seq"], &other["at"]));
        let duplicates = [&one, &other].into_iter().filter(|answer| answer["duplicate"] == true).count();
        assert_eq!(duplicates, 1, "{one} {other}");
    }
    fleet.stop().await;
}

#[tokio::test]
async fn a_late_retry_is_found_in_the_store_when_the_stream_has_forgotten_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    forget_ids(&fleet).await;
    let place = fleet.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    let message = json!({"text": "long ago", "id": id_at(-AGES_MS[1])});
    let first = me.post(&path, message.clone()).await.expect(202);
    let last = me.post("/v1/chat", json!({"text": "now", "conversation": conversation})).await.expect(200);
    let operator = Api::operator(&place).await;
    eventually(PATIENCE, "everything in the store", async || {
        let stats = operator.get("/admin/v1/stats").await.expect(200);
        (stats["audit_gap"]["behind"] == 0 && stats["last_seq"] == last["answer"]["seq"]).then_some(())
    })
    .await;
    // The head of the stream goes, as it does after seven days.
    chat_stream(&fleet).await.purge().sequence(number(&last["message"], "seq")).await.unwrap();
    for frontend in &place.frontends {
        let me = me.at(frontend);
        is_found_again(&me, &path, &message, &first).await;
        // With its answer, which the stream has forgotten as well.
        let chat = json!({"text": message["text"], "id": message["id"], "conversation": conversation});
        let again = me.post("/v1/chat", chat).await.expect(200);
        assert_eq!((&again["duplicate"], &again["answer"]["text"]), (&json!(true), &message["text"]), "{again}");
    }
    // Also when it holds nothing at all any more, as after seven quiet days.
    chat_stream(&fleet).await.purge().await.unwrap();
    is_found_again(&me, &path, &message, &first).await;
    let whole = me.get(&format!("{path}?after=0-0")).await.expect(200);
    assert_eq!(whole["messages"].as_array().unwrap().len(), 5, "{whole}");
    // Nobody can say now whether it was sent before: it may be asked again, it is not stored twice.
    fleet.kill9("admin");
    let refused = me.post(&path, message.clone()).await;
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    refused.refused(503, "store_unavailable");
    fleet.start_again("admin").await;
    eventually(PATIENCE, "admin's answers", async || {
        (me.post(&path, message.clone()).await.status == 202).then_some(())
    })
    .await;
    is_found_again(&me, &path, &message, &first).await;
    fleet.stop().await;
}

#[tokio::test]
async fn an_early_retry_is_found_in_the_store_when_the_stream_has_made_room_since() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let place = fleet.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    let chat = json!({"text": "just now", "id": id_at(0), "conversation": conversation});
    let first = me.post("/v1/chat", chat.clone()).await.expect(200);
    let operator = Api::operator(&place).await;
    eventually(PATIENCE, "everything in the store", async || {
        let stats = operator.get("/admin/v1/stats").await.expect(200);
        (stats["audit_gap"]["behind"] == 0 && stats["last_seq"] == first["answer"]["seq"]).then_some(())
    })
    .await;
    // The server still knows the id; the message has made room for others.
    chat_stream(&fleet).await.purge().await.unwrap();
    let message = json!({"text": "just now", "id": chat["id"]});
    is_found_again(&me, &path, &message, &first["message"]).await;
    let again = me.post("/v1/chat", chat.clone()).await.expect(200);
    assert_eq!((&again["duplicate"], &again["answer"]), (&json!(true), &first["answer"]), "{again}");
    me.post(&path, json!({"text": "other words", "id": chat["id"]})).await.refused(409, "id_reused");
    fleet.kill9("admin");
    me.post(&path, message).await.refused(503, "store_unavailable");
    fleet.stop().await;
}

#[tokio::test]
async fn a_copy_that_the_network_held_back_gets_no_second_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    forget_ids(&fleet).await;
    let (me, conversation) = Api::guest(&fleet.place().frontends[0]).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    let asked = me.post(&path, json!({"text": "once", "id": id_at(-AGES_MS[0])})).await.expect(202);
    // What a frontend had sent, and what its line to the server held back until nobody knew the id any more.
    tokio::time::sleep(3 * WINDOW).await;
    let chat = chat_stream(&fleet).await;
    let first = chat.get_raw_message(number(&asked, "seq")).await.unwrap();
    let line = jetstream::new(async_nats::connect(fleet.nats_url()).await.unwrap());
    let sent = line.publish_with_headers(first.subject, first.headers, first.payload).await;
    let copy = sent.unwrap().await.unwrap();
    assert!(!copy.duplicate && copy.sequence > number(&asked, "seq"), "the server keeps it: {copy:?}");
    let next = me.post(&path, json!({"text": "and then"})).await.expect(202);

    let page = eventually(PATIENCE, "the next answer", async || {
        let page = me.get(&path).await.expect(200);
        let messages = page["messages"].as_array().unwrap();
        let answered = messages.iter().any(|message| message["reply_to"]["seq"] == next["seq"]);
        answered.then(|| messages.clone())
    })
    .await;
    let answers: Vec<&Value> = page.iter().filter(|message| message["who"] == "bot").collect();
    let answered: Vec<&Value> = answers.iter().map(|answer| &answer["reply_to"]["seq"]).collect();
    assert_eq!(answered, [&asked["seq"], &next["seq"]], "no answer to the copy is shown");
    // It has its record all the same: nobody has to look at it again.
    let mut records = Vec::new();
    for seq in 1..=chat.get_info().await.unwrap().state.last_sequence {
        let stored: Value = serde_json::from_slice(&chat.get_raw_message(seq).await.unwrap().payload).unwrap();
        if stored["who"] == "bot" {
            records.push((number(&stored["reply_to"], "seq"), stored["kind"].clone()));
        }
    }
    let kinds = [("text", number(&asked, "seq")), ("none", copy.sequence), ("text", number(&next, "seq"))];
    assert_eq!(records, kinds.map(|(kind, seq)| (seq, json!(kind))));
    fleet.stop().await;
}
