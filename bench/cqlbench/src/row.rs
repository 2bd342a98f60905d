//! A row as both big tables hold it, from a made message or from one of the stream.

use std::borrow::Cow;

use anyhow::{Context, Result};
use async_nats::jetstream;
use bytes::Bytes;
use serde::Deserialize;
use storebench::messages::{Message, digest};
use uuid::Uuid;

/// What is stored of a message. (`subject` is left out, as it follows from the others; so is `kind`, always 0 here.)
#[derive(Debug, Clone)]
pub struct Row {
    pub seq: i64,
    pub digest: [u8; 32],
    pub at_ns: i64,
    pub conversation: Uuid,
    pub id: Uuid,
    pub who: i8,
    pub author: String,
    pub payload: Bytes,
}

#[derive(Deserialize)]
struct Envelope<'payload> {
    id: Uuid,
    #[serde(borrow)]
    author: Cow<'payload, str>,
}

impl From<Message> for Row {
    fn from(message: Message) -> Self {
        Self {
            seq: message.seq,
            digest: message.digest(),
            at_ns: message.at_ns,
            conversation: Uuid::from_bytes(message.conversation),
            id: Uuid::from_bytes(message.id),
            who: i8::from(message.who == 1),
            author: message.author,
            payload: message.payload.into(),
        }
    }
}

impl Row {
    /// Decodes a message of the stream.
    pub fn decode(message: &jetstream::Message) -> Result<Self> {
        let info = message.info().map_err(anyhow::Error::from_boxed)?;
        let (seq, at_ns) =
            (i64::try_from(info.stream_sequence)?, i64::try_from(info.published.unix_timestamp_nanos())?);
        let subject = message.subject.as_str();
        let mut tokens = subject.split('.').skip(3);
        let (conversation, who) = tokens.next().zip(tokens.next()).context("a subject of five words")?;
        let envelope: Envelope<'_> = serde_json::from_slice(&message.payload)?;
        Ok(Self {
            seq,
            digest: digest(subject, seq, at_ns, &message.payload),
            at_ns,
            conversation: Uuid::try_parse(conversation)?,
            id: envelope.id,
            who: i8::from(who == "bot"),
            author: envelope.author.into_owned(),
            payload: message.payload.clone(),
        })
    }
}
