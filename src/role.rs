//! The roles: each a loop of its own, alone in a process or beside the others, and never aware of which.

pub mod admin;
pub mod auditor;
mod beside;
pub mod bot;
pub mod frontend;
mod opened;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

pub(crate) use self::beside::Beside;
use crate::bus::{Bus, LinkEvents};
use crate::telemetry::Metrics;
use crate::web::ops::{Dependency, Readiness};

/// What a process can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes users' messages, streams answers back, serves the chat page.
    Frontend,
    /// Answers.
    Bot,
    /// Writes both sides to the store.
    Auditor,
    /// Reads the store for operators and for frontends.
    Admin,
}

impl Role {
    /// All roles, in the order in which they start.
    pub const ALL: [Self; 4] = [Self::Auditor, Self::Admin, Self::Bot, Self::Frontend];

    /// The subcommand's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Bot => "bot",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }
}

/// What every instance of a role gets from the process that runs it.
#[derive(Clone)]
pub(crate) struct Ctx {
    /// `bot-0`, `bot-1`: for logs and for the server's list of connections.
    pub(crate) name: String,
    /// Its word among the living bots: the same after a restart where only one process can be, else made anew.
    pub(crate) member: String,
    /// Its own connections to NATS.
    pub(crate) bus: Bus,
    /// What those connections have been through.
    pub(crate) events: LinkEvents,
    /// The process' metrics.
    pub(crate) metrics: Metrics,
    /// The process' readiness, by dependency.
    pub(crate) readiness: Readiness,
    /// The shared listener of an HTTP role.
    pub(crate) listener: Option<Arc<TcpListener>>,
    /// What goes on beside its loop.
    pub(crate) beside: Beside,
    /// How long it may take to stop.
    pub(crate) grace: Duration,
    /// Its own line in the readiness.
    pub(crate) own: Dependency,
}

impl Ctx {
    /// Says that the instance serves from now on.
    pub(crate) fn ready(&self) {
        self.own.set_ready(true, "");
        tracing::debug!(instance = self.name, "{} is ready", self.name);
    }
}
