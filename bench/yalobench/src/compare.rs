//! The whole comparison: yalo and floor in turn, medians of all rounds, printed as tables.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Sizes of the comparison.
#[derive(Debug, Clone)]
pub struct CompareOptions {
    /// `yalo=PATH`, `server=PATH`, `dir=PATH`: handed to each program.
    pub common: Vec<String>,
    pub rounds: u64,
    pub messages: u64,
    pub turns: u64,
    pub rate: u64,
    pub conversations: u64,
}

/// The numbers of one line of output, by name.
pub type Line = HashMap<String, f64>;

/// Runs everything, each program as a process of its own so that memory and CPU are its own too.
pub fn run(options: &CompareOptions) -> Result<()> {
    let own = std::env::current_exe()?;
    let beside = |name: &str| own.with_file_name(name);
    let common = |keys: &[&str]| {
        let wanted = |word: &&String| keys.iter().any(|key| word.starts_with(&format!("{key}=")));
        options.common.iter().filter(wanted).cloned().collect::<Vec<_>>()
    };
    let size = [format!("n={}", options.messages)];
    // As many as an auditor writes at once.
    let batch = ["batch=2000".to_owned()];
    let load = [
        format!("turns={}", options.turns),
        format!("rate={}", options.rate),
        format!("conversations={}", options.conversations),
    ];
    let all = common(&["yalo", "server", "dir"]);
    let (mut ingest, mut audit, mut pipe, mut turns) = (vec![], vec![], vec![], vec![]);
    for _ in 0..options.rounds {
        audit.push(measure(&own, "audit", &[&all[..], &size, &batch].concat())?);
        ingest.push(measure(&beside("storebench"), "ingest", &[&common(&["dir"])[..], &size, &batch].concat())?);
    }
    for _ in 0..options.rounds {
        turns.push(measure(&own, "turns", &[&all[..], &load].concat())?);
        pipe.push(measure(&beside("natsbench"), "pipe", &[&common(&["server", "dir"])[..], &load].concat())?);
    }
    let apart = measure(&own, "turns", &[&all[..], &load, &["apart=1".to_owned()]].concat())?;
    let idle = measure(&own, "idle", &all)?;

    println!("\n| medians of {} rounds | yalo | floor | yalo / floor |\n|---|---:|---:|---:|", options.rounds);
    row(&format!("stream to SQLite, {} messages, rows/s", options.messages), "rows_per_second", &audit, &ingest);
    row("proof of them, messages/s", "proved_per_second", &audit, &ingest);
    row(&format!("turn at {}/s, p50, µs", options.rate), "p50_us", &turns, &pipe);
    row(&format!("turn at {}/s, p99, µs", options.rate), "p99_us", &turns, &pipe);
    println!(
        "\n| a process for each role, {} turns/s | CPU of a turn, µs | peak memory, MiB |\n|---|---:|---:|",
        options.rate
    );
    for name in ["frontend", "bot", "auditor", "admin", "server"] {
        let value = |key: &str| apart.get(&format!("{name}_{key}")).copied().unwrap_or(0.0);
        println!("| {name} | {:.0} | {:.0} |", value("cpu_us"), value("peak_mib"));
    }
    println!("\n| `yalo all`, idle | CPU, % of a core | memory, MiB |\n|---|---:|---:|");
    for (name, key) in [("yalo", "all"), ("its nats-server", "server")] {
        let value = |what: &str| idle.get(&format!("{key}_{what}")).copied().unwrap_or(0.0);
        println!("| {name} | {:.2} | {:.0} |", value("cpu_percent"), value("mib"));
    }
    Ok(())
}

/// Lines over HTTP and the same messages published straight, in turn; then a large file, for the memory.
pub fn ingest(common: &[String], rounds: u64, lines: u64, flat: u64) -> Result<()> {
    let own = std::env::current_exe()?;
    let of = |scenario: &str, words: &[String]| measure(&own, scenario, &[common, words].concat());
    let size = format!("n={lines}");
    let dir: Vec<String> = common.iter().filter(|word| word.starts_with("dir=")).cloned().collect();
    let (mut stored, mut fast_stored, mut sqlite, mut large_writes) = (vec![], vec![], vec![], vec![]);
    let (mut fast, mut batch) = (vec![], vec![]);
    let (mut plain, mut gzip, mut zstd, mut straight, mut bare) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        straight.push(of("publish", &[size.clone(), "ids=1".to_owned()])?);
        plain.push(of("ingest", &[size.clone(), "form=plain".to_owned()])?);
        gzip.push(of("ingest", &[size.clone(), "form=gzip".to_owned()])?);
        zstd.push(of("ingest", &[size.clone(), "form=zstd".to_owned()])?);
        bare.push(of("publish", &[size.clone(), "ids=0".to_owned()])?);
        batch.push(of("publish", &[size.clone(), "fast=1".to_owned()])?);
        fast.push(of("ingest", &[size.clone(), "fast=1".to_owned()])?);
        stored.push(of("ingest", &[size.clone(), "stored=1".to_owned()])?);
        fast_stored.push(of("ingest", &[size.clone(), "fast=1".to_owned(), "stored=1".to_owned()])?);
        let floor = own.with_file_name("storebench");
        let rows = |batch: &str| measure(&floor, "ingest", &[&dir[..], &[size.clone(), batch.to_owned()]].concat());
        sqlite.push(rows("batch=500")?);
        large_writes.push(rows("batch=2000")?);
    }
    println!("\n| medians of {rounds} rounds, {lines} lines | yalo | floor | yalo / floor |\n|---|---:|---:|---:|");
    let key = "lines_per_second";
    row("HTTP to stream, lines/s (floor: the same messages and ids published straight)", key, &plain, &straight);
    row("the same, packed by gzip", key, &gzip, &straight);
    row("the same, packed by zstd", key, &zstd, &straight);
    row("HTTP to stream in a batch, lines/s (floor: the same batch published straight)", key, &fast, &batch);
    row("published straight with ids (floor: in a batch)", key, &straight, &batch);
    row("published straight without ids, each acknowledged (floor: in a batch)", key, &bare, &batch);
    for (how, lines) in [("with ids", &stored), ("in a batch", &fast_stored)] {
        for (size, floor) in [(500, &sqlite), (2000, &large_writes)] {
            let (end_to_end, rows) = (median(lines, key), median(floor, "rows_per_second"));
            println!(
                "| HTTP to SQLite, committed, {how} (floor: the same rows from memory, no broker, {size} in a write) | \
                 {end_to_end:.0} | {rows:.0} | {:.2} |",
                end_to_end / rows
            );
        }
    }
    let peak = |lines: &[Line]| median(lines, "server_peak_mib");
    println!("\npeak memory of the nats-server: {:.0} MiB with ids, {:.0} MiB in a batch", peak(&plain), peak(&fast));
    for how in ["fast=0", "fast=1"].iter().filter(|_| flat > 0) {
        let large = of("ingest", &[format!("n={flat}"), (*how).to_owned()])?;
        let value = |key: &str| large.get(key).copied().unwrap_or(0.0);
        println!(
            "{flat} lines in one request, {how}: {:.0} lines/s, peak memory of the frontend {:.0} MiB, of the nats-server {:.0} MiB",
            value(key),
            value("frontend_peak_mib"),
            value("server_peak_mib")
        );
    }
    Ok(())
}

/// One row of a table: medians of both, and of their ratios, with the least and the greatest. A ratio is that of one round,
/// whose two met the same machine: it may be half as fast again a quarter of an hour later.
pub fn row(what: &str, key: &str, yalo: &[Line], floor: &[Line]) {
    let number = |line: &Line| line.get(key).copied().unwrap_or(f64::NAN);
    let ratios = sorted(yalo.iter().zip(floor).map(|(yalo, floor)| number(yalo) / number(floor)));
    let at = |index: usize| ratios.get(index).copied().unwrap_or(f64::NAN);
    println!(
        "| {what} | {:.0} | {:.0} | {:.2} ({:.2} to {:.2}) |",
        median(yalo, key),
        median(floor, key),
        at(ratios.len() / 2),
        at(0),
        at(ratios.len().saturating_sub(1))
    );
}

/// The median of one number of all rounds.
pub fn median(lines: &[Line], key: &str) -> f64 {
    let numbers = sorted(lines.iter().filter_map(|line| line.get(key).copied()));
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

fn sorted(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// Runs a program, shows its line, and reads the numbers in it.
pub fn measure(program: &Path, scenario: &str, words: &[String]) -> Result<Line> {
    let output =
        Command::new(program).arg(scenario).args(words).output().with_context(|| format!("start {program:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    ensure!(output.status.success(), "{program:?} {scenario}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(numbers(&text))
}

/// The numbers of a line of `key=value`.
pub fn numbers(text: &str) -> Line {
    let pairs = text.split_whitespace().filter_map(|word| word.split_once('='));
    pairs.filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?))).collect()
}
