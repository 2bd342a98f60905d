//! Measures yalo itself: `yalobench SCENARIO yalo=PATH server=PATH [key=value ...]`
//!
//! - `audit` [n=1_000_000] [batch=500] [auditors=1]: a full stream, stored by a real auditor, then `audit verify`; beside
//!   `storebench ingest`.
//! - `turns` [turns=30_000] [rate=1000] [warm_up=3000] [conversations=200] [apart=0]: beside `natsbench pipe`.
//! - `order` [n=100_000] [rounds=3]: what lanes, continuity and fences cost; `yalo` is built with the feature `mistakes`.
//! - `ingest` [n=300_000] [form=plain|gzip|zstd] [fast=0] [stored=0]: lines over HTTP into the stream; beside `publish`
//!   [n=300_000] [ids=1] [fast=0], the same messages published straight. `fast=1`: as a batch without ids.
//! - `compare-ingest` [rounds=3] [n=300_000] [flat=5_000_000]: both in turn, and a large file for the memory.
//! - `idle` [seconds=30]: what it costs when nobody talks.
//! - `store` [n=1_000_000] [rounds=3] [rate=2000] [seconds=30] [auditors=1]: a full stream, stored by a real auditor on a real
//!   Cassandra, by turns of a second with `cqlbench ingest`; then so many messages a second, from the stream to the commit, by
//!   turns of five.
//! - `steady` [rounds=3] [rate=2000] [seconds=30]: only the last of these.
//! - `race` pipeline=PATH [n=1_000_000] [rounds=3]: the same stream, in turn with a generic pipeline.
//! - `growth` [store=cql|sqlite] [sizes=10_000,1_000_000,10_000_000] [one_in=10] [rate=2000] [seconds=20]: rows a second, the
//!   way to the commit and pages when so many messages are stored, one in `one_in` of them of one conversation.
//! - `compare` [rounds=3] and the sizes of the others: all of it, yalo and floor in turn, as tables.
//!
//! `dir=PATH` is the folder for what is written, and is to lie on a disk; it holds up to 2 GB for a while (`growth`: 20).

mod alternate;
mod audit;
#[path = "../../../tests/cassandra/node.rs"]
mod cassandra;
mod compare;
mod growth;
mod idle;
mod ingest;
mod order;
mod person;
mod process;
mod race;
mod reader;
mod steady;
mod store;
mod turns;

use anyhow::{Result, bail};
use natsbench::arguments::Arguments;

use audit::AuditOptions;
use compare::CompareOptions;
use turns::TurnsOptions;

const KEYS: [&str; 22] = [
    "yalo",
    "server",
    "dir",
    "n",
    "batch",
    "auditors",
    "turns",
    "rate",
    "warm_up",
    "conversations",
    "apart",
    "seconds",
    "rounds",
    "form",
    "ids",
    "flat",
    "sizes",
    "stored",
    "fast",
    "store",
    "pipeline",
    "one_in",
];

#[tokio::main(worker_threads = 1)]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let scenario = words.next().unwrap_or_default();
    let arguments = Arguments::parse(words, &KEYS)?;
    let (yalo, server) = (arguments.path("yalo")?, arguments.path("server")?);
    if scenario == "compare" {
        let folder = arguments.word("dir", ".");
        return compare::run(&CompareOptions {
            common: vec![
                format!("yalo={}", yalo.display()),
                format!("server={}", server.display()),
                format!("dir={folder}"),
            ],
            rounds: arguments.number("rounds", 3)?,
            messages: arguments.number("n", 1_000_000)?,
            turns: arguments.number("turns", 30_000)?,
            rate: arguments.number("rate", 1000)?,
            conversations: arguments.number("conversations", 200)?,
        });
    }
    if scenario == "compare-ingest" {
        let folder = arguments.word("dir", ".");
        let common =
            vec![format!("yalo={}", yalo.display()), format!("server={}", server.display()), format!("dir={folder}")];
        let (rounds, lines) = (arguments.number("rounds", 3)?, arguments.number("n", 300_000)?);
        return compare::ingest(&common, rounds, lines, arguments.number("flat", 5_000_000)?);
    }
    let folder = arguments.folder()?;
    let turns = TurnsOptions {
        yalo: yalo.clone(),
        server: server.clone(),
        folder: folder.path().to_owned(),
        apart: arguments.number("apart", 0)? == 1,
        turns: arguments.number("turns", 30_000)?,
        rate: arguments.number("rate", 1000)?,
        warm_up: arguments.number("warm_up", 3000)?,
        conversations: arguments.number("conversations", 200)?.max(1),
    };
    match scenario.as_str() {
        "audit" => {
            let (messages, batch) = (arguments.number("n", 1_000_000)?, arguments.number("batch", 500)?);
            let auditors = arguments.number("auditors", 1)?;
            audit::run(&AuditOptions { yalo, server, folder: folder.path().to_owned(), messages, batch, auditors })
                .await
        }
        "order" => {
            let (questions, rounds) = (arguments.number("n", 100_000)?, arguments.number("rounds", 3)?);
            order::run(&order::OrderOptions { yalo, server, questions, rounds }).await
        }
        "store" | "steady" | "race" => {
            let options = store::StoreOptions {
                yalo,
                server,
                folder: folder.path().to_owned(),
                messages: arguments.number("n", 1_000_000)?,
                rounds: arguments.number("rounds", 3)?,
                auditors: arguments.number("auditors", 1)?,
                rate: arguments.number("rate", 2000)?,
                seconds: arguments.number("seconds", 30)?,
                steady: scenario == "steady",
            };
            match scenario.as_str() {
                "race" => race::run(&options, &arguments.path("pipeline")?).await,
                _ => store::run(&options).await,
            }
        }
        "growth" => {
            let sizes = arguments.word("sizes", "10_000,1_000_000,10_000_000");
            growth::run(&growth::GrowthOptions {
                yalo,
                server,
                folder: folder.path().to_owned(),
                cql: arguments.word("store", "cql") == "cql",
                sizes: sizes.split(',').map(|size| size.replace('_', "").parse()).collect::<Result<_, _>>()?,
                one_in: arguments.number("one_in", 10)?.max(2),
                rate: arguments.number("rate", 2000)?,
                seconds: arguments.number("seconds", 20)?,
            })
            .await
        }
        "ingest" | "publish" => {
            let (lines, form) = (arguments.number("n", 300_000)?, arguments.word("form", "plain"));
            let options = ingest::IngestOptions {
                yalo,
                server,
                folder: folder.path().to_owned(),
                lines,
                form,
                stored: arguments.number("stored", 0)? == 1,
                fast: arguments.number("fast", 0)? == 1,
            };
            if scenario == "ingest" {
                ingest::run(&options).await
            } else {
                ingest::publish(&options, arguments.number("ids", 1)? == 1).await
            }
        }
        "turns" => turns::run(&turns).await,
        "idle" => idle::run(&turns, arguments.number("seconds", 30)?).await,
        other => bail!(
            "unknown scenario {other:?}; there are audit, store, steady, race, growth, turns, order, ingest, publish, idle, compare, compare-ingest"
        ),
    }
}
