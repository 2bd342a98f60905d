//! `POST /v1/chat`: one call is a question and its answer.

use serde_json::json;

use crate::client::{Api, Call, new_id, number, text};
use crate::harness::{All, Place};
use crate::shapes::in_both_shapes;

in_both_shapes! {
    async fn a_question_is_answered_in_one_call_and_the_conversation_goes_on(place: &Place) {
        let api = Api::connect(&place.frontends[0]).await;
        let first = api.post("/v1/chat", json!({"text": "hello"})).await.expect(200);
        assert_eq!((&first["message"]["text"], &first["message"]["who"]), (&json!("hello"), &json!("user")));
        assert_eq!((&first["answer"]["text"], &first["answer"]["who"]), (&json!("hello"), &json!("bot")));
        assert_eq!(first["answer"]["reply_to"]["seq"], first["message"]["seq"]);
        assert_eq!(first["answer"]["reply_to"]["id"], first["message"]["id"]);
        assert_eq!(first["cursor"], first["answer"]["cursor"]);
        assert_eq!(first["duplicate"], false);
        let me = api.with_token(&text(&first, "token"));
        let conversation = text(&first, "conversation");
        let second = me.post("/v1/chat", json!({"text": "again", "conversation": conversation})).await.expect(200);
        assert_eq!(second["conversation"], first["conversation"]);
        assert_eq!(second["answer"]["text"], "again");
        assert!(second.get("token").is_none(), "a token is given once: {second}");
        assert!(number(&second["message"], "seq") > number(&first["answer"], "seq"));
    }

    async fn plain_text_is_a_question_too(place: &Place) {
        let api = Api::connect(&place.frontends[0]).await;
        let headers = &[("content-type", "text/plain; charset=utf-8")];
        let body = "  שלום, wie geht's? 👩‍👩‍👧\n";
        let call = Call { post: true, path: "/v1/chat", headers, body: body.into() };
        let first = api.call(call).await.expect(200);
        assert_eq!((&first["message"]["text"], &first["answer"]["text"]), (&json!(body), &json!(body)));
        let me = api.with_token(&text(&first, "token"));
        let (conversation, id) = (text(&first, "conversation"), new_id());
        let path = format!("/v1/chat?conversation={conversation}&id={id}&bot=echo");
        let call = Call { post: true, path: &path, headers, body: "more".into() };
        let second = me.call(call).await.expect(200);
        assert_eq!((&second["message"]["id"], &second["message"]["bot"]), (&json!(id), &json!("echo")));
        assert_eq!(second["conversation"], first["conversation"]);
    }

    async fn a_question_asked_again_by_its_id_has_its_first_answer(place: &Place) {
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        let question = json!({"text": "once", "conversation": conversation, "id": new_id()});
        let first = me.post("/v1/chat", question.clone()).await.expect(200);
        for frontend in &place.frontends {
            let again = me.at(frontend).post("/v1/chat", question.clone()).await.expect(200);
            assert_eq!(again["duplicate"], true);
            assert_eq!((&again["message"], &again["answer"]), (&first["message"], &first["answer"]));
        }
    }

    async fn the_answer_comes_as_a_stream_to_those_who_ask_for_one(place: &Place) {
        let api = Api::connect(&place.frontends[0]).await;
        let headers = &[("content-type", "application/json")];
        let call = Call { post: true, path: "/v1/chat", headers, body: r#"{"text":"stream it"}"#.into() };
        let mut events = api.events(call).await;
        let accepted = events.next().await.unwrap();
        assert_eq!(accepted.name, "accepted");
        assert_eq!(accepted.data["message"]["text"], "stream it");
        assert!(accepted.data["token"].is_string() && accepted.data["duplicate"] == false);
        let answer = events.message().await;
        assert_eq!(answer.data["text"], "stream it");
        assert_eq!(answer.data["reply_to"]["seq"], accepted.data["message"]["seq"]);
        assert!(events.next().await.is_none(), "the answer is the last event");
    }

    async fn a_text_comes_back_as_it_went_in(place: &Place) {
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        let longest = "ü".repeat(8 * 1024);
        let texts = [" ", "\t\r\n", "\u{feff}", "e\u{301} \u{202e}abc", "\u{1}\u{7f}\u{85}\u{2028}", "\u{10ffff}", "<b>&amp;"];
        for words in texts.iter().map(|sign| format!("a{sign}z")).chain([longest]) {
            let answer = me.post("/v1/chat", json!({"text": words, "conversation": conversation})).await.expect(200);
            assert_eq!((&answer["message"]["text"], &answer["answer"]["text"]), (&json!(words), &json!(words)));
        }
    }
}

#[tokio::test]
async fn a_late_answer_is_said_to_be_late_and_is_found_by_asking_again() {
    let folder = tempfile::tempdir().unwrap();
    // A bot can hardly answer within a millisecond; if it does, there is nothing to see here.
    let mut all = All::start_with(folder.path(), &["frontend.answer_timeout_ms=1"]).await;
    let (me, conversation) = Api::guest(&all.place().frontends[0]).await;
    let question = json!({"text": "slow", "conversation": conversation, "id": new_id()});
    let first = me.post("/v1/chat", question.clone()).await;
    assert!(first.status == 202 && first.body["answer"].is_null() || first.status == 200, "{}", first.body);
    let path =
        format!("/v1/conversations/{conversation}/messages?after={}&wait=20", text(&first.body["message"], "cursor"));
    let page = me.get(&path).await.expect(200);
    let again = me.post("/v1/chat", question).await.expect(200);
    assert_eq!(again["duplicate"], true);
    assert_eq!(again["message"]["seq"], first.body["message"]["seq"]);
    assert_eq!(again["answer"]["text"], "slow");
    if first.status == 202 {
        assert_eq!(page["messages"][0], again["answer"]);
    }
    all.stop().await;
}
