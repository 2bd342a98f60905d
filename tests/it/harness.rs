//! Whole deployments as processes: `All` is `yalo all`, `Fleet` is one process for each replica and a nats-server,
//! `Deployment` is a fleet on a real cluster.
//!
//! Each lives in a folder of its own and listens on free ports of 127.0.0.1. Nothing is left behind: dropping a
//! deployment ends its processes, and a failed test shows what they wrote to standard error.

mod all;
mod cluster;
pub(crate) mod deployment;
mod fleet;
pub(crate) mod keyspace;
mod nats;
mod process;
pub(crate) mod record;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

pub(crate) use self::all::{All, start as all};
pub(crate) use self::cluster::Cluster;
pub(crate) use self::deployment::Deployment;
pub(crate) use self::fleet::Fleet;
pub(crate) use self::nats::nats_server;
pub(crate) use self::process::{Process, Start, children};

/// How long a start, a stop or an answer may take on a machine that has other work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a terminal gets before a line is drawn anew.
pub(crate) const CLEARED: &str = "\r\u{1b}[2K";

/// Where a deployment can be reached, whatever its shape.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// `http://127.0.0.1:port` of each frontend.
    pub(crate) frontends: Vec<String>,
    /// The same of admin.
    pub(crate) admin: String,
    /// The operator's token.
    pub(crate) token: String,
}

/// Waits for something that other processes bring about; `None` means not yet.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An address that nobody listens at, outside the range that the system gives to outgoing connections, so that it is
/// still free after a restart. No test gets that of another.
pub(crate) fn lasting_address() -> String {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let free =
        |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok() && GIVEN.lock().unwrap().insert(*port);
    let mut ports = std::iter::repeat_with(|| fastrand::u16(20_000..30_000)).take(1000);
    let port = ports.find(free).expect("a free port below 30000");
    format!("127.0.0.1:{port}")
}
