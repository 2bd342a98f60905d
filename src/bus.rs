//! NATS as yalo uses it: connections, acknowledged publishes, pulls, reads of the stream, requests.
//!
//! Everything that is known about async-nats' traps is honoured here and nowhere else: named clients, pings each 10 s,
//! jittered reconnects, 128 publishes in flight, no heartbeat on one-shot batches, an outer restart loop around pulls.

mod batch;
mod bulk;
mod connection;
mod dead;
mod error;
mod inspect;
mod members;
mod publish;

pub mod provision;
mod pull;
mod read;
mod rpc;
pub mod server;
mod state;
mod streak;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Subject, Subscriber};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::wire::Subjects;

pub use batch::Batch;
pub use bulk::{Bulk, Settled};
pub use connection::{Link, LinkEvents};
pub use dead::{LETTER_ROLES, Letter, LetterInFull, Letters, ReplayError, Replayed};
pub use error::BusError;
pub use inspect::{Copies, Copy, Greeting, ServerPage, Skew};
pub use members::Member;
pub use publish::{Publish, Published};
pub use pull::{AckHandle, Delivery, Pull, PullOptions};
pub use read::{From, Read, Record};
pub use rpc::{RpcEndpoint, RpcError, RpcRequest, RpcService};
pub use state::{ConsumerState, StreamState};
pub use streak::Streak;

/// How to reach NATS, and how long to wait for it.
#[derive(Debug, Clone)]
pub struct BusOptions {
    /// Comma-separated addresses.
    pub url: String,
    /// User name; empty: none.
    pub user: String,
    /// Password of the user.
    pub password: String,
    /// Path of a credentials file; empty: none.
    pub credentials: String,
    /// First token of every subject.
    pub subjects: Subjects,
    /// Limit of one connection attempt.
    pub connect_timeout: Duration,
    /// Limit of one request.
    pub request_timeout: Duration,
    /// A publish without an acknowledgement is sent again after this time.
    pub publish_timeout: Duration,
    /// A publish is given up after this time, all attempts together.
    pub publish_deadline: Duration,
    /// Publishes in flight.
    pub publish_in_flight: usize,
}

impl BusOptions {
    /// The stream of messages, `YALO_CHAT` for the prefix `yalo`.
    pub fn chat_stream(&self) -> String {
        format!("{}_CHAT", self.subjects.prefix().to_uppercase())
    }

    /// The stream of dead letters, `YALO_DEAD` for the prefix `yalo`.
    pub fn dead_stream(&self) -> String {
        format!("{}_DEAD", self.subjects.prefix().to_uppercase())
    }
}

/// One role's way to NATS: a connection for reading and consuming, and one of its own for publishing, so that the acks
/// of a busy consumer do not delay publishes. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    options: Arc<BusOptions>,
    chat: Arc<str>,
    link: Link,
    publisher: Arc<publish::Publisher>,
}

impl Bus {
    /// Connects as `name`, which operators see in the server's list of connections. Waits up to the connect time-out.
    pub async fn connect(options: BusOptions, name: &str, events: LinkEvents) -> Result<Self, BusError> {
        let options = Arc::new(options);
        let link = Link::open(&options, name, events.clone()).await?;
        let publisher = Arc::new(publish::Publisher::new(Arc::clone(&options), format!("{name}-publish"), events));
        publisher.warm().await?;
        Ok(Self { chat: options.chat_stream().into(), options, link, publisher })
    }

    /// The subjects of this deployment.
    pub fn subjects(&self) -> &Subjects {
        &self.options.subjects
    }

    /// The options that this connection was made with.
    pub fn options(&self) -> &BusOptions {
        &self.options
    }

    /// The name of the message stream.
    pub fn chat_stream(&self) -> &str {
        &self.chat
    }

    /// Whether the connection for reading stands now.
    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    /// Publishes one message into a stream and waits until it is stored.
    pub async fn publish(&self, publish: Publish) -> Result<Published, BusError> {
        self.publisher.publish(publish).await
    }

    /// A line for many messages in a row, on a connection of its own that `name` shows to operators.
    pub fn bulk(&self, name: &str, events: LinkEvents) -> Bulk {
        Bulk::new(Arc::clone(&self.options), name.to_owned(), events)
    }

    /// Sends a message that nobody stores: drafts, control. Queued only; nobody may hear it.
    pub async fn send(&self, subject: String, payload: Bytes) -> Result<(), BusError> {
        self.queued("send", self.client().publish(subject, payload)).await
    }

    /// Subscribes to a core subject. The subscription lives as long as the value; one that lags by more than 65,536
    /// messages loses some, which [`LinkEvents::lagged`] counts.
    pub async fn subscribe(&self, subject: String) -> Result<Subscriber, BusError> {
        self.queued("subscribe", self.client().subscribe(subject)).await
    }

    /// What only has to be queued, which takes no time, unless the server is away and 2,048 commands wait for it already.
    async fn queued<T, E: std::fmt::Display>(
        &self,
        doing: &'static str,
        queueing: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BusError> {
        match tokio::time::timeout(self.options.request_timeout, queueing).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(BusError::unavailable(doing, error)),
            Err(_) => Err(BusError::TimedOut { doing }),
        }
    }

    /// A JetStream context of the reading connection, for the management calls of `provision` and consumer state.
    pub fn jetstream(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::ContextBuilder::new()
            .timeout(self.options.request_timeout)
            .build(self.client().as_ref().clone())
    }

    /// Writes out what is queued, and waits until both connections are closed or `limit` has passed.
    pub async fn close(&self, limit: Duration) {
        self.publisher.close(limit).await;
        self.link.close(limit).await;
    }

    /// What the stream's leader knows of the stream now.
    pub async fn stream_state(&self) -> Result<StreamState, BusError> {
        self.state_of(&self.chat).await
    }

    async fn state_of(&self, stream: &str) -> Result<StreamState, BusError> {
        let subject = format!("$JS.API.STREAM.INFO.{stream}");
        let info: state::StreamInfo = self.info("read the state of the stream", subject, stream).await?;
        Ok(info.into())
    }

    /// What the server knows of one consumer of the stream now.
    pub async fn consumer_state(&self, consumer: &str) -> Result<ConsumerState, BusError> {
        let subject = format!("$JS.API.CONSUMER.INFO.{}.{consumer}", self.chat);
        let info: state::ConsumerInfo = self.info("read the state of a consumer", subject, consumer).await?;
        Ok(info.into())
    }

    /// What the leader of a stream or a consumer says of it.
    async fn info<T: DeserializeOwned>(&self, doing: &'static str, subject: String, what: &str) -> Result<T, BusError> {
        let answer = self.ask(doing, subject, Bytes::new()).await?;
        state::parse_led(&answer.payload, what, self.greeting().cluster.is_some())
    }

    /// Removes the head of the stream, everything below `seq`. What it held has to be in the store.
    pub async fn purge_below(&self, seq: u64) -> Result<u64, BusError> {
        let subject = format!("$JS.API.STREAM.PURGE.{}", self.chat);
        let payload = serde_json::json!({ "seq": seq }).to_string();
        let answer = self.ask("trim the stream", subject, payload.into()).await?;
        let purged: state::Purged = state::parse(&answer.payload, &self.chat)?;
        Ok(purged.purged)
    }

    /// Returns when everything that was subscribed before is known to the server: any round trip tells.
    pub async fn barrier(&self) -> Result<(), BusError> {
        let inbox = self.client().new_inbox();
        let mut echo = self.subscribe(inbox.clone()).await?;
        self.send(inbox, Bytes::new()).await?;
        let heard = futures_util::StreamExt::next(&mut echo);
        match tokio::time::timeout(self.options.request_timeout, heard).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(BusError::unavailable("subscribe", "the connection closed")),
            Err(_) => Err(BusError::TimedOut { doing: "subscribe" }),
        }
    }

    fn client(&self) -> &Arc<Client> {
        self.link.client()
    }

    /// One request, one answer, under the request time-out.
    async fn ask(&self, doing: &'static str, subject: String, payload: Bytes) -> Result<async_nats::Message, BusError> {
        let answer = self.client().request(Subject::from(subject), payload);
        match tokio::time::timeout(self.options.request_timeout, answer).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) => Err(BusError::from_request(doing, &error)),
            Err(_) => Err(BusError::TimedOut { doing }),
        }
    }
}
