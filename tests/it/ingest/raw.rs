//! Uploads by hand.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::TOKEN;
use crate::harness::PATIENCE;

/// An upload whose body comes as the test wants it.
pub(super) struct Raw(TcpStream);

impl Raw {
    /// Begins one, with these lines.
    pub(super) async fn post(frontend: &str, query: &str, lines: &str) -> Self {
        let address = frontend.trim_start_matches("http://");
        let mut raw = Self(TcpStream::connect(address).await.unwrap());
        let head = format!(
            "POST /v1/ingest{query} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        raw.0.write_all(head.as_bytes()).await.unwrap();
        raw.more(lines).await;
        raw
    }

    pub(super) async fn more(&mut self, lines: &str) {
        self.0.write_all(format!("{:x}\r\n{lines}\r\n", lines.len()).as_bytes()).await.unwrap();
    }

    pub(super) async fn end(&mut self) {
        self.0.write_all(b"0\r\n\r\n").await.unwrap();
    }

    pub(super) async fn answer(mut self) -> String {
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, self.0.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }
}
