//! Server-sent events, read as the standard says and held against the description.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use super::schemas::Schemas;
use crate::harness::PATIENCE;

/// An open stream.
pub(crate) struct Events {
    response: reqwest::Response,
    schemas: Arc<Schemas>,
    buffer: Vec<u8>,
}

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

impl Events {
    pub(super) fn new(response: reqwest::Response, schemas: Arc<Schemas>) -> Self {
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, schemas, buffer: Vec::new() }
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        timeout(PATIENCE, self.read()).await.expect("an event within a minute")
    }

    /// Whether nothing comes for a while; for what must not happen.
    pub(crate) async fn is_silent_for(&mut self, span: Duration) -> bool {
        timeout(span, self.read()).await.is_err()
    }

    /// The next message, past drafts and other hints.
    pub(crate) async fn message(&mut self) -> Event {
        loop {
            let event = self.next().await.expect("a message before the end of the stream");
            if event.name == "message" {
                assert_eq!(event.id.as_deref(), event.data["cursor"].as_str(), "a message's id is its cursor");
                return event;
            }
            assert!(event.id.is_none(), "only messages may be resumed from: {event:?}");
        }
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let Some(event) = parse(std::str::from_utf8(&block).unwrap()) else { continue };
                let (first, rest) = event.name.split_at(1);
                self.schemas.check_named(&format!("Event{}{rest}", first.to_uppercase()), &event.data);
                return Some(event);
            }
            let chunk = self.response.chunk().await.ok().flatten()?;
            self.buffer.extend_from_slice(&chunk);
        }
    }
}

fn parse(block: &str) -> Option<Event> {
    let (mut name, mut id, mut data) = ("message".to_owned(), None, String::new());
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "id" => id = Some(value.to_owned()),
            "data" => data.push_str(value),
            _ => {}
        }
    }
    (!data.is_empty()).then(|| Event { name, id, data: serde_json::from_str(&data).unwrap() })
}
