//! The tables, and rows into them in the fewest requests: rows of one partition share unlogged batches.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::client::session::Session;
use scylla::response::query_result::QueryResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use uuid::Uuid;

use crate::row::Row;

/// The schema is read from yalo's sources: the same tables by construction.
const SCHEMA: &str = include_str!("../../../src/store/cql/schema/1.cql");
/// Rows of a conversation until its first part is full, and sequences that share one of the others.
const FIRST_PART: u32 = 4096;
const PART: i64 = 65_536;
/// Sequences that share a block of `log`, and shards of it.
const BLOCK: i64 = 1 << 18;
const SHARDS: i64 = 16;
/// Sequences that share a slot of `activity`.
const SLOT: i64 = 65_536;

/// Prepared statements of one table: of one row, and of a batch for each number of rows.
struct Table {
    single: PreparedStatement,
    batches: Vec<Batch>,
}

/// The tables of one keyspace.
pub struct Tables {
    session: Session,
    log: Table,
    messages: Table,
    activity: Table,
    parts: Table,
    batch: usize,
    known: Mutex<HashMap<Uuid, Known>>,
}

/// What the writer remembers of a conversation.
#[derive(Default)]
struct Known {
    rows: u32,
    part: Option<i64>,
}

/// Rows of one partition.
enum Request<'rows> {
    Log { block: i64, shard: i16, rows: Vec<&'rows Row> },
    Messages { part: i64, rows: Vec<&'rows Row> },
    Activity { slot: i64, rows: Vec<&'rows Row> },
    Part { part: i64, row: &'rows Row },
}

/// What requests have come to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Of each request, in microseconds.
    pub latencies: Vec<u64>,
    /// Of the server, in its answers.
    pub warnings: usize,
}

impl Tables {
    /// Makes the keyspace anew, with one copy of each row.
    pub async fn create(session: Session, keyspace: &str, batch: usize) -> Result<Self> {
        let keyspaces = [
            format!("DROP KEYSPACE IF EXISTS {keyspace}"),
            format!(
                "CREATE KEYSPACE {keyspace} WITH replication = \
                 {{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}}"
            ),
        ];
        for statement in keyspaces {
            session.query_unpaged(statement.as_str(), ()).await.with_context(|| statement.clone())?;
        }
        session.use_keyspace(keyspace, false).await?;
        // The last piece holds no statement.
        for statement in SCHEMA.split_inclusive(";\n").filter(|piece| piece.ends_with(";\n")) {
            session.query_unpaged(statement, ()).await.with_context(|| statement.to_owned())?;
        }
        let columns = "seq, digest, at_ns, conversation, id, who, kind, author, payload";
        let marks = "?, ?, ?, ?, ?, ?, ?, ?, ?";
        let insert = |table: &str, columns: &str, marks: &str| {
            format!("INSERT INTO {table} ({columns}) VALUES ({marks}) USING TIMESTAMP ?")
        };
        let log = insert("log", &format!("stream, block, shard, {columns}"), &format!("0, ?, ?, {marks}"));
        let messages = insert("messages", &format!("part, {columns}"), &format!("?, {marks}"));
        let activity = insert("activity", "slot, seq, conversation", "?, ?, ?");
        let parts = insert("conversation_parts", "conversation, part", "?, ?");
        Ok(Self {
            log: Table::prepare(&session, &log, batch).await?,
            messages: Table::prepare(&session, &messages, batch).await?,
            activity: Table::prepare(&session, &activity, batch).await?,
            parts: Table::prepare(&session, &parts, 1).await?,
            session,
            batch,
            known: Mutex::default(),
        })
    }

    /// Stores rows in all tables, with so many requests at a time.
    pub async fn write(&self, rows: &[Row], in_flight: usize) -> Result<Outcome> {
        // Collected first: a closure within the stream would not outlive a spawned task.
        let sending: Vec<_> = self.requests(rows)?.into_iter().map(|request| self.send(request)).collect();
        let sent = stream::iter(sending).buffer_unordered(in_flight);
        sent.try_fold(Outcome::default(), async |mut all, (latency, warnings)| {
            all.latencies.push(latency);
            all.warnings += warnings;
            Ok(all)
        })
        .await
    }

    fn requests<'rows>(&self, rows: &'rows [Row]) -> Result<Vec<Request<'rows>>> {
        let mut log: HashMap<(i64, i16), Vec<&Row>> = HashMap::new();
        let mut messages: HashMap<(Uuid, i64), Vec<&Row>> = HashMap::with_capacity(rows.len());
        let mut newest: HashMap<Uuid, &Row> = HashMap::with_capacity(rows.len());
        let mut activity: HashMap<i64, Vec<&Row>> = HashMap::new();
        let mut requests = Vec::with_capacity(rows.len());
        let mut known = self.known.lock().map_err(|_| anyhow::anyhow!("another flush has panicked"))?;
        for row in rows {
            let known = known.entry(row.conversation).or_default();
            let part = if known.rows < FIRST_PART { 0 } else { 1 + row.seq / PART };
            known.rows += 1;
            if known.part != Some(part) {
                known.part = Some(part);
                requests.push(Request::Part { part, row });
            }
            // As yalo: the newest row of each conversation in this flush.
            newest.insert(row.conversation, row);
            let place = (row.seq / BLOCK, i16::try_from(row.seq / 32 % SHARDS)?);
            log.entry(place).or_default().push(row);
            messages.entry((row.conversation, part)).or_default().push(row);
        }
        drop(known);
        for row in newest.into_values() {
            activity.entry(row.seq / SLOT).or_default().push(row);
        }
        let share = |rows: Vec<&'rows Row>| rows.chunks(self.batch).map(<[&Row]>::to_vec).collect::<Vec<_>>();
        for ((block, shard), rows) in log {
            requests.extend(share(rows).into_iter().map(|rows| Request::Log { block, shard, rows }));
        }
        for ((_, part), rows) in messages {
            requests.extend(share(rows).into_iter().map(|rows| Request::Messages { part, rows }));
        }
        for (slot, rows) in activity {
            requests.extend(share(rows).into_iter().map(|rows| Request::Activity { slot, rows }));
        }
        Ok(requests)
    }

    /// The latency in microseconds and the number of warnings.
    async fn send<'rows>(&self, request: Request<'rows>) -> Result<(u64, usize)> {
        let start = Instant::now();
        let session = &self.session;
        let answer = match &request {
            Request::Log { block, shard, rows } => {
                let values = |row: &&'rows Row| {
                    let Row { seq, digest, at_ns, conversation, id, who, author, payload } = *row;
                    let (author, payload) = (author.as_str(), &payload[..]);
                    (
                        *block,
                        *shard,
                        *seq,
                        &digest[..],
                        *at_ns,
                        *conversation,
                        *id,
                        *who,
                        0i8,
                        author,
                        payload,
                        at_ns / 1000,
                    )
                };
                self.log.insert(session, rows.iter().map(values).collect()).await
            }
            Request::Messages { part, rows } => {
                let values = |row: &&'rows Row| {
                    let Row { seq, digest, at_ns, conversation, id, who, author, payload } = *row;
                    let (author, payload) = (author.as_str(), &payload[..]);
                    (*part, *seq, &digest[..], *at_ns, *conversation, *id, *who, 0i8, author, payload, at_ns / 1000)
                };
                self.messages.insert(session, rows.iter().map(values).collect()).await
            }
            Request::Activity { slot, rows } => {
                let values = |row: &&Row| (*slot, row.seq, row.conversation, row.at_ns / 1000);
                self.activity.insert(session, rows.iter().map(values).collect()).await
            }
            Request::Part { part, row } => {
                self.parts.insert(session, vec![(row.conversation, *part, row.at_ns / 1000)]).await
            }
        };
        let warnings = answer?.warnings().count();
        Ok((u64::try_from(start.elapsed().as_micros())?, warnings))
    }
}

impl Table {
    async fn prepare(session: &Session, insert: &str, batch: usize) -> Result<Self> {
        let mut single = session.prepare(insert).await.with_context(|| insert.to_owned())?;
        single.set_is_idempotent(true);
        let of = |rows| {
            let statements = vec![BatchStatement::PreparedStatement(single.clone()); rows];
            let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
            batch.set_is_idempotent(true);
            batch
        };
        Ok(Self { batches: (0..=batch).map(of).collect(), single })
    }

    async fn insert<Values: SerializeRow>(&self, session: &Session, rows: Vec<Values>) -> Result<QueryResult> {
        match rows.as_slice() {
            [row] => Ok(session.execute_unpaged(&self.single, row).await?),
            _ => Ok(session.batch(&self.batches[rows.len()], rows).await?),
        }
    }
}
