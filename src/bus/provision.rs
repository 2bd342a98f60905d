//! `yalo init`: makes the streams and consumers that are missing, and brings the others to the plan without losing a
//! message.
//!
//! - Looks first, at everything, and changes nothing at all if a single difference must be refused.
//! - Running it again changes nothing; two at once end in the same state.
//! - What the plan does not name (other consumers, other fields) is left as it is.

mod api;
mod difference;
mod names;
mod plan;
mod report;
#[cfg(test)]
mod tests;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::RequestError;
use serde_json::{Map, Value};

pub use names::{AUDIT, Names};
pub use plan::{Plan, ProvisionOptions};
pub use report::{Action, Change, Report};

use super::server::{OLDEST, Version};
use crate::domain::Timestamp;
use crate::domain::limits::STREAM_MESSAGE_BYTES;
use api::{ConsumerInfo, Refusal, StreamInfo};
use difference::{Stored, differences};
use plan::Wanted;

/// How often a reconciliation starts over because someone else made or changed the same things.
const ROUNDS: usize = 4;

/// Why NATS is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// At least one difference must not or can't be changed; nothing was changed.
    #[error("nothing was changed, because of this:\n{}", refusals(.0))]
    Refused(Report),
    /// A role found that `yalo init` has not been run.
    #[error("missing on NATS: {}; run `yalo init`", .0.join(", "))]
    Missing(Vec<String>),
    /// The server is older than [`OLDEST`].
    #[error("the NATS server is nats-server {version}, and yalo needs {OLDEST} or newer: update it")]
    TooOld {
        /// What it calls itself.
        version: String,
    },
    /// The server takes smaller messages than the stream must.
    #[error(
        "the NATS server takes messages of at most {has} bytes, and yalo needs {STREAM_MESSAGE_BYTES}: raise its max_payload"
    )]
    SmallMessages {
        /// Its limit.
        has: usize,
    },
    /// The server, or the account that we are in, has no JetStream.
    #[error("the NATS server has no JetStream for this user: start it with -js, and enable JetStream for the account")]
    NoJetStream,
    /// The server refused a request of ours.
    #[error("nats-server refuses {object}: {description} (code {code}); {way_out}")]
    Server {
        /// What it was about.
        object: String,
        /// The server's error code.
        code: u64,
        /// The server's words.
        description: String,
        /// What the operator can do.
        way_out: &'static str,
    },
    /// No answer in time. A user without the right to ask gets none either.
    #[error("no answer to {request} from NATS: is it without a leader, or may this user not ask?")]
    NoAnswer {
        /// The request's subject, without its prefix.
        request: String,
        /// The library's error.
        #[source]
        source: RequestError,
    },
    /// Others kept changing the same things.
    #[error("someone else keeps changing the streams of this prefix at the same time; run `yalo init` again")]
    Contended,
}

fn refusals(report: &Report) -> String {
    report.refused().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What one object needs.
enum Step {
    CreateStream { name: String, config: Map<String, Value> },
    UpdateStream { name: String, config: Map<String, Value> },
    CreateConsumer { stream: String, name: String, config: Map<String, Value> },
    UpdateConsumer { stream: String, name: String, config: Map<String, Value> },
}

/// Brings NATS to the plan. A dry run only reports, refusals included.
///
/// The context's own time-out limits each request.
pub async fn reconcile(context: &Context, plan: &Plan, dry_run: bool) -> Result<Report, ProvisionError> {
    check_server(context)?;
    let mut done = Vec::new();
    for _ in 0..ROUNDS {
        let (mut report, steps) = survey(context, plan).await?;
        if dry_run {
            return Ok(report);
        }
        if report.refused().next().is_some() {
            return Err(ProvisionError::Refused(report));
        }
        if apply(context, &steps).await? {
            done.append(&mut report.changes);
            return Ok(Report { changes: done });
        }
        // What was made before the clash is found as planned in the next round; keep the line that says it was made.
        done.extend(report.changes.into_iter().filter(|change| change.action != Action::Unchanged));
    }
    Err(ProvisionError::Contended)
}

/// For a role at its start: is everything there? Needs the rights to ask for streams and consumers.
pub async fn verify_present(context: &Context, plan: &Plan) -> Result<(), ProvisionError> {
    check_server(context)?;
    let mut missing = Vec::new();
    let mut consumers = Vec::new();
    for wanted in &plan.streams {
        match api::stream(context, &wanted.stream).await? {
            None => missing.push(wanted.title()),
            Some(_) if wanted.stream == plan.names.chat => {
                consumers = api::consumers(context, &wanted.stream).await?;
            }
            Some(_) => {}
        }
    }
    let is_there = |wanted: &&Wanted| consumers.iter().any(|found| Some(&found.name) == wanted.consumer.as_ref());
    missing.extend(plan.consumers.iter().filter(|wanted| !is_there(wanted)).map(Wanted::title));
    if missing.is_empty() { Ok(()) } else { Err(ProvisionError::Missing(missing)) }
}

fn check_server(context: &Context) -> Result<(), ProvisionError> {
    let server = context.client().server_info();
    if Version::parse(&server.version).is_none_or(|version| version < OLDEST) {
        return Err(ProvisionError::TooOld { version: server.version });
    }
    if i32::try_from(server.max_payload).is_ok_and(|has| has < STREAM_MESSAGE_BYTES) {
        return Err(ProvisionError::SmallMessages { has: server.max_payload });
    }
    Ok(())
}

/// Looks at everything and changes nothing.
async fn survey(context: &Context, plan: &Plan) -> Result<(Report, Vec<Step>), ProvisionError> {
    let (mut report, mut steps) = (Report::default(), Vec::new());
    let mut consumers = Vec::new();
    let clustered = context.client().server_info().cluster.is_some();
    for wanted in &plan.streams {
        let is_chat = wanted.stream == plan.names.chat;
        let found = api::stream(context, &wanted.stream).await?;
        let mut stored = Stored { clustered, ..Stored::default() };
        if let Some(found) = found.as_ref().filter(|_| is_chat) {
            consumers = api::consumers(context, &wanted.stream).await?;
            stored = stored_in(context, &wanted.stream, found, &consumers, clustered).await?;
            report.changes.extend(rewound(wanted, found, plan.store_last_seq));
        }
        let config = found.map(|found| found.config);
        examine(&mut report, &mut steps, wanted, config, &stored);
    }
    for wanted in &plan.consumers {
        let at = consumers.iter().position(|found| Some(&found.name) == wanted.consumer.as_ref());
        let config = at.map(|at| consumers.swap_remove(at).config);
        examine(&mut report, &mut steps, wanted, config, &Stored::default());
    }
    for foreign in consumers {
        let object = format!("consumer {} of {}", foreign.name, plan.names.chat);
        report.changes.push(Change::whole(object, Action::LeftAlone));
    }
    Ok((report, steps))
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
    let fields = wanted.fields.iter().map(|field| (field.name, &field.value));
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
async fn stored_in(
    context: &Context,
    stream: &str,
    found: &StreamInfo,
    consumers: &[ConsumerInfo],
    clustered: bool,
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
    Ok(Stored { bytes: found.bytes, oldest_unaudited, audited_seq, clustered })
}

/// Takes the steps; `false` if someone else was faster with one of them.
async fn apply(context: &Context, steps: &[Step]) -> Result<bool, ProvisionError> {
    for step in steps {
        let (object, outcome): (String, Result<(), Refusal>) = match step {
            Step::CreateStream { name, config } => {
                (format!("stream {name}"), api::create_stream(context, name, config).await?)
            }
            Step::UpdateStream { name, config } => {
                (format!("stream {name}"), api::update_stream(context, name, config).await?)
            }
            Step::CreateConsumer { stream, name, config } => {
                let answer = api::put_consumer(context, (stream, name), config, "create").await?;
                (format!("consumer {name} of {stream}"), answer)
            }
            Step::UpdateConsumer { stream, name, config } => {
                let answer = api::put_consumer(context, (stream, name), config, "update").await?;
                (format!("consumer {name} of {stream}"), answer)
            }
        };
        match outcome {
            Ok(()) => {}
            Err(refusal) if refusal.is_race() => return Ok(false),
            Err(refusal) => return Err(refusal.into_error(object)),
        }
    }
    Ok(true)
}
