//! The checker: many users, a nemesis, and a judge who compares what they were told with what is stored.
//!
//! It uses nothing of yalo's own code. `make chaos` runs it for ten minutes, half of them with a store in SQLite, half on
//! a real Cassandra; in `make test` both are shorter. `make mistakes` makes yalo make each of its known mistakes and has to catch every one: a checker that finds
//! nothing proves nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program of the tests: it speaks to whoever runs it, and what it cannot do or leaves running ends with it"
)]

mod fleet;
mod judge;
mod mistakes;
mod nemesis;
#[path = "../cassandra/node.rs"]
mod node;
mod process;
mod proxy;
mod record;
mod run;
mod store;
mod takeover;
mod users;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use self::fleet::Shape;
use self::mistakes::MISTAKES;
use self::run::{Outcome, Plan, run};
use self::store::StoreKind;

/// Plays users, makes faults, and compares what was told with what is stored.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
struct Options {
    /// Seconds of faults in one run; 90 with SQLite and 45 with Cassandra if not said.
    #[arg(long)]
    seconds: Option<u64>,
    /// Where the messages are stored; runs with each if not said.
    #[arg(long)]
    store: Option<StoreName>,
    /// Nodes of Cassandra, with a copy on each: 1 or 3.
    #[arg(long, default_value_t = 1)]
    nodes: usize,
    /// Where the choice of faults begins; a run prints its own.
    #[arg(long)]
    seed: Option<u64>,
    /// Runs, each with the next seed.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// nats-servers: 1 or 3.
    #[arg(long, default_value_t = 1)]
    servers: usize,
    /// Conversations that go on all the time.
    #[arg(long, default_value_t = 12)]
    conversations: usize,
    /// Instead: have yalo make this known mistake, or `all` of them, and see it caught.
    #[arg(long)]
    mistake: Option<String>,
    /// With --mistake: everything as for the mistake, but it is not made, so nothing may be found.
    #[arg(long)]
    control: bool,
    /// Instead: measure so many take-overs of each kind.
    #[arg(long)]
    takeovers: Option<usize>,
    /// The executable; the one of this build if not said. A release knows no mistakes.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_yalo"))]
    program: PathBuf,
    /// What cargo passes on: names of tests. The checker runs if there is none, or one of them is `chaos`.
    filters: Vec<String>,
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    list: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum StoreName {
    /// One file
    Sqlite,
    /// A real Cassandra, whose nodes freeze, die and come back
    Cql,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let wanted = options.filters.is_empty() || options.filters.iter().any(|filter| "chaos".contains(filter.as_str()));
    if options.list || !wanted {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let fine = runtime.block_on(async {
        match (options.mistake.as_deref(), options.takeovers) {
            (Some(name), _) => catch(&options, name).await,
            (None, Some(times)) => {
                takeover::measure(&shape(&options, StoreKind::Sqlite), times).await;
                true
            }
            (None, None) => check(&options).await,
        }
    });
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn shape(options: &Options, store: StoreKind) -> Shape {
    let (program, servers) = (options.program.clone(), options.servers);
    Shape { program, servers, lag: Duration::ZERO, window: None, store, mistake: None }
}

/// Runs without a mistake have to be clean.
async fn check(options: &Options) -> bool {
    let first = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let cql = StoreKind::Cql { nodes: options.nodes };
    let stores = match options.store {
        Some(StoreName::Sqlite) => vec![StoreKind::Sqlite],
        Some(StoreName::Cql) => vec![cql],
        None => vec![StoreKind::Sqlite, cql],
    };
    let runs = stores.iter().flat_map(|store| (first..first + options.runs).map(|seed| (*store, seed)));
    let mut violations = 0;
    for (store, seed) in runs {
        let seconds = options.seconds.unwrap_or(if store == StoreKind::Sqlite { 90 } else { 45 });
        let plan = Plan {
            shape: shape(options, store),
            faults: nemesis::all(store),
            at_once: 4,
            seed,
            span: Duration::from_secs(seconds),
            conversations: options.conversations,
            pace: Duration::from_millis(400),
            slow_answers: 50,
            late: None,
            rest: Duration::from_secs(60),
        };
        println!("seed {seed}: {seconds} s of every fault, nats-servers: {}, {store}", options.servers);
        let begun = Instant::now();
        let outcome = run(&plan).await;
        print(&outcome, begun.elapsed());
        violations += outcome.violations.len();
    }
    println!("violations: {violations}");
    violations == 0
}

/// Runs with a mistake have to find something, within the seeds that are stated for it.
async fn catch(options: &Options, name: &str) -> bool {
    let chosen: Vec<_> = MISTAKES.iter().filter(|mistake| name == "all" || mistake.name == name).collect();
    if chosen.is_empty() {
        eprintln!("there is no mistake `{name}`");
        return false;
    }
    let mut missed = Vec::new();
    for mistake in &chosen {
        let begun = Instant::now();
        let mut caught = None;
        for seed in 1..=mistake.seeds {
            let seed = options.seed.unwrap_or(seed);
            let outcome = run(&mistake.plan(&options.program, seed, !options.control)).await;
            if let Some(first) = outcome.violations.first() {
                caught = Some((seed, first.clone()));
                break;
            }
        }
        match caught {
            Some((seed, first)) => {
                let (name, store, took) = (mistake.name, mistake.store(), begun.elapsed());
                println!("caught  {name} with {store} at seed {seed} in {took:?}: {first}");
            }
            None => {
                println!("MISSED  {} in {} seeds", mistake.name, mistake.seeds);
                missed.push(mistake.name);
            }
        }
    }
    println!("mistakes: {} caught, {} missed {missed:?}", chosen.len() - missed.len(), missed.len());
    if options.control { missed.len() == chosen.len() } else { missed.is_empty() }
}

fn print(outcome: &Outcome, took: Duration) {
    for (what, count) in &outcome.counts {
        println!("  {count:6}  {what}");
    }
    println!(
        "  {} messages sent, {} stored, longest wait for an answer {:?}, {:?} in all, {} violations",
        outcome.sent,
        outcome.stored,
        outcome.longest,
        took,
        outcome.violations.len()
    );
}
