//! `yalo doctor`: looks at a deployment as it is, and says what threatens what yalo promises: what it saw, what may come
//! of it, and what mends it. It changes nothing.
//!
//! What can be seen without NATS comes first, so that a deployment that does not come up is told something too.

mod copies;
mod disk;
mod finding;
mod machine;
mod server;
mod store;
mod streams;
mod work;

use std::time::Duration;

pub use finding::{CHECKS, Diagnosis, Finding, Level};

use crate::app::Reached;
use crate::bus::BusError;
use crate::config::Config;

/// For all that is asked of NATS and store together, beside the time that a server may take to start.
const LIMIT: Duration = Duration::from_secs(60);

/// What a diagnosis came to.
pub struct Examined {
    /// All findings, in the order in which they were made.
    pub diagnosis: Diagnosis,
    /// Why the rest could not be looked at.
    pub unreached: Option<anyhow::Error>,
}

/// Looks at everything. `monitors` are addresses of monitoring pages, such as `http://n1:8222`.
pub async fn examine(config: Config, monitors: &[String]) -> Examined {
    let mut diagnosis = Diagnosis::default();
    let all = &mut diagnosis;
    machine::examine(all, &config);
    if config.nats.url.is_empty() && !config.data.dir.join("nats").is_dir() {
        all.add(Finding::note(
            "nats",
            format!("nothing has run in {} yet, so there is nothing more to look at", config.data.dir.display()),
            "",
            "start it with `yalo all`; or name the folder of another deployment with data.dir, or a NATS with nats.url",
        ));
        return Examined { diagnosis, unreached: None };
    }
    let url = config.nats.url.clone();
    let unreached = match Reached::open(config.clone(), "doctor").await {
        Ok(reached) => {
            let examined = tokio::time::timeout(LIMIT, reach(all, &reached, &config, monitors)).await;
            reached.close().await;
            examined.err().map(|_| BusError::TimedOut { doing: "look at everything" }.into())
        }
        Err(error) => Some(error),
    };
    if let Some(error) = &unreached {
        let place = if url.is_empty() { "the nats-server of data.dir".to_owned() } else { format!("nats.url {url}") };
        all.add(Finding::fault(
            "nats",
            format!("{place} can't be looked at: {error:#}"),
            "no message is accepted",
            "see that it runs and that this machine reaches it; sign in with nats.user and nats.password, or nats.credentials",
        ));
    }
    Examined { diagnosis, unreached }
}

async fn reach(all: &mut Diagnosis, reached: &Reached, config: &Config, monitors: &[String]) {
    let bus = &reached.bus;
    let copies = bus.copies().await;
    let pages = server::examine(all, bus, config, copies.as_ref().map_or(1, |copies| copies.wanted), monitors).await;
    copies::examine(all, copies, bus.greeting().cluster.is_some());
    streams::examine(all, reached, config, &pages).await;
    // One that is missing is told with the streams.
    if let Ok(stream) = bus.stream_state().await {
        disk::examine(all, bus, config, &stream, &pages).await;
        if reached.is_running() {
            work::examine(all, bus, stream.groups).await;
        }
    }
    store::examine(all, reached).await;
}
