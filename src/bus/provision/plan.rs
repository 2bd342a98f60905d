//! The desired state, as data: what each stream and consumer must look like, and which of it may be changed later.
//!
//! Fields are named and valued as in the server's own JSON, which is what `nats stream info --json` shows. What is not
//! named here is the operator's and left alone.

use std::time::Duration;

use serde_json::{Value, json};

use super::names::{AUDIT, Names};
use crate::bus::server::{BATCHES, Version};
use crate::domain::Partition;
#[cfg(doc)]
use crate::domain::limits::GROUPS;
use crate::domain::limits::{DUPLICATE_WINDOW_MS, STREAM_MESSAGE_BYTES};
use crate::wire::Subjects;

/// Version of the streams' meaning, kept in their metadata: a newer one is not touched.
pub(super) const SCHEMA: u64 = 1;
/// The metadata key of [`SCHEMA`].
pub(super) const SCHEMA_KEY: &str = "yalo.schema";
/// The metadata key of the number of groups, on the chat stream; absent: [`GROUPS`].
pub(in crate::bus) const GROUPS_KEY: &str = "yalo.groups";
/// Dead letters are kept for 30 days and at most 1 GiB; the oldest go first.
const DEAD_AGE: Duration = Duration::from_hours(30 * 24);
const DEAD_BYTES: i64 = 1 << 30;
/// What a bot that is long gone has left behind goes after a week; a live one writes each second.
const MEMBERS_AGE: Duration = Duration::from_hours(7 * 24);
/// A question that is neither acknowledged nor reported as in progress for this long goes to another bot.
const BOT_ACK_WAIT: Duration = Duration::from_secs(10);
/// Questions of one group that may be with bots at once.
const BOT_ACK_PENDING: u32 = 2000;
/// An auditor writes a batch in milliseconds. Until this has passed, what a dead one held is in no store: the record is
/// complete only up to there.
const AUDIT_ACK_WAIT: Duration = Duration::from_secs(10);
/// Messages that all auditors hold together. One at full speed has up to 15,000: some being written, some waiting for it.
const AUDIT_ACK_PENDING: u32 = 20_000;

/// What an operator decides.
#[derive(Debug, Clone)]
pub struct ProvisionOptions {
    /// Copies of each message: `nats.replicas`.
    pub replicas: usize,
    /// Consumer groups of bots: `nats.groups`.
    pub groups: u16,
    /// How much the chat stream may hold: `nats.max_bytes`.
    pub max_bytes: i64,
    /// For how long it holds a message: `nats.max_age_hours`.
    pub max_age: Duration,
    /// The highest sequence in the audit store, if there is one. A missing stream then begins above it, and a stream
    /// that ends below it is refused: its messages would take numbers that the store has already given away.
    pub store_last_seq: Option<u64>,
}

/// What a difference in a field means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// The server changes it in place, and nothing is lost.
    Free,
    /// The same, of a server that knows it: older ones do without.
    Since(Version),
    /// It is decided when the object is made.
    Fixed,
    /// A limit that an operator may have raised by hand: only a lower one is changed.
    AtLeast,
    /// A limit in bytes: never below what is stored.
    Bytes,
    /// A limit in age: never below the oldest message that no auditor has stored.
    Age,
    /// Copies: as many servers must be there.
    Replicas,
    /// More subjects may be added; foreign ones mean that the stream is not ours.
    Subjects,
    /// Metadata with our schema: older may be raised, a newer one is not ours to touch; groups are never taken away.
    Schema,
    /// Where a consumer begins: with the first message, or where its group was split from another.
    Start,
}

/// One field of the server's JSON.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) value: Value,
    pub(super) rule: Rule,
}

impl Field {
    /// Whether a server of this version knows it.
    pub(super) fn is_known(&self, version: Option<Version>) -> bool {
        match self.rule {
            Rule::Since(since) => version.is_some_and(|version| version >= since),
            _ => true,
        }
    }
}

/// A stream or a consumer as it must be.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The stream itself, or the consumer's stream.
    pub(super) stream: String,
    /// `None` for the stream.
    pub(super) consumer: Option<String>,
    pub(super) fields: Vec<Field>,
    /// Said once, when it is made.
    pub(super) at_birth: Vec<(&'static str, Value)>,
}

impl Wanted {
    /// For people: `stream YALO_CHAT`, `consumer bot-3 of YALO_CHAT`.
    pub(super) fn title(&self) -> String {
        match &self.consumer {
            None => format!("stream {}", self.stream),
            Some(consumer) => format!("consumer {consumer} of {}", self.stream),
        }
    }
}

/// The desired state of one deployment on NATS.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) names: Names,
    /// The chat stream comes first.
    pub(super) streams: Vec<Wanted>,
    /// All of the chat stream.
    pub(super) consumers: Vec<Wanted>,
    pub(super) store_last_seq: Option<u64>,
}

impl Plan {
    /// The state for one prefix: its streams, and their consumers.
    pub fn new(subjects: &Subjects, options: &ProvisionOptions) -> Self {
        let names = Names::new(subjects);
        let streams = vec![chat(subjects, &names, options), dead(subjects, &names, options), members(&names, options)];
        let groups = options.groups;
        // The last ones first: a new one takes its partitions before an old one lets them go.
        let mut consumers: Vec<_> =
            Names::bots(groups).rev().map(|(group, name)| bot(subjects, &names, &name, group, groups)).collect();
        consumers.push(audit(&names));
        Self { names, streams, consumers, store_last_seq: options.store_last_seq }
    }

    /// The bucket of members alone: `init` needs it before the rest can be planned.
    pub fn members(subjects: &Subjects, options: &ProvisionOptions) -> Self {
        let names = Names::new(subjects);
        let streams = vec![members(&names, options)];
        Self { names, streams, consumers: Vec::new(), store_last_seq: None }
    }

    /// What the streams and the bucket are called.
    pub fn names(&self) -> &Names {
        &self.names
    }
}

fn field(name: &'static str, value: impl Into<Value>, rule: Rule) -> Field {
    Field { name, value: value.into(), rule }
}

/// A span as the server writes it: nanoseconds.
fn span(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What all three streams have in common. No limit by count, and nothing by which messages could vanish or change
/// unseen: no rollup of a subject, no message with an age of its own, no transformed subject.
fn stream(name: &str, subjects: &[String], discard: &str, options: &ProvisionOptions) -> Vec<Field> {
    vec![
        field("name", name, Rule::Fixed),
        field("subjects", subjects, Rule::Subjects),
        field("retention", "limits", Rule::Fixed),
        field("storage", "file", Rule::Fixed),
        field("discard", discard, Rule::Free),
        field("num_replicas", options.replicas, Rule::Replicas),
        field("max_msgs", -1, Rule::Free),
        field("max_consumers", -1, Rule::Fixed),
        field("duplicate_window", span(Duration::from_millis(DUPLICATE_WINDOW_MS)), Rule::Free),
        field("allow_direct", true, Rule::Free),
        field("allow_msg_ttl", false, Rule::Fixed),
        field("no_ack", false, Rule::Free),
        field("sealed", false, Rule::Fixed),
        field("subject_transform", Value::Null, Rule::Free),
        field("metadata", json!({ SCHEMA_KEY: SCHEMA.to_string() }), Rule::Schema),
    ]
}

fn chat(subjects: &Subjects, names: &Names, options: &ProvisionOptions) -> Wanted {
    let (from, to) = subjects.republish();
    // Discard new: a full stream refuses users, it never drops a message that no auditor has stored.
    let mut fields = stream(&names.chat, &subjects.stored(), "new", options);
    fields.extend([
        field("max_bytes", options.max_bytes, Rule::Bytes),
        field("max_age", span(options.max_age), Rule::Age),
        field("max_msg_size", STREAM_MESSAGE_BYTES, Rule::Free),
        field("max_msgs_per_subject", -1, Rule::Free),
        field("discard_new_per_subject", false, Rule::Free),
        field("deny_delete", true, Rule::Free),
        // The head is purged up to the audited part when the stream fills; denying that can never be taken back.
        field("deny_purge", false, Rule::Fixed),
        field("allow_rollup_hdrs", false, Rule::Free),
        field("allow_batched", true, Rule::Since(BATCHES)),
        field("republish", json!({ "src": from, "dest": to, "headers_only": false }), Rule::Free),
    ]);
    let metadata = json!({ SCHEMA_KEY: SCHEMA.to_string(), GROUPS_KEY: options.groups.to_string() });
    fields.retain(|field| field.name != "metadata");
    fields.push(field("metadata", metadata, Rule::Schema));
    let mut at_birth = vec![("description", json!("yalo: every message, in the order of record"))];
    if let Some(last) = options.store_last_seq {
        at_birth.push(("first_seq", json!(last.saturating_add(1))));
    }
    Wanted { stream: names.chat.clone(), consumer: None, fields, at_birth }
}

fn dead(subjects: &Subjects, names: &Names, options: &ProvisionOptions) -> Wanted {
    let advisory = |kind| format!("$JS.EVENT.ADVISORY.CONSUMER.{kind}.{}.>", names.chat);
    let captured = [subjects.all_dead(), advisory("MAX_DELIVERIES"), advisory("MSG_TERMINATED")];
    let mut fields = stream(&names.dead, &captured, "old", options);
    fields.extend([
        field("max_bytes", DEAD_BYTES, Rule::AtLeast),
        field("max_age", span(DEAD_AGE), Rule::AtLeast),
        // A dead letter is a message of the largest size and the reason beside it.
        field("max_msg_size", -1, Rule::Free),
        field("max_msgs_per_subject", -1, Rule::Free),
    ]);
    let at_birth = vec![("description", json!("yalo: what could not be handled, with the reason"))];
    Wanted { stream: names.dead.clone(), consumer: None, fields, at_birth }
}

/// The stream that every client library makes for a key-value bucket with one value a key.
fn members(names: &Names, options: &ProvisionOptions) -> Wanted {
    let mut fields = stream(&names.members_stream, &[format!("$KV.{}.>", names.members)], "new", options);
    fields.extend([
        field("max_bytes", -1, Rule::Free),
        field("max_age", span(MEMBERS_AGE), Rule::AtLeast),
        field("max_msg_size", -1, Rule::Free),
        field("max_msgs_per_subject", 1, Rule::Free),
        field("deny_delete", true, Rule::Free),
        field("deny_purge", false, Rule::Fixed),
        field("allow_rollup_hdrs", true, Rule::Free),
    ]);
    let at_birth = vec![("description", json!("yalo: which bots are alive"))];
    Wanted { stream: names.members_stream.clone(), consumer: None, fields, at_birth }
}

fn bot(subjects: &Subjects, names: &Names, name: &str, group: u8, groups: u16) -> Wanted {
    let partitions = (0..=u8::MAX).map(Partition).filter(|partition| partition.group(groups) == group);
    let filters: Vec<String> = partitions.map(|partition| subjects.questions(partition)).collect();
    consumer(names, name, &filters, BOT_ACK_WAIT, BOT_ACK_PENDING)
}

fn audit(names: &Names) -> Wanted {
    consumer(names, AUDIT, &[], AUDIT_ACK_WAIT, AUDIT_ACK_PENDING)
}

/// A durable pull consumer from the first message on, that never gives a message up.
fn consumer(names: &Names, name: &str, filters: &[String], ack_wait: Duration, ack_pending: u32) -> Wanted {
    let fields = vec![
        field("durable_name", name, Rule::Fixed),
        field("name", name, Rule::Fixed),
        field("deliver_subject", "", Rule::Fixed),
        field("deliver_policy", "all", Rule::Start),
        field("ack_policy", "explicit", Rule::Fixed),
        field("replay_policy", "instant", Rule::Fixed),
        field("filter_subject", "", Rule::Free),
        field("filter_subjects", filters, Rule::Free),
        field("ack_wait", span(ack_wait), Rule::Free),
        field("max_deliver", -1, Rule::Free),
        field("max_ack_pending", ack_pending, Rule::Free),
        field("headers_only", false, Rule::Free),
        // Limits on pulls would make ours fail, and an idle time would remove the consumer with all that it knows.
        field("max_batch", 0, Rule::Free),
        field("max_expires", 0, Rule::Free),
        field("max_bytes", 0, Rule::Free),
        field("inactive_threshold", 0, Rule::Free),
        field("backoff", Value::Null, Rule::Free),
        field("metadata", json!({ SCHEMA_KEY: SCHEMA.to_string() }), Rule::Schema),
    ];
    Wanted { stream: names.chat.clone(), consumer: Some(name.to_owned()), fields, at_birth: Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn plan(prefix: &str) -> Plan {
        let options = ProvisionOptions {
            replicas: 1,
            groups: 16,
            max_bytes: 1 << 30,
            max_age: Duration::from_hours(168),
            store_last_seq: None,
        };
        Plan::new(&Subjects::new(prefix).unwrap(), &options)
    }

    fn value<'plan>(wanted: &'plan Wanted, name: &str) -> &'plan Value {
        &wanted.fields.iter().find(|field| field.name == name).unwrap().value
    }

    #[test]
    fn every_partition_is_in_exactly_one_group() {
        let plan = plan("yalo");
        let filters = plan.consumers.iter().flat_map(|wanted| value(wanted, "filter_subjects").as_array().unwrap());
        let filters: Vec<_> = filters.map(|filter| filter.as_str().unwrap().to_owned()).collect();
        let expected: BTreeSet<_> = (0..256).map(|partition| format!("yalo.chat.{partition}.*.user")).collect();
        assert_eq!(filters.len(), 256);
        assert_eq!(filters.into_iter().collect::<BTreeSet<_>>(), expected);
        assert_eq!(value(&plan.consumers[12], "filter_subjects")[1], "yalo.chat.19.*.user");
        assert_eq!(plan.consumers[12].title(), "consumer bot-3 of YALO_CHAT");
        assert_eq!(value(&plan.consumers[16], "filter_subjects"), &json!([]));
    }

    #[test]
    fn all_names_follow_the_prefix() {
        let plan = plan("team-7");
        let streams: Vec<_> = plan.streams.iter().map(|wanted| wanted.stream.as_str()).collect();
        assert_eq!(streams, ["TEAM-7_CHAT", "TEAM-7_DEAD", "KV_team-7_members"]);
        assert_eq!(value(&plan.streams[0], "subjects"), &json!(["team-7.chat.*.*.*", "team-7.log.*.*"]));
        assert_eq!(value(&plan.streams[2], "subjects"), &json!(["$KV.team-7_members.>"]));
        assert!(value(&plan.streams[1], "subjects").to_string().contains("MAX_DELIVERIES.TEAM-7_CHAT.>"));
    }
}
