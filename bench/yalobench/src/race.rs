//! The same audit by a generic pipeline that people use for it today: one stream, one Cassandra, in turn.
//!
//! `pipeline=PATH` is Bento or Redpanda Connect; what it is told lies in `pipeline/`. It writes into yalo's own tables, from a
//! push consumer, since it takes the messages of a pull consumer one by one, and by single inserts, many in flight, since
//! its batches mix partitions.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{self, Consumer};
use tokio::time::sleep;

use crate::compare::{Line, median};
use crate::process::Process;
use crate::store::{Bench, Filled, StoreOptions, show_warnings};

/// Its consumer and its keyspace.
const DURABLE: &str = "pipeline";

/// What the pipeline is to write.
struct Job {
    name: &'static str,
    config: &'static str,
    /// The table that has every message when it is done.
    table: &'static str,
}

const JOBS: [Job; 2] = [
    Job { name: "one table", config: include_str!("../pipeline/one.yaml"), table: "messages" },
    Job { name: "six tables", config: include_str!("../pipeline/six.yaml"), table: "log" },
];

/// Runs all rounds and prints a table; one round more comes first and does not count.
pub async fn run(options: &StoreOptions, pipeline: &Path) -> Result<()> {
    let bench = Bench::start(options)?;
    let filled = bench.fill(10_000).await?;
    let (mut yalo, mut others) = (Vec::new(), [Vec::new(), Vec::new()]);
    for round in 0..=options.rounds {
        println!("round {round}{}", if round == 0 { ", which does not count" } else { "" });
        let own = bench.auditor(&filled, &format!("yalo_race_{round}")).await?;
        yalo.extend((round > 0).then_some(own));
        for (job, lines) in JOBS.iter().zip(&mut others) {
            let line = bench.pipeline(&filled, pipeline, job).await?;
            lines.extend((round > 0).then_some(line));
        }
    }
    println!(
        "\n| {} messages at random, stream to Cassandra, medians of {} rounds | rows/s | CPU of the writer, µs a row | of \
         Cassandra | yalo / it |\n|---|---:|---:|---:|---:|",
        options.messages, options.rounds
    );
    let rate = |lines: &[Line]| median(lines, "rows_per_second");
    let print = |name: &str, lines: &[Line]| {
        println!(
            "| {name} | {:.0} | {:.0} | {:.0} | {:.1} |",
            rate(lines),
            median(lines, "cpu_us"),
            median(lines, "cassandra_cpu_us"),
            rate(&yalo) / rate(lines)
        );
    };
    print("yalo, all its tables", &yalo);
    for (job, lines) in JOBS.iter().zip(&others) {
        print(&format!("pipeline, {}", job.name), lines);
    }
    show_warnings(&bench.cassandra);
    Ok(())
}

impl Bench<'_> {
    /// The pipeline stores the whole stream in new tables.
    async fn pipeline(&self, filled: &Filled, program: &Path, job: &Job) -> Result<Line> {
        let Filled { folder, server, context } = filled;
        self.make_tables(DURABLE)?;
        let config = folder.path().join("pipeline.yaml");
        fs::write(&config, job.config).context("write the configuration of the pipeline")?;
        let log = folder.path().join("pipeline.log");
        let mut command = Command::new(program);
        let out = File::create(&log).context("make a log")?;
        command.arg("-c").arg(&config).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).envs([
            ("NATS", server.url()),
            ("CASSANDRA", &self.nodes),
            ("KEYSPACE", DURABLE),
        ]);
        let start = async || {
            let mut process = Process::start(command, "the pipeline", log)?;
            let consumer = consumer_of(context, &mut process).await?;
            Ok((process, consumer))
        };
        let line = self.cost(&format!("pipeline into {}:", job.name), start).await?;
        context.delete_consumer_from_stream(DURABLE, "YALO_CHAT").await?;
        self.check_table(DURABLE, job.table, self.options.messages)?;
        Ok(line)
    }
}

/// The consumer of the pipeline, as soon as it has made it.
async fn consumer_of(context: &Context, process: &mut Process) -> Result<Consumer<consumer::Config>> {
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        if let Ok(consumer) = context.get_consumer_from_stream(DURABLE, "YALO_CHAT").await {
            return Ok(consumer);
        }
        process.check()?;
        sleep(Duration::from_millis(20)).await;
    }
    bail!("the pipeline did not ask the stream for messages within 30 s")
}
