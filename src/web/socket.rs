//! WebSockets: the upgrade, taken by ourselves inside warp, and a socket that knows the server's stop.
//!
//! warp's own upgrade holds a buffer of 128 KiB for each connection; this one 512 bytes, about 2.6 KB in all. A socket is
//! a tracked task from the moment of the upgrade, so that a stop waits for it, and it goes on counting as a connection.

mod upgrade;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::frame::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_util::sync::CancellationToken;

pub use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
pub use upgrade::{Upgrade, upgrade};

/// tungstenite fills its read buffer with zeros, so all of it is resident: keep it small. Longer messages grow it.
const READ_BUFFER: usize = 512;
/// How long the peer is given to answer a close.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// Longest reason that fits into a close frame.
const REASON_BYTES: usize = 123;

/// How sockets of one address behave.
#[derive(Debug, Clone, Copy)]
pub struct SocketOptions {
    /// The subprotocol, such as `yalo.v1`; a client that asks for others only is refused.
    pub protocol: &'static str,
    /// Largest message. JSON may write each byte of a text as six.
    pub message_bytes: usize,
    /// A peer that does not take what is sent for this long is gone.
    pub write_timeout: Duration,
}

/// What came in, or why nothing will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A text message.
    Text(Utf8Bytes),
    /// The answer to a [`Socket::ping`].
    Pong,
    /// This server stops: say goodbye, then [`Socket::close`] with [`CloseCode::Away`].
    Stopping,
    /// The peer closed, is gone, or broke the protocol and was told so. Nothing can be sent any more.
    Closed,
}

/// The peer cannot be reached any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer is gone")]
pub struct Gone;

/// An open WebSocket. Dropping it drops the connection without a close frame: end with [`Socket::close`].
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    stop: CancellationToken,
    write_timeout: Duration,
}

impl Socket {
    async fn new(upgraded: Upgraded, options: SocketOptions, stop: CancellationToken) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            // Each message leaves at once.
            .write_buffer_size(0)
            .max_write_buffer_size(2 * options.message_bytes.max(READ_BUFFER))
            .max_message_size(Some(options.message_bytes))
            .max_frame_size(Some(options.message_bytes));
        let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        Self { stream, stop, write_timeout: options.write_timeout }
    }

    /// Waits for the next message. Pings are answered here, so keep receiving. May be dropped and called again.
    pub async fn receive(&mut self) -> Received {
        loop {
            let next = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Received::Stopping,
                next = self.stream.next() => next,
            };
            match next {
                Some(Ok(Message::Text(text))) => return Received::Text(text),
                Some(Ok(Message::Pong(_))) => return Received::Pong,
                Some(Ok(Message::Ping(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Binary(_))) => {
                    self.finish(CloseCode::Unsupported, "send text frames").await;
                    return Received::Closed;
                }
                // The answer to the peer's close leaves with the next flush.
                Some(Ok(Message::Close(_))) => {
                    self.drain().await;
                    return Received::Closed;
                }
                Some(Err(error)) => {
                    if let Some((code, reason)) = violation(&error) {
                        self.finish(code, reason).await;
                    }
                    return Received::Closed;
                }
                None => return Received::Closed,
            }
        }
    }

    /// Sends a text message. The time limit is the socket's, since a peer that takes nothing would hold the sender.
    pub async fn send(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), Gone> {
        self.send_message(Message::Text(text.into())).await
    }

    /// Asks the peer whether it lives; it answers by [`Received::Pong`].
    pub async fn ping(&mut self) -> Result<(), Gone> {
        self.send_message(Message::Ping(Bytes::new())).await
    }

    async fn send_message(&mut self, message: Message) -> Result<(), Gone> {
        match timeout(self.write_timeout, self.stream.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    /// Closes with a code and a short reason, and waits a moment for the peer to do the same.
    pub async fn close(mut self, code: CloseCode, reason: &str) {
        self.finish(code, reason).await;
    }

    async fn finish(&mut self, code: CloseCode, reason: &str) {
        let end = (0..=REASON_BYTES.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
        let reason = reason.get(..end.unwrap_or_default()).unwrap_or_default();
        let frame = CloseFrame { code, reason: reason.into() };
        if self.send_message(Message::Close(Some(frame))).await.is_ok() {
            self.drain().await;
        }
    }

    /// Reads to the end, since closing with bytes unread would drop the close frame on its way.
    async fn drain(&mut self) {
        let reading = async { while let Some(Ok(_)) = self.stream.next().await {} };
        if timeout(CLOSE_TIME, reading).await.is_err() {
            tracing::debug!("a peer did not answer the close of its socket");
        }
    }
}

/// What to tell a peer that broke the rules; none if it is gone anyway.
fn violation(error: &Error) -> Option<(CloseCode, &'static str)> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Some((CloseCode::Size, "the message is too large")),
        Error::Capacity(_) => Some((CloseCode::Size, "too much at once")),
        Error::Utf8(_) => Some((CloseCode::Invalid, "the text is not UTF-8")),
        Error::Protocol(_) => Some((CloseCode::Protocol, "this is not WebSocket")),
        _ => None,
    }
}
