//! Configuration: layers, validation, and the only place that reads settings from the environment.
//!
//! `config/yalo.toml` is the default layer and documents every key; each struct below mirrors one of its sections, so a
//! key exists in both or in neither (a test compares them).

mod check;
mod error;
mod known;
mod layers;
mod load;
mod secret;
mod show;
mod source;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use check::sync_span;
pub use error::{ConfigError, Finding};
pub use layers::Layers;
pub use load::Loaded;
pub use secret::Secret;
pub use show::Shown;
pub use source::{Source, Sources};

/// Everything that an operator can set.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where yalo keeps its own files.
    pub data: DataConfig,
    /// The broker.
    pub nats: NatsConfig,
    /// The audit store.
    pub store: StoreConfig,
    /// The users' edge.
    pub frontend: FrontendConfig,
    /// The answering side.
    pub bot: BotConfig,
    /// The writing side of the store.
    pub auditor: AuditorConfig,
    /// The reading side of the store.
    pub admin: AdminConfig,
    /// Health and metrics.
    pub ops: OpsConfig,
    /// Who may do what.
    pub auth: AuthConfig,
    /// Sizes and spans of the process.
    pub limits: LimitsConfig,
    /// Log output.
    pub log: LogConfig,
}

/// `[data]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/yalo.toml documents every key")]
pub struct DataConfig {
    pub dir: PathBuf,
}

/// `[nats]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/yalo.toml documents every key")]
pub struct NatsConfig {
    pub url: String,
    pub server: String,
    pub prefix: String,
    pub user: String,
    pub password: Secret,
    pub credentials: String,
    pub replicas: usize,
    pub groups: u16,
    pub max_bytes: i64,
    pub max_age_hours: u64,
    pub sync_interval: String,
    pub connect_timeout_ms: u64,
    pub request_timeout_ms: u64,
    pub publish_timeout_ms: u64,
    pub publish_deadline_ms: u64,
    pub publish_in_flight: usize,
}

/// `[store]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/yalo.toml documents every key")]
pub struct StoreConfig {
    pub kind: StoreKind,
    pub path: String,
    pub readers: usize,
    pub retention_days: u64,
    pub nodes: String,
    pub keyspace: String,
    pub replication: String,
    pub datacenter: String,
    pub user: String,
    pub password: Secret,
    pub ca: String,
    pub consistency: Consistency,
    pub connections: usize,
    pub in_flight: usize,
    pub timeout_ms: u64,
}

/// The stores that yalo can write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// Embedded, one file.
    Sqlite,
    /// ScyllaDB or Cassandra.
    Cql,
}

/// How many copies of a cluster have to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// More than half of those in the own data centre.
    LocalQuorum,
    /// More than half of all.
    Quorum,
    /// More than half in every data centre.
    EachQuorum,
    /// One: for a single node, where there are no others.
    One,
}

/// `[frontend]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/yalo.toml documents every key")]
pub struct FrontendConfig {
    pub listen: String,
    pub bot: String,
    pub answer_timeout_ms: u64,
    pub max_connections: usize,
    pub header_timeout_ms: u64,
    pub body_timeout_ms: u64,
    pub allow_origins: Vec<String>,
    pub watcher_queue: usize,
    pub check_open_ms: u64,
    pub check_quiet_ms: u64,
    pub max_wait_ms: u64,
    pub ingest_uploads: usize,
    pub drain_ms: u64,
}

/// `[bot]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/yalo.toml documents every key")]
pub struct BotConfig {
    pub engine: EngineKind,
    pub rules: PathBuf,
    pub concurrency: usize,
    pub attempt_timeout_ms: u64,
    pub attempts: u32,
    pub apology: String,
}

/// The engines that a bot can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// Says what it heard.
    Echo,
    /// Answers by a rules file.
    Rules,
    /// Does what the question says, for rehearsals.
    Drill,
}

/// `[auditor]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/yalo.toml documents every key")]
pub struct AuditorConfig {
    pub batch: usize,
    pub flush_rows: usize,
    pub flush_ms: u64,
    pub flushes: usize,
    pub retry_min_ms: u64,
    pub retry_max_ms: u64,
}

/// `[admin]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/yalo.toml documents every key")]
pub struct AdminConfig {
    pub listen: String,
    pub token: Secret,
    pub check_per_second: u64,
    pub recheck_per_second: u64,
}

/// `[ops]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/yalo.toml documents every key")]
pub struct OpsConfig {
    pub listen: String,
}

/// `[auth]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/yalo.toml documents every key")]
pub struct AuthConfig {
    pub guest_key: Secret,
    pub ingest_token: Secret,
    pub guest_days: u64,
}

/// `[limits]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/yalo.toml documents every key")]
pub struct LimitsConfig {
    pub body_bytes: usize,
    pub grace_ms: u64,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/yalo.toml documents every key")]
pub struct LogConfig {
    pub level: String,
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One readable line.
    Text,
    /// One JSON object a line.
    Json,
}
