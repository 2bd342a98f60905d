//! Pulling from a durable consumer: an endless flow of deliveries that survives whatever happens to the connection.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::{Client, Subject};
use futures_util::{FutureExt, StreamExt};

use super::{Bus, BusError, Record, Streak};
use crate::domain::Timestamp;

/// The longest wait between two signs of life of a question that is open. Two are missed before it is taken for lost, each of
/// twice as long: with the leader of a consumer goes what it was asked.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What is asked for at once, and how long the server keeps the question open.
#[derive(Debug, Clone, Copy)]
pub struct PullOptions {
    /// Messages asked for at once; up to one and a half times as many wait here.
    pub batch: usize,
    /// How long a question stays open on the server. A frozen process keeps stealing messages for as long.
    pub expires: Duration,
}

/// A message that was handed to this process. It comes again if it is not acknowledged within the consumer's `ack_wait`.
pub struct Delivery {
    /// The message.
    pub record: Record,
    /// Its number among this consumer's deliveries: one more than the last, unless somebody else got some.
    pub consumer_seq: u64,
    /// How often it has been delivered, 1 for the first time.
    pub delivered: i64,
    /// Matching messages behind it.
    pub pending: u64,
    /// What to answer it with.
    pub handle: AckHandle,
}

/// What a delivery is answered with. Outlives it; each delivery of a message brings a new one, and only the newest counts.
#[derive(Clone)]
pub struct AckHandle {
    reply: Subject,
    client: Arc<Client>,
    limit: Duration,
}

impl AckHandle {
    /// Done. Queued only: should it get lost, the message comes again, which every handler here must allow.
    pub async fn ack(&self) {
        self.answer(AckKind::Ack).await;
    }

    /// Still at it: `ack_wait` begins anew.
    pub async fn progress(&self) {
        self.answer(AckKind::Progress).await;
    }

    /// Give it to somebody else, now. For what was fetched and never begun.
    pub async fn give_back(&self) {
        self.answer(AckKind::Nak(None)).await;
    }

    async fn answer(&self, kind: AckKind) {
        let queueing = self.client.publish(self.reply.clone(), kind.into());
        // While the server is away the queue to it may be full: many of these are not to wait for it one after the other.
        let queued = match self.client.connection_state() {
            State::Connected => tokio::time::timeout(self.limit, queueing).await.ok(),
            _ => queueing.now_or_never(),
        };
        if !matches!(queued, Some(Ok(()))) {
            tracing::debug!("an acknowledgement could not be queued, the message comes again");
        }
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Delivery {{ seq: {}, delivered: {} }}", self.record.seq, self.delivered)
    }
}

impl Delivery {
    fn read(bus: &Bus, message: async_nats::jetstream::Message) -> Option<Self> {
        let (seq, consumer_seq, delivered, pending, at) = {
            let info = message.info().ok()?;
            let at = i64::try_from(info.published.unix_timestamp_nanos()).ok()?;
            (info.stream_sequence, info.consumer_sequence, info.delivered, info.pending, Timestamp::from_ns(at))
        };
        let message = message.message;
        Some(Self {
            record: Record { subject: message.subject.into_string(), seq, at, payload: message.payload },
            consumer_seq,
            delivered,
            pending,
            handle: AckHandle {
                reply: message.reply?,
                client: Arc::clone(bus.client()),
                limit: bus.options.request_timeout,
            },
        })
    }
}

/// The endless flow of one consumer.
pub struct Pull {
    bus: Bus,
    consumer: String,
    options: PullOptions,
    stream: Option<pull::Stream>,
    missed_heartbeats: u32,
    failures: Streak,
}

impl Pull {
    /// A flow that asks for its first message when that is wanted.
    pub fn new(bus: &Bus, consumer: &str, options: PullOptions) -> Self {
        Self {
            bus: bus.clone(),
            consumer: consumer.to_owned(),
            options,
            stream: None,
            missed_heartbeats: 0,
            failures: Streak::default(),
        }
    }

    /// Binds to a consumer that exists; `Missing` if it does not.
    pub async fn bind(bus: &Bus, consumer: &str, options: PullOptions) -> Result<Self, BusError> {
        let mut pull = Self::new(bus, consumer, options);
        pull.stream = Some(pull.open().await?);
        Ok(pull)
    }

    /// The consumer's name.
    pub fn consumer(&self) -> &str {
        &self.consumer
    }

    /// The next delivery. Waits for ever; may be dropped at any time without losing one, but not over and over: a broken
    /// flow is asked for anew in here, after a wait, and each drop begins both again.
    pub async fn next(&mut self) -> Delivery {
        loop {
            if self.stream.is_none() {
                self.reopen().await;
            }
            let Some(stream) = self.stream.as_mut() else { continue };
            match stream.next().await {
                Some(Ok(message)) => {
                    self.missed_heartbeats = 0;
                    if self.failures.ends() {
                        tracing::info!(consumer = self.consumer, "messages come again");
                    }
                    if let Some(delivery) = Delivery::read(&self.bus, message) {
                        return delivery;
                    }
                    tracing::error!(
                        consumer = self.consumer,
                        "a delivery without an acknowledgement subject was ignored"
                    );
                }
                Some(Err(error)) if error.kind() == pull::MessagesErrorKind::MissingHeartbeat => {
                    self.missed_heartbeats += 1;
                    // One may be late; after two the question is lost and nobody would ask again.
                    if self.missed_heartbeats >= 2 {
                        self.failed(&"nothing is heard of the last question");
                    }
                }
                Some(Err(error)) => self.failed(&error),
                None => self.failed(&"the flow ended"),
            }
        }
    }

    /// Stops asking. What the server has already sent and nobody took comes again to somebody after `ack_wait`.
    pub fn stop(&mut self) {
        self.stream = None;
    }

    async fn reopen(&mut self) {
        self.missed_heartbeats = 0;
        if self.failures.failures() > 0 {
            let most = (50u64 << self.failures.failures().min(6)).min(2000);
            tokio::time::sleep(Duration::from_millis(fastrand::u64(most / 2..=most))).await;
        }
        match self.open().await {
            Ok(stream) => self.stream = Some(stream),
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &(dyn std::fmt::Display + Sync)) {
        self.stream = None;
        if self.failures.fails() {
            tracing::warn!(consumer = self.consumer, %error, "cannot pull: {error}, trying again");
        }
    }

    async fn open(&self) -> Result<pull::Stream, BusError> {
        let stream = self.bus.chat_stream();
        let consumer: PullConsumer =
            self.bus.jetstream().get_consumer_from_stream(&self.consumer, stream).await.map_err(|error| {
                let text = error.to_string();
                if text.contains("not found") {
                    BusError::Missing(format!("consumer {} of stream {stream}", self.consumer))
                } else {
                    BusError::unavailable("bind to the consumer", text)
                }
            })?;
        consumer
            .stream()
            .max_messages_per_batch(self.options.batch)
            .expires(self.options.expires)
            .heartbeat(HEARTBEAT.min(self.options.expires / 2))
            .messages()
            .await
            .map_err(|error| BusError::unavailable("pull", error))
    }
}
