//! The contract on a real Cassandra, alone or as a ring that has lost a node, or on whatever cluster is named, and what is
//! this store's own: partitions, twins, rows that are there in part, keyspaces that go.

mod bounds;
mod equal;
mod keyspace;
mod partial;
mod retention;
mod twins;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::{Copies, Cql, CqlOptions};
use crate::store::suite;

#[allow(clippy::disallowed_methods, reason = "the tests' own file: it reads what `make test` has set")]
#[path = "../../../tests/cassandra/node.rs"]
mod node;

use node::Cassandra;

/// What all tests of this process share: one node, or as many as `YALO_TEST_CASSANDRA_NODES` says, the last of them dead.
static CASSANDRA: LazyLock<Cassandra> = LazyLock::new(|| {
    let cassandra = Cassandra::start(nodes());
    if nodes() > 1 {
        cassandra.kill(nodes());
    }
    cassandra
});

/// How many nodes it has, and copies each row.
fn nodes() -> usize {
    set("YALO_TEST_CASSANDRA_NODES").map_or(1, |nodes| nodes.parse().unwrap())
}

/// Where the nodes are: of `YALO_TEST_CQL_NODES`, a cluster that is there already, or of the Cassandra above.
async fn addresses() -> Vec<String> {
    match set("YALO_TEST_CQL_NODES") {
        Some(nodes) => nodes.split(',').map(str::to_owned).collect(),
        None => tokio::task::spawn_blocking(|| CASSANDRA.addresses()).await.unwrap(),
    }
}

#[expect(clippy::disallowed_methods, reason = "no setting of yalo: it reads what `make` has set")]
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

suite::cases!(fresh);

/// A store in a keyspace of its own.
pub(super) async fn fresh() -> (CqlOptions, Cql) {
    let options = options().await;
    Cql::create(&options).await.unwrap();
    let store = Cql::open(&options).await.unwrap();
    (options, store)
}

/// A keyspace that nobody has used.
async fn options() -> CqlOptions {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    CqlOptions {
        nodes: addresses().await,
        keyspace: format!("test_{}_{number}", std::process::id()),
        replication: nodes().to_string(),
        datacenter: "datacenter1".to_owned(),
        user: String::new(),
        password: String::new(),
        ca: None,
        consistency: Copies::LocalQuorum,
        connections: 1,
        in_flight: 64,
        timeout: Duration::from_secs(20),
        read_only: false,
        fullness: Arc::default(),
    }
}
