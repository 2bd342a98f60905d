//! A WebSocket of `yalo.v1`; every frame that comes in is held against the description.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::schemas::Schemas;
use crate::harness::PATIENCE;

/// An open connection.
pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    schemas: Arc<Schemas>,
    /// Pushed frames that came while an answer was awaited.
    pushed: VecDeque<Value>,
    references: u64,
}

impl Socket {
    pub(super) async fn connect(base: &str, schemas: Arc<Schemas>) -> Result<Self, String> {
        let mut request = format!("{}/v1/ws", base.replacen("http", "ws", 1)).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "yalo.v1".parse().unwrap());
        let connecting = timeout(PATIENCE, tokio_tungstenite::connect_async(request)).await.unwrap();
        let (stream, response) = connecting.map_err(|error| error.to_string())?;
        assert_eq!(response.headers()["sec-websocket-protocol"], "yalo.v1");
        Ok(Self { stream, schemas, pushed: VecDeque::new(), references: 0 })
    }

    /// Says hello; the answer.
    pub(crate) async fn hello(&mut self, token: Option<&str>) -> Value {
        let hello = match token {
            Some(token) => json!({"type": "hello", "token": token}),
            None => json!({"type": "hello"}),
        };
        self.send_raw(Message::text(hello.to_string())).await;
        self.read().await.expect("an answer to hello")
    }

    /// Sends a frame; its answer, unless the connection ends before it. What is pushed meanwhile is kept.
    pub(crate) async fn try_ask(&mut self, frame: &Value) -> Result<Value, String> {
        let sent = timeout(PATIENCE, self.stream.send(Message::text(frame.to_string()))).await.expect("room to send");
        sent.map_err(|error| error.to_string())?;
        loop {
            let answer = self.read().await?;
            if answer["ref"] == frame["ref"] {
                return Ok(answer);
            }
            self.pushed.push_back(answer);
        }
    }

    /// The next frame that was pushed, or why there is none.
    pub(crate) async fn next_pushed(&mut self) -> Result<Value, String> {
        match self.pushed.pop_front() {
            Some(frame) => Ok(frame),
            None => self.read().await,
        }
    }

    /// Sends a frame with a reference of its own, and waits for its answer.
    pub(crate) async fn ask(&mut self, mut frame: Value) -> Value {
        self.references += 1;
        let reference = format!("r{}", self.references);
        frame["ref"] = json!(reference);
        self.send_raw(Message::text(frame.to_string())).await;
        self.answer(&reference).await
    }

    /// The answer with this reference; what is pushed meanwhile is kept.
    pub(crate) async fn answer(&mut self, reference: &str) -> Value {
        loop {
            let frame = self.read().await.unwrap_or_else(|end| panic!("{end} instead of an answer to {reference}"));
            if frame["ref"] == reference {
                return frame;
            }
            assert!(frame.get("ref").is_none(), "an answer to something else: {frame}");
            self.pushed.push_back(frame);
        }
    }

    /// The next message that is pushed, past drafts and other hints.
    pub(crate) async fn message(&mut self) -> Value {
        loop {
            let frame = match self.pushed.pop_front() {
                Some(frame) => frame,
                None => self.read().await.unwrap_or_else(|end| panic!("{end} instead of a message")),
            };
            match frame["type"].as_str() {
                Some("message") => return frame["message"].clone(),
                Some("draft" | "working") => {}
                _ => panic!("{frame} instead of a message"),
            }
        }
    }

    /// Sends anything.
    pub(crate) async fn send_raw(&mut self, message: Message) {
        timeout(PATIENCE, self.stream.send(message)).await.expect("room to send").unwrap();
    }

    /// The next frame, or why there is none.
    pub(crate) async fn read(&mut self) -> Result<Value, String> {
        loop {
            let next = timeout(PATIENCE, self.stream.next()).await.expect("a frame within a minute");
            match next {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    let (first, rest) = frame["type"].as_str().unwrap().split_at(1);
                    self.schemas.check_named(&format!("Server{}{rest}", first.to_uppercase()), &frame);
                    return Ok(frame);
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map_or_else(|| "closed".to_owned(), |frame| format!("closed {}", frame.code)));
                }
                other => return Err(format!("{other:?}")),
            }
        }
    }
}
