//! The bucket of heartbeats: a key for each bot, written by it alone and read by all, and what bots leave for each other.
//!
//! The bucket is one that `nats kv` reads. It is never watched, since a watch makes a consumer: readers ask for the last
//! value of every key in one direct get, and listen to the writes themselves to be told early.

use std::time::Duration;

use async_nats::Subscriber;
use bytes::Bytes;
use serde_json::json;

use super::provision::Names;
use super::{Bus, BusError, Publish};
use crate::domain::Timestamp;

/// A write that waits longer than this is worth nothing any more.
const FRESH: Duration = Duration::from_secs(1);

/// The last value of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The key, such as `bot.9f1c`.
    pub key: String,
    /// Grows with each write of any key.
    pub revision: u64,
    /// When it was written, by the server's clock.
    pub at: Timestamp,
    /// What was written; empty: the key was taken back.
    pub value: Bytes,
}

impl Bus {
    /// Writes a key and gives its revision. Not tried longer than a second.
    pub async fn put_member(&self, key: &str, value: Bytes) -> Result<u64, BusError> {
        self.write_member(Publish { subject: self.member_subject(key), payload: value, ..Publish::default() }).await
    }

    /// Writes a key that nobody has written since `revision`, 0 for never, and gives its new revision; else
    /// [`BusError::Fenced`], which is also what a write finds that was stored before and not confirmed.
    pub async fn replace_member(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, BusError> {
        let (subject, expected_last) = (self.member_subject(key), Some(revision));
        self.write_member(Publish { subject, payload: value, expected_last, ..Publish::default() }).await
    }

    /// Takes a key back: readers see that its writer has left.
    pub async fn remove_member(&self, key: &str) -> Result<(), BusError> {
        let subject = self.member_subject(key);
        self.write_member(Publish { subject, operation: Some("DEL"), ..Publish::default() }).await.map(drop)
    }

    async fn write_member(&self, publish: Publish) -> Result<u64, BusError> {
        // Not behind the publishes: a stream that is away is not to take the heartbeats with it.
        self.publisher.publish_at_once(publish, FRESH).await.map(|published| published.seq)
    }

    /// The last values of the keys that match `pattern`, such as `bot.*`; at most 1,024.
    pub async fn members(&self, pattern: &str) -> Result<Vec<Member>, BusError> {
        let names = Names::new(self.subjects());
        let request = json!({ "multi_last": [self.member_subject(pattern)] });
        let read = tokio::time::timeout(FRESH, self.direct_get(&names.members_stream, &request)).await;
        let read = read.map_err(|_| BusError::TimedOut { doing: "read the members" })??;
        let own = self.member_subject("");
        let member = |record: super::Record| {
            let key = record.subject.strip_prefix(&own)?.to_owned();
            Some(Member { key, revision: record.seq, at: record.at, value: record.payload })
        };
        Ok(read.records.into_iter().filter_map(member).collect())
    }

    /// Whether a key has ever been written, as the bucket's leader has it.
    pub(super) async fn is_member(&self, key: &str) -> Result<bool, BusError> {
        let stream = Names::new(self.subjects()).members_stream;
        Ok(self.last_by_leader(&stream, &self.member_subject(key)).await?.is_some())
    }

    /// Hears of each write of a key that matches `pattern`, while it happens; a lost one is found by the next read.
    pub async fn hear_members(&self, pattern: &str) -> Result<Subscriber, BusError> {
        self.subscribe(self.member_subject(pattern)).await
    }

    fn member_subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", Names::new(self.subjects()).members)
    }
}
