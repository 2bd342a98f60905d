//! Rows from memory or from a stream into the tables, several flushes side by side, and one line of what it took.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::{self, consumer::pull};
use futures_util::StreamExt;
use natsbench::cost::{cpu_seconds, peak_mib, quantile};
use scylla::client::PoolSize;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use storebench::messages::Messages;
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep, timeout, timeout_at};

use crate::row::Row;
use crate::tables::{Outcome, Tables};

const STREAM: &str = "YALO_CHAT";
/// As the consumer of yalo's auditors.
const MAX_ACK_PENDING: i64 = 20_000;
/// A stream that has nothing for so long is not as full as was said.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the rows come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Made beforehand, with so many conversations active at a time.
    Memory { active: u64 },
    /// Read from the stream at this address.
    Stream { server: String },
}

/// What is written, and how.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    pub nodes: String,
    pub keyspace: String,
    pub source: Source,
    pub messages: u64,
    /// Rows of one flush, and how many run side by side.
    pub flush: usize,
    pub flushes: usize,
    /// From a stream: a flush begins no later than this after its first message, full or not.
    pub linger: Duration,
    /// Requests of all flushes together.
    pub in_flight: usize,
    /// Rows of one request at most.
    pub batch: usize,
    /// Processes whose CPU is counted as the server's.
    pub cassandra: Vec<u32>,
}

/// One connection to each node.
pub async fn connect(nodes: &str) -> Result<Session> {
    let pool = PoolSize::PerHost(NonZeroUsize::MIN);
    SessionBuilder::new().known_nodes(nodes.split(',')).pool_size(pool).build().await.context("connect to cassandra")
}

/// A new keyspace, all rows, and a line of `key=value`.
pub async fn run(options: IngestOptions) -> Result<()> {
    let session = connect(&options.nodes).await?;
    let tables = Arc::new(Tables::create(session, &options.keyspace, options.batch).await?);
    let mut flushes = Flushes { running: JoinSet::new(), most: options.flushes, outcome: Outcome::default() };
    let in_flight = options.in_flight.div_ceil(options.flushes);
    let server_cpu = || options.cassandra.iter().map(|pid| cpu_seconds(*pid)).sum::<f64>();
    let own_cpu = || cpu_seconds(std::process::id());
    let (before, seconds) = match &options.source {
        Source::Memory { active } => {
            let made = Messages::with_active(*active).take(usize::try_from(options.messages)?);
            let rows: Vec<Row> = made.map(Row::from).collect();
            let flush_rows: Vec<Vec<Row>> = rows.chunks(options.flush).map(<[Row]>::to_vec).collect();
            let (before, start) = ((own_cpu(), server_cpu()), Instant::now());
            for rows in flush_rows {
                let tables = Arc::clone(&tables);
                let flush = async move { tables.write(&rows, in_flight).await };
                flushes.start(flush).await?;
            }
            flushes.finish().await?;
            (before, start.elapsed().as_secs_f64())
        }
        Source::Stream { server } => {
            let context = jetstream::new(async_nats::connect(server).await.context("connect to nats")?);
            let stream = context.get_stream(STREAM).await.context("open the stream")?;
            let config = pull::Config { max_ack_pending: MAX_ACK_PENDING, ..pull::Config::default() };
            let mut consumer = stream.create_consumer(config).await?;
            let (before, start) = ((own_cpu(), server_cpu()), Instant::now());
            let mut messages = consumer.stream().max_messages_per_batch(2 * options.flush).messages().await?;
            let mut left = usize::try_from(options.messages)?;
            while left > 0 {
                let mut flush = Vec::with_capacity(options.flush.min(left));
                let next = timeout(PATIENCE, messages.next()).await.context("the stream holds less than n")?;
                flush.push(next.context("the stream of messages ended")??);
                let end = Instant::now() + options.linger;
                while flush.len() < options.flush.min(left) {
                    let Ok(next) = timeout_at(end.into(), messages.next()).await else { break };
                    flush.push(next.context("the stream of messages ended")??);
                }
                left -= flush.len();
                let tables = Arc::clone(&tables);
                let flush = async move {
                    let rows: Vec<Row> = flush.iter().map(Row::decode).collect::<Result<_>>()?;
                    let outcome = tables.write(&rows, in_flight).await?;
                    for message in &flush {
                        message.ack().await.map_err(anyhow::Error::from_boxed)?;
                    }
                    Ok(outcome)
                };
                flushes.start(flush).await?;
            }
            flushes.finish().await?;
            // What is sent is not yet heard.
            while consumer.info().await?.num_ack_pending > 0 {
                ensure!(start.elapsed() < 20 * PATIENCE, "not every acknowledgement was heard");
                sleep(Duration::from_millis(10)).await;
            }
            let seconds = start.elapsed().as_secs_f64();
            stream.delete_consumer(&consumer.cached_info().name).await?;
            (before, seconds)
        }
    };
    let (client, server) = (own_cpu() - before.0, server_cpu() - before.1);
    let Outcome { latencies, warnings } = &mut flushes.outcome;
    let per_row = |seconds: f64| seconds * 1e6 / options.messages as f64;
    println!(
        "ingest source={} n={} flush={} flushes={} in_flight={} batch={} seconds={seconds:.1} rows_per_second={:.0} \
         cpu_us={:.1} cassandra_cpu_us={:.1} requests={} request_p50_us={} request_p99_us={} warnings={warnings} \
         peak_mib={:.0}",
        if matches!(options.source, Source::Memory { .. }) { "memory" } else { "stream" },
        options.messages,
        options.flush,
        options.flushes,
        options.in_flight,
        options.batch,
        options.messages as f64 / seconds,
        per_row(client),
        per_row(server),
        latencies.len(),
        quantile(latencies, 0.5),
        quantile(latencies, 0.99),
        peak_mib(std::process::id()),
    );
    Ok(())
}

/// Flushes side by side, at most so many.
struct Flushes {
    running: JoinSet<Result<Outcome>>,
    most: usize,
    outcome: Outcome,
}

impl Flushes {
    /// Starts one as soon as there is room.
    async fn start(&mut self, flush: impl Future<Output = Result<Outcome>> + Send + 'static) -> Result<()> {
        while self.running.len() >= self.most {
            self.one_less().await?;
        }
        self.running.spawn(flush);
        Ok(())
    }

    /// Waits for all of them.
    async fn finish(&mut self) -> Result<()> {
        while !self.running.is_empty() {
            self.one_less().await?;
        }
        Ok(())
    }

    async fn one_less(&mut self) -> Result<()> {
        if let Some(done) = self.running.join_next().await {
            let outcome = done??;
            self.outcome.latencies.extend(outcome.latencies);
            self.outcome.warnings += outcome.warnings;
        }
        Ok(())
    }
}
