//! From a configuration to running roles. To come.

use crate::config::Config;
use crate::role::Role;

/// How many replicas of a role to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleSpec {
    /// The role.
    pub role: Role,
    /// How many of it.
    pub replicas: usize,
}

/// Runs the roles until they are told to stop.
#[expect(clippy::unused_async, reason = "a stub")]
pub async fn run(_config: Config, _roles: Vec<RoleSpec>) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}

/// Creates or reconciles the streams and consumers.
#[expect(clippy::unused_async, reason = "a stub")]
pub async fn init(_config: Config) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
