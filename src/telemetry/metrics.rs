//! The metrics of one process, in the OpenMetrics text format.
//!
//! `Metrics` is cheap to clone; every role of a process shares one. Handles that are taken once (`messages`,
//! `dead_letters`) save the look-up on hot paths.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::process::Process;

/// What [`Metrics::render`] is, for the response's header.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From 0.1 ms, under the fastest acknowledgement that was ever measured, to 30 s, the longest that anyone waits.
const LATENCY_SECONDS: [f64; 18] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.003_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0,
];
const FLUSH_ROWS: [f64; 10] = [1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2000.0];

/// A part of a message's way through the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

impl Hop {
    const ALL: [Self; 6] = [Self::Accept, Self::PublishAck, Self::Queue, Self::Bot, Self::Deliver, Self::Commit];

    fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::PublishAck => "publish_ack",
            Self::Queue => "queue",
            Self::Bot => "bot",
            Self::Deliver => "deliver",
            Self::Commit => "commit",
        }
    }
}

/// Whether a role took a message in or sent one out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Read from users or from the stream.
    In,
    /// Published or delivered.
    Out,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HopLabel {
    hop: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    role: &'static str,
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
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
    ingested: Family<OutcomeLabel, Counter>,
    dead_letters: Family<RoleLabel, Counter>,
    dead_letters_waiting: Family<RoleLabel, Gauge>,
    consumer_pending: Family<ConsumerLabel, Gauge>,
    consumer_ack_pending: Family<ConsumerLabel, Gauge>,
    /// Connections to NATS that were made again.
    pub reconnects: Counter,
    /// Publishes that were sent again for want of an acknowledgement.
    pub publish_retries: Counter,
    /// 1 while a frontend accepts nothing for want of room in the stream.
    pub stream_full: Gauge,
    /// Groups of conversations that the bots of this process answer.
    pub groups: Gauge,
    /// Open questions that were read from the stream instead of being delivered.
    pub recovered: Counter,
    /// Watchers of conversations: SSE streams, WebSocket watches, waiting requests.
    pub watchers: Gauge,
    /// Open HTTP and WebSocket connections.
    pub connections: Gauge,
    /// Rows that the store has committed.
    pub store_rows: Counter,
    /// Rows of each write to the store.
    pub store_flush_rows: Histogram,
    /// Settled messages that are missing or altered in the store.
    pub audit_gap: Gauge,
}

impl Metrics {
    /// Registers every metric at zero.
    pub fn new() -> Self {
        let mut root = Registry::default();
        root.register_collector(Box::new(Process));
        let registry = root.sub_registry_with_prefix("yalo");
        let hops = Family::<HopLabel, Histogram>::new_with_constructor(|| Histogram::new(LATENCY_SECONDS));
        let by_hop = Hop::ALL.map(|hop| hops.get_or_create_owned(&HopLabel { hop: hop.as_str() }));
        let mut metrics = Self {
            registry: Arc::default(),
            hops: Arc::new(by_hop),
            messages: Family::default(),
            requests: Family::default(),
            ingested: Family::default(),
            dead_letters: Family::default(),
            dead_letters_waiting: Family::default(),
            consumer_pending: Family::default(),
            consumer_ack_pending: Family::default(),
            reconnects: Counter::default(),
            publish_retries: Counter::default(),
            stream_full: Gauge::default(),
            groups: Gauge::default(),
            recovered: Counter::default(),
            watchers: Gauge::default(),
            connections: Gauge::default(),
            store_rows: Counter::default(),
            store_flush_rows: Histogram::new(FLUSH_ROWS),
            audit_gap: Gauge::default(),
        };
        registry.register_with_unit("hop", "Time of one part of a message's way", Unit::Seconds, hops);
        metrics.register(registry);
        registry.register("build", "The release that runs", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        metrics.registry = Arc::new(root);
        metrics
    }

    /// Names come out as `yalo_<name>`, counters as `yalo_<name>_total`.
    fn register(&self, registry: &mut Registry) {
        registry.register("messages", "Messages that a role took in or sent out", self.messages.clone());
        registry.register("http_requests", "Answered HTTP requests", self.requests.clone());
        registry.register("ingest_lines", "Lines of uploads, by what became of them", self.ingested.clone());
        registry.register("dead_letters", "Messages laid down as dead letters", self.dead_letters.clone());
        let help = "Dead letters that lie there until an operator has dealt with them";
        registry.register("dead_letters_waiting", help, self.dead_letters_waiting.clone());
        registry.register("reconnects", "Connections to NATS that were made again", self.reconnects.clone());
        let help = "Publishes sent again for want of an acknowledgement";
        registry.register("publish_retries", help, self.publish_retries.clone());
        let help = "1 while nothing is accepted for want of room in the stream";
        registry.register("stream_full", help, self.stream_full.clone());
        registry.register("bot_groups", "Groups that the bots of this process answer", self.groups.clone());
        let help = "Open questions that were read from the stream instead of being delivered";
        registry.register("bot_recovered", help, self.recovered.clone());
        registry.register("watchers", "Watchers of conversations", self.watchers.clone());
        registry.register("connections", "Open HTTP and WebSocket connections", self.connections.clone());
        let help = "Messages that a consumer has not delivered yet";
        registry.register("consumer_pending", help, self.consumer_pending.clone());
        let help = "Messages that a consumer has delivered and that are not acknowledged yet";
        registry.register("consumer_ack_pending", help, self.consumer_ack_pending.clone());
        registry.register("store_rows", "Rows that the store has committed", self.store_rows.clone());
        registry.register("store_flush_rows", "Rows of one write to the store", self.store_flush_rows.clone());
        let help = "Settled messages that are missing or altered in the store, as far as was checked";
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
        let direction = match direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        self.messages.get_or_create_owned(&MessageLabels { role, direction })
    }

    /// Counts an answered request. `route` is the pattern, never the path: a path has ids in it.
    pub fn count_request(&self, route: &'static str, status: u16) {
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
    }

    /// The counter of ingested lines with this outcome: `accepted`, `duplicate` or `refused`.
    pub fn ingested(&self, outcome: &'static str) -> Counter {
        self.ingested.get_or_create_owned(&OutcomeLabel { outcome })
    }

    /// The counter of a role's dead letters.
    pub fn dead_letters(&self, role: &'static str) -> Counter {
        self.dead_letters.get_or_create_owned(&RoleLabel { role })
    }

    /// Sets how many letters of a role lie there.
    pub fn set_dead_letters_waiting(&self, role: &'static str, letters: u64) {
        let gauge = self.dead_letters_waiting.get_or_create_owned(&RoleLabel { role });
        gauge.set(i64::try_from(letters).unwrap_or(i64::MAX));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn used() -> Metrics {
        let metrics = Metrics::new();
        for hop in Hop::ALL {
            metrics.observe(hop, Duration::from_micros(200));
        }
        metrics.messages("frontend", Direction::In).inc();
        metrics.messages("frontend", Direction::Out).inc_by(2);
        metrics.count_request("/v1/chat", 200);
        metrics.ingested("refused").inc();
        metrics.dead_letters("bot").inc();
        metrics.set_dead_letters_waiting("nats", 2);
        metrics.set_consumer("bot-0", 7, u64::MAX);
        metrics.store_flush_rows.observe(500.0);
        metrics
    }

    #[test]
    fn every_name_and_help_text_is_pinned() {
        let page = used().render();
        let heads: Vec<&str> = page.lines().filter(|line| line.starts_with("# HELP")).collect();
        insta::assert_snapshot!(heads.join("\n"), @r"
        # HELP process_resident_memory_bytes Resident memory.
        # HELP process_start_time_seconds Start of the process, in seconds since 1970.
        # HELP process_open_fds Open file descriptors.
        # HELP process_cpu_seconds User and system time spent.
        # HELP yalo_hop_seconds Time of one part of a message's way.
        # HELP yalo_messages Messages that a role took in or sent out.
        # HELP yalo_http_requests Answered HTTP requests.
        # HELP yalo_ingest_lines Lines of uploads, by what became of them.
        # HELP yalo_dead_letters Messages laid down as dead letters.
        # HELP yalo_dead_letters_waiting Dead letters that lie there until an operator has dealt with them.
        # HELP yalo_reconnects Connections to NATS that were made again.
        # HELP yalo_publish_retries Publishes sent again for want of an acknowledgement.
        # HELP yalo_stream_full 1 while nothing is accepted for want of room in the stream.
        # HELP yalo_bot_groups Groups that the bots of this process answer.
        # HELP yalo_bot_recovered Open questions that were read from the stream instead of being delivered.
        # HELP yalo_watchers Watchers of conversations.
        # HELP yalo_connections Open HTTP and WebSocket connections.
        # HELP yalo_consumer_pending Messages that a consumer has not delivered yet.
        # HELP yalo_consumer_ack_pending Messages that a consumer has delivered and that are not acknowledged yet.
        # HELP yalo_store_rows Rows that the store has committed.
        # HELP yalo_store_flush_rows Rows of one write to the store.
        # HELP yalo_audit_gap_messages Settled messages that are missing or altered in the store, as far as was checked.
        # HELP yalo_build The release that runs.
        ");
        assert!(page.ends_with("# EOF\n"), "{page}");
    }

    #[test]
    fn values_come_out_under_their_labels() {
        let page = used().render();
        for line in [
            "yalo_hop_seconds_count{hop=\"publish_ack\"} 1",
            "yalo_hop_seconds_bucket{le=\"0.0001\",hop=\"commit\"} 0",
            "yalo_hop_seconds_bucket{le=\"0.00025\",hop=\"commit\"} 1",
            "yalo_messages_total{role=\"frontend\",direction=\"out\"} 2",
            "yalo_http_requests_total{route=\"/v1/chat\",status=\"200\"} 1",
            "yalo_ingest_lines_total{outcome=\"refused\"} 1",
            "yalo_dead_letters_total{role=\"bot\"} 1",
            "yalo_dead_letters_waiting{role=\"nats\"} 2",
            "yalo_consumer_pending{consumer=\"bot-0\"} 7",
            "yalo_consumer_ack_pending{consumer=\"bot-0\"} 9223372036854775807",
            "yalo_store_flush_rows_sum 500.0",
            "yalo_reconnects_total 0",
            concat!("yalo_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
        }
    }

    #[test]
    fn each_hop_has_a_histogram_of_its_own() {
        let metrics = Metrics::new();
        metrics.observe(Hop::Queue, Duration::from_secs(1));
        let page = metrics.render();
        for hop in Hop::ALL {
            let line = format!("yalo_hop_seconds_count{{hop=\"{}\"}} {}\n", hop.as_str(), u8::from(hop == Hop::Queue));
            assert!(page.contains(&line), "{line} is missing in\n{page}");
        }
    }

    #[test]
    fn clones_count_together() {
        let metrics = Metrics::new();
        metrics.clone().watchers.inc();
        assert!(metrics.render().contains("\nyalo_watchers 1\n"));
    }
}
