//! Acknowledged publishes: a message is stored when `publish` says so, and never later than its deadline.
//!
//! A connection that breaks, or that kept a publish past its deadline, is thrown away with all that is queued on it and
//! a new one is made. So a publish can't be stored minutes later, when its id has left the duplicate window.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::client::{Request, RequestErrorKind};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use super::connection::Opening;
use super::{BusError, BusOptions, Link, LinkEvents};

/// One message for a stream.
#[derive(Debug, Clone, Default)]
pub struct Publish {
    /// Where to.
    pub subject: String,
    /// What.
    pub payload: Bytes,
    /// The duplicate window's key: the same id again is the first message.
    pub message_id: Option<String>,
    /// The fence: the last sequence on this subject that the publisher knows, 0 for none. Anything else there refuses it.
    pub expected_last: Option<u64>,
    /// W3C trace context, passed on as it came.
    pub traceparent: Option<String>,
    /// What a key-value bucket is told to do with the key: `DEL`.
    pub operation: Option<&'static str>,
}

/// The stream's word that it has the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its sequence; of a duplicate: that of the first one.
    pub seq: u64,
    /// The id was already there.
    pub duplicate: bool,
    /// How often it was sent.
    pub attempts: u32,
}

#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<AckError>,
}

/// A refusal, as the server writes it.
#[derive(Debug, Deserialize)]
pub(super) struct AckError {
    /// Its own code.
    #[serde(default)]
    pub(super) err_code: u64,
    /// The one of HTTP.
    #[serde(default)]
    code: u64,
    #[serde(default)]
    description: String,
}

impl AckError {
    pub(super) fn into_error(self, doing: &'static str) -> BusError {
        match self.err_code {
            code::WRONG_LAST_SEQUENCE | code::WRONG_LAST_CONSTANT => BusError::Fenced,
            code::MAXIMUM_BYTES => BusError::Full,
            // 429 and 5xx: the server is busy, without a leader, or short of something that comes back.
            code::IN_PROCESS => BusError::unavailable(doing, self.description),
            _ if self.code == 429 || self.code >= 500 => BusError::unavailable(doing, self.description),
            _ => BusError::Refused { doing, reason: self.description },
        }
    }
}

/// What an answer to one publish says.
pub(super) enum Verdict {
    Stored {
        seq: u64,
        duplicate: bool,
    },
    /// Not now; the same message may be sent again after the time.
    Later(Duration, BusError),
    Never(BusError),
}

/// Error codes of the server, as `nats-server/server/errors.json` numbers them.
mod code {
    pub(super) const WRONG_LAST_SEQUENCE: u64 = 10071;
    pub(super) const MAXIMUM_BYTES: u64 = 10077;
    pub(super) const IN_PROCESS: u64 = 10158;
    /// A fence lost against a concurrent publish in a cluster.
    pub(super) const WRONG_LAST_CONSTANT: u64 = 10164;
}

/// The connection of a publisher, and the one that is being made.
#[derive(Default)]
struct Slot {
    link: Option<Link>,
    opening: Opening,
}

pub(super) struct Publisher {
    options: Arc<BusOptions>,
    name: String,
    events: LinkEvents,
    link: Mutex<Slot>,
    in_flight: Semaphore,
    retries: AtomicU64,
}

impl Publisher {
    pub(super) fn new(options: Arc<BusOptions>, name: String, events: LinkEvents) -> Self {
        let in_flight = Semaphore::new(options.publish_in_flight);
        Self { options, name, events, link: Mutex::default(), in_flight, retries: AtomicU64::new(0) }
    }

    /// Makes the first connection, so that a role which starts without NATS says so at once.
    pub(super) async fn warm(&self) -> Result<(), BusError> {
        self.live_link().await.map(drop)
    }

    pub(super) async fn publish(&self, publish: Publish) -> Result<Published, BusError> {
        let deadline = Instant::now() + self.options.publish_deadline;
        let permit = tokio::time::timeout_at(deadline, self.in_flight.acquire()).await;
        let _permit = permit.map_err(|_| BusError::TimedOut { doing: "publish" })?;
        self.publish_until(deadline, publish).await
    }

    /// The same past those that wait, for what is small, seldom and urgent, and may be stored after its limit: then it costs
    /// the others their connection no more than they do.
    pub(super) async fn publish_at_once(&self, publish: Publish, limit: Duration) -> Result<Published, BusError> {
        let deadline = Instant::now() + self.options.publish_deadline;
        let published = tokio::time::timeout(limit, self.publish_until(deadline, publish)).await;
        published.unwrap_or(Err(BusError::TimedOut { doing: "publish" }))
    }

    async fn publish_until(&self, deadline: Instant, publish: Publish) -> Result<Published, BusError> {
        let headers = headers(&publish);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (wait, error) = match self.attempt(&publish, headers.clone(), deadline).await {
                Verdict::Stored { seq, duplicate } => return Ok(Published { seq, duplicate, attempts }),
                Verdict::Never(error) => return Err(error),
                Verdict::Later(wait, error) => (wait, error),
            };
            if Instant::now() + wait >= deadline {
                return Err(error);
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, publish: &Publish, headers: Option<HeaderMap>, deadline: Instant) -> Verdict {
        let link = match tokio::time::timeout_at(deadline, self.live_link()).await {
            Ok(Ok(link)) => link,
            Ok(Err(error)) if error.is_transient() => return Verdict::Later(jitter(100), error),
            Ok(Err(error)) => return Verdict::Never(error),
            Err(_) => return Verdict::Never(BusError::TimedOut { doing: "publish" }),
        };
        let mut request = Request::new().payload(publish.payload.clone()).timeout(Some(self.options.publish_timeout));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let answer = tokio::select! {
            biased;
            answer = link.client().send_request(publish.subject.clone(), request) => answer,
            // The connection is gone and never comes back: no need to wait for the time-out.
            () = link.broken().cancelled() => {
                return Verdict::Later(jitter(20), BusError::unavailable("publish", "the connection broke"));
            }
        };
        match answer {
            Ok(message) => judge(&message.payload),
            Err(error) => {
                if Instant::now() + self.options.publish_timeout >= deadline {
                    self.discard(&link).await;
                }
                let wait = if error.kind() == RequestErrorKind::TimedOut { 1 } else { 100 };
                match BusError::from_request("publish", &error) {
                    error if error.is_transient() => Verdict::Later(jitter(wait), error),
                    error => Verdict::Never(error),
                }
            }
        }
    }

    /// The connection to publish on; made anew when the last one is broken. One caller waits for it, the others for him.
    async fn live_link(&self) -> Result<Link, BusError> {
        let mut current = self.link.lock().await;
        if let Some(link) = current.link.as_ref().filter(|link| !link.broken().is_cancelled()) {
            return Ok(link.clone());
        }
        let link = current.opening.link(&self.options, &self.name, &self.events).await?;
        current.link = Some(link.clone());
        Ok(link)
    }

    /// Throws a connection away that may still hold a publish past its deadline.
    async fn discard(&self, link: &Link) {
        link.broken().cancel();
        self.link.lock().await.link = None;
    }

    pub(super) async fn close(&self, limit: Duration) {
        if let Some(link) = self.link.lock().await.link.take() {
            link.close(limit).await;
        }
    }
}

/// Reads the answer to a publish, as it came to the reply subject.
pub(super) fn verdict(answer: &async_nats::Message) -> Verdict {
    if answer.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
        // No stream, or one without a leader for a moment.
        return Verdict::Later(jitter(100), BusError::unavailable("publish", "nobody answers on that subject"));
    }
    judge(&answer.payload)
}

fn judge(payload: &[u8]) -> Verdict {
    let Ok(ack) = serde_json::from_slice::<Ack>(payload) else {
        let reason = "the answer to a publish is not an acknowledgement".to_owned();
        return Verdict::Never(BusError::Refused { doing: "publish", reason });
    };
    let Some(error) = ack.error else {
        return Verdict::Stored { seq: ack.seq, duplicate: ack.duplicate };
    };
    let wait = if error.err_code == code::IN_PROCESS { Duration::from_millis(50) } else { jitter(200) };
    match error.into_error("publish") {
        error @ BusError::Unavailable { .. } => Verdict::Later(wait, error),
        error => Verdict::Never(error),
    }
}

pub(super) fn headers(publish: &Publish) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Some(id) = &publish.message_id {
        headers.insert("Nats-Msg-Id", id.as_str());
    }
    if let Some(seq) = publish.expected_last {
        headers.insert("Nats-Expected-Last-Subject-Sequence", seq.to_string().as_str());
    }
    if let Some(trace) = &publish.traceparent {
        headers.insert("traceparent", trace.as_str());
    }
    if let Some(operation) = publish.operation {
        headers.insert("KV-Operation", operation);
    }
    (!headers.is_empty()).then_some(headers)
}

pub(super) fn jitter(most_ms: u64) -> Duration {
    Duration::from_millis(fastrand::u64(most_ms / 2..=most_ms))
}
