//! The metrics of one process, in the OpenMetrics text format.
//!
//! `Metrics` is cheap to clone; every role of a process shares one. Handles that are taken once (`messages`,
//! `dead_letters`) save the look-up on hot paths.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// What [`Metrics::render`] is, for the response's header.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From 0.1 ms, under the fastest acknowledgement that was ever measured, to 30 s, the longest that anyone waits.
const LATENCY_SECONDS: [f64; 18] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.003_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0,
];
const FLUSH_ROWS: [f64; 9] = [1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];

/// A part of a message's way through the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Hop {
    /// Frontend: from the request's arrival to its acceptance.
    Accept,
    /// From a publish to the stream's acknowledgement.
    PublishAck,
    /// From the stream's timestamp of a question to the start of its answer.
    Queue,
    /// The engine's own time.
    Bot,
    /// From the stream's timestamp of a message to the watcher's queue.
    Deliver,
    /// From the stream's timestamp of a message to its commit in the store.
    Commit,
}

/// Whether a role took a message in or sent one out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Direction {
    /// Read from users or from the stream.
    In,
    /// Published or delivered.
    Out,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HopLabel {
    hop: Hop,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    role: &'static str,
    direction: Direction,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabel {
    role: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConsumerLabel {
    consumer: String,
}

/// Everything that a process counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    hops: Arc<[Histogram; 6]>,
    messages: Family<MessageLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    dead_letters: Family<RoleLabel, Counter>,
    consumer_pending: Family<ConsumerLabel, Gauge>,
    consumer_ack_pending: Family<ConsumerLabel, Gauge>,
    /// Connections to NATS that were made again.
    pub reconnects: Counter,
    /// Publishes that were sent again for want of an acknowledgement.
    pub publish_retries: Counter,
    /// Watchers of conversations: SSE streams, WebSocket watches, waiting requests.
    pub watchers: Gauge,
    /// Open HTTP and WebSocket connections.
    pub connections: Gauge,
    /// Rows that the store has committed.
    pub store_rows: Counter,
    /// Rows of each write to the store.
    pub store_flush_rows: Histogram,
    /// Messages that the stream holds and the store does not yet.
    pub audit_gap: Gauge<u64, AtomicU64>,
}

impl Metrics {
    /// Registers every metric at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("yalo");
        let hops = Family::<HopLabel, Histogram>::new_with_constructor(|| Histogram::new(LATENCY_SECONDS));
        let by_hop = [Hop::Accept, Hop::PublishAck, Hop::Queue, Hop::Bot, Hop::Deliver, Hop::Commit]
            .map(|hop| hops.get_or_create_owned(&HopLabel { hop }));
        let mut metrics = Self {
            registry: Arc::default(),
            hops: Arc::new(by_hop),
            messages: Family::default(),
            requests: Family::default(),
            dead_letters: Family::default(),
            consumer_pending: Family::default(),
            consumer_ack_pending: Family::default(),
            reconnects: Counter::default(),
            publish_retries: Counter::default(),
            watchers: Gauge::default(),
            connections: Gauge::default(),
            store_rows: Counter::default(),
            store_flush_rows: Histogram::new(FLUSH_ROWS),
            audit_gap: Gauge::default(),
        };
        registry.register_with_unit("hop", "Time of one part of a message's way", Unit::Seconds, hops);
        metrics.register(&mut registry);
        registry.register("build", "The release that runs", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        metrics.registry = Arc::new(registry);
        metrics
    }

    /// Names come out as `yalo_<name>`, counters as `yalo_<name>_total`.
    fn register(&self, registry: &mut Registry) {
        registry.register("messages", "Messages that a role took in or sent out", self.messages.clone());
        registry.register("http_requests", "Answered HTTP requests", self.requests.clone());
        registry.register("dead_letters", "Messages laid down as dead letters", self.dead_letters.clone());
        registry.register("reconnects", "Connections to NATS that were made again", self.reconnects.clone());
        let help = "Publishes sent again for want of an acknowledgement";
        registry.register("publish_retries", help, self.publish_retries.clone());
        registry.register("watchers", "Watchers of conversations", self.watchers.clone());
        registry.register("connections", "Open HTTP and WebSocket connections", self.connections.clone());
        let help = "Messages that a consumer has not delivered yet";
        registry.register("consumer_pending", help, self.consumer_pending.clone());
        let help = "Messages that a consumer has delivered and that are not acknowledged yet";
        registry.register("consumer_ack_pending", help, self.consumer_ack_pending.clone());
        registry.register("store_rows", "Rows that the store has committed", self.store_rows.clone());
        registry.register("store_flush_rows", "Rows of one write to the store", self.store_flush_rows.clone());
        let help = "Messages that the stream holds and the store does not yet";
        registry.register("audit_gap_messages", help, self.audit_gap.clone());
    }

    /// Records the time of one hop.
    pub fn observe(&self, hop: Hop, time: Duration) {
        self.hop(hop).observe(time.as_secs_f64());
    }

    /// The histogram of one hop, in seconds.
    pub fn hop(&self, hop: Hop) -> &Histogram {
        let [accept, publish_ack, queue, bot, deliver, commit] = self.hops.as_ref();
        match hop {
            Hop::Accept => accept,
            Hop::PublishAck => publish_ack,
            Hop::Queue => queue,
            Hop::Bot => bot,
            Hop::Deliver => deliver,
            Hop::Commit => commit,
        }
    }

    /// The counter of a role's messages; take it once and keep it.
    pub fn messages(&self, role: &'static str, direction: Direction) -> Counter {
        self.messages.get_or_create_owned(&MessageLabels { role, direction })
    }

    /// Counts an answered request. `route` is the pattern, never the path: a path has ids in it.
    pub fn count_request(&self, route: &'static str, status: u16) {
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
    }

    /// The counter of a role's dead letters.
    pub fn dead_letters(&self, role: &'static str) -> Counter {
        self.dead_letters.get_or_create_owned(&RoleLabel { role })
    }

    /// Sets what one consumer has still to deliver, and what it waits for.
    pub fn set_consumer(&self, consumer: &str, pending: u64, ack_pending: u64) {
        let label = ConsumerLabel { consumer: consumer.to_owned() };
        self.consumer_pending.get_or_create(&label).set(i64::try_from(pending).unwrap_or(i64::MAX));
        self.consumer_ack_pending.get_or_create(&label).set(i64::try_from(ack_pending).unwrap_or(i64::MAX));
    }

    /// Everything in the OpenMetrics text format; see [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a String can't fail; a collector that does is left out rather than the whole page.
        match text::encode(&mut out, &self.registry) {
            Ok(()) => out,
            Err(error) => format!("# {error}\n# EOF\n"),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
