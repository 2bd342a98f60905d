//! Stream to Cassandra: the same stream stored by a real auditor and by the bare driver, in turn; then an even pace.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use async_nats::jetstream::{self, consumer::PullConsumer};
use natsbench::cost::{cpu_seconds, peak_mib, quantile, until_idle};
use natsbench::server::Server;
use storebench::messages::Messages;

use crate::audit::{fill, until_acknowledged};
use crate::cassandra::Cassandra;
use crate::compare::{Line, measure, median, row};
use crate::process::{Launch, free_address};
use crate::steady;

/// Cassandra's compiler needs so many rows before its speed is its own.
const WARM_UP: u64 = 500_000;

/// What is stored.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    pub yalo: PathBuf,
    pub server: PathBuf,
    pub folder: PathBuf,
    pub messages: u64,
    pub rounds: u64,
    /// Messages a second, and for how long, of the even pace.
    pub rate: u64,
    pub seconds: u64,
}

/// One Cassandra for everything that is measured.
struct Bench<'a> {
    options: &'a StoreOptions,
    cassandra: Cassandra,
    nodes: String,
    floor: PathBuf,
}

/// Runs it all and prints two tables.
pub async fn run(options: &StoreOptions) -> Result<()> {
    let folder = options.folder.to_str().context("the name of the folder is text")?;
    let cassandra = Cassandra::start_with(1, &[("CASSANDRA_MODE", "bench"), ("TMPDIR", folder)]);
    let nodes = cassandra.addresses().join(",");
    let floor = std::env::current_exe()?.with_file_name("cqlbench");
    let bench = Bench { options, cassandra, nodes, floor };
    println!("warming up");
    let rows = options.messages.min(WARM_UP);
    bench.floor("warm", &["source=memory".to_owned(), format!("n={rows}")])?;
    bench.check("warm", rows)?;

    let patterns = [(10_000, "10,000 conversations at random"), (100, "100 conversations active")];
    let mut results = Vec::new();
    for (active, name) in patterns {
        results.push((name, bench.pattern(active).await?));
    }
    let mut steady = bench.steady().await?;
    println!(
        "\n| {} messages, stream to Cassandra, medians of {} rounds | yalo | floor | yalo / floor |\n|---|---:|---:|---:|",
        options.messages, options.rounds
    );
    for (name, (yalo, floor)) in &results {
        row(&format!("{name}, rows/s"), "rows_per_second", yalo, floor);
        row("CPU of the writer, µs a row", "cpu_us", yalo, floor);
        row("CPU of Cassandra, µs a row", "cassandra_cpu_us", yalo, floor);
        println!("| peak memory of the writer, MiB | {:.0} | | |", median(yalo, "peak_mib"));
    }
    println!(
        "\n| stored in the stream to committed, at {}/s for {} s, ms | p50 | p99 | max |\n|---|---:|---:|---:|\n| yalo | {:.1} | {:.1} | {:.1} |",
        options.rate,
        options.seconds,
        quantile(&mut steady, 0.5) as f64 / 1000.0,
        quantile(&mut steady, 0.99) as f64 / 1000.0,
        quantile(&mut steady, 1.0) as f64 / 1000.0,
    );
    let warnings = bench.cassandra.warnings();
    println!("\nwarnings in Cassandra's log: {}", warnings.len());
    for warning in warnings.iter().take(5) {
        println!("  {warning}");
    }
    Ok(())
}

impl Bench<'_> {
    /// All rounds over one stream: yalo's lines and the floor's. One round more comes first and does not count, since each
    /// statement is compiled when it is run.
    async fn pattern(&self, active: u64) -> Result<(Vec<Line>, Vec<Line>)> {
        let StoreOptions { messages, rounds, .. } = *self.options;
        let folder = tempfile::tempdir_in(&self.options.folder)?;
        let server = Server::start(&self.options.server, folder.path())?;
        self.launch(folder.path(), &server, &format!("yalo_{active}_0")).finish("init")?;
        let context = jetstream::new(async_nats::connect(server.url()).await.context("connect to nats")?);
        println!("filling the stream, {active} conversations active");
        fill(&context, Messages::with_active(active).take(usize::try_from(messages)?))
            .await
            .context("fill the stream")?;
        let (mut yalo, mut floor) = (Vec::new(), Vec::new());
        for round in 0..=rounds {
            println!("round {round}{}", if round == 0 { ", which does not count" } else { "" });
            let source = ["source=stream".to_owned(), format!("server={}", server.url()), format!("n={messages}")];
            let line = self.floor("floor", &source)?;
            self.check("floor", messages)?;
            let own = self.auditor(folder.path(), &server, &context, &format!("yalo_{active}_{round}")).await?;
            if round > 0 {
                floor.push(line);
                yalo.push(own);
            }
        }
        Ok((yalo, floor))
    }

    /// An auditor stores the whole stream in a new keyspace.
    async fn auditor(
        &self,
        folder: &Path,
        server: &Server,
        context: &jetstream::Context,
        keyspace: &str,
    ) -> Result<Line> {
        let messages = self.options.messages;
        let launch = self.launch(folder, server, keyspace);
        // Made anew, it begins at the beginning.
        context.delete_consumer_from_stream("audit", "YALO_CHAT").await?;
        launch.finish("init")?;
        let mut consumer: PullConsumer = context.get_consumer_from_stream("audit", "YALO_CHAT").await?;
        let (start, before) = (Instant::now(), self.cassandra_cpu());
        let mut auditor = launch.start("auditor")?;
        until_acknowledged(&mut consumer, &mut auditor).await?;
        let seconds = start.elapsed().as_secs_f64();
        let per_row = |seconds: f64| seconds * 1e6 / messages as f64;
        let line = HashMap::from([
            ("rows_per_second".to_owned(), messages as f64 / seconds),
            ("cpu_us".to_owned(), per_row(cpu_seconds(auditor.pid()))),
            ("cassandra_cpu_us".to_owned(), per_row(self.cassandra_cpu() - before)),
            ("peak_mib".to_owned(), peak_mib(auditor.pid())),
        ]);
        auditor.stop().await?;
        let mut words: Vec<String> = line.iter().map(|(key, value)| format!("{key}={value:.1}")).collect();
        words.sort();
        println!("auditor n={messages} seconds={seconds:.1} {}", words.join(" "));
        self.check(keyspace, messages)?;
        Ok(line)
    }

    /// The latencies of an even pace, to an auditor that has nothing else to do.
    async fn steady(&self) -> Result<Vec<u64>> {
        let StoreOptions { rate, seconds, .. } = *self.options;
        let folder = tempfile::tempdir_in(&self.options.folder)?;
        let server = Server::start(&self.options.server, folder.path())?;
        let ops = free_address()?;
        let mut launch = self.launch(folder.path(), &server, "yalo_steady");
        launch.finish("init")?;
        launch.settings.push(format!("ops.listen={ops}"));
        let mut auditor = launch.start("auditor")?;
        auditor.ready(&ops).await?;
        until_idle(self.cassandra.pid(1)).await;
        let even = Messages::with_active(10_000).take(usize::try_from(rate * seconds)?);
        let latencies = steady::run(server.url(), rate, even).await?;
        auditor.stop().await?;
        self.check("yalo_steady", rate * seconds)?;
        Ok(latencies)
    }

    fn launch<'a>(&'a self, folder: &'a Path, server: &Server, keyspace: &str) -> Launch<'a> {
        let settings = [
            ("nats.url", server.url()),
            ("ops.listen", "127.0.0.1:0"),
            ("store.kind", "cql"),
            ("store.nodes", &self.nodes),
            ("store.keyspace", keyspace),
            ("store.replication", "1"),
        ];
        let settings = settings.map(|(key, value)| format!("{key}={value}")).into();
        Launch { yalo: &self.options.yalo, folder, settings }
    }

    fn floor(&self, keyspace: &str, words: &[String]) -> Result<Line> {
        let own = [
            format!("nodes={}", self.nodes),
            format!("keyspace={keyspace}"),
            format!("cassandra={}", self.cassandra.pid(1)),
        ];
        let line = measure(&self.floor, "ingest", &[&own[..], words].concat())?;
        if line.get("warnings") != Some(&0.0) {
            bail!("the floor was warned by the server: it does not do what it is to do");
        }
        Ok(line)
    }

    fn check(&self, keyspace: &str, rows: u64) -> Result<()> {
        let words = [format!("nodes={}", self.nodes), format!("keyspace={keyspace}"), format!("n={rows}")];
        measure(&self.floor, "check", &words).map(drop)
    }

    fn cassandra_cpu(&self) -> f64 {
        cpu_seconds(self.cassandra.pid(1))
    }
}
