//! An operator's program: reads the admin API on one connection.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// An open connection, and the token.
#[derive(Debug)]
pub struct Reader {
    address: String,
    token: String,
    sender: SendRequest<Empty<Bytes>>,
    /// Drives the connection; ends with this.
    _connection: JoinSet<hyper::Result<()>>,
}

impl Reader {
    /// Connects.
    pub async fn open(address: &str, token: &str) -> Result<Self> {
        let socket = TcpStream::connect(address).await.context("connect to admin")?;
        socket.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(socket)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        Ok(Self { address: address.to_owned(), token: token.to_owned(), sender, _connection: tasks })
    }

    /// What is at a path; an error unless it is 200.
    pub async fn get(&mut self, path: &str) -> Result<Value> {
        let request = Request::get(path)
            .header("host", &self.address)
            .header("authorization", format!("Bearer {}", self.token))
            .body(Empty::new())?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status == 200, "{path}: {status}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }
}
