//! `storebench ingest [n=1_000_000] [batch=500] [dir=.]`: durable batches into a new SQLite file, then every
//! row read and held against its digest; the file goes away again.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use natsbench::arguments::Arguments;
use natsbench::cost::{cpu_seconds, peak_mib, quantile};
use storebench::messages::Messages;
use storebench::sqlite::{Sqlite, count, prove};

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let scenario = words.next().unwrap_or_default();
    let arguments = Arguments::parse(words, &["n", "batch", "dir"])?;
    if scenario != "ingest" {
        bail!("the one scenario is: ingest");
    }
    let (n, batch) = (arguments.number("n", 1_000_000)?, arguments.number("batch", 500)?.max(1));
    let folder = arguments.folder()?;
    let path = folder.path().join("messages.db");
    let mut store = Sqlite::create(&path)?;
    let mut messages = Messages::default();
    let (mut writing, mut commits, mut left) = (Duration::ZERO, Vec::new(), n);
    let mut cpu = 0.0;
    while left > 0 {
        // Making the messages is not what is measured.
        let rows: Vec<_> = messages.by_ref().take(usize::try_from(batch.min(left))?).collect();
        let rows: Vec<_> = rows
            .into_iter()
            .map(|message| {
                let digest = message.digest();
                (message, digest)
            })
            .collect();
        let (start, before) = (Instant::now(), cpu_seconds(std::process::id()));
        store.write(&rows)?;
        let spent = start.elapsed();
        cpu += cpu_seconds(std::process::id()) - before;
        writing += spent;
        commits.push(u64::try_from(spent.as_micros())?);
        left -= rows.len() as u64;
    }
    drop(store);
    let stored = count(&path)?.0;
    ensure!(stored == i64::try_from(n)?, "{stored} rows are stored instead of {n}");
    let start = Instant::now();
    ensure!(prove(&path)? == n, "not every row was read");
    let proving = start.elapsed();
    println!(
        "ingest n={n} batch={batch} seconds={:.1} rows_per_second={:.0} cpu_us={:.1} commit_p50_us={} commit_p99_us={} \
         proved_per_second={:.0} peak_mib={:.0}",
        writing.as_secs_f64(),
        n as f64 / writing.as_secs_f64(),
        cpu * 1e6 / n as f64,
        quantile(&mut commits, 0.5),
        quantile(&mut commits, 0.99),
        n as f64 / proving.as_secs_f64(),
        peak_mib(std::process::id()),
    );
    Ok(())
}
