//! `GET .../events`: a conversation as it happens, resumed from where one was.

use std::time::Duration;

use serde_json::json;

use crate::client::{Api, Call, number, text};
use crate::harness::Place;
use crate::shapes::in_both_shapes;

in_both_shapes! {
    async fn a_follower_hears_each_message_once_and_resumes_without_doubles(place: &Place) {
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        let path = format!("/v1/conversations/{conversation}/events");
        let mut heard = Vec::new();
        let mut last = String::new();
        // Each round is another connection that goes on where the one before broke off, in the middle of the talk.
        for round in 0..4 {
            let frontend = &place.frontends[round % place.frontends.len()];
            let after = format!("{path}?after=0-0");
            let headers = [("last-event-id", last.as_str())];
            let call = match round {
                0 => Call { path: &after, ..Call::default() },
                _ => Call { path: &path, headers: &headers, ..Call::default() },
            };
            let mut events = me.at(frontend).events(call).await;
            for turn in 0..3 {
                let question = json!({"text": format!("{round}.{turn}"), "conversation": conversation});
                me.post("/v1/chat", question).await.expect(200);
            }
            for _ in 0..5 {
                let message = events.message().await;
                heard.push((number(&message.data, "seq"), message.data["text"].as_str().unwrap_or("").to_owned()));
                last = message.id.unwrap();
            }
        }
        let whole = me.get(&format!("/v1/conversations/{conversation}/messages?limit=500")).await.expect(200);
        let whole = whole["messages"].as_array().unwrap();
        let stored: Vec<_> = whole
            .iter()
            .map(|message| (number(message, "seq"), message["text"].as_str().unwrap_or("").to_owned()))
            .collect();
        assert_eq!(stored.len(), 25);
        assert_eq!(heard, stored[..20]);
    }

    async fn without_a_cursor_only_what_is_new_is_told(place: &Place) {
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        me.post("/v1/chat", json!({"text": "before", "conversation": conversation})).await.expect(200);
        let path = format!("/v1/conversations/{conversation}/events");
        let mut events = me.events(Call { path: &path, ..Call::default() }).await;
        assert!(events.is_silent_for(Duration::from_millis(300)).await);
        let said = me.post("/v1/chat", json!({"text": "now", "conversation": conversation})).await.expect(200);
        assert_eq!(events.message().await.data, said["message"]);
        assert_eq!(events.message().await.data, said["answer"]);
        // A cursor of one conversation is a position in any other.
        let path = format!("{path}?after={}", text(&said["message"], "cursor"));
        let mut events = me.events(Call { path: &path, ..Call::default() }).await;
        assert_eq!(events.message().await.data, said["answer"]);
    }
}
