//! A store in a keyspace of its own, without a fleet.

use std::sync::Arc;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use yalo::store::{Copies, CqlOptions, Store, StoreOptions};

use crate::node::Cassandra;

/// A keyspace of its own on the node that these tests share.
pub(crate) struct Keyspace {
    pub(crate) options: CqlOptions,
}

impl Keyspace {
    /// Names one that is not there yet.
    pub(crate) async fn missing(name: &str) -> Self {
        let node = tokio::task::spawn_blocking(Cassandra::shared).await.unwrap();
        let options = CqlOptions {
            nodes: node.addresses(),
            keyspace: name.to_owned(),
            replication: "1".to_owned(),
            datacenter: String::new(),
            user: String::new(),
            password: String::new(),
            ca: None,
            consistency: Copies::LocalQuorum,
            connections: 1,
            in_flight: 64,
            timeout: Duration::from_secs(20),
            read_only: false,
            fullness: Arc::default(),
        };
        Self { options }
    }

    /// Makes one and opens it.
    pub(crate) async fn make(name: &str) -> (Self, Store) {
        let keyspace = Self::missing(name).await;
        let options = StoreOptions::Cql(keyspace.options.clone());
        Store::create(&options).await.unwrap();
        (keyspace, Store::open(&options).await.unwrap())
    }

    /// The settings that say so.
    pub(crate) fn settings(&self) -> [String; 5] {
        [
            "store.kind=cql".to_owned(),
            format!("store.nodes={}", self.options.nodes.join(",")),
            format!("store.keyspace={}", self.options.keyspace),
            "store.replication=1".to_owned(),
            "store.timeout_ms=20000".to_owned(),
        ]
    }

    /// The same, each behind `flag`.
    pub(crate) fn keys(&self, flag: &str) -> Vec<String> {
        self.settings().into_iter().flat_map(|setting| [flag.to_owned(), setting]).collect()
    }

    /// Another client of the cluster, at work in it.
    pub(crate) async fn session(&self) -> Session {
        let session = SessionBuilder::new().known_nodes(&self.options.nodes).build().await.unwrap();
        session.use_keyspace(&self.options.keyspace, false).await.unwrap();
        session
    }
}
