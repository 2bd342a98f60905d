//! The same audit by a generic pipeline that people use for it today: one stream, one Cassandra, in turn.
//!
//! `pipeline=PATH` is Bento or Redpanda Connect; what it is told lies in `pipeline/`. It writes into yalo's own tables, from a
//! push consumer, since it takes the messages of a pull consumer one by one, and by single inserts, many in flight, since
//! its batches mix partitions.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use async_nats::jetstream::consumer;
use natsbench::cost::cpu_seconds;
use tokio::time::sleep;

use crate::audit::until_acknowledged;
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
        let messages = self.options.messages;
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
        let (start, before) = (Instant::now(), self.cassandra_cpu());
        let mut process = Process::start(command, "the pipeline", log)?;
        let mut consumer = loop {
            if let Ok(consumer) = context.get_consumer_from_stream::<consumer::Config, _, _>(DURABLE, "YALO_CHAT").await
            {
                break consumer;
            }
            process.check()?;
            if start.elapsed() > Duration::from_secs(30) {
                bail!("the pipeline did not ask the stream for messages within 30 s");
            }
            sleep(Duration::from_millis(20)).await;
        };
        until_acknowledged(&mut consumer, &mut process).await?;
        let seconds = start.elapsed().as_secs_f64();
        let per_row = |seconds: f64| seconds * 1e6 / messages as f64;
        let line = HashMap::from([
            ("rows_per_second".to_owned(), messages as f64 / seconds),
            ("cpu_us".to_owned(), per_row(cpu_seconds(process.pid()))),
            ("cassandra_cpu_us".to_owned(), per_row(self.cassandra_cpu() - before)),
        ]);
        process.stop().await?;
        context.delete_consumer_from_stream(DURABLE, "YALO_CHAT").await?;
        println!("pipeline into {}: n={messages} seconds={seconds:.1} {line:.1?}", job.name);
        self.check_table(DURABLE, job.table, messages)?;
        Ok(line)
    }
}
