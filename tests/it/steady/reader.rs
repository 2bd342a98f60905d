//! Readers that resume by their cursor wherever they are cut off.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Api, Call, pause, text};
use crate::client::number;
use crate::harness::{PATIENCE, eventually};

/// How a conversation is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    Events,
    Socket,
    /// Pages by long poll.
    Pages,
}

pub(super) struct Reader {
    way: Way,
    frontends: Vec<Api>,
    conversation: String,
    cursor: String,
    connections: usize,
}

impl Reader {
    pub(super) fn new(way: Way, frontends: Vec<Api>, conversation: &str, cursor: &str) -> Self {
        let (conversation, cursor) = (conversation.to_owned(), cursor.to_owned());
        Self { way, frontends, conversation, cursor, connections: 0 }
    }

    /// How often it began again.
    pub(super) fn resumed(&self) -> usize {
        self.connections.saturating_sub(1)
    }

    /// Reads into `seen` for ever, from one frontend after the other; `resume` lets go of the present one.
    pub(super) async fn read(&mut self, seen: &RefCell<Vec<Value>>, resume: &tokio::sync::Notify) {
        loop {
            let api = self.frontends[self.connections % self.frontends.len()].clone();
            self.connections += 1;
            let reading = async {
                match self.way {
                    Way::Events => self.events(&api, seen).await,
                    Way::Socket => drop(self.socket(&api, seen).await),
                    Way::Pages => self.pages(&api, seen).await,
                }
            };
            tokio::select! {
                () = reading => {}
                () = resume.notified() => {}
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn note(&mut self, seen: &RefCell<Vec<Value>>, message: Value) {
        self.cursor = text(&message, "cursor");
        seen.borrow_mut().push(message);
    }

    /// Reads again what was not told of in order.
    async fn fill(&self, api: &Api, seen: &RefCell<Vec<Value>>, gap: &Value) {
        let (after, before) = (text(gap, "after"), text(gap, "before"));
        let path = format!("/v1/conversations/{}/messages?limit=500&after={after}", self.conversation);
        let page = eventually(PATIENCE, "a page", async || {
            let answer = api.try_call(Call { path: &path, ..Call::default() }).await.ok()?;
            (answer.status == 200).then_some(answer.body)
        })
        .await;
        let before: u64 = before.rsplit('-').next().unwrap().parse().unwrap();
        let mut seen = seen.borrow_mut();
        for message in page["messages"].as_array().unwrap() {
            if number(message, "seq") < before && !seen.contains(message) {
                seen.push(message.clone());
            }
        }
        seen.sort_by_key(|message| number(message, "seq"));
    }

    async fn events(&mut self, api: &Api, seen: &RefCell<Vec<Value>>) {
        let path = format!("/v1/conversations/{}/events", self.conversation);
        let cursor = self.cursor.clone();
        let call = Call { path: &path, headers: &[("last-event-id", &cursor)], ..Call::default() };
        let Ok(Some(mut events)) = api.try_events(call).await else { return };
        while let Some(event) = events.next().await {
            match event.name.as_str() {
                "message" => self.note(seen, event.data),
                "gap" => self.fill(api, seen, &event.data).await,
                _ => {}
            }
        }
    }

    async fn socket(&mut self, api: &Api, seen: &RefCell<Vec<Value>>) -> Result<(), String> {
        let mut socket = api.try_socket().await?;
        socket.try_ask(&json!({"type": "hello", "token": api.token()})).await?;
        let watch = json!({"type": "watch", "conversation": self.conversation, "after": self.cursor, "ref": "w"});
        let watching = socket.try_ask(&watch).await?;
        if watching["type"] == "error" {
            assert_eq!(watching["status"], 503, "{watching}");
            return Ok(());
        }
        loop {
            let mut frame = socket.next_pushed().await?;
            match frame["type"].as_str() {
                Some("message") => self.note(seen, frame["message"].take()),
                Some("gap") => self.fill(api, seen, &frame).await,
                _ => {}
            }
        }
    }

    async fn pages(&mut self, api: &Api, seen: &RefCell<Vec<Value>>) {
        let path = format!("/v1/conversations/{}/messages", self.conversation);
        loop {
            let path = format!("{path}?limit=50&wait=5&after={}", self.cursor);
            match api.try_call(Call { path: &path, ..Call::default() }).await {
                Ok(answer) if answer.status == 200 => {
                    for message in answer.body["messages"].as_array().unwrap() {
                        self.note(seen, message.clone());
                    }
                }
                Ok(answer) => return tokio::time::sleep(pause(Some(&answer))).await,
                Err(_) => return,
            }
        }
    }
}
