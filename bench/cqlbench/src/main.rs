//! The floor of storing on Cassandra or ScyllaDB: the same rows into the same tables through the bare driver.
//!
//! `cqlbench check nodes=HOST:PORT keyspace=NAME [table=log] n=1_000_000` fails unless the table holds so many rows, then
//! drops the keyspace. `cqlbench tables nodes=HOST:PORT keyspace=NAME` makes the tables, for another to fill them.
//!
//! `cqlbench ingest nodes=HOST:PORT[,...] [source=memory] [n=1_000_000] [active=10_000] [keyspace=floor]
//! [flush=2000] [flushes=4] [linger_ms=1000] [in_flight=128] [batch=50] [server=URL] [cassandra=PID[,...]]`
//!
//! - `source=memory`: rows that are made before the clock starts, so that nothing but the driver is measured.
//! - `source=stream`: messages of `YALO_CHAT` at `server`, read, decoded, hashed, written and acknowledged.
//! - `flushes` run side by side, each of `flush` rows, with `in_flight` requests in all; rows of one partition share
//!   batches of up to `batch` rows. From a stream, a flush does not wait for longer than `linger_ms` to become full.

mod check;
mod ingest;
mod row;
mod tables;

use std::time::Duration;

use anyhow::{Result, bail};
use natsbench::arguments::Arguments;

use ingest::{IngestOptions, Source};
use tables::Tables;

const KEYS: [&str; 13] = [
    "nodes",
    "table",
    "source",
    "server",
    "n",
    "active",
    "keyspace",
    "flush",
    "flushes",
    "linger_ms",
    "in_flight",
    "batch",
    "cassandra",
];

#[tokio::main]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let scenario = words.next().unwrap_or_default();
    let arguments = Arguments::parse(words, &KEYS)?;
    let (nodes, keyspace) = (arguments.word("nodes", "127.0.0.1:9042"), arguments.word("keyspace", "floor"));
    let messages = arguments.number("n", 1_000_000)?;
    match scenario.as_str() {
        "ingest" => {}
        "check" => return check::run(&nodes, &keyspace, &arguments.word("table", "log"), messages).await,
        "tables" => return Tables::create(ingest::connect(&nodes).await?, &keyspace, 1).await.map(drop),
        other => bail!("unknown scenario {other:?}; there are ingest, check, tables"),
    }
    let source = match arguments.word("source", "memory").as_str() {
        "memory" => Source::Memory { active: arguments.number("active", 10_000)? },
        "stream" => Source::Stream { server: arguments.word("server", "nats://127.0.0.1:4222") },
        other => bail!("source={other}: there are memory and stream"),
    };
    let count = |key, default| -> Result<usize> { Ok(usize::try_from(arguments.number(key, default)?)?.max(1)) };
    let pids = arguments.word("cassandra", "");
    ingest::run(IngestOptions {
        nodes,
        keyspace,
        source,
        messages,
        flush: count("flush", 2000)?,
        flushes: count("flushes", 4)?,
        linger: Duration::from_millis(arguments.number("linger_ms", 1000)?),
        in_flight: count("in_flight", 128)?,
        batch: count("batch", 50)?,
        cassandra: pids.split(',').filter(|pid| !pid.is_empty()).map(str::parse).collect::<Result<_, _>>()?,
    })
    .await
}
