//! The health of the flow: what the stream holds, how far each consumer is, what the store has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch as latest;

use super::Admin;
use super::proof::{ProofReply, Shown};
use crate::audit::Ends;
use crate::bus::provision::Names;
use crate::bus::{Bus, BusError, ConsumerState, LETTER_ROLES, Streak, StreamState};
use crate::domain::Timestamp;
use crate::store::{Contract, Store, StoreError};
use crate::telemetry::Metrics;
use crate::web::ops::Dependency;

/// How often the flow is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// The consumer that the auditors share.
const AUDIT: &str = "audit";

/// `GET /admin/v1/stats`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Stats {
    messages: u64,
    conversations: Option<u64>,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    first_at: Option<Timestamp>,
    last_at: Option<Timestamp>,
    last_minute: u64,
    last_hour: u64,
    last_day: u64,
    stream: StreamReply,
    consumers: Vec<ConsumerState>,
    audit_gap: Gap,
    /// What the running proof of the record came to.
    proof: ProofReply,
    /// When this was looked at.
    at: Timestamp,
    /// Dead letters that lie there, by who made them.
    dead_letters: BTreeMap<&'static str, u64>,
    /// Messages below this sequence were retired from the store by age; 0 if none were.
    retired_below: u64,
}

#[derive(Debug, Clone, Serialize)]
struct StreamReply {
    messages: u64,
    bytes: u64,
    max_bytes: i64,
    first_seq: u64,
    last_seq: u64,
}

#[derive(Debug, Clone, Serialize)]
struct Gap {
    /// Messages of the stream that are not in the store yet.
    behind: u64,
}

/// What is known of the flow; shared by all readers.
pub(super) struct Flow {
    bus: Bus,
    store: Store,
    metrics: Metrics,
    stats: latest::Sender<Option<Arc<Stats>>>,
    /// The running proof of the record.
    pub(super) proof: Shown,
}

/// What the proof needs of a look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looked {
    pub(super) ends: Ends,
    pub(super) first_row: Option<u64>,
    pub(super) at: Timestamp,
}

/// Why the flow could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum FlowError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Flow {
    pub(super) fn new(bus: Bus, store: Store, metrics: Metrics) -> Self {
        Self { bus, store, metrics, stats: latest::channel(None).0, proof: Shown::default() }
    }

    /// The last look, and every one from now on.
    pub(super) fn subscribe(&self) -> latest::Receiver<Option<Arc<Stats>>> {
        self.stats.subscribe()
    }

    /// The ends of the stream as of the last look, without asking anybody.
    pub(super) fn looked(&self) -> Option<Looked> {
        let latest = self.stats.borrow();
        let stats = latest.as_ref()?;
        let audited = stats.consumers.first()?.ack_floor;
        let (first, last, retired_below) = (stats.stream.first_seq.max(1), stats.stream.last_seq, stats.retired_below);
        let ends = Ends { first, last, audited, retired_below };
        Some(Looked { ends, first_row: stats.first_seq, at: stats.at })
    }

    /// Everything up to this sequence is in the store. Asked anew each time: an older answer is lower, so it is never
    /// wrong, but it would make frontends read more of the stream than they must.
    pub(super) async fn complete_to(&self) -> Result<u64, BusError> {
        Ok(self.bus.consumer_state(AUDIT).await?.ack_floor)
    }

    /// Looks at everything now.
    pub(super) async fn look(&self) -> Result<Stats, FlowError> {
        let stream = self.bus.stream_state().await?;
        let mut consumers = vec![self.bus.consumer_state(AUDIT).await?];
        for (_, name) in Names::bots(stream.groups) {
            consumers.push(self.bus.consumer_state(&name).await?);
        }
        let dead_letters: BTreeMap<_, _> = LETTER_ROLES.into_iter().zip(self.bus.count_dead_letters().await?).collect();
        for (role, letters) in &dead_letters {
            self.metrics.set_dead_letters_waiting(role, *letters);
        }
        let totals = self.store.totals().await?;
        let retired_below = self.store.retired_below().await?;
        let now = Timestamp::now();
        let ago = |seconds: u64| Timestamp::from_ms(now.ms().saturating_sub(seconds * 1000));
        for consumer in &consumers {
            self.metrics.set_consumer(&consumer.name, consumer.pending, consumer.ack_pending);
        }
        let behind = consumers.first().map_or(0, |audit| audit.pending + audit.ack_pending);
        Ok(Stats {
            messages: totals.messages,
            conversations: totals.conversations,
            first_seq: totals.first.map(|place| place.seq),
            last_seq: totals.last.map(|place| place.seq),
            first_at: totals.first.map(|place| place.at),
            last_at: totals.last.map(|place| place.at),
            last_minute: self.store.count_between(ago(60), now).await?,
            last_hour: self.store.count_between(ago(3600), now).await?,
            last_day: self.store.count_between(ago(86_400), now).await?,
            stream: StreamReply::from(&stream),
            consumers,
            audit_gap: Gap { behind },
            proof: self.proof.now(),
            at: now,
            dead_letters,
            retired_below,
        })
    }
}

impl From<&StreamState> for StreamReply {
    fn from(state: &StreamState) -> Self {
        Self {
            messages: state.messages,
            bytes: state.bytes,
            max_bytes: state.max_bytes,
            first_seq: state.first_seq,
            last_seq: state.last_seq,
        }
    }
}

/// Looks each second while somebody watches, else each ten, and keeps metrics and readiness true.
pub(super) async fn watch(admin: Arc<Admin>, store: Dependency) {
    let (mut beats, mut failures, mut unsettled) = (0u32, Streak::default(), Streak::default());
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = admin.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        beats = beats.wrapping_add(1);
        if admin.flow.stats.receiver_count() == 0 && beats % 10 != 1 {
            continue;
        }
        match settle(&admin).await {
            Ok(()) => drop(unsettled.ends()),
            Err(error) if unsettled.fails() => {
                tracing::warn!(%error, "what NATS gave up cannot be made dead letters, it is tried again: {error}");
            }
            Err(_) => {}
        }
        match admin.flow.look().await {
            Ok(stats) => {
                if failures.ends() {
                    tracing::info!("the flow can be looked at again");
                }
                store.set_ready(true, "");
                admin.flow.stats.send_replace(Some(Arc::new(stats)));
            }
            Err(FlowError::Store(error)) => store.set_ready(false, &error.to_string()),
            Err(FlowError::Bus(error)) if failures.fails() => {
                tracing::warn!(%error, "the flow cannot be looked at, so its page and the proof stand still: {error}");
            }
            Err(FlowError::Bus(_)) => {}
        }
    }
}

/// What the server gave up becomes dead letters before they are counted.
async fn settle(admin: &Admin) -> Result<(), BusError> {
    let made = admin.bus.settle_advisories().await?;
    admin.flow.metrics.dead_letters("nats").inc_by(made);
    Ok(())
}
