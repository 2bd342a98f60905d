//! NATS and store of a deployment for a tool: of a fleet, of a `yalo all` that runs, or of one that does not run now.

use std::time::Duration;

use anyhow::{Context, bail};

use super::{connect, parts};
use crate::bus::provision::Report;
use crate::bus::server::{DataLock, ManagedServer, running};
use crate::bus::{Bus, LinkEvents};
use crate::config::{Config, Secret};
use crate::store::Store;

/// How long a connection may take to close.
const CLOSE: Duration = Duration::from_secs(1);

/// What a tool works on.
pub(crate) struct Reached {
    pub(crate) bus: Bus,
    config: Config,
    /// Started for the tool, since nothing ran.
    own: Option<(ManagedServer, DataLock)>,
}

impl Reached {
    /// Connects as `name`.
    pub(crate) async fn open(mut config: Config, name: &str) -> anyhow::Result<Self> {
        let mut own = None;
        if config.nats.url.is_empty() {
            if !config.data.dir.join("nats").is_dir() {
                let dir = config.data.dir.display();
                bail!("nothing to look at: set nats.url, or data.dir to the folder of a `yalo all` (it is {dir} now)");
            }
            if let Some(managed) = running(&config.data.dir).context("find the running nats-server")? {
                config.nats.url = managed.url;
                config.nats.user = managed.user;
                config.nats.password = Secret::new(&managed.password);
            } else {
                let lock = DataLock::take(&config.data.dir)?;
                own = Some((parts::start_server(&mut config).await?, lock));
            }
        }
        let bus = connect(&config, name, LinkEvents::default()).await?;
        Ok(Self { bus, config, own })
    }

    /// Whether the deployment runs now, as far as can be seen: its NATS was not started for the tool.
    pub(crate) fn is_running(&self) -> bool {
        self.own.is_none()
    }

    /// What `yalo init` would do.
    pub(crate) async fn survey(&self) -> anyhow::Result<Report> {
        super::survey(&self.bus, &self.config).await
    }

    /// The store of the deployment.
    pub(crate) async fn open_store(&self, read_only: bool) -> anyhow::Result<Store> {
        super::open_store(&self.config, read_only).await
    }

    pub(crate) async fn close(self) {
        self.bus.close(CLOSE).await;
        if let Some((server, _lock)) = self.own {
            server.stop(Duration::from_millis(self.config.limits.grace_ms)).await;
        }
    }
}
