//! One person in one conversation, on one connection: asks, and waits for the answer.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Somebody who has said hello.
#[derive(Debug)]
pub struct Person {
    address: String,
    sender: SendRequest<Full<Bytes>>,
    conversation: String,
    token: String,
    /// Drives the connection; ends with this.
    _connection: JoinSet<hyper::Result<()>>,
}

impl Person {
    /// Opens a connection and a conversation.
    pub async fn open(address: &str) -> Result<Self> {
        let socket = TcpStream::connect(address).await.context("connect to the frontend")?;
        socket.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(socket)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        let mut person = Self {
            address: address.to_owned(),
            sender,
            conversation: String::new(),
            token: String::new(),
            _connection: tasks,
        };
        let hello = person.post(&json!({ "text": "hello" })).await?;
        person.conversation = hello["conversation"].as_str().context("no conversation")?.to_owned();
        person.token = hello["token"].as_str().context("no token")?.to_owned();
        Ok(person)
    }

    /// One turn; an error if no answer came.
    pub async fn ask(&mut self, text: &str) -> Result<()> {
        self.post(&json!({ "text": text, "conversation": self.conversation })).await.map(drop)
    }

    async fn post(&mut self, body: &Value) -> Result<Value> {
        let mut request =
            Request::post("/v1/chat").header("host", &self.address).header("content-type", "application/json");
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Full::from(body.to_string()))?).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status == 200, "the frontend answered {status}: {}", String::from_utf8_lossy(&body));
        let answer: Value = serde_json::from_slice(&body)?;
        ensure!(answer["answer"]["text"].is_string(), "no answer in {answer}");
        Ok(answer)
    }
}
