//! What the roles of one process share, opened before the first and closed after the last.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Instance, Plans, connect, keys, reconcile};
use crate::bus::LinkEvents;
use crate::bus::server::{DataLock, ManagedServer, ServerOptions};
use crate::config::{Config, Consistency, StoreKind};
use crate::role::frontend::FrontendOptions;
use crate::role::{self, Beside, Ctx, Role};
use crate::store::{Copies, CqlOptions, SqliteOptions, StoreOptions};
use crate::supervisor::Supervisor;
use crate::telemetry::Metrics;
use crate::web::ops::{Dependency, Ops, Readiness};
use crate::web::problem;
use crate::web::serve::{self, ServeOptions};

/// How often the readiness of NATS is looked at.
const WATCH: Duration = Duration::from_millis(500);

/// The shared parts, and the addresses for the banner.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) standalone: bool,
    pub(super) frontend: Option<Arc<TcpListener>>,
    pub(super) admin: Option<Arc<TcpListener>>,
    pub(super) ops: Arc<TcpListener>,
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
    pub(super) server: Option<Arc<ManagedServer>>,
    /// Of all roles here, which are one writer of it together.
    store: StoreOptions,
    shutdown: CancellationToken,
    /// Ends the ops listener: after the last role, so that `/readyz` says to the end what goes on.
    closing: CancellationToken,
    tasks: TaskTracker,
    _lock: Option<DataLock>,
}

impl Parts {
    /// Opens everything in the order in which it depends on each other: cheap refusals first.
    pub(super) async fn open(mut config: Config, plans: &Plans, shutdown: CancellationToken) -> anyhow::Result<Self> {
        let has = |role: Role| plans.roles.iter().any(|spec| spec.role == role);
        if config.nats.url.is_empty() && !plans.standalone {
            bail!("nats.url is not set: name the NATS of the fleet, such as YALO_NATS__URL=nats://127.0.0.1:4222");
        }
        let lock = plans.standalone.then(|| DataLock::take(&config.data.dir)).transpose()?;
        if has(Role::Frontend) && config.auth.guest_key.is_empty() {
            if !plans.standalone {
                bail!("auth.guest_key is not set: all frontends of a fleet share one, of at least 32 characters");
            }
            config.auth.guest_key = keys::read_or_make(&config.data.dir.join("guest-key"))?;
        }
        if has(Role::Admin) && config.admin.token.is_empty() {
            std::fs::create_dir_all(&config.data.dir)
                .with_context(|| format!("make the data folder {}", config.data.dir.display()))?;
            config.admin.token = keys::read_or_make(&config.data.dir.join("admin-token"))?;
        }
        let frontend =
            has(Role::Frontend).then(|| serve::bind(&config.frontend.listen, "frontend.listen")).transpose()?;
        let admin = has(Role::Admin).then(|| serve::bind(&config.admin.listen, "admin.listen")).transpose()?;
        let ops = serve::bind(&config.ops.listen, "ops.listen").or_else(|error| {
            // Several processes of one machine may keep the default: each gets a port, and prints it.
            let host = config.ops.listen.rsplit_once(':').map_or("127.0.0.1", |(host, _)| host);
            if error.kind() == std::io::ErrorKind::AddrInUse {
                serve::bind(&format!("{host}:0"), "ops.listen")
            } else {
                Err(error)
            }
        })?;
        let server = if config.nats.url.is_empty() { Some(Arc::new(start_server(&mut config).await?)) } else { None };
        let bus = connect(&config, "init", LinkEvents::default()).await?;
        if plans.standalone {
            Box::pin(reconcile(&bus, &config)).await.context("bring the streams in line")?;
        } else {
            super::verify_present(&bus, &config, &shutdown).await?;
        }
        bus.close(Duration::from_secs(1)).await;
        Ok(Self {
            store: store_options(&config, false),
            config,
            standalone: plans.standalone,
            frontend,
            admin,
            ops,
            metrics: Metrics::new(),
            readiness: Readiness::default(),
            server,
            shutdown,
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            _lock: lock,
        })
    }

    /// One instance of a role, with its own connections.
    pub(super) async fn instance(&self, role: Role, number: usize) -> anyhow::Result<Instance> {
        let name = format!("{}-{number}", role.as_str());
        let events = LinkEvents::default();
        let bus = connect(&self.config, &name, events.clone()).await?;
        let listener = match role {
            Role::Frontend => self.frontend.clone(),
            Role::Admin => self.admin.clone(),
            Role::Bot | Role::Auditor => None,
        };
        let (beside, loss) = Beside::new();
        let ctx = Ctx {
            own: self.readiness.dependency(&name),
            name: name.clone(),
            // The data folder's lock lets only one process be; after a crash its bots need not be waited for.
            member: if self.standalone { name.clone() } else { format!("{name}-{}", uuid::Uuid::now_v7().simple()) },
            bus,
            events,
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            listener,
            beside,
            grace: Duration::from_millis(self.config.limits.grace_ms),
        };
        ctx.own.set_ready(false, "starting");
        let watch = watch_link(ctx.clone(), self.shutdown.clone());
        ctx.beside.spawn(&self.tasks, "the watch over the connection", watch);
        let shutdown = self.shutdown.clone();
        let config = &self.config;
        let future: std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>> = match role {
            Role::Frontend => {
                let options = FrontendOptions {
                    config: config.frontend.clone(),
                    auth: config.auth.clone(),
                    body_bytes: config.limits.body_bytes,
                };
                Box::pin(role::frontend::run(ctx, options, shutdown))
            }
            Role::Bot => Box::pin(role::bot::run(ctx, config.bot.clone(), shutdown)),
            Role::Auditor => {
                let store = self.store()?;
                let days = config.store.retention_days;
                let keep = (days > 0).then(|| Duration::from_secs(days * 86_400));
                Box::pin(role::auditor::run(ctx, config.auditor.clone(), store, keep, shutdown))
            }
            Role::Admin => {
                let store = self.store()?;
                Box::pin(role::admin::run(ctx, config.admin.clone(), store, shutdown))
            }
        };
        Ok(Instance { name, future: Box::pin(loss.ends(future)) })
    }

    /// The store that a role opens; the folder of a file is there.
    fn store(&self) -> anyhow::Result<StoreOptions> {
        let options = self.store.clone();
        if let Some(folder) = options.file().and_then(Path::parent) {
            std::fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
        }
        Ok(options)
    }

    /// The ops listener, and the watch over the managed server.
    pub(super) fn start_side_tasks(&self, supervisor: &mut Supervisor) {
        let metrics = self.metrics.clone();
        let shown = serde_json::to_value(&self.config).unwrap_or_default();
        let ops = Ops {
            readiness: self.readiness.clone(),
            metrics: Arc::new(move || metrics.render()),
            configuration: Arc::new(move || shown.clone()),
        };
        let routes = problem::finish(crate::web::ops::routes(ops));
        let options = ServeOptions { max_connections: 64, ..ServeOptions::default() };
        let (readiness, stopping) = (self.readiness.clone(), self.shutdown.clone());
        self.tasks.spawn(async move {
            stopping.cancelled().await;
            readiness.stop();
        });
        self.tasks.spawn(serve::serve(
            Arc::clone(&self.ops),
            routes,
            options,
            self.tasks.clone(),
            self.closing.clone(),
        ));
        if let Some(server) = &self.server {
            let (server, shutdown) = (Arc::clone(server), self.shutdown.clone());
            self.tasks.spawn(watch_server(
                Arc::clone(&server),
                self.readiness.dependency("nats-server"),
                shutdown.clone(),
            ));
            supervisor.start("nats-server".to_owned(), async move {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => Ok(()),
                    ended = server.exited() => Err(ended.into()),
                }
            });
        }
    }

    /// After the last role: the ops listener, then the server, last.
    pub(super) async fn close(self) {
        self.shutdown.cancel();
        self.closing.cancel();
        self.tasks.close();
        if tokio::time::timeout(Duration::from_secs(2), self.tasks.wait()).await.is_err() {
            tracing::debug!("readers of the ops listener were cut off");
        }
        if let Some(server) = self.server.and_then(Arc::into_inner) {
            server.stop(Duration::from_millis(self.config.limits.grace_ms)).await;
        }
    }
}

/// Where the configured store is.
pub(super) fn store_options(config: &Config, read_only: bool) -> StoreOptions {
    let store = &config.store;
    match store.kind {
        StoreKind::Sqlite => {
            let path = match store.path.as_str() {
                "" => config.data.dir.join("messages.db"),
                path => PathBuf::from(path),
            };
            StoreOptions::Sqlite(SqliteOptions { path, readers: store.readers, read_only })
        }
        StoreKind::Cql => StoreOptions::Cql(CqlOptions {
            nodes: store.nodes.split(',').map(|node| node.trim().to_owned()).collect(),
            keyspace: store.keyspace.clone(),
            replication: store.replication.clone(),
            datacenter: store.datacenter.clone(),
            user: store.user.clone(),
            password: store.password.reveal().to_owned(),
            ca: Some(PathBuf::from(&store.ca)).filter(|ca| !ca.as_os_str().is_empty()),
            consistency: match store.consistency {
                Consistency::LocalQuorum => Copies::LocalQuorum,
                Consistency::Quorum => Copies::Quorum,
                Consistency::EachQuorum => Copies::EachQuorum,
                Consistency::One => Copies::One,
            },
            connections: store.connections,
            in_flight: store.in_flight,
            timeout: Duration::from_millis(store.timeout_ms),
            read_only,
            fullness: Arc::default(),
        }),
    }
}

pub(super) async fn start_server(config: &mut Config) -> anyhow::Result<ManagedServer> {
    let mut options = ServerOptions::new(&config.data.dir);
    options.program = (!config.nats.server.is_empty()).then(|| PathBuf::from(&config.nats.server));
    options.sync_interval.clone_from(&config.nats.sync_interval);
    options.max_bytes = config.nats.max_bytes;
    options.wrapper = wrapper();
    let server = ManagedServer::start(options).await?;
    config.nats.url = server.url();
    server.user().clone_into(&mut config.nats.user);
    config.nats.password = crate::config::Secret::new(server.password());
    Ok(server)
}

/// Our own executable, if it is yalo and not a test that runs yalo inside.
fn wrapper() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    (program.file_stem()? == "yalo").then_some(program)
}

/// Keeps "nats" in the readiness true, and the count of reconnects.
async fn watch_link(ctx: Ctx, shutdown: CancellationToken) {
    let nats = ctx.readiness.dependency(&format!("nats ({})", ctx.name));
    let mut ticks = tokio::time::interval(WATCH);
    let mut counted = 0;
    loop {
        let reason = match ctx.events.trouble() {
            trouble if trouble.is_empty() => "not connected, trying again".to_owned(),
            trouble => format!("not connected, trying again: {trouble}"),
        };
        nats.set_ready(ctx.bus.is_connected(), &reason);
        let reconnects = ctx.events.reconnects();
        ctx.metrics.reconnects.inc_by(reconnects - counted);
        counted = reconnects;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
    }
}

/// Keeps "nats-server" in the readiness true.
async fn watch_server(server: Arc<ManagedServer>, own: Dependency, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(WATCH);
    loop {
        let trouble = server.trouble();
        own.set_ready(trouble.is_none(), trouble.unwrap_or_default());
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
    }
}

/// The address that a listener really has.
pub(super) fn address(listener: &TcpListener) -> Option<SocketAddr> {
    listener.local_addr().ok()
}
