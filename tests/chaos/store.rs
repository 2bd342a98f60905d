//! The store of a fleet: where it is, what can be done to it, and its rows, read without any help of yalo.
//!
//! SQLite is one file that somebody else may hold. Cassandra is a real one, alone or as a ring with a copy on each node,
//! whose nodes freeze, die and come back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use futures_util::TryStreamExt;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::{Consistency, Statement};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::node::Cassandra;

/// Which store a fleet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreKind {
    Sqlite,
    Cql { nodes: usize },
}

impl std::fmt::Display for StoreKind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite => out.write_str("SQLite"),
            Self::Cql { nodes } => write!(out, "Cassandra, nodes: {nodes}"),
        }
    }
}

/// What a row says: its sequence and what was published.
pub(crate) type Row = (u64, Vec<u8>);

/// A store; dropping it ends it.
pub(crate) enum Store {
    Sqlite(PathBuf),
    Cql(Box<Ring>),
}

/// What a node of the store suffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// SIGSTOP: it takes connections and never answers.
    Freeze,
    /// `kill -9`.
    Kill,
}

/// The nodes of a Cassandra. Each is in one fault at most, and one of a ring is always there: it is whom those who come
/// back ask.
pub(crate) struct Ring {
    cassandra: Cassandra,
    nodes: Vec<Mutex<()>>,
    away: Semaphore,
}

impl Store {
    pub(crate) async fn start(kind: StoreKind, data: &Path) -> Self {
        match kind {
            StoreKind::Sqlite => Self::Sqlite(data.join("messages.db")),
            StoreKind::Cql { nodes } => {
                let cassandra = tokio::task::spawn_blocking(move || Cassandra::start(nodes)).await.unwrap();
                let away = Semaphore::new(nodes.saturating_sub(1).max(1));
                let nodes = (0..nodes).map(|_| Mutex::default()).collect();
                Self::Cql(Box::new(Ring { cassandra, nodes, away }))
            }
        }
    }

    /// The settings by which yalo finds it.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let Self::Cql(ring) = self else { return Vec::new() };
        let settings = [
            ("YALO_STORE__KIND", "cql".to_owned()),
            ("YALO_STORE__NODES", ring.cassandra.addresses().join(",")),
            ("YALO_STORE__REPLICATION", ring.nodes.len().to_string()),
        ];
        settings.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// The tables that hold every message.
    pub(crate) fn tables(&self) -> &'static [&'static str] {
        match self {
            Self::Sqlite(_) => &["messages"],
            // The record, and the same by conversation.
            Self::Cql(_) => &["log", "messages"],
        }
    }

    /// All rows of a table, in no order.
    pub(crate) async fn rows(&self, table: &str) -> anyhow::Result<Vec<Row>> {
        let query = format!("SELECT seq, payload FROM {table}");
        match self {
            Self::Sqlite(path) => {
                let connection = rusqlite::Connection::open(path)?;
                connection.busy_timeout(Duration::from_secs(5))?;
                let mut rows = connection.prepare(&query)?;
                let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            }
            Self::Cql(ring) => ring.rows(&query.replace("FROM ", "FROM yalo.")).await,
        }
    }

    /// Keeps what the nodes have logged for whoever has to find out.
    pub(crate) fn keep_logs(&self, folder: &Path) {
        let Self::Cql(ring) = self else { return };
        for n in 1..=ring.nodes.len() {
            std::fs::write(folder.join(format!("cassandra-{n}.log")), ring.cassandra.log(n)).unwrap();
        }
    }
}

impl Ring {
    /// How many nodes it has.
    pub(crate) fn size(&self) -> usize {
        self.nodes.len()
    }

    /// Harms a node (the first is 0) for so long, and brings it back; `begun` is called if it is not in a fault already and
    /// one more may be away.
    pub(crate) async fn harm(&self, node: usize, harm: Harm, span: Duration, begun: impl FnOnce()) {
        let (Ok(_away), Ok(_mine)) = (self.away.try_acquire(), self.nodes[node].try_lock()) else { return };
        begun();
        let n = node + 1;
        // A start takes seconds, in which the guard of the nodes listens to nobody else.
        block_in_place(|| match harm {
            Harm::Freeze => self.cassandra.pause(n),
            Harm::Kill => self.cassandra.kill(n),
        });
        sleep(span).await;
        block_in_place(|| match harm {
            Harm::Freeze => self.cassandra.resume(n),
            Harm::Kill => self.cassandra.up(n),
        });
    }

    async fn rows(&self, query: &str) -> anyhow::Result<Vec<Row>> {
        let session = SessionBuilder::new().known_nodes(self.cassandra.addresses()).build().await?;
        let mut query = Statement::new(query);
        // Of three copies two have to be asked: that is what yalo promises to be enough.
        query.set_consistency(Consistency::LocalQuorum);
        let rows = session.query_iter(query, ()).await?.rows_stream::<(i64, Vec<u8>)>()?;
        let rows: Vec<_> = rows.try_collect().await?;
        let row =
            |(seq, payload)| anyhow::Ok((u64::try_from(seq).with_context(|| format!("sequence {seq}"))?, payload));
        rows.into_iter().map(row).collect()
    }
}

/// Takes the one place for writers of a SQLite file.
pub(crate) fn hold(path: &Path, span: Duration) -> rusqlite::Result<()> {
    let connection = rusqlite::Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    std::thread::sleep(span);
    connection.execute_batch("ROLLBACK")
}
