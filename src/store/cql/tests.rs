//! The contract on a real Cassandra, and what is this store's own: partitions, versions, sign-in.

mod bounds;
mod keyspace;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Copies, Cql, CqlOptions};
use crate::store::suite;

#[allow(clippy::disallowed_methods, reason = "the tests' own file: it reads what `make test` has set")]
#[path = "../../../tests/cassandra/node.rs"]
mod node;

use node::Cassandra;

suite::cases!(fresh);

/// A store in a keyspace of its own, on the node that all tests of this process share.
async fn fresh() -> (CqlOptions, Cql) {
    let options = options().await;
    Cql::create(&options).await.unwrap();
    let store = Cql::open(&options).await.unwrap();
    (options, store)
}

/// A keyspace that nobody has used.
async fn options() -> CqlOptions {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let node = tokio::task::spawn_blocking(Cassandra::shared).await.unwrap();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    CqlOptions {
        nodes: node.addresses(),
        keyspace: format!("test_{number}"),
        replication: "1".to_owned(),
        datacenter: "datacenter1".to_owned(),
        user: String::new(),
        password: String::new(),
        ca: None,
        consistency: Copies::LocalQuorum,
        connections: 1,
        in_flight: 64,
        timeout: Duration::from_secs(20),
        read_only: false,
    }
}
