//! What the work costs when much is stored already: rows a second, the way to the commit, and pages, at three sizes.
//!
//! What is stored grows as a deployment's would: 10,000 conversations are talked in at a time, and others later, a million
//! in all when 10 million messages are stored. One conversation has a tenth of all messages (or more, see `one_in`), one a
//! thousandth, one ten.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::{self, consumer::PullConsumer};
use natsbench::cost::{cpu_seconds, peak_mib, quantile, until_idle};
use natsbench::server::Server;
use storebench::messages::{Message, Messages, named};

use crate::audit::{fill, until_acknowledged};
use crate::cassandra::Cassandra;
use crate::process::{Launch, free_address};
use crate::reader::Reader;
use crate::steady::Pace;
use crate::store::{show_warnings, warm_up};

/// Conversations of sizes of their own; numbers that no other has.
const LARGE: u64 = u64::MAX;
const MIDDLE: u64 = u64::MAX - 1;
const SMALL: u64 = u64::MAX - 2;
/// Messages of the small one.
const SMALL_SIZE: u64 = 10;
/// How many are talked in at a time, and how many messages pass until all of them are others.
const ACTIVE: u64 = 10_000;
const SHIFT: u64 = 100_000;
/// Messages that are stored for the rate of each size.
const SAMPLE: u64 = 200_000;
/// Seconds of the even pace that do not count.
const LEAD: u64 = 3;
/// Requests of each kind of page.
const PAGES: usize = 300;
const TOKEN: &str = "the-token-of-a-measurement-on-one-machine";

/// What is stored, and where.
#[derive(Debug, Clone)]
pub struct GrowthOptions {
    pub yalo: PathBuf,
    pub server: PathBuf,
    pub folder: PathBuf,
    /// On a real Cassandra; else in SQLite.
    pub cql: bool,
    /// Messages that are stored when each measurement begins.
    pub sizes: Vec<u64>,
    /// One message in so many is of the large conversation, one in two at most.
    pub one_in: u64,
    /// Messages a second, and for how long, of the even pace.
    pub rate: u64,
    pub seconds: u64,
}

/// What one size cost.
struct Size {
    stored: u64,
    rows_per_second: f64,
    cpu_us: f64,
    peak_mib: f64,
    /// Microseconds from the stream to the commit, and of each kind of page.
    commits: Vec<u64>,
    pages: Vec<Vec<u64>>,
}

const KINDS: [&str; 5] = [
    "newest page of the small conversation",
    "newest page of the middle one",
    "newest page of the large one",
    "a page in the middle of the large one",
    "the 50 most recent conversations",
];

/// Stores up to each size, measures there, and prints a table.
pub async fn run(options: &GrowthOptions) -> Result<()> {
    let folder = options.folder.to_str().context("the name of the folder is text")?;
    let cassandra = options.cql.then(|| Cassandra::start_with(1, &[("CASSANDRA_MODE", "bench"), ("TMPDIR", folder)]));
    let mut settings = vec![format!("admin.token={TOKEN}"), "nats.max_bytes=21474836480".to_owned()];
    if let Some(cassandra) = &cassandra {
        let nodes = cassandra.addresses().join(",");
        warm_up(&nodes)?;
        settings.extend([
            "store.kind=cql".to_owned(),
            format!("store.nodes={nodes}"),
            "store.replication=1".to_owned(),
        ]);
    }
    let data = tempfile::tempdir_in(&options.folder)?;
    let server = Server::start(&options.server, data.path())?;
    settings.push(format!("nats.url={}", server.url()));
    let growth = Growth {
        options,
        settings,
        folder: data.path(),
        server: &server,
        cassandra: cassandra.as_ref().map(|one| one.pid(1)),
    };
    growth.launch(&[]).finish("init")?;
    let context = jetstream::new(async_nats::connect(server.url()).await.context("connect to nats")?);
    let mut messages = growing(options.one_in);
    let mut stored = 0;
    let mut sizes = Vec::new();
    for size in &options.sizes {
        let missing = size.saturating_sub(stored);
        println!("storing {missing} messages, up to {size}");
        growth.store(&context, &mut messages, missing).await?;
        let measured = growth.measure(&context, &mut messages, *size).await?;
        stored = size + SAMPLE + options.rate * (LEAD + options.seconds);
        sizes.push(measured);
    }
    print(options, sizes);
    if let Some(cassandra) = &cassandra {
        show_warnings(cassandra);
    }
    Ok(())
}

struct Growth<'a> {
    options: &'a GrowthOptions,
    settings: Vec<String>,
    folder: &'a Path,
    server: &'a Server,
    /// The process of Cassandra.
    cassandra: Option<u32>,
}

impl Growth<'_> {
    fn launch(&self, more: &[String]) -> Launch<'_> {
        let settings = [&self.settings[..], more].concat();
        Launch { yalo: &self.options.yalo, folder: self.folder, settings }
    }

    /// Publishes so many while an auditor stores them.
    async fn store(
        &self,
        context: &jetstream::Context,
        messages: &mut impl Iterator<Item = Message>,
        count: u64,
    ) -> Result<()> {
        let mut consumer: PullConsumer = context.get_consumer_from_stream("audit", "YALO_CHAT").await?;
        let mut auditor = self.launch(&["ops.listen=127.0.0.1:0".to_owned()]).start("auditor")?;
        fill(context, messages.take(usize::try_from(count)?)).await?;
        until_acknowledged(&mut consumer, &mut auditor).await?;
        auditor.stop().await
    }

    async fn measure(
        &self,
        context: &jetstream::Context,
        messages: &mut impl Iterator<Item = Message>,
        stored: u64,
    ) -> Result<Size> {
        let GrowthOptions { rate, seconds, .. } = *self.options;
        fill(context, messages.take(usize::try_from(SAMPLE)?)).await?;
        let mut consumer: PullConsumer = context.get_consumer_from_stream("audit", "YALO_CHAT").await?;
        let ops = free_address()?;
        let start = Instant::now();
        let mut auditor = self.launch(&[format!("ops.listen={ops}")]).start("auditor")?;
        until_acknowledged(&mut consumer, &mut auditor).await?;
        let (took, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds(auditor.pid()));
        if let Some(pid) = self.cassandra {
            until_idle(pid).await;
        }
        let mut pace = Pace::open(self.server.url()).await?;
        pace.keep(rate, messages.take(usize::try_from(rate * LEAD)?)).await?;
        let commits = pace.keep(rate, messages.take(usize::try_from(rate * seconds)?)).await?;
        let peak = peak_mib(auditor.pid());
        auditor.stop().await?;
        let size = Size {
            stored,
            rows_per_second: SAMPLE as f64 / took,
            cpu_us: cpu * 1e6 / SAMPLE as f64,
            peak_mib: peak,
            commits,
            pages: self.pages(context).await?,
        };
        println!("{} stored: {:.0} rows/s", size.stored, size.rows_per_second);
        Ok(size)
    }

    /// Microseconds of each kind of page, as an operator's program reads them.
    async fn pages(&self, context: &jetstream::Context) -> Result<Vec<Vec<u64>>> {
        let last = context.get_stream("YALO_CHAT").await?.cached_info().state.last_sequence;
        let (listen, ops) = (free_address()?, free_address()?);
        // The check of the record in the background is work of its own.
        let more = [
            format!("admin.listen={listen}"),
            format!("ops.listen={ops}"),
            "admin.check_per_second=1".to_owned(),
            "admin.recheck_per_second=1".to_owned(),
        ];
        let mut admin = self.launch(&more).start("admin")?;
        admin.ready(&ops).await?;
        let mut reader = Reader::open(&listen, TOKEN).await?;
        let mut kinds = Vec::new();
        for kind in 0..KINDS.len() {
            let mut took = Vec::with_capacity(PAGES);
            for page in 0..PAGES as u64 {
                let path = match kind {
                    0 => transcript(SMALL, None),
                    1 => transcript(MIDDLE, None),
                    2 => transcript(LARGE, None),
                    3 => transcript(LARGE, Some(last / 10 + page * (last / 2 / PAGES as u64))),
                    _ => "/admin/v1/conversations?limit=50".to_owned(),
                };
                let start = Instant::now();
                let answer = reader.get(&path).await?;
                took.push(u64::try_from(start.elapsed().as_micros())?);
                let list = if kind == 4 { &answer["conversations"] } else { &answer["messages"] };
                let found = list.as_array().map_or(0, Vec::len);
                let least = if kind == 0 { 1 } else { 10 };
                ensure!(found >= least, "{path} has {found} entries: {answer}");
            }
            kinds.push(took);
        }
        admin.stop().await?;
        Ok(kinds)
    }
}

fn transcript(conversation: u64, before: Option<u64>) -> String {
    let before = before.map(|seq| format!("&before=0-{seq}")).unwrap_or_default();
    format!("/admin/v1/conversations/{}/messages?limit=50{before}", named(conversation))
}

/// Messages without end.
fn growing(one_in: u64) -> impl Iterator<Item = Message> {
    let mut small = 0;
    Messages::with_owners(move |number, random| match number {
        _ if number % 1000 == 1 => MIDDLE,
        _ if number % 1000 == 2 && small < SMALL_SIZE => {
            small += 1;
            SMALL
        }
        _ if number % one_in == 0 => LARGE,
        _ => number / SHIFT * ACTIVE + random % ACTIVE,
    })
}

fn print(options: &GrowthOptions, mut sizes: Vec<Size>) {
    let ms = |times: &mut Vec<u64>, share| quantile(times, share) as f64 / 1000.0;
    let mut line = |what: &str, value: &mut dyn FnMut(&mut Size) -> String| {
        let values: Vec<String> = sizes.iter_mut().map(|size| format!(" {} |", value(size))).collect();
        println!("| {what} |{}", values.concat());
    };
    println!();
    let store = if options.cql { "Cassandra, stored before" } else { "SQLite, stored before" };
    line(store, &mut |size| size.stored.to_string());
    line("---", &mut |_| "---:".to_owned());
    line(&format!("rows/s of the next {SAMPLE}"), &mut |size| format!("{:.0}", size.rows_per_second));
    line("CPU of the auditor, µs a row", &mut |size| format!("{:.1}", size.cpu_us));
    line("peak memory of the auditor, MiB", &mut |size| format!("{:.0}", size.peak_mib));
    let what = format!("stream to commit at {}/s, ms: p50 / p99", options.rate);
    line(&what, &mut |size| format!("{:.1} / {:.1}", ms(&mut size.commits, 0.5), ms(&mut size.commits, 0.99)));
    for (kind, name) in KINDS.iter().enumerate() {
        let what = format!("{name}, ms: p50 / p99");
        line(&what, &mut |size| {
            format!("{:.1} / {:.1}", ms(&mut size.pages[kind], 0.5), ms(&mut size.pages[kind], 0.99))
        });
    }
}
