//! Looking at everything that is there, and deciding what each object needs: the half of a reconciliation that changes
//! nothing.

use async_nats::jetstream::Context;
use serde_json::{Map, Value};

use super::ProvisionError;
use super::api::{self, ConsumerInfo, StreamInfo};
use super::difference::{Stored, differences};
use super::names::{AUDIT, Names};
use super::plan::{Plan, Wanted};
use super::report::{Action, Change, Report};
use crate::bus::server::Version;
use crate::domain::Timestamp;

/// What one object needs.
pub(super) enum Step {
    CreateStream { name: String, config: Map<String, Value> },
    UpdateStream { name: String, config: Map<String, Value> },
    CreateConsumer { stream: String, name: String, config: Map<String, Value> },
    UpdateConsumer { stream: String, name: String, config: Map<String, Value> },
}

impl Step {
    /// New groups are there before anybody hears of them, and old ones let their partitions go after that: wherever it is cut
    /// off, each question has a group that answers it.
    fn turn(&self) -> u8 {
        match self {
            Self::CreateStream { .. } => 0,
            Self::CreateConsumer { .. } => 1,
            Self::UpdateStream { .. } => 2,
            Self::UpdateConsumer { .. } => 3,
        }
    }
}

/// Looks at everything and changes nothing.
pub(super) async fn survey(context: &Context, plan: &Plan) -> Result<(Report, Vec<Step>), ProvisionError> {
    let (mut report, mut steps) = (Report::default(), Vec::new());
    let (mut consumers, mut split) = (Vec::new(), None);
    let server = context.client().server_info();
    let (clustered, version) = (server.cluster.is_some(), Version::parse(&server.version));
    for wanted in &plan.streams {
        let is_chat = wanted.stream == plan.names.chat;
        let found = api::stream(context, &wanted.stream).await?;
        let mut stored = Stored { clustered, version, ..Stored::default() };
        if let Some(found) = found.as_ref().filter(|_| is_chat) {
            consumers = api::consumers(context, &wanted.stream).await?;
            stored = Stored { clustered, version, ..stored_in(context, &wanted.stream, found, &consumers).await? };
            split = Some(Split::of(found, &consumers));
            report.changes.extend(rewound(wanted, found, plan.store_last_seq));
        }
        let config = found.map(|found| found.config);
        examine(&mut report, &mut steps, wanted, config, &stored);
    }
    for wanted in &plan.consumers {
        let at = consumers.iter().position(|found| Some(&found.name) == wanted.consumer.as_ref());
        let config = at.map(|at| consumers.swap_remove(at).config);
        match split.as_ref().and_then(|split| split.start_of(wanted)).filter(|_| config.is_none()) {
            Some(start) => {
                create(&mut report, &mut steps, &starting_at(wanted, start), &Stored::default());
            }
            None => examine(&mut report, &mut steps, wanted, config, &Stored::default()),
        }
    }
    for foreign in consumers {
        let object = format!("consumer {} of {}", foreign.name, plan.names.chat);
        report.changes.push(Change::whole(object, Action::LeftAlone));
    }
    steps.sort_by_key(Step::turn);
    Ok((report, steps))
}

/// Where a group begins that is split from others: what they are done with is none of its work.
struct Split {
    /// How many groups there were.
    groups: u16,
    /// The first message that one of them is not done with.
    start: u64,
}

impl Split {
    fn of(stream: &StreamInfo, consumers: &[ConsumerInfo]) -> Self {
        let groups = super::groups_of(&Value::Object(stream.config.clone()));
        // The stream was looked at before its consumers: one that is idle now is done with all that it held then.
        let done_to = |found: &ConsumerInfo| if found.idle { stream.last_seq } else { found.ack_floor };
        let done = |name: &str| consumers.iter().find(|found| found.name == name).map_or(0, done_to);
        let start = Names::bots(groups).map(|(_, name)| done(&name)).min().unwrap_or(0) + 1;
        Self { groups, start }
    }

    /// `None` for a consumer that is not new: then it begins with the first message.
    fn start_of(&self, wanted: &Wanted) -> Option<u64> {
        let group = wanted.consumer.as_ref()?.strip_prefix("bot-")?.parse::<u16>().ok()?;
        (group >= self.groups).then_some(self.start)
    }
}

fn starting_at(wanted: &Wanted, start: u64) -> Wanted {
    let mut wanted = wanted.clone();
    wanted.fields.retain(|field| field.name != "deliver_policy");
    wanted.at_birth.extend([("deliver_policy", "by_start_sequence".into()), ("opt_start_seq", start.into())]);
    wanted
}

/// Adds what one object needs to the report and to the steps.
fn examine(
    report: &mut Report,
    steps: &mut Vec<Step>,
    wanted: &Wanted,
    found: Option<Map<String, Value>>,
    stored: &Stored,
) {
    let (stream, consumer) = (wanted.stream.clone(), wanted.consumer.clone());
    let Some(mut config) = found else {
        return create(report, steps, wanted, stored);
    };
    let changes = differences(wanted, &mut config, stored);
    if changes.is_empty() {
        report.changes.push(Change::whole(wanted.title(), Action::Unchanged));
        return;
    }
    if changes.iter().any(|change| change.action == Action::Updated) {
        steps.push(match consumer {
            None => Step::UpdateStream { name: stream, config },
            Some(name) => Step::UpdateConsumer { stream, name, config },
        });
    }
    report.changes.extend(changes);
}

fn create(report: &mut Report, steps: &mut Vec<Step>, wanted: &Wanted, stored: &Stored) {
    // A field that even a new object can't have: copies without a cluster.
    let mut config = Map::new();
    let impossible = differences(wanted, &mut config, stored)
        .into_iter()
        .filter(|change| change.field == "num_replicas" && change.is_refused());
    report.changes.extend(impossible);
    let fields = wanted.fields.iter().filter(|field| field.is_known(stored.version));
    let fields = fields.map(|field| (field.name, &field.value));
    let at_birth = wanted.at_birth.iter().map(|(name, value)| (*name, value));
    let config: Map<_, _> = fields
        .chain(at_birth)
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .collect();
    let mut change = Change::whole(wanted.title(), Action::Created);
    if let Some(first) = config.get("first_seq") {
        (change.field, change.to) = ("first_seq".to_owned(), first.to_string());
    }
    report.changes.push(change);
    let stream = wanted.stream.clone();
    steps.push(match wanted.consumer.clone() {
        None => Step::CreateStream { name: stream, config },
        Some(name) => Step::CreateConsumer { stream, name, config },
    });
}

/// A stream that ends below what the store has would give numbers away a second time.
fn rewound(wanted: &Wanted, found: &StreamInfo, store_last_seq: Option<u64>) -> Option<Change> {
    let stored = store_last_seq.filter(|stored| found.last_seq < *stored)?;
    let name = &wanted.stream;
    let kept = match found.messages {
        0 => "it is empty: ".to_owned(),
        messages => format!("keep a copy of its {messages} messages with `nats stream backup {name} FOLDER`, then "),
    };
    Some(Change {
        object: wanted.title(),
        field: "last_seq".to_owned(),
        from: found.last_seq.to_string(),
        to: format!("{stored} or more"),
        action: Action::Refused {
            reason: format!(
                "the store has messages up to {stored}, so this stream was made anew or has lost its end, and its next \
                 messages would take numbers that are given away"
            ),
            way_out: format!(
                "{kept}`nats stream rm {name}` (of a server that yalo runs itself: stop yalo, move `nats` out of \
                 data.dir) and run `yalo init` again: it makes the stream begin at {}",
                stored.saturating_add(1)
            ),
        },
    })
}

/// What must not get lost when a limit is lowered.
pub(super) async fn stored_in(
    context: &Context,
    stream: &str,
    found: &StreamInfo,
    consumers: &[ConsumerInfo],
) -> Result<Stored, ProvisionError> {
    let audit = consumers.iter().find(|consumer| consumer.name == AUDIT);
    let audited_seq = audit.map_or(0, |audit| audit.ack_floor);
    let oldest_unaudited = if found.messages == 0 || audited_seq >= found.last_seq {
        None
    } else {
        let first = found.first_seq.max(audited_seq + 1);
        let time = api::time_of(context, stream, first).await?;
        time.and_then(|time| Timestamp::parse(&time)).map(|time| Timestamp::now().since(time))
    };
    Ok(Stored { bytes: found.bytes, oldest_unaudited, audited_seq, ..Stored::default() })
}
