//! What is refused, and with which word: the same over HTTP and over the WebSocket.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Api, Call, id_at, new_id, text};
use crate::harness::Place;
use crate::shapes::in_both_shapes;

/// Six days and a little.
const LONG_AGO_MS: i64 = -(6 * 86_400_000 + 60_000);

/// Bodies of a message that are refused: `CONVERSATION` stands for one of one's own.
fn bad_messages() -> Vec<(&'static str, String, u16, &'static str)> {
    let with = |message: Value| message.to_string();
    let longest = "x".repeat(16 * 1024 + 1);
    vec![
        ("empty", with(json!({"text": ""})), 400, "text_empty"),
        ("blank", with(json!({"text": " \n\t\u{3000}"})), 400, "text_empty"),
        ("too long", with(json!({"text": longest})), 413, "text_too_long"),
        ("NUL", r#"{"text":"a\u0000b"}"#.to_owned(), 400, "invalid_json"),
        ("half a surrogate", r#"{"text":"a\ud800b"}"#.to_owned(), 400, "invalid_json"),
        ("unknown field", with(json!({"text": "a", "colour": "green"})), 400, "unknown_field"),
        ("no text", with(json!({})), 400, "invalid_field"),
        ("a number", with(json!({"text": 7})), 400, "invalid_field"),
        ("not an id", with(json!({"text": "a", "id": "x"})), 400, "invalid_id"),
        ("an id in capitals", with(json!({"text": "a", "id": new_id().to_uppercase()})), 400, "invalid_id"),
        ("not v7", with(json!({"text": "a", "id": "936da01f-9abd-4d9d-80c7-02af85c822a8"})), 400, "invalid_id"),
        ("from the future", with(json!({"text": "a", "id": id_at(120_000)})), 400, "id_in_future"),
        ("too old", with(json!({"text": "a", "id": id_at(LONG_AGO_MS)})), 400, "id_too_old"),
        ("a nameless bot", with(json!({"text": "a", "bot": ""})), 400, "invalid_field"),
    ]
}

in_both_shapes! {
    async fn a_bad_message_is_refused_by_name_on_every_way_in(place: &Place) {
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        let mut socket = me.signed_in_socket().await;
        let headers = &[("content-type", "application/json")];
        let messages = format!("/v1/conversations/{conversation}/messages");
        for (name, body, status, code) in bad_messages() {
            println!("{name}");
            let chat = body.replacen('{', &format!("{{\"conversation\":\"{conversation}\","), 1).replace(",}", "}");
            for (path, body) in [("/v1/chat", &chat), (messages.as_str(), &body)] {
                let call = Call { post: true, path, headers, body: body.clone().into_bytes() };
                let problem = me.call(call).await.refused(status, code);
                assert_eq!(problem.get("server_time").is_some(), code.starts_with("id_"), "{problem}");
            }
            let frame = chat.replacen('{', "{\"type\":\"send\",\"ref\":\"bad\",", 1);
            socket.send_raw(Message::text(frame)).await;
            let refusal = socket.read().await.unwrap();
            assert_eq!((&refusal["type"], &refusal["code"]), (&json!("error"), &json!(code)), "{refusal}");
            assert_eq!(refusal["status"], status);
            assert!(refusal["ref"] == "bad" || refusal.get("ref").is_none() && code == "invalid_json", "{refusal}");
        }
        // None of it was stored, and the connection is still good.
        let page = me.get(&messages).await.expect(200);
        assert_eq!(page["messages"].as_array().unwrap().len(), 1, "{page}");
        assert_eq!(socket.ask(json!({"type": "ping"})).await["type"], "pong");
    }

    async fn a_bad_body_is_refused_before_it_is_read(place: &Place) {
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        let messages = format!("/v1/conversations/{conversation}/messages");
        let json_type = ("content-type", "application/json");
        let bad: [(&str, (&str, &str), Vec<u8>, u16, &str); 7] = [
            ("not UTF-8", json_type, b"{\"text\":\"a\xff\"}".to_vec(), 400, "not_utf8"),
            ("not JSON", json_type, b"hello".to_vec(), 400, "invalid_json"),
            ("two values", json_type, b"{\"text\":\"a\"}{}".to_vec(), 400, "invalid_json"),
            ("nothing", json_type, Vec::new(), 400, "invalid_json"),
            ("too large", json_type, vec![b' '; 65_537], 413, "body_too_large"),
            ("a form", ("content-type", "application/x-www-form-urlencoded"), b"text=a".to_vec(), 415, "unsupported_media_type"),
            ("a foreign charset", ("content-type", "application/json; charset=utf-16"), b"{}".to_vec(), 415, "unsupported_media_type"),
        ];
        for (name, header, body, status, code) in bad {
            for path in ["/v1/chat", messages.as_str()] {
                println!("{name} at {path}");
                let headers = &[header];
                let call = Call { post: true, path, headers, body: body.clone() };
                me.call(call).await.refused(status, code);
            }
        }
        let headers = &[("content-type", "text/plain")];
        let call = Call { post: true, path: "/v1/chat", headers, body: b"a\xff".to_vec() };
        me.call(call).await.refused(400, "not_utf8");
        let call = Call { post: true, path: "/v1/chat", headers, body: b"a\0b".to_vec() };
        me.call(call).await.refused(400, "invalid_field");
        let call = Call { post: true, path: "/v1/chat?colour=green", headers, body: b"a".to_vec() };
        me.call(call).await.refused(400, "unknown_field");
    }

    async fn a_mangled_cursor_is_refused(place: &Place) {
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        let path = format!("/v1/conversations/{conversation}");
        for cursor in ["x", "1", "1-", "-1", "01-2", "1-2-3", "1-99999999999999999999", "1%20-2"] {
            for query in ["after", "before"] {
                let messages = format!("{path}/messages?{query}={cursor}");
                me.get(&messages).await.refused(400, "invalid_cursor");
            }
            me.get(&format!("{path}/events?after={cursor}")).await.refused(400, "invalid_cursor");
        }
        me.get("/v1/conversations?before=1-2").await.refused(400, "invalid_cursor");
        for query in ["limit=0", "limit=501", "limit=x", "wait=-1"] {
            me.get(&format!("{path}/messages?{query}")).await.refused(400, "invalid_field");
        }
        me.get(&format!("{path}/messages?colour=green")).await.refused(400, "unknown_field");
        let mut socket = me.signed_in_socket().await;
        let refused = socket.ask(json!({"type": "watch", "conversation": conversation, "after": "1-2-3"})).await;
        assert_eq!(refused["code"], "invalid_cursor");
    }

    async fn unknown_places_and_callers_are_refused(place: &Place) {
        let (me, _) = Api::guest(&place.frontends[0]).await;
        let mut socket = me.signed_in_socket().await;
        for conversation in ["x", "0198C0DE-0000-7000-8000-000000000001"] {
            me.get(&format!("/v1/conversations/{conversation}/messages")).await.refused(400, "invalid_id");
            let chat = json!({"text": "a", "conversation": conversation});
            me.post("/v1/chat", chat).await.refused(400, "invalid_id");
            let refused = socket.ask(json!({"type": "send", "conversation": conversation, "text": "a"})).await;
            assert_eq!(refused["code"], "invalid_id");
        }
        for kind in ["watch", "send", "stop"] {
            let mut frame = json!({"type": kind, "conversation": new_id()});
            if kind == "send" {
                frame["text"] = json!("a");
            }
            let refused = socket.ask(frame).await;
            assert_eq!((&refused["code"], &refused["status"]), (&json!("not_found"), &json!(404)), "{kind}");
        }
        me.without_token().get("/v1/conversations").await.refused(401, "unauthorized");
        let mangled = me.with_token(&me.token().replace('.', "x."));
        mangled.get("/v1/conversations").await.refused(401, "unauthorized");
        mangled.post("/v1/chat", json!({"text": "a"})).await.refused(401, "unauthorized");
        me.get("/v1/nothing").await.refused(404, "not_found");
        let gone = me.get("/v1/chat").await;
        assert!(gone.headers["allow"].to_str().unwrap().contains("POST"));
        gone.refused(405, "method_not_allowed");
        let operator = Api::operator(place).await;
        operator.without_token().get("/admin/v1/stats").await.refused(401, "unauthorized");
        operator.with_token(me.token()).get("/admin/v1/stats").await.refused(401, "unauthorized");
        operator.get("/admin/v1/messages/999999999").await.refused(404, "not_found");
        operator.get("/admin/v1/conversations/x").await.refused(400, "invalid_id");
        operator.get("/admin/v1/messages?after=1").await.refused(400, "invalid_cursor");
    }

    async fn a_socket_that_breaks_the_protocol_is_told_and_closed(place: &Place) {
        let (me, _) = Api::guest(&place.frontends[0]).await;
        // Not signed in: refused, then closed.
        let mut socket = me.socket().await;
        socket.send_raw(Message::text(r#"{"type":"ping","ref":"1"}"#)).await;
        assert_eq!(text(&socket.read().await.unwrap(), "code"), "unauthorized");
        assert_eq!(socket.read().await.unwrap_err(), "closed 1008");
        let mut socket = me.socket().await;
        assert_eq!(socket.hello(Some("not a token")).await["code"], "unauthorized");
        assert_eq!(socket.read().await.unwrap_err(), "closed 1008");
        // Frames that cannot be read leave it open.
        let mut socket = me.signed_in_socket().await;
        for (frame, code) in [
            ("hello", "invalid_json"),
            (r#"{"type":"dance","ref":"1"}"#, "invalid_field"),
            (r#"{"type":"ping"}"#, "invalid_field"),
            (r#"{"type":"ping","ref":"1","more":1}"#, "unknown_field"),
            (r#"{"type":"hello"}"#, "invalid_field"),
        ] {
            socket.send_raw(Message::text(frame)).await;
            let refused = socket.read().await.unwrap();
            assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!(code)), "{frame}: {refused}");
        }
        assert_eq!(socket.ask(json!({"type": "ping"})).await["type"], "pong");
    }
}
