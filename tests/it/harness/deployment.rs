//! A fleet whose store is a real Cassandra, alone or as a ring, and an operator beside it.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use serde_json::Value;

use super::{Fleet, Start};
use crate::node::Cassandra;

/// The superuser that Cassandra begins with, and the password.
pub(crate) const SUPERUSER: (&str, &str) = ("cassandra", "cassandra");
/// What a node takes in one write in these tests; 8 MiB and more is usual.
pub(crate) const LARGEST: usize = 96 * 1024;

/// The node that tests share who do not touch the node itself: it wants a sign-in, and has TLS too.
pub(crate) async fn shared() -> &'static Cassandra {
    static NODE: OnceLock<Cassandra> = OnceLock::new();
    let start = || {
        let largest = format!("max_mutation_size: {}KiB", LARGEST / 1024);
        let more = [("CASSANDRA_AUTH", "1"), ("CASSANDRA_TLS", "1"), ("CASSANDRA_YAML", largest.as_str())];
        Cassandra::start_with(1, &more)
    };
    tokio::task::spawn_blocking(move || NODE.get_or_init(start)).await.unwrap()
}

/// A client of a cluster, as an operator with a shell.
pub(crate) async fn session(nodes: &[String]) -> Session {
    SessionBuilder::new().known_nodes(nodes).user(SUPERUSER.0, SUPERUSER.1).build().await.unwrap()
}

/// A fleet on a Cassandra.
pub(crate) struct Deployment {
    pub(crate) fleet: Fleet,
    /// One of its own; else it is the shared one.
    own: Option<Arc<Cassandra>>,
    nodes: Vec<String>,
    keyspace: String,
    settings: Vec<String>,
}

impl Deployment {
    /// A fleet on so many nodes of its own.
    pub(crate) async fn start(folder: &Path, nodes: usize) -> Self {
        let cassandra = tokio::task::spawn_blocking(move || Cassandra::start(nodes)).await.unwrap();
        let nodes = cassandra.addresses();
        // What a busy machine with all of it on two processors needs.
        let settings = vec![format!("store.replication={}", nodes.len()), "store.timeout_ms=10000".to_owned()];
        Self { own: Some(Arc::new(cassandra)), ..Self::start_on(folder, nodes, "yalo", settings).await }
    }

    /// A fleet in a keyspace of its own on the node that is shared, which it reaches at `address`.
    pub(crate) async fn start_at(folder: &Path, address: String, keyspace: &str) -> Self {
        let settings = ["store.user=cassandra", "store.password=cassandra", "store.timeout_ms=3000"];
        Self::start_with(folder, address, keyspace, &settings).await
    }

    /// The same with other settings.
    pub(crate) async fn start_with(folder: &Path, address: String, keyspace: &str, settings: &[&str]) -> Self {
        let settings = settings.iter().copied().chain(["store.replication=1"]).map(str::to_owned).collect();
        Self::start_on(folder, vec![address], keyspace, settings).await
    }

    async fn start_on(folder: &Path, nodes: Vec<String>, keyspace: &str, mut settings: Vec<String>) -> Self {
        settings.extend([
            "store.kind=cql".to_owned(),
            format!("store.nodes={}", nodes.join(",")),
            format!("store.keyspace={keyspace}"),
        ]);
        let more: Vec<&str> = settings.iter().map(String::as_str).collect();
        let fleet = Fleet::start_with(folder, &more).await;
        Self { fleet, own: None, nodes, keyspace: keyspace.to_owned(), settings }
    }

    pub(crate) fn cassandra(&self) -> &Cassandra {
        self.own.as_ref().unwrap()
    }

    /// A command of yalo beside the fleet, with settings that win over those of the fleet.
    pub(crate) fn tool(&self, words: &[&str], more: &[&str]) -> Start {
        let settings = self.settings.iter().map(String::as_str).chain(more.iter().copied());
        let settings = settings.flat_map(|setting| ["--set", setting]);
        let arguments = words.iter().copied().chain(settings).map(str::to_owned).collect();
        Start { name: "tool".to_owned(), arguments, ..self.fleet.start_of("admin") }
    }

    /// Exit code and report of `yalo audit verify`.
    pub(crate) async fn verify(&self, more: &[&str]) -> (Option<i32>, Value) {
        let (code, output, errors) = self.tool(&[&["audit", "verify", "--json"], more].concat(), &[]).finish().await;
        let report = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output} {errors}"));
        (code, report)
    }

    /// Another client of the cluster, at work in the keyspace.
    pub(crate) async fn session(&self) -> Session {
        let nodes = if self.own.is_some() { self.nodes.clone() } else { shared().await.addresses() };
        let session = session(&nodes).await;
        session.use_keyspace(&self.keyspace, false).await.unwrap();
        session
    }

    /// The log holds every message up to this one, each once, but for so many.
    pub(crate) async fn each_once(&self, last: u64, but: u64) {
        let found = self.session().await.query_unpaged("SELECT seq FROM log", ()).await.unwrap();
        let found = found.into_rows_result().unwrap();
        let mut sequences: Vec<i64> = found.rows::<(i64,)>().unwrap().map(|row| row.unwrap().0).collect();
        let rows = sequences.len();
        sequences.sort_unstable();
        sequences.dedup();
        assert_eq!((rows, rows), (sequences.len(), usize::try_from(last - but).unwrap()), "{sequences:?}");
        assert_eq!(sequences.last(), Some(&last.cast_signed()));
    }

    /// One of the roles with settings that win over those of the fleet, as a process under another name.
    pub(crate) fn role(&self, name: &str, more: &[&str]) -> Start {
        let mut start = self.fleet.start_of(name);
        start.name = format!("{name} by itself");
        start.arguments.extend(more.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]));
        start
    }

    /// What a node is told to do, away from the threads that talk.
    pub(crate) async fn on_node(&self, act: impl FnOnce(&Cassandra) + Send + 'static) {
        let cassandra = Arc::clone(self.own.as_ref().unwrap());
        tokio::task::spawn_blocking(move || act(&cassandra)).await.unwrap();
    }
}
