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
mod survey;
#[cfg(test)]
mod tests;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::RequestError;

pub use names::{AUDIT, Names};
pub use plan::{Plan, ProvisionOptions};
pub use report::{Action, Change, Report};

use super::server::{OLDEST, Version};
use crate::domain::limits::{GROUPS, MOST_GROUPS, STREAM_MESSAGE_BYTES};
use api::Refusal;
use plan::Wanted;
use survey::{Step, survey};

/// How often a reconciliation starts over because someone else made or changed the same things.
const ROUNDS: usize = 4;

/// Why NATS is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// At least one difference must not or can't be changed; no stream and no consumer was.
    #[error("nothing was changed on NATS, because of this:\n{}", refusals(.0))]
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
    /// Less than half of its servers are there, or they are about to elect one.
    #[error("{object} has no leader on NATS: are more than half of its servers up?")]
    Leaderless {
        /// What it is about.
        object: String,
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

impl ProvisionError {
    /// Whether it may be only that a cluster has no leader (yet).
    pub fn is_leaderless(&self) -> bool {
        matches!(self, Self::NoAnswer { .. } | Self::Leaderless { .. })
    }
}

/// How many groups bots share, by the configuration of the chat stream.
pub(super) fn groups_of(config: &serde_json::Value) -> u16 {
    let number = config["metadata"][plan::GROUPS_KEY].as_str().and_then(|number| number.parse().ok());
    number.filter(|groups| (GROUPS..=MOST_GROUPS).contains(groups)).unwrap_or(GROUPS)
}

fn refusals(report: &Report) -> String {
    report.refused().map(ToString::to_string).collect::<Vec<_>>().join("\n")
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
