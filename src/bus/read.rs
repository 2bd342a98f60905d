//! Reads of the stream without a consumer: batched direct gets, answered by any replica.
//!
//! A replica may lag: what it does not have yet it does not know of. So "not found" is only believed by callers that
//! compare with the leader, and history is refilled until its sequences join.

use std::time::Duration;

use async_nats::HeaderMap;
use base64::Engine as _;
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::json;

use super::{Bus, BusError, state};
use crate::domain::Timestamp;

/// One stored message, as the stream holds it.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its subject.
    pub subject: String,
    /// Its sequence.
    pub seq: u64,
    /// When it was stored.
    pub at: Timestamp,
    /// What was published.
    pub payload: Bytes,
}

/// Where a read begins.
#[derive(Debug, Clone, Copy)]
pub enum From {
    /// At this sequence.
    Seq(u64),
    /// At this instant.
    Time(Timestamp),
}

/// A page of a read, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Read {
    /// At most as many as asked for.
    pub records: Vec<Record>,
    /// Whether more match behind the last one.
    pub more: bool,
    /// How many.
    pub left: u64,
}

impl Bus {
    /// Up to `limit` messages of the chat stream whose subject matches `filter` (wildcards allowed), from `from` on.
    pub async fn read(&self, filter: &str, from: From, limit: usize) -> Result<Read, BusError> {
        let mut request = json!({ "next_by_subj": filter, "batch": limit });
        match from {
            From::Seq(seq) => request["seq"] = json!(seq.max(1)),
            From::Time(at) => request["start_time"] = json!(at.to_string()),
        }
        self.direct_get(&self.chat, &request).await
    }

    /// The last message of each of `subjects` (at most 500, no wildcards); those without one are left out.
    pub async fn last_of(&self, subjects: &[String]) -> Result<Vec<Record>, BusError> {
        let read = self.direct_get(&self.chat, &json!({ "multi_last": subjects })).await?;
        Ok(read.records)
    }

    /// The message at one sequence.
    pub async fn record(&self, seq: u64) -> Result<Option<Record>, BusError> {
        self.single(&json!({ "seq": seq })).await
    }

    /// The last message of one subject.
    pub async fn last(&self, subject: &str) -> Result<Option<Record>, BusError> {
        self.single(&json!({ "last_by_subj": subject })).await
    }

    /// The sequence that the stream begins with; of an emptied one that of its next message, as the leader knows it.
    pub async fn first_seq(&self) -> Result<u64, BusError> {
        match self.first_record().await? {
            Some(first) => Ok(first.seq),
            None => Ok(self.stream_state().await?.first_seq.max(1)),
        }
    }

    /// The oldest message that the stream still holds; `None` for an empty stream.
    pub async fn first_record(&self) -> Result<Option<Record>, BusError> {
        let read = self.read(">", From::Seq(1), 1).await?;
        Ok(read.records.into_iter().next())
    }

    async fn single(&self, request: &serde_json::Value) -> Result<Option<Record>, BusError> {
        let message = self.ask("read the stream", direct_subject(&self.chat), request.to_string().into()).await?;
        match status(message.headers.as_ref(), message.status.map(|status| status.as_u16())) {
            None => record(&message).map(Some).ok_or_else(unreadable),
            Some(404) => Ok(None),
            Some(other) => Err(refused(other, message.description.as_deref())),
        }
    }

    pub(super) async fn direct_get(&self, stream: &str, request: &serde_json::Value) -> Result<Read, BusError> {
        let (doing, client) = ("read the stream", self.client());
        let inbox = client.new_inbox();
        let mut answers = self.queued(doing, client.subscribe(inbox.clone())).await?;
        let payload = request.to_string().into();
        self.queued(doing, client.publish_with_reply(direct_subject(stream), inbox, payload)).await?;
        let mut read = Read::default();
        let silence: Duration = self.options.request_timeout;
        loop {
            let Ok(next) = tokio::time::timeout(silence, answers.next()).await else {
                return Err(BusError::TimedOut { doing: "read the stream" });
            };
            let message = next.ok_or_else(|| BusError::unavailable("read the stream", "the connection closed"))?;
            match status(message.headers.as_ref(), message.status.map(|status| status.as_u16())) {
                None => read.records.push(record(&message).ok_or_else(unreadable)?),
                Some(204) => {
                    let left = header(message.headers.as_ref(), "Nats-Num-Pending");
                    read.left = left.and_then(|left| left.parse().ok()).unwrap_or(0);
                    read.more = read.left > 0;
                    return Ok(read);
                }
                Some(404) => return Ok(read),
                // No replica answers direct gets: there is no such stream, or no server that has it.
                Some(503) => return Err(BusError::unavailable("read the stream", "no server answers for it")),
                Some(other) => return Err(refused(other, message.description.as_deref())),
            }
        }
    }

    /// The sequence of the next message that matches `filter`, from `seq` on, as the stream's leader sees it: replicas
    /// may lag behind it, never run ahead.
    pub async fn next_by_leader(&self, filter: &str, seq: u64) -> Result<Option<u64>, BusError> {
        let found = self.ask_leader(&self.chat, &json!({ "next_by_subj": filter, "seq": seq })).await?;
        Ok(found.map(|message| message.seq))
    }

    /// The first message that matches `filter`, from `seq` on, as the stream's leader has it: for what a lagging replica
    /// may not know of yet.
    pub async fn record_by_leader(&self, filter: &str, seq: u64) -> Result<Option<Record>, BusError> {
        let found = self.ask_leader(&self.chat, &json!({ "next_by_subj": filter, "seq": seq })).await?;
        found.map(|message| message.record().ok_or_else(unreadable)).transpose()
    }

    /// The sequence of the last message of a subject, as the leader of its stream has it.
    pub(super) async fn last_by_leader(&self, stream: &str, subject: &str) -> Result<Option<u64>, BusError> {
        let found = self.ask_leader(stream, &json!({ "last_by_subj": subject })).await?;
        Ok(found.map(|message| message.seq))
    }

    async fn ask_leader(&self, stream: &str, request: &serde_json::Value) -> Result<Option<LeaderMessage>, BusError> {
        let subject = format!("$JS.API.STREAM.MSG.GET.{stream}");
        let answer = self.ask("read the stream", subject, request.to_string().into()).await?;
        if state::has_no_message(&answer.payload) {
            return Ok(None);
        }
        let found: LeaderAnswer = state::parse(&answer.payload, &format!("stream {stream}"))?;
        Ok(Some(found.message))
    }
}

#[derive(serde::Deserialize)]
struct LeaderAnswer {
    message: LeaderMessage,
}

#[derive(serde::Deserialize)]
struct LeaderMessage {
    subject: String,
    seq: u64,
    time: String,
    #[serde(default)]
    data: String,
}

impl LeaderMessage {
    fn record(self) -> Option<Record> {
        let payload = base64::engine::general_purpose::STANDARD.decode(&self.data).ok()?;
        let at = Timestamp::parse(&self.time)?;
        Some(Record { subject: self.subject, seq: self.seq, at, payload: payload.into() })
    }
}

fn direct_subject(stream: &str) -> String {
    format!("$JS.API.DIRECT.GET.{stream}")
}

fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    headers?.get(name).map(async_nats::HeaderValue::as_str)
}

/// The status of an answer without a message in it; `None` for a message.
fn status(headers: Option<&HeaderMap>, inline: Option<u16>) -> Option<u16> {
    inline.or_else(|| header(headers, "Status")?.parse().ok())
}

fn record(message: &async_nats::Message) -> Option<Record> {
    let headers = message.headers.as_ref();
    Some(Record {
        subject: header(headers, "Nats-Subject")?.to_owned(),
        seq: header(headers, "Nats-Sequence")?.parse().ok()?,
        at: Timestamp::parse(header(headers, "Nats-Time-Stamp")?)?,
        payload: message.payload.clone(),
    })
}

fn unreadable() -> BusError {
    let reason = "the answer lacks the headers of a stored message; nats-server 2.11 or newer is needed".to_owned();
    BusError::Refused { doing: "read the stream", reason }
}

fn refused(status: u16, description: Option<&str>) -> BusError {
    let reason = format!("status {status} {}", description.unwrap_or_default());
    match status {
        408 | 429 | 500.. => BusError::unavailable("read the stream", reason),
        _ => BusError::Refused { doing: "read the stream", reason },
    }
}

/// A message of the republished live copies.
impl Record {
    /// Reads a live copy; its own subject is the live one. Gives the previous sequence of its subject as well.
    pub fn from_live(message: &async_nats::Message) -> Option<(Self, u64)> {
        let headers = message.headers.as_ref();
        let previous = header(headers, "Nats-Last-Sequence")?.parse().ok()?;
        Some((record(message)?, previous))
    }

    /// The payload in base64, for what can't be shown otherwise.
    pub fn raw(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(&self.payload)
    }
}
