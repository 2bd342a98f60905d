//! Stream to Cassandra: the same stream stored by a real auditor and by the bare driver, by turns; then an even pace to each, by turns too.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use async_nats::jetstream::consumer::{Consumer, IntoConsumerConfig, PullConsumer};
use futures_util::TryStreamExt;
use natsbench::cost::{cpu_seconds, peak_mib, quantile, until_idle};
use natsbench::server::Server;
use storebench::messages::Messages;

use crate::alternate::{self, Writer, until_added};
use crate::audit::{fill, until_acknowledged, until_begun};
use crate::cassandra::Cassandra;
use crate::compare::{Line, measure, median, numbers, row};
use crate::process::{Launch, Process, free_address};
use crate::steady::Pace;

/// Cassandra's compiler needs so many rows before its speed is its own.
const WARM_UP: u64 = 500_000;
/// How long the floor collects rows for one flush at an even pace: as long as yalo's auditor.
const LINGER_MS: u64 = 10;
/// Seconds of an even pace to one, before the other one's turn.
const TURN: u64 = 5;
/// Turns of an even pace in which most conversations are met for the first time.
const FIRST: u64 = 3;

/// A round that takes longer than this, and this much for each message, is given up.
const ROUND: Duration = Duration::from_secs(60);
const MESSAGE: Duration = Duration::from_micros(500);

/// What is stored.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    pub yalo: PathBuf,
    pub server: PathBuf,
    pub folder: PathBuf,
    pub messages: u64,
    pub rounds: u64,
    /// Auditors of one process, where it is not the pace that is measured.
    pub auditors: u64,
    /// Messages a second, and for how long, of the even pace.
    pub rate: u64,
    pub seconds: u64,
    /// Only the even pace.
    pub steady: bool,
}

/// Somebody who stores an even pace, from a stream of its own.
struct Even {
    folder: tempfile::TempDir,
    server: Server,
    keyspace: &'static str,
    /// In microseconds, of the first turns.
    first: Vec<u64>,
    /// Of all turns after them.
    latencies: Vec<u64>,
}

/// One Cassandra for everything that is measured.
pub struct Bench<'a> {
    pub options: &'a StoreOptions,
    pub cassandra: Cassandra,
    pub nodes: String,
    floor: PathBuf,
}

/// A stream that is full.
pub struct Filled {
    pub folder: tempfile::TempDir,
    pub server: Server,
    pub context: jetstream::Context,
}

/// Runs it all and prints two tables.
pub async fn run(options: &StoreOptions) -> Result<()> {
    let bench = Bench::start(options)?;
    let patterns = [(10_000, "10,000 conversations at random"), (100, "100 conversations active")];
    let mut results = Vec::new();
    for (active, name) in patterns.into_iter().filter(|_| !options.steady) {
        results.push((name, bench.pattern(active).await?));
    }
    let (mut yalo, mut floor) = (Vec::new(), Vec::new());
    for round in 0..=options.rounds {
        show_round(round);
        let (own, other) = bench.steady().await?;
        if round > 0 {
            yalo.push(own);
            floor.push(other);
        }
    }
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
    let what = format!("stored in the stream to committed at {}/s", options.rate);
    let (even, first) =
        (format!("for {} s", options.seconds), format!("in the first {} s of new conversations", FIRST * TURN));
    let kinds = [
        (&first, "p50", "first_p50_ms"),
        (&first, "p99", "first_p99_ms"),
        (&even, "p50", "p50_ms"),
        (&even, "p99", "p99_ms"),
        (&even, "longest", "max_ms"),
    ];
    for (when, name, key) in kinds {
        row(&format!("{what} {when}, {name}, ms"), key, &yalo, &floor);
    }
    show_warnings(&bench.cassandra);
    Ok(())
}

/// The first one does not count, since each statement is compiled when it is run.
fn show_round(round: u64) {
    println!("round {round}{}", if round == 0 { ", which does not count" } else { "" });
}

fn floor_program() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("cqlbench"))
}

/// Has Cassandra's compiler work before anything is measured.
pub fn warm_up(nodes: &str) -> Result<()> {
    println!("warming up");
    let words = [format!("nodes={nodes}"), "keyspace=warm".to_owned(), format!("n={WARM_UP}")];
    measure(&floor_program()?, "ingest", &words)?;
    measure(&floor_program()?, "check", &words).map(drop)
}

/// What Cassandra thought worth a warning, in its log.
pub fn show_warnings(cassandra: &Cassandra) {
    let warnings = cassandra.warnings();
    println!("\nwarnings in Cassandra's log: {}", warnings.len());
    for warning in warnings.iter().take(5) {
        println!("  {warning}");
    }
}

impl<'a> Bench<'a> {
    /// A Cassandra that is warm.
    pub fn start(options: &'a StoreOptions) -> Result<Self> {
        let folder = options.folder.to_str().context("the name of the folder is text")?;
        let cassandra = Cassandra::start_with(1, &[("CASSANDRA_MODE", "bench"), ("TMPDIR", folder)]);
        let nodes = cassandra.addresses().join(",");
        warm_up(&nodes)?;
        Ok(Self { options, cassandra, nodes, floor: floor_program()? })
    }

    /// A stream with all messages, so many conversations active at a time.
    pub async fn fill(&self, active: u64) -> Result<Filled> {
        let folder = tempfile::tempdir_in(&self.options.folder)?;
        let server = Server::start(&self.options.server, folder.path())?;
        self.launch(folder.path(), &server, &format!("yalo_{active}_0")).finish("init")?;
        let context = jetstream::new(async_nats::connect(server.url()).await.context("connect to nats")?);
        println!("filling the stream, {active} conversations active");
        let messages = Messages::with_active(active).take(usize::try_from(self.options.messages)?);
        fill(&context, messages).await.context("fill the stream")?;
        Ok(Filled { folder, server, context })
    }

    /// All rounds over one stream: yalo's lines and the floor's. One more comes first, which does not count.
    async fn pattern(&self, active: u64) -> Result<(Vec<Line>, Vec<Line>)> {
        let filled = self.fill(active).await?;
        let (mut yalo, mut floor) = (Vec::new(), Vec::new());
        for round in 0..=self.options.rounds {
            show_round(round);
            let (own, other) = self.by_turns(&filled, &format!("yalo_{active}_{round}"), round % 2 == 0).await?;
            if round > 0 {
                yalo.push(own);
                floor.push(other);
            }
        }
        Ok((yalo, floor))
    }

    /// An auditor and the floor each store the whole stream in a new keyspace, by turns.
    async fn by_turns(&self, filled: &Filled, keyspace: &str, yalo_first: bool) -> Result<(Line, Line)> {
        let StoreOptions { messages, auditors, .. } = *self.options;
        let (launch, mut consumer) = self.anew(filled, keyspace).await?;
        let stream = filled.context.get_stream("YALO_CHAT").await?;
        let known: Vec<String> = stream.consumer_names().try_collect().await?;
        until_idle(self.cassandra.pid(1)).await;
        let warnings = self.cassandra.warnings().len();
        let mut auditor = launch.auditors(auditors)?;
        until_begun(&mut consumer, &mut auditor).await?;
        let mut yalo = Writer::new(auditor, Some(consumer))?;
        let words = ["source=stream".to_owned(), format!("server={}", filled.server.url()), format!("n={messages}")];
        let mut floor = self.start_floor("floor", &words, filled.folder.path())?;
        let mut other = until_added(&stream, &known, &mut floor).await?;
        until_begun(&mut other, &mut floor).await?;
        let mut floor = Writer::new(floor, None)?;

        let servers = || [self.cassandra.pid(1), filled.server.pid()].map(cpu_seconds);
        let limit = ROUND + MESSAGE * u32::try_from(messages)?;
        let order = if yalo_first { [&mut yalo, &mut floor] } else { [&mut floor, &mut yalo] };
        alternate::take(order, servers, limit).await?;

        let pid = yalo.process.pid();
        let own = self.line_of(&format!("auditors={auditors}"), &yalo, self.per_row(cpu_seconds(pid)), peak_mib(pid));
        let said = numbers(&floor.process.words()?);
        let said = |key: &str| said.get(key).copied().with_context(|| format!("the floor says no {key}"));
        ensure!(said("warnings")? == 0.0, "the floor was warned by the server: it does not do what it is to do");
        let other = self.line_of("floor", &floor, said("cpu_us")?, said("peak_mib")?);
        yalo.process.stop().await?;
        self.warned_of_nothing(warnings)?;
        self.check(keyspace, messages)?;
        self.check("floor", messages)?;
        Ok((own, other))
    }

    fn start_floor(&self, keyspace: &str, words: &[String], folder: &Path) -> Result<Process> {
        let log = folder.join("floor.log");
        let mut command = Command::new(&self.floor);
        command.arg("ingest").args(self.own_words(keyspace)).args(words);
        command.stdout(File::create(&log).context("make a log")?);
        Process::start(command, "the floor", log)
    }

    fn line_of(&self, who: &str, writer: &Writer, cpu_us: f64, peak_mib: f64) -> Line {
        let [cassandra, nats] = writer.servers.map(|seconds| self.per_row(seconds));
        let numbers =
            [("cpu_us", cpu_us), ("cassandra_cpu_us", cassandra), ("nats_cpu_us", nats), ("peak_mib", peak_mib)];
        self.line(who, writer.seconds, &numbers)
    }

    /// Shows and gives what it took to store all messages.
    fn line(&self, who: &str, seconds: f64, numbers: &[(&str, f64)]) -> Line {
        let messages = self.options.messages;
        let rate = ("rows_per_second", messages as f64 / seconds);
        let all = || [rate].into_iter().chain(numbers.iter().copied());
        let words: Vec<String> = all().map(|(key, value)| format!("{key}={value:.1}")).collect();
        println!("{who} n={messages} seconds={seconds:.1} {}", words.join(" "));
        all().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// Microseconds for each message.
    fn per_row(&self, seconds: f64) -> f64 {
        seconds * 1e6 / self.options.messages as f64
    }

    /// A new keyspace, and the auditors' consumer at the beginning of the stream.
    async fn anew<'own>(&'own self, filled: &'own Filled, keyspace: &str) -> Result<(Launch<'own>, PullConsumer)> {
        let Filled { folder, server, context } = filled;
        let launch = self.launch(folder.path(), server, keyspace);
        context.delete_consumer_from_stream("audit", "YALO_CHAT").await?;
        launch.finish("init")?;
        Ok((launch, context.get_consumer_from_stream("audit", "YALO_CHAT").await?))
    }

    /// An auditor stores the whole stream in a new keyspace.
    pub async fn auditor(&self, filled: &Filled, keyspace: &str) -> Result<Line> {
        let (launch, consumer) = self.anew(filled, keyspace).await?;
        let auditors = self.options.auditors;
        let start = async || Ok((launch.auditors(auditors)?, consumer));
        let before = self.cassandra.warnings().len();
        let line = self.cost(&format!("auditors={auditors}"), start).await?;
        self.warned_of_nothing(before)?;
        self.check(keyspace, self.options.messages)?;
        Ok(line)
    }

    /// What it costs to store the whole stream, on a Cassandra that has come to rest: from the first message that is under way
    /// to who is started here to the last acknowledgement. Their CPU is that of their whole life.
    pub async fn cost<C: IntoConsumerConfig>(
        &self,
        who: &str,
        start: impl AsyncFnOnce() -> Result<(Process, Consumer<C>)>,
    ) -> Result<Line> {
        until_idle(self.cassandra.pid(1)).await;
        let (mut writer, mut consumer) = start().await?;
        until_begun(&mut consumer, &mut writer).await?;
        let (start, before) = (Instant::now(), self.cassandra_cpu());
        until_acknowledged(&mut consumer, &mut writer).await?;
        let seconds = start.elapsed().as_secs_f64();
        let numbers = [
            ("cpu_us", self.per_row(cpu_seconds(writer.pid()))),
            ("cassandra_cpu_us", self.per_row(self.cassandra_cpu() - before)),
            ("peak_mib", peak_mib(writer.pid())),
        ];
        writer.stop().await?;
        Ok(self.line(who, seconds, &numbers))
    }

    /// An even pace, to an auditor and to the floor by turns, on a database that has come to rest.
    async fn steady(&self) -> Result<(Line, Line)> {
        let StoreOptions { rate, seconds, .. } = *self.options;
        let turns = seconds.div_ceil(TURN).max(1);
        let messages = rate * TURN * (FIRST + turns);
        let (mut yalo, mut floor) = (self.even("yalo_steady")?, self.even("floor")?);
        let ops = free_address()?;
        let mut launch = self.launch(yalo.folder.path(), &yalo.server, yalo.keyspace);
        launch.settings.push(format!("ops.listen={ops}"));
        let mut auditor = launch.start("auditor")?;
        auditor.ready(&ops).await?;
        let words = [
            "source=stream".to_owned(),
            format!("server={}", floor.server.url()),
            format!("n={messages}"),
            format!("linger_ms={LINGER_MS}"),
        ];
        let context = jetstream::new(async_nats::connect(floor.server.url()).await.context("connect to nats")?);
        let stream = context.get_stream("YALO_CHAT").await?;
        let known: Vec<String> = stream.consumer_names().try_collect().await?;
        let mut writer = self.start_floor(floor.keyspace, &words, floor.folder.path())?;
        until_added(&stream, &known, &mut writer).await?;
        until_idle(self.cassandra.pid(1)).await;

        let warnings = self.cassandra.warnings().len();
        let pace = async |one: &Even| Pace::open(one.server.url()).await;
        let (mut to_yalo, mut to_floor) = (pace(&yalo).await?, pace(&floor).await?);
        let messages_of = || Messages::with_active(10_000).take(usize::try_from(messages).unwrap_or(usize::MAX));
        let (mut for_yalo, mut for_floor) = (messages_of(), messages_of());
        let turn = usize::try_from(rate * TURN)?;
        for number in 0..FIRST + turns {
            // Who begins changes: what comes at even distances is not to meet the same one each time.
            for is_floor in [number % 2 == 0, number % 2 == 1] {
                let (one, pace, messages) = if is_floor {
                    (&mut floor, &mut to_floor, &mut for_floor)
                } else {
                    (&mut yalo, &mut to_yalo, &mut for_yalo)
                };
                let latencies = pace.keep(rate, messages.take(turn)).await.context(one.keyspace)?;
                one.add(number, latencies);
            }
        }
        writer.ended().await?;
        auditor.stop().await?;
        self.warned_of_nothing(warnings)?;
        self.check(yalo.keyspace, messages)?;
        self.check(floor.keyspace, messages)?;
        Ok((yalo.line(), floor.line()))
    }

    /// A stream that is still empty, for this keyspace.
    fn even(&self, keyspace: &'static str) -> Result<Even> {
        let folder = tempfile::tempdir_in(&self.options.folder)?;
        let server = Server::start(&self.options.server, folder.path())?;
        self.launch(folder.path(), &server, keyspace).finish("init")?;
        Ok(Even { folder, server, keyspace, first: Vec::new(), latencies: Vec::new() })
    }

    fn launch<'own>(&'own self, folder: &'own Path, server: &Server, keyspace: &str) -> Launch<'own> {
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

    fn own_words(&self, keyspace: &str) -> [String; 3] {
        [
            format!("nodes={}", self.nodes),
            format!("keyspace={keyspace}"),
            format!("cassandra={}", self.cassandra.pid(1)),
        ]
    }

    /// Fails if Cassandra's log has more than these warnings: yalo does what it should not.
    fn warned_of_nothing(&self, before: usize) -> Result<()> {
        let warnings = self.cassandra.warnings().split_off(before);
        ensure!(warnings.is_empty(), "Cassandra warned while yalo wrote:\n{}", warnings.join("\n"));
        Ok(())
    }

    fn check(&self, keyspace: &str, rows: u64) -> Result<()> {
        self.check_table(keyspace, "log", rows)
    }

    /// Fails unless the table has so many rows, then drops the keyspace.
    pub fn check_table(&self, keyspace: &str, table: &str, rows: u64) -> Result<()> {
        let words = [
            format!("nodes={}", self.nodes),
            format!("keyspace={keyspace}"),
            format!("table={table}"),
            format!("n={rows}"),
        ];
        measure(&self.floor, "check", &words).map(drop)
    }

    /// Makes yalo's tables, for another to fill them.
    pub fn make_tables(&self, keyspace: &str) -> Result<()> {
        let words = [format!("nodes={}", self.nodes), format!("keyspace={keyspace}")];
        measure(&self.floor, "tables", &words).map(drop)
    }

    fn cassandra_cpu(&self) -> f64 {
        cpu_seconds(self.cassandra.pid(1))
    }
}

impl Even {
    /// Those of one turn.
    fn add(&mut self, turn: u64, latencies: Vec<u64>) {
        let all = if turn < FIRST { &mut self.first } else { &mut self.latencies };
        all.extend(latencies);
    }

    fn line(mut self) -> Line {
        let ms = |latencies: &mut Vec<u64>, share| quantile(latencies, share) as f64 / 1000.0;
        let Self { first, latencies, .. } = &mut self;
        let line = [
            ("first_p50_ms", ms(first, 0.5)),
            ("first_p99_ms", ms(first, 0.99)),
            ("p50_ms", ms(latencies, 0.5)),
            ("p99_ms", ms(latencies, 0.99)),
            ("max_ms", ms(latencies, 1.0)),
        ];
        let words = line.map(|(key, value)| format!("{key}={value:.1}"));
        println!("steady keyspace={} {}", self.keyspace, words.join(" "));
        line.map(|(key, value)| (key.to_owned(), value)).into()
    }
}
