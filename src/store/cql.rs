//! The store of a fleet: ScyllaDB or Cassandra, by the subset of CQL that both know.
//!
//! Sequences are the keys and decide everything: which partition a row lies in, what comes before what, what is new. No
//! clock, counter or lock of the cluster is needed, and every write may be repeated. Durable means what the consistency
//! says: LOCAL_QUORUM of three copies, each in the memory of its node and in its commit log, which both servers sync later
//! (10 s, unless they are told otherwise).
//!
//! The tables stand in `schema/1.cql`; `place.rs` says which partition a row lies in, `statements.rs` has every statement,
//! `columns.rs` the values. `record.rs` writes, with `counts.rs`, which knows how full partitions are; `log.rs` and
//! `conversations.rs` read, `retire.rs` deletes, `calls.rs` is the contract. All of them ask through `flight.rs`.

mod calls;
mod columns;
mod connect;
mod conversations;
mod counts;
mod flight;
mod inherit;
mod log;
mod nodes;
mod place;
mod record;
mod retire;
mod room;
mod schema;
mod settings;
mod statements;
mod streams;
#[cfg(test)]
mod tests;
mod together;
mod trouble;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use scylla::statement::Consistency;
use uuid::Uuid;

use self::connect::connect;
pub use self::counts::Fullness;
use self::flight::Flight;
use self::log::Times;
use self::nodes::Nodes;
use self::statements::Statements;
use self::together::Together;
use self::trouble::{corrupt, unavailable, unusable};
use super::{PageQuery, StoreError, Totals};
use crate::domain::{Conversation, ConversationId, ListCursor, MessageId, Row, Timestamp};

/// Requests of one call that are under way side by side.
const WIDTH: usize = 256;

/// Where the cluster is and how it is used.
#[derive(Clone)]
pub struct CqlOptions {
    /// Contact points, `host:port` each; the others are learnt from them.
    pub nodes: Vec<String>,
    /// The keyspace: lower-case letters, digits and `_`.
    pub keyspace: String,
    /// Copies: `3`, or `dc1:3,dc2:3`. For the making of the keyspace only.
    pub replication: String,
    /// The data centre that is asked; empty: any.
    pub datacenter: String,
    /// User; empty: none.
    pub user: String,
    /// Password of the user.
    pub password: String,
    /// Certificates (PEM) of who vouches for the nodes; with it, connections are TLS.
    pub ca: Option<PathBuf>,
    /// How many copies have to answer.
    pub consistency: Copies,
    /// Connections to each node of Cassandra; ScyllaDB gets one for each of its shards.
    pub connections: usize,
    /// Requests under way for each node, at most.
    pub in_flight: usize,
    /// Limit of one request.
    pub timeout: Duration,
    /// Only read: [`Contract::record`](super::Contract::record) is refused.
    pub read_only: bool,
    /// Of this process: all its stores of a keyspace have the same one.
    pub fullness: Arc<Fullness>,
}

/// How many copies have to answer before a read or a write counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// More than half of those in the own data centre.
    LocalQuorum,
    /// More than half of all.
    Quorum,
    /// More than half in every data centre, to a write; a read then finds it with more than half of the own one, and ScyllaDB
    /// knows no other.
    EachQuorum,
    /// One: for a single node, where there are no others.
    One,
}

impl Copies {
    fn of_writes(self) -> Consistency {
        match self {
            Self::LocalQuorum => Consistency::LocalQuorum,
            Self::Quorum => Consistency::Quorum,
            Self::EachQuorum => Consistency::EachQuorum,
            Self::One => Consistency::One,
        }
    }

    fn of_reads(self) -> Consistency {
        match self {
            Self::EachQuorum => Consistency::LocalQuorum,
            Self::LocalQuorum | Self::Quorum | Self::One => self.of_writes(),
        }
    }
}

impl CqlOptions {
    /// How errors and banners name the store.
    pub fn place(&self) -> String {
        format!("{} at {}", self.keyspace, self.nodes.join(","))
    }
}

impl fmt::Debug for CqlOptions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("CqlOptions").field("place", &self.place()).field("user", &self.user).finish_non_exhaustive()
    }
}

/// An open CQL store. Cloning shares it.
#[derive(Clone)]
pub struct Cql {
    shared: Arc<Shared>,
}

/// Equal questions at the same time are asked once, each by what it is asked with.
#[derive(Default)]
struct Questions {
    totals: Asked<(), Totals>,
    pages: Asked<(ConversationId, PageQuery), Vec<Row>>,
    ones: Asked<ConversationId, Option<Conversation>>,
    by_seq: Asked<u64, Option<Row>>,
    by_id: Asked<(ConversationId, MessageId), Option<Row>>,
    between: Asked<(Timestamp, Timestamp, u64, usize), Vec<Row>>,
    recent: Asked<(Option<ListCursor>, usize), Vec<Conversation>>,
    owned: Asked<(String, Option<ListCursor>, usize), Vec<Conversation>>,
}

type Asked<K, V> = Together<K, Result<V, StoreError>>;

struct Shared {
    flight: Flight,
    statements: Statements,
    /// Which log was opened: another one of the same name knows nothing of what is remembered here.
    made: Uuid,
    times: Times,
    blocks: Mutex<HashSet<i64>>,
    questions: Questions,
    options: CqlOptions,
}

impl fmt::Debug for Cql {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.options.fmt(out)
    }
}

impl Cql {
    /// Connects, checks the version of the schema, and prepares every statement.
    pub(super) async fn open(options: &CqlOptions) -> Result<Self, StoreError> {
        let session = connect(options).await?;
        Box::pin(schema::check(&session, options)).await?;
        let made = Box::pin(schema::made(&session, options)).await?;
        let statements = Box::pin(Statements::prepare(&session, options)).await;
        let statements = statements.map_err(|error| schema::failed(&options.place(), &error.into()))?;
        options.fullness.begin(made);
        let nodes = Nodes::new(options.datacenter.clone(), options.in_flight);
        let flight = Flight::new(session, options.place(), nodes);
        let shared = Shared {
            flight,
            statements,
            made,
            times: Times::default(),
            blocks: Mutex::default(),
            questions: Questions::default(),
            options: options.clone(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Whether both are the same keyspace of the same cluster: clusters that have a node in common are one.
    pub(super) fn is(&self, other: &Self) -> bool {
        let nodes = |store: &Self| -> HashSet<Uuid> {
            let cluster = store.shared.flight.session.get_cluster_state();
            cluster.get_nodes_info().iter().map(|node| node.host_id).collect()
        };
        self.shared.options.keyspace == other.shared.options.keyspace && !nodes(self).is_disjoint(&nodes(other))
    }

    /// Whether there are tables of yalo, of whatever version.
    pub(super) async fn is_made(options: &CqlOptions) -> Result<bool, StoreError> {
        let session = connect(options).await?;
        Box::pin(schema::is_made(&session, options)).await
    }

    /// Makes the keyspace and its tables, or brings them up to date; says what it did. One process at a time.
    pub(super) async fn create(options: &CqlOptions) -> Result<Vec<String>, StoreError> {
        let session = connect(options).await?;
        Box::pin(schema::create(&session, options)).await
    }
}

impl Shared {
    /// The cluster answered with something that yalo does not write.
    fn odd(&self, action: &str, error: impl fmt::Display) -> StoreError {
        corrupt(action, self.flight.place(), error.to_string())
    }

    /// Refuses to go on with tables that were made anew: what this process remembers to have listed is not listed there.
    async fn is_the_same(&self) -> Result<(), StoreError> {
        let action = "go on with";
        let values = (&self.options.keyspace, schema::LOG);
        let found = self.flight.rows(action, &self.statements.made, values).await?;
        let row = found.maybe_first_row::<(Uuid,)>().map_err(|error| self.odd(action, error))?;
        if row == Some((self.made,)) {
            return Ok(());
        }
        Err(unusable(
            action,
            self.flight.place(),
            "its tables were dropped or made anew while it was open".to_owned(),
            "start yalo again: what was not acknowledged is stored anew, and `yalo audit verify --repair` stores what the \
             stream still holds of the rest",
        ))
    }

    fn knows_block(&self, block: i64) -> bool {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).contains(&block)
    }

    fn learn_block(&self, block: i64) {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        // A few are enough: the others are listed once more.
        if blocks.len() >= 1024 {
            blocks.clear();
        }
        blocks.insert(block);
    }
}
