//! A client below HTTP: bytes out, bytes in.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::PATIENCE;

/// One connection to a frontend.
pub(super) struct Raw(TcpStream);

impl Raw {
    pub(super) async fn connect(base: &str) -> Self {
        Self(TcpStream::connect(base.trim_start_matches("http://")).await.unwrap())
    }

    /// Sends; false if the other side takes nothing any more.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        timeout(PATIENCE, self.0.write_all(bytes)).await.expect("room to send within a minute").is_ok()
    }

    /// What comes within a moment; empty if nothing does, or after the end.
    pub(super) async fn glimpse(&mut self, moment: Duration) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        let length = timeout(moment, self.0.read(&mut bytes)).await.map_or(0, |read| read.unwrap_or(0));
        bytes.truncate(length);
        bytes
    }

    /// Everything up to the end of the connection, which has to come within `limit`.
    pub(super) async fn rest(&mut self, limit: Duration) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = timeout(limit, self.0.read_to_end(&mut bytes)).await;
        // A reset after the answer is an end like any other.
        read.unwrap_or_else(|_| panic!("open after {limit:?}: {:?}", String::from_utf8_lossy(&bytes))).ok();
        bytes
    }

    /// The head of an answer, up to its empty line.
    pub(super) async fn head(&mut self) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(timeout(PATIENCE, self.0.read_u8()).await.expect("a head within a minute").unwrap());
        }
        String::from_utf8(bytes).unwrap()
    }

    /// Exactly so many bytes.
    pub(super) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        timeout(PATIENCE, self.0.read_exact(&mut bytes)).await.expect("bytes within a minute").unwrap();
        bytes
    }
}
