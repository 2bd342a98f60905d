//! What every user was told, in their own words: the side of the truth that yalo has no hand in.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::Value;
use time::OffsetDateTime;

/// Everything of one run.
#[derive(Default)]
pub(crate) struct Record {
    conversations: Mutex<Vec<Conversation>>,
    violations: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<String, u64>>,
    crashed: Mutex<Option<OffsetDateTime>>,
}

/// One conversation as its users have seen it.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    pub(crate) id: String,
    pub(crate) token: String,
    /// Where everybody began to read.
    pub(crate) cursor: String,
    pub(crate) sent: Vec<Sent>,
    pub(crate) readings: Vec<Reading>,
}

/// A message that somebody wants to be stored.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) tried: Instant,
    /// Its sequence, once it was called accepted.
    pub(crate) accepted: Option<u64>,
}

/// What one reader was told, in the order in which they were told it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    pub(crate) way: &'static str,
    pub(crate) told: Vec<Told>,
    /// Holes that were admitted: after the first, before the second sequence.
    pub(crate) gaps: Vec<(u64, u64)>,
}

/// One message that a reader was told.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) seq: u64,
    pub(crate) at: Instant,
    pub(crate) message: Value,
}

impl Record {
    pub(crate) fn conversation(&self, id: String, token: String, cursor: String) -> usize {
        let mut all = lock(&self.conversations);
        all.push(Conversation { id, token, cursor, sent: Vec::new(), readings: Vec::new() });
        all.len() - 1
    }

    pub(crate) fn reading(&self, conversation: usize, way: &'static str) -> usize {
        let readings = &mut lock(&self.conversations)[conversation].readings;
        readings.push(Reading { way, ..Reading::default() });
        readings.len() - 1
    }

    pub(crate) fn trying(&self, conversation: usize, id: &str, text: &str) {
        let (id, text) = (id.to_owned(), text.to_owned());
        lock(&self.conversations)[conversation].sent.push(Sent { id, text, tried: Instant::now(), accepted: None });
    }

    /// The same message is accepted at one sequence, whenever and wherever it is sent again.
    pub(crate) fn accepted(&self, conversation: usize, id: &str, seq: u64) {
        let mut all = lock(&self.conversations);
        let sent = all[conversation].sent.iter_mut().rev().find(|sent| sent.id == id).expect("it was tried");
        let first = *sent.accepted.get_or_insert(seq);
        drop(all);
        if first != seq {
            self.violation(&format!("message {id} was accepted at {first} and then at {seq}"));
        }
    }

    /// What a reader hears has to go up, once each.
    pub(crate) fn told(&self, conversation: usize, reading: usize, message: &Value) {
        let seq = message["seq"].as_u64().unwrap_or_default();
        let mut all = lock(&self.conversations);
        let conversation = &mut all[conversation];
        let reading = &mut conversation.readings[reading];
        let last = reading.told.last().map_or(0, |told| told.seq);
        reading.told.push(Told { seq, at: Instant::now(), message: message.clone() });
        if seq <= last {
            let (id, way) = (conversation.id.clone(), reading.way);
            drop(all);
            self.violation(&format!("a reader of {id} by {way} was told {seq} after {last}"));
        }
    }

    pub(crate) fn gap(&self, conversation: usize, reading: usize, event: &Value) {
        let number = |name: &str| event[name].as_str()?.rsplit('-').next()?.parse().ok();
        let (after, before) = (number("after").unwrap_or(0), number("before").unwrap_or(u64::MAX));
        lock(&self.conversations)[conversation].readings[reading].gaps.push((after, before));
        self.count("gaps told to readers");
    }

    pub(crate) fn violation(&self, what: &str) {
        println!("VIOLATION  {what}");
        lock(&self.violations).push(what.to_owned());
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    pub(crate) fn count(&self, what: &str) {
        *lock(&self.counts).entry(what.to_owned()).or_default() += 1;
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        lock(&self.counts).clone()
    }

    /// A process has died of what it was asked.
    pub(crate) fn crashed(&self) {
        *lock(&self.crashed) = Some(OffsetDateTime::now_utc());
    }

    /// When the last one did.
    pub(crate) fn last_crash(&self) -> Option<OffsetDateTime> {
        *lock(&self.crashed)
    }

    /// Whether somebody has sent these words.
    pub(crate) fn asked(&self, text: &str) -> bool {
        lock(&self.conversations).iter().any(|one| one.sent.iter().any(|sent| sent.text == text))
    }

    pub(crate) fn all_accepted(&self) -> bool {
        lock(&self.conversations).iter().all(|one| one.sent.iter().all(|sent| sent.accepted.is_some()))
    }

    pub(crate) fn conversations(&self) -> Vec<Conversation> {
        lock(&self.conversations).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
