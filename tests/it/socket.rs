//! `GET /v1/ws`: many conversations over one connection.

use serde_json::json;

use crate::client::{Api, new_id, number, text};
use crate::harness::Place;
use crate::shapes::in_both_shapes;

in_both_shapes! {
    async fn a_guest_opens_watches_asks_and_hears_the_answer(place: &Place) {
        let api = Api::connect(&place.frontends[0]).await;
        let mut socket = api.socket().await;
        let welcome = socket.hello(None).await;
        let me = api.with_token(&text(&welcome, "token"));
        let opened = socket.ask(json!({"type": "open", "bot": "echo"})).await;
        let conversation = text(&opened, "conversation");
        let watching = socket.ask(json!({"type": "watch", "conversation": conversation, "after": "0-0"})).await;
        assert_eq!((&watching["type"], &watching["conversation"]), (&json!("watching"), &json!(conversation)));
        assert_eq!(socket.message().await["kind"], "opened");
        let send = json!({"type": "send", "conversation": conversation, "text": "over the socket", "id": new_id()});
        let accepted = socket.ask(send.clone()).await;
        assert_eq!((&accepted["type"], &accepted["duplicate"]), (&json!("accepted"), &json!(false)));
        let (question, answer) = (socket.message().await, socket.message().await);
        assert_eq!((&question["seq"], &question["id"]), (&accepted["seq"], &send["id"]));
        assert_eq!((&answer["text"], &answer["reply_to"]["seq"]), (&json!("over the socket"), &accepted["seq"]));

        let again = socket.ask(send.clone()).await;
        assert_eq!((&again["duplicate"], &again["seq"]), (&json!(true), &accepted["seq"]));
        let other = json!({"type": "send", "conversation": conversation, "text": "other words", "id": send["id"]});
        let refused = socket.ask(other).await;
        assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("id_reused")));
        assert_eq!(refused["status"], 409);

        // The same record over HTTP.
        let page = me.get(&format!("/v1/conversations/{conversation}/messages")).await.expect(200);
        assert_eq!((&page["messages"][1], &page["messages"][2]), (&question, &answer));
    }

    async fn a_ping_is_answered_and_a_stop_is_taken(place: &Place) {
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        let mut socket = me.signed_in_socket().await;
        let pong = socket.ask(json!({"type": "ping"})).await;
        assert_eq!(pong["type"], "pong");
        let stopping = socket.ask(json!({"type": "stop", "conversation": conversation})).await;
        assert_eq!((&stopping["type"], &stopping["conversation"]), (&json!("stopping"), &json!(conversation)));
        let accepted = me.post(&format!("/v1/conversations/{conversation}/stop"), json!({})).await.expect(202);
        assert_eq!(accepted, json!({}));
        // A stop without a running answer stops nothing that comes later.
        let said = me.post("/v1/chat", json!({"text": "still here", "conversation": conversation})).await.expect(200);
        assert_eq!((&said["answer"]["kind"], &said["answer"]["text"]), (&json!("text"), &json!("still here")));
    }

    async fn watches_end_and_are_resumed_by_cursor_at_any_frontend(place: &Place) {
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        let mut socket = me.signed_in_socket().await;
        socket.ask(json!({"type": "watch", "conversation": conversation})).await;
        let first = me.post("/v1/chat", json!({"text": "one", "conversation": conversation})).await.expect(200);
        assert_eq!(socket.message().await, first["message"]);
        assert_eq!(socket.message().await, first["answer"]);
        let unwatched = socket.ask(json!({"type": "unwatch", "conversation": conversation})).await;
        assert_eq!(unwatched["type"], "unwatched");
        let second = me.post("/v1/chat", json!({"text": "two", "conversation": conversation})).await.expect(200);
        for frontend in &place.frontends {
            let mut socket = me.at(frontend).signed_in_socket().await;
            let watch = json!({"type": "watch", "conversation": conversation, "after": first["cursor"]});
            socket.ask(watch).await;
            assert_eq!(socket.message().await, second["message"]);
            assert_eq!(socket.message().await, second["answer"]);
        }
        // The first socket heard nothing of it.
        let third = json!({"type": "watch", "conversation": conversation, "after": second["cursor"]});
        socket.ask(third).await;
        let said = socket.ask(json!({"type": "send", "conversation": conversation, "text": "three"})).await;
        assert_eq!(number(&socket.message().await, "seq"), number(&said, "seq"));
    }

    async fn two_conversations_share_a_connection(place: &Place) {
        let (me, first) = Api::guest(&place.frontends[0]).await;
        let mut socket = me.signed_in_socket().await;
        let second = text(&socket.ask(json!({"type": "open"})).await, "conversation");
        for conversation in [&first, &second] {
            socket.ask(json!({"type": "watch", "conversation": conversation})).await;
        }
        for conversation in [&first, &second, &first] {
            socket.ask(json!({"type": "send", "conversation": conversation, "text": "both"})).await;
            for who in ["user", "bot"] {
                let message = socket.message().await;
                assert_eq!((&message["conversation"], &message["who"]), (&json!(conversation), &json!(who)));
            }
        }
    }
}
