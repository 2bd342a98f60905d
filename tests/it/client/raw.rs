//! A connection whose bytes the test writes itself.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::PATIENCE;

/// Connects to `http://HOST:PORT`.
pub(crate) async fn line(base: &str) -> TcpStream {
    TcpStream::connect(base.strip_prefix("http://").unwrap()).await.unwrap()
}

/// What comes back until the other side closes.
pub(crate) async fn rest(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    // A reset after the answer is an end too.
    timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("an end").ok();
    String::from_utf8(heard).unwrap()
}

/// The status of an answer.
#[track_caller]
pub(crate) fn status(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no status in {answer:?}"))
}
