//! From a configuration to running roles: keys, NATS, streams, listeners, instances, banner; and back down in order.

mod banner;
mod files;
mod keys;
mod parts;
mod reached;
mod turn;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

pub(crate) use self::files::most_files;
use self::parts::Parts;
pub(crate) use self::reached::Reached;
use crate::bus::provision::{self, Plan, ProvisionOptions};
use crate::bus::{Bus, BusOptions, LinkEvents};
use crate::config::Config;
use crate::role::Role;
use crate::shutdown::Shutdown;
use crate::store::{Contract, Store, StoreError};
use crate::supervisor::Supervisor;

/// How many instances of a role to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleSpec {
    /// The role.
    pub role: Role,
    /// How many of it.
    pub replicas: usize,
}

/// What the process is: one role of a fleet, or everything on one machine.
#[derive(Debug, Clone)]
pub struct Plans {
    /// The roles, with their replicas.
    pub roles: Vec<RoleSpec>,
    /// Whether this process is the whole deployment: it owns its data folder, may run its own nats-server, makes keys
    /// that are not configured, and provisions before it starts.
    pub standalone: bool,
}

/// Runs the roles until a signal or the first failure.
pub async fn run(config: Config, plans: Plans) -> anyhow::Result<()> {
    let shutdown = Shutdown::listen().context("listen for signals")?;
    run_until(config, plans, shutdown.token()).await
}

/// Runs the roles until `shutdown`, or the first failure.
pub async fn run_until(config: Config, plans: Plans, shutdown: CancellationToken) -> anyhow::Result<()> {
    files::allow_most();
    let parts = Parts::open(config, &plans, shutdown.clone()).await?;
    let mut supervisor = Supervisor::new(shutdown.clone(), Duration::from_millis(parts.config.limits.grace_ms));
    let mut ready = Vec::new();
    for spec in &plans.roles {
        for number in 0..spec.replicas {
            let instance = parts.instance(spec.role, number).await?;
            ready.push(instance.name.clone());
            supervisor.start(instance.name, instance.future);
        }
    }
    parts.start_side_tasks(&mut supervisor);
    let announcing = banner::announce(&parts, &ready, shutdown.clone());
    let (result, ()) = tokio::join!(supervisor.run(), announcing);
    parts.close().await;
    result
}

/// What `init` did: to NATS, and to the store, a line each.
#[derive(Debug)]
pub struct Made {
    /// Streams and consumers.
    pub nats: provision::Report,
    /// Keyspace and tables of a store that needs them.
    pub store: Vec<String>,
}

/// Creates or reconciles streams, consumers and the store, and says each difference.
pub async fn init(config: &Config) -> anyhow::Result<Made> {
    let bus = connect(config, "init", LinkEvents::default()).await?;
    let made = reconcile(&bus, config).await;
    bus.close(Duration::from_secs(1)).await;
    made
}

async fn reconcile(bus: &Bus, config: &Config) -> anyhow::Result<Made> {
    let mut store = Vec::new();
    let last = match stored_last_seq(config).await {
        // Where a new stream begins is known when the store can be read, which an older one can't before it is migrated.
        Err(error) if matches!(error.downcast_ref(), Some(StoreError::OlderVersion { .. })) => {
            let members = Plan::members(bus.subjects(), &provision_options(config, None));
            provision::reconcile(&bus.jetstream(), &members, false).await?;
            store = create_store(bus, config).await?;
            stored_last_seq(config).await?
        }
        last => last?,
    };
    let plan = Plan::new(bus.subjects(), &provision_options(config, last));
    let nats = match provision::reconcile(&bus.jetstream(), &plan, false).await {
        Err(error) if !store.is_empty() => {
            return Err(anyhow::Error::from(error).context(format!("the store is changed ({})", store.join(", "))));
        }
        nats => nats?,
    };
    store.extend(create_store(bus, config).await?);
    Ok(Made { nats, store })
}

/// Makes the tables of a cluster, or migrates them, while no other `init` does.
async fn create_store(bus: &Bus, config: &Config) -> anyhow::Result<Vec<String>> {
    let options = parts::store_options(config, false);
    if options.file().is_some() {
        return Ok(Vec::new());
    }
    turn::alone(bus, async { Store::create(&options).await.context("make the tables of the store") }).await
}

/// What `init` would do.
async fn survey(bus: &Bus, config: &Config) -> anyhow::Result<provision::Report> {
    let plan = Plan::new(bus.subjects(), &provision_options(config, stored_last_seq(config).await?));
    Ok(provision::reconcile(&bus.jetstream(), &plan, true).await?)
}

/// The folder of the configured store, if it is a file.
pub(crate) fn store_folder(config: &Config) -> Option<PathBuf> {
    let options = parts::store_options(config, true);
    Some(options.file()?.parent().map_or_else(|| PathBuf::from("."), Path::to_owned))
}

/// How long a role waits for a cluster without a leader: it has none for some seconds after its start, after `yalo init`
/// and after the death of a server.
const LEADERLESS: Duration = Duration::from_secs(30);

/// Roles only bind: what is missing is made by `yalo init`.
async fn verify_present(bus: &Bus, config: &Config, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let plan = Plan::new(bus.subjects(), &provision_options(config, None));
    let context = bus.jetstream();
    let end = Instant::now() + LEADERLESS;
    let mut said = String::new();
    loop {
        match shutdown.run_until_cancelled(provision::verify_present(&context, &plan)).await {
            None => return Ok(()),
            Some(Err(error)) if error.is_leaderless() && Instant::now() < end => {
                // Once for each cause.
                if error.to_string() != said {
                    said = error.to_string();
                    tracing::warn!(%error, "not started yet, trying again for {} s: {error}", LEADERLESS.as_secs());
                }
            }
            Some(verified) => return Ok(verified?),
        }
        shutdown.run_until_cancelled(tokio::time::sleep(Duration::from_millis(500))).await;
    }
}

fn provision_options(config: &Config, store_last_seq: Option<u64>) -> ProvisionOptions {
    let nats = &config.nats;
    ProvisionOptions {
        replicas: nats.replicas,
        groups: nats.groups,
        max_bytes: nats.max_bytes,
        max_age: Duration::from_secs(nats.max_age_hours * 3600),
        store_last_seq,
    }
}

/// How errors name the configured store.
pub(crate) fn store_place(config: &Config) -> String {
    parts::store_options(config, true).place()
}

/// The configured store, for a tool that needs no NATS.
pub(crate) async fn open_store(config: &Config, read_only: bool) -> anyhow::Result<Store> {
    Store::open(&parts::store_options(config, read_only)).await.context("open the store")
}

/// The store's highest sequence, if there is a store: a stream made anew has to begin above it.
async fn stored_last_seq(config: &Config) -> anyhow::Result<Option<u64>> {
    let options = parts::store_options(config, true);
    if !Store::is_made(&options).await.context("look for the store")? {
        return Ok(None);
    }
    let store = Store::open(&options).await.context("open the store")?;
    let last = store.last_seq().await.context("read the store's highest sequence");
    store.close().await.context("close the store")?;
    last
}

/// Connects as `name`.
pub(crate) async fn connect(config: &Config, name: &str, events: LinkEvents) -> anyhow::Result<Bus> {
    let options = bus_options(config)?;
    let name = format!("yalo-{name}");
    Bus::connect(options, &name, events).await.with_context(|| {
        format!("connect to nats at {}; start one there, or name another one with nats.url", config.nats.url)
    })
}

fn bus_options(config: &Config) -> anyhow::Result<BusOptions> {
    let nats = &config.nats;
    let subjects = crate::wire::Subjects::new(&nats.prefix).context("nats.prefix is not a word for subjects")?;
    Ok(BusOptions {
        url: nats.url.clone(),
        user: nats.user.clone(),
        password: nats.password.reveal().to_owned(),
        credentials: nats.credentials.clone(),
        subjects,
        connect_timeout: Duration::from_millis(nats.connect_timeout_ms),
        request_timeout: Duration::from_millis(nats.request_timeout_ms),
        publish_timeout: Duration::from_millis(nats.publish_timeout_ms),
        publish_deadline: Duration::from_millis(nats.publish_deadline_ms),
        publish_in_flight: nats.publish_in_flight,
    })
}

/// A boxed instance, ready to be supervised.
struct Instance {
    name: String,
    future: std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>,
}
