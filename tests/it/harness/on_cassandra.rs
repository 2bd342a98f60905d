//! A fleet whose store is a real Cassandra, alone or as a ring.

use std::path::Path;
use std::sync::Arc;

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use serde_json::Value;

use super::{Fleet, Start};
use crate::node::Cassandra;

/// A running fleet, and its store.
pub(crate) struct OnCassandra {
    pub(crate) fleet: Fleet,
    pub(crate) cassandra: Arc<Cassandra>,
    settings: Vec<String>,
}

impl OnCassandra {
    /// Starts a Cassandra of so many nodes, with a copy of everything on each, and a fleet below `folder`.
    pub(crate) async fn start(folder: &Path, nodes: usize) -> Self {
        Self::start_with(folder, nodes, &[]).await
    }

    /// The same with more settings, such as `store.retention_days=7`.
    pub(crate) async fn start_with(folder: &Path, nodes: usize, more: &[&str]) -> Self {
        let cassandra = tokio::task::spawn_blocking(move || Cassandra::start(nodes)).await.unwrap();
        let mut settings = vec![
            "store.kind=cql".to_owned(),
            format!("store.nodes={}", cassandra.addresses().join(",")),
            format!("store.replication={nodes}"),
            // What a busy machine with all of it on two processors needs.
            "store.timeout_ms=10000".to_owned(),
        ];
        settings.extend(more.iter().map(|setting| (*setting).to_owned()));
        let more: Vec<&str> = settings.iter().map(String::as_str).collect();
        let fleet = Fleet::start_with(folder, &more).await;
        Self { fleet, cassandra: Arc::new(cassandra), settings }
    }

    /// A command of yalo beside the fleet.
    pub(crate) fn tool(&self, arguments: &[&str]) -> Start {
        let settings = self.settings.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]);
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).chain(settings).collect();
        Start { name: "tool".to_owned(), arguments, ..self.fleet.start_of("admin") }
    }

    /// `yalo audit verify`: its exit code and its report.
    pub(crate) async fn verify(&self, more: &[&str]) -> (Option<i32>, Value) {
        let (code, output, errors) = self.tool(&[&["audit", "verify", "--json"], more].concat()).finish().await;
        let report = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output} {errors}"));
        (code, report)
    }

    /// Another client of the cluster, as an operator with a shell.
    pub(crate) async fn session(&self) -> Session {
        let session = SessionBuilder::new().known_nodes(self.cassandra.addresses()).build().await.unwrap();
        session.use_keyspace("yalo", false).await.unwrap();
        session
    }

    /// What the nodes are told to do, away from the threads that talk.
    pub(crate) async fn on_node(&self, act: impl FnOnce(&Cassandra) + Send + 'static) {
        let cassandra = Arc::clone(&self.cassandra);
        tokio::task::spawn_blocking(move || act(&cassandra)).await.unwrap();
    }
}
