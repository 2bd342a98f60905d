//! Conversations over HTTP: opening, listing, saying, reading.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Api, Call, new_id, number, text};
use crate::harness::{PATIENCE, Place, eventually};
use crate::shapes::in_both_shapes;

async fn say(me: &Api, conversation: &str, words: &str) -> Value {
    me.post("/v1/chat", json!({"text": words, "conversation": conversation})).await.expect(200)
}

fn sequences(page: &Value) -> Vec<u64> {
    page["messages"].as_array().unwrap().iter().map(|message| number(message, "seq")).collect()
}

in_both_shapes! {
    async fn an_opened_conversation_is_listed_for_its_owner(place: &Place) {
        let api = Api::connect(&place.frontends[0]).await;
        let opened = api.post("/v1/conversations", json!({"bot": "echo"})).await;
        let location = opened.headers["location"].to_str().unwrap().to_owned();
        let opened = opened.expect(201);
        let me = api.with_token(&text(&opened, "token"));
        let first = text(&opened, "conversation");
        assert!(location.contains(&first), "{location}");
        assert_eq!(me.get(&location).await.expect(200)["messages"][0]["kind"], "opened");
        let second = text(&me.post("/v1/conversations", json!({})).await.expect(201), "conversation");
        let last = say(&me, &second, "the newest").await;
        // The list is read from the store, which is a moment behind; several auditors write in no order.
        let list = eventually(PATIENCE, "both conversations whole in the list", async || {
            let list = me.get("/v1/conversations").await.expect(200);
            let [newest, _] = list["conversations"].as_array().unwrap().as_slice() else { return None };
            let whole = newest["last"]["seq"] == last["answer"]["seq"] && newest["messages"] == 3;
            whole.then_some(list)
        }).await;
        assert_eq!(list["conversations"][0]["conversation"], json!(second));
        assert_eq!(list["conversations"][1]["conversation"], json!(first));
        let page = me.get("/v1/conversations?limit=1").await.expect(200);
        let rest = me.get(&format!("/v1/conversations?limit=1&before={}", text(&page, "next"))).await.expect(200);
        assert_eq!(rest["conversations"][0], list["conversations"][1]);
        let (stranger, _) = Api::guest(&place.frontends[0]).await;
        let other = stranger.get("/v1/conversations").await.expect(200);
        assert!(other["conversations"].as_array().unwrap().iter().all(|one| one["conversation"] != json!(first)));
    }

    async fn a_message_sent_twice_with_one_id_is_stored_once(place: &Place) {
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        let path = format!("/v1/conversations/{conversation}/messages");
        let message = json!({"text": "once", "id": new_id(), "data": {"b": 1, "a": [1.50, null]}});
        let first = me.post(&path, message.clone()).await.expect(202);
        assert_eq!((&first["duplicate"], &first["id"]), (&json!(false), &message["id"]));
        for frontend in &place.frontends {
            let again = me.at(frontend).post(&path, message.clone()).await.expect(202);
            assert_eq!(again["duplicate"], true);
            assert_eq!((&again["seq"], &again["at"]), (&first["seq"], &first["at"]));
        }
        for other in [
            json!({"text": "twice", "id": message["id"], "data": message["data"]}),
            json!({"text": "once", "id": message["id"]}),
            json!({"text": "once", "id": message["id"], "data": message["data"], "bot": "other"}),
        ] {
            me.post(&path, other).await.refused(409, "id_reused");
        }
        let read = me.get(&format!("{path}?wait=10&after={}", text(&first, "cursor"))).await.expect(200);
        assert_eq!(read["messages"].as_array().unwrap().len(), 1, "one question, one answer: {read}");
        let all = me.get(&path).await.expect(200);
        assert_eq!(all["messages"][1]["data"], message["data"]);
        assert_eq!(all["messages"].as_array().unwrap().len(), 3);
    }

    async fn many_at_once_with_one_id_are_one_message(place: &Place) {
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        let path = format!("/v1/conversations/{conversation}/messages");
        let message = json!({"text": "all at once", "id": new_id()});
        let callers: Vec<Api> = place.frontends.iter().cycle().take(12).map(|frontend| me.at(frontend)).collect();
        let calls = callers.iter().map(|caller| caller.post(&path, message.clone()));
        let answers = futures_util::future::join_all(calls).await;
        let answers: Vec<Value> = answers.into_iter().map(|answer| answer.expect(202)).collect();
        assert!(answers.iter().all(|answer| answer["seq"] == answers[0]["seq"]), "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| answer["duplicate"] == false).count(), 1, "{answers:?}");
    }

    async fn prefer_wait_brings_the_answer_with_the_acceptance(place: &Place) {
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        let path = format!("/v1/conversations/{conversation}/messages");
        let headers = &[("content-type", "application/json"), ("prefer", "respond-async, wait=20")];
        let body = serde_json::to_vec(&json!({"text": "wait for it"})).unwrap();
        let answer = me.call(Call { post: true, path: &path, headers, body }).await.expect(200);
        assert_eq!(answer["answer"]["text"], "wait for it");
        assert_eq!(answer["answer"]["reply_to"]["seq"], answer["seq"]);
    }

    async fn someone_elses_conversation_is_not_found(place: &Place) {
        let (_, conversation) = Api::guest(&place.frontends[0]).await;
        let (stranger, own) = Api::guest(&place.frontends[0]).await;
        let missing = new_id();
        let all = [&conversation, &missing];
        for conversation in all {
            for frontend in &place.frontends {
                let stranger = stranger.at(frontend);
                let path = format!("/v1/conversations/{conversation}");
                stranger.get(&format!("{path}/messages")).await.refused(404, "not_found");
                stranger.get(&format!("{path}/events")).await.refused(404, "not_found");
                stranger.post(&format!("{path}/messages"), json!({"text": "let me in"})).await.refused(404, "not_found");
                stranger.post(&format!("{path}/stop"), json!({})).await.refused(404, "not_found");
                let chat = json!({"text": "let me in", "conversation": conversation});
                stranger.post("/v1/chat", chat).await.refused(404, "not_found");
            }
        }
        // What one may not see and what is not there look the same.
        let refusal = |answer: Value, id: &str| text(&answer, "detail").replace(id, "ID");
        let theirs = stranger.get(&format!("/v1/conversations/{conversation}/messages")).await.refused(404, "not_found");
        let nobodys = stranger.get(&format!("/v1/conversations/{missing}/messages")).await.refused(404, "not_found");
        assert_eq!(refusal(theirs, &conversation), refusal(nobodys, &missing));
        say(&stranger, &own, "my own").await;
    }

    async fn history_is_read_by_cursor_in_both_directions(place: &Place) {
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        for turn in 0..12 {
            say(&me, &conversation, &format!("turn {turn}")).await;
        }
        let path = format!("/v1/conversations/{conversation}/messages");
        let whole = me.get(&format!("{path}?limit=500")).await.expect(200);
        let expected = sequences(&whole);
        assert_eq!(expected.len(), 25, "the opening, and 12 questions with their answers");
        assert!(expected.is_sorted() && whole["previous"].is_null());

        let mut forward = Vec::new();
        let mut after = "0-0".to_owned();
        loop {
            let page = me.get(&format!("{path}?limit=7&after={after}")).await.expect(200);
            if page["messages"].as_array().unwrap().is_empty() {
                assert_eq!(text(&page, "next"), after, "an empty page leads on from where one is");
                break;
            }
            forward.extend(sequences(&page));
            after = text(&page, "next");
        }
        assert_eq!(forward, expected);

        let mut backward = Vec::new();
        let mut page = me.get(&format!("{path}?limit=7")).await.expect(200);
        loop {
            backward.splice(0..0, sequences(&page));
            let Some(before) = page["previous"].as_str() else { break };
            page = me.get(&format!("{path}?limit=7&before={before}")).await.expect(200);
        }
        assert_eq!(backward, expected);
    }

    async fn a_long_poll_ends_with_the_next_message(place: &Place) {
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        let path = format!("/v1/conversations/{conversation}/messages");
        let newest = text(&me.get(&path).await.expect(200), "next");
        let waiting = format!("{path}?after={newest}&wait=30");
        let other = me.at(place.frontends.last().unwrap());
        let (page, sent) = tokio::join!(other.get(&waiting), me.post(&path, json!({"text": "here it is"})));
        let (page, sent) = (page.expect(200), sent.expect(202));
        assert_eq!(page["messages"][0]["seq"], sent["seq"]);
        assert_eq!(page["messages"][0]["text"], "here it is");
        let last = say(&me, &conversation, "the last").await;
        let begun = std::time::Instant::now();
        let empty = me.get(&format!("{path}?after={}&wait=1", text(&last, "cursor"))).await.expect(200);
        assert!(empty["messages"].as_array().unwrap().is_empty() && empty["next"] == last["cursor"], "{empty}");
        assert!((Duration::from_millis(900)..Duration::from_secs(20)).contains(&begun.elapsed()));
    }
}
