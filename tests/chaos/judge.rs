//! Holds what users were told against the stream and the store, read without any help of yalo.
//!
//! What is only missing may still come: it is looked for again until the time is up. What is wrong stays wrong.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_nats::jetstream::consumer::{self, DeliverPolicy};
use futures_util::StreamExt;
use serde_json::Value;

use crate::record::Conversation;
use crate::store::Store;

/// One message of the stream.
pub(crate) struct Stored {
    pub(crate) seq: u64,
    subject: String,
    payload: Vec<u8>,
    body: Value,
}

impl Stored {
    /// Who said it, as the subject has it.
    fn side(&self) -> &str {
        self.subject.rsplit('.').next().unwrap_or_default()
    }
}

/// The stream, as far as it was read.
#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) messages: Vec<Stored>,
}

/// What is not as it should be.
#[derive(Default)]
pub(crate) struct Findings {
    /// Not there yet.
    pub(crate) missing: Vec<String>,
    /// Never to be mended.
    pub(crate) wrong: Vec<String>,
}

impl Stream {
    /// Reads on to the end.
    pub(crate) async fn read_on(&mut self, stream: &async_nats::jetstream::stream::Stream) -> Option<()> {
        let last = stream.get_info().await.ok()?.state.last_sequence;
        let next = self.messages.last().map_or(1, |message| message.seq + 1);
        if next > last {
            return Some(());
        }
        let deliver_policy = DeliverPolicy::ByStartSequence { start_sequence: next };
        let config = consumer::pull::OrderedConfig { deliver_policy, ..Default::default() };
        let mut messages = stream.create_consumer(config).await.ok()?.messages().await.ok()?;
        loop {
            let next = tokio::time::timeout(Duration::from_secs(5), messages.next()).await.ok()??;
            let message = next.ok()?;
            let seq = message.info().ok()?.stream_sequence;
            let payload = message.payload.to_vec();
            let body = serde_json::from_slice(&payload).unwrap_or_default();
            self.messages.push(Stored { seq, subject: message.subject.to_string(), payload, body });
            if seq >= last {
                return Some(());
            }
        }
    }
}

/// What users were told against the stream, which was read afterwards.
pub(crate) fn compare(conversations: &[Conversation], stream: &Stream) -> Findings {
    let mut findings = Findings::default();
    let mut by_conversation: HashMap<&str, Vec<&Stored>> = HashMap::new();
    for message in &stream.messages {
        let conversation = message.subject.split('.').nth(3).unwrap_or_default();
        by_conversation.entry(conversation).or_default().push(message);
    }
    for conversation in conversations {
        let stored = by_conversation.remove(conversation.id.as_str()).unwrap_or_default();
        compare_sent(conversation, &stored, &mut findings);
        compare_answers(conversation, &stored, &mut findings);
        compare_readings(conversation, &stored, &mut findings);
    }
    // An `open` whose answer was lost leaves an empty conversation behind, and nothing else may be there.
    for message in by_conversation.values().flatten().filter(|message| message.side() != "meta") {
        findings.wrong.push(format!("{} {} was sent by nobody", message.seq, message.subject));
    }
    findings
}

/// Everything that was sent is there once, as it was said, in the order in which it was said.
fn compare_sent(conversation: &Conversation, stored: &[&Stored], findings: &mut Findings) {
    let mut questions: HashMap<&str, Vec<&Stored>> = HashMap::new();
    for message in stored.iter().filter(|message| message.side() == "user") {
        questions.entry(message.body["id"].as_str().unwrap_or_default()).or_default().push(message);
    }
    let mut last = 0;
    for sent in &conversation.sent {
        let found = questions.remove(sent.id.as_str()).unwrap_or_default();
        let seqs: Vec<u64> = found.iter().map(|message| message.seq).collect();
        match (seqs.as_slice(), sent.accepted) {
            ([seq], accepted) => {
                if accepted.is_some_and(|accepted| accepted != *seq) {
                    findings.wrong.push(format!("{} was accepted at {accepted:?} and lies at {seq}", sent.id));
                }
                if found[0].body["text"] != sent.text.as_str() {
                    findings.wrong.push(format!("{seq} says {} instead of {:?}", found[0].body["text"], sent.text));
                }
                if *seq <= last {
                    findings.wrong.push(format!("{seq} of {} was said after {last}", conversation.id));
                }
                last = *seq;
            }
            ([], None) => findings.missing.push(format!("{} was not accepted yet", sent.id)),
            ([], Some(seq)) => {
                findings.wrong.push(format!("accepted message {seq} ({}) is not in the stream", sent.id));
            }
            (several, _) => findings.wrong.push(format!("message {} is stored at {several:?}", sent.id)),
        }
    }
    // Unless it was said since the users' side was looked at.
    for message in questions.values().flatten() {
        findings.missing.push(format!("question {} was asked by nobody", message.seq));
    }
}

/// Every question has one record, and the records follow the order of the questions.
fn compare_answers(conversation: &Conversation, stored: &[&Stored], findings: &mut Findings) {
    let mut open: HashMap<u64, &Stored> = HashMap::new();
    let (mut answered, mut last) = (HashSet::new(), 0);
    for message in stored {
        if message.side() == "user" {
            open.insert(message.seq, message);
        } else if message.side() == "bot" {
            let question = message.body["reply_to"]["seq"].as_u64().unwrap_or_default();
            if answered.contains(&question) {
                findings
                    .wrong
                    .push(format!("question {question} of {} has a second answer {}", conversation.id, message.seq));
                continue;
            }
            let Some(asked) = open.remove(&question) else {
                findings.wrong.push(format!("{} answers {question}, which is no question before it", message.seq));
                continue;
            };
            answered.insert(question);
            // Whatever else dies meanwhile, the culprit is found and nobody else is taken for it.
            let fits = if asked.body["text"] == "abort" {
                message.body["kind"] == "apology"
            } else {
                message.body["kind"] == "text" && message.body["text"] == asked.body["text"]
            };
            if !fits || message.body["reply_to"]["id"] != asked.body["id"] {
                findings.wrong.push(format!("{question} {} was answered by {}", asked.body["text"], message.body));
            }
            if question < last {
                findings.wrong.push(format!("in {} question {question} was answered after {last}", conversation.id));
            }
            last = last.max(question);
        }
    }
    findings.missing.extend(open.keys().map(|seq| format!("question {seq} of {} has no answer", conversation.id)));
}

/// Every reader was told everything after their cursor, once and as it is stored, or that something is missing.
fn compare_readings(conversation: &Conversation, stored: &[&Stored], findings: &mut Findings) {
    let begin: u64 = conversation.cursor.rsplit('-').next().and_then(|seq| seq.parse().ok()).unwrap_or(0);
    for reading in &conversation.readings {
        let told: HashMap<u64, &Value> = reading.told.iter().map(|told| (told.seq, &told.message)).collect();
        let last = reading.told.last().map_or(0, |told| told.seq);
        let admitted = |seq: u64| reading.gaps.iter().any(|(after, before)| (after + 1..*before).contains(&seq));
        let shown = stored.iter().filter(|message| message.seq > begin && message.body["kind"] != "none");
        let mut seqs = HashSet::new();
        for message in shown {
            seqs.insert(message.seq);
            let (seq, way) = (message.seq, reading.way);
            match told.get(&seq) {
                Some(body) => {
                    if body["id"] != message.body["id"] || body["text"] != message.body["text"] {
                        findings.wrong.push(format!("a reader by {way} was told {body} for {seq}"));
                    }
                }
                None if admitted(seq) => {}
                None if seq < last => {
                    findings.wrong.push(format!("a reader of {} by {way} was not told of {seq}", conversation.id));
                }
                None => findings.missing.push(format!("a reader of {} by {way} waits for {seq}", conversation.id)),
            }
        }
        for seq in told.keys().filter(|seq| !seqs.contains(seq)) {
            findings.wrong.push(format!("a reader of {} was told {seq}, which is not stored", conversation.id));
        }
    }
}

/// Whether consumers still have work; each is named.
pub(crate) async fn leftovers(stream: &async_nats::jetstream::stream::Stream) -> Option<Vec<String>> {
    let mut left = Vec::new();
    let mut consumers = stream.consumers();
    while let Some(info) = consumers.next().await {
        let info = info.ok()?;
        // The judge's own reading is of no name.
        if info.config.durable_name.is_some() && (info.num_pending > 0 || info.num_ack_pending > 0) {
            left.push(format!("{}: {} pending, {} unacknowledged", info.name, info.num_pending, info.num_ack_pending));
        }
    }
    Some(left)
}

/// The store holds what the stream holds, each once, byte for byte, and nothing else.
pub(crate) async fn compare_store(store: &Store, stream: &Stream) -> anyhow::Result<Vec<String>> {
    let mut wrong = Vec::new();
    for table in store.tables() {
        let mut rows: HashMap<u64, Vec<u8>> = HashMap::new();
        for (seq, payload) in store.rows(table).await? {
            if rows.insert(seq, payload).is_some() {
                wrong.push(format!("message {seq} is in {table} twice"));
            }
        }
        for message in &stream.messages {
            match rows.remove(&message.seq) {
                None => wrong.push(format!("message {} is not in {table} of the store", message.seq)),
                Some(payload) if payload != message.payload => {
                    wrong.push(format!("message {} is another one in {table} of the store", message.seq));
                }
                Some(_) => {}
            }
        }
        wrong.extend(rows.keys().map(|seq| format!("{table} of the store has {seq}, which the stream never had")));
    }
    Ok(wrong)
}
