//! The users' edge: takes messages over HTTP, SSE and WebSocket, publishes them, streams answers back, serves the page.

mod accept;
mod answer;
mod callers;
mod chat;
mod conversations;
mod follow;
mod history;
mod hub;
mod ingest;
mod list;
mod messages;
mod problems;
mod pulse;
mod replies;
mod requests;
mod room;
mod routes;
mod socket;
mod state;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::hub::Hub;
use self::ingest::Ingest;
use self::pulse::Pulse;
use self::room::Room;
use self::state::{Front, Order, Owners};
use super::Ctx;
use crate::config::{AuthConfig, FrontendConfig};
use crate::domain::Timestamp;
use crate::telemetry::Metrics;
use crate::web::auth::Tokens;
use crate::web::origin::Origins;
use crate::web::serve::{self, ServeOptions};

/// What one frontend needs besides its surroundings.
pub(crate) struct FrontendOptions {
    pub(crate) config: FrontendConfig,
    pub(crate) auth: AuthConfig,
    pub(crate) body_bytes: usize,
}

/// Runs one frontend until `shutdown`.
pub(crate) async fn run(ctx: Ctx, options: FrontendOptions, shutdown: CancellationToken) -> anyhow::Result<()> {
    let FrontendOptions { config, auth, body_bytes } = options;
    let listener = Arc::clone(ctx.listener.as_ref().context("frontend needs a listener")?);
    let lifetime = Duration::from_secs(auth.guest_days * 86_400);
    let tokens = Tokens::new(auth.guest_key.reveal(), lifetime).context("auth.guest_key")?;
    let origins = Origins::parse(&config.allow_origins).context("frontend.allow_origins")?;
    let tasks = TaskTracker::new();
    // Two stages of stopping: first clients are sent elsewhere, then nothing more is taken.
    let stop = CancellationToken::new();
    let drain = Duration::from_millis(config.drain_ms);
    let hub = Hub::new(&ctx, config.watcher_queue, tasks.clone(), stop.clone());
    let serve_options = ServeOptions {
        header_timeout: Duration::from_millis(config.header_timeout_ms),
        max_connections: config.max_connections,
        connections: Arc::default(),
        origins: origins.clone(),
        leaving: shutdown.clone(),
        observe: Some(observer(ctx.metrics.clone())),
    };
    let ingest = Ingest::new(
        auth.ingest_token.reveal(),
        config.ingest_uploads,
        format!("{}-ingest", ctx.name),
        ctx.events.clone(),
    );
    let front = Arc::new(Front {
        bus: ctx.bus.clone(),
        hub,
        tokens,
        metrics: ctx.metrics.clone(),
        config,
        body_bytes,
        tasks: tasks.clone(),
        stop: stop.clone(),
        owners: Owners::default(),
        order: Order::default(),
        room: Room::default(),
        ingest,
        pulse: Pulse::new(Timestamp::now()),
    });
    let routes = routes::routes(&front, &origins);
    let (beside, connections) = (&ctx.beside, Arc::clone(&serve_options.connections));
    let stream = ctx.readiness.dependency(&format!("stream ({})", ctx.name));
    beside.spawn(&tasks, "the beat of the event streams", beat(Arc::clone(&front)));
    beside.spawn(&tasks, "the count of connections", count(Arc::clone(&front), connections));
    beside.spawn(&tasks, "the watch over the stream", room::watch(Arc::clone(&front), stream));
    let serving = serve::serve(listener, routes, serve_options, tasks.clone(), stop.clone());
    beside.spawn(&tasks, "the listener", serving);
    ctx.ready();

    shutdown.cancelled().await;
    tokio::time::sleep(drain).await;
    stop.cancel();
    tasks.close();
    // Requests in flight finish, sockets and streams say goodbye.
    if tokio::time::timeout(ctx.grace / 2, tasks.wait()).await.is_err() {
        tracing::warn!("{} connections were cut off at the end of the grace time", tasks.len());
    }
    ctx.bus.close(ctx.grace / 4).await;
    Ok(())
}

async fn beat(front: Arc<Front>) {
    front.pulse.run(front.stop.clone()).await;
}

/// Keeps the gauges of connections and watchers.
async fn count(front: Arc<Front>, connections: Arc<serve::Connections>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            biased;
            () = front.stop.cancelled() => return,
            _ = ticks.tick() => {
                let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
                front.metrics.connections.set(gauge(connections.count()));
                front.metrics.watchers.set(gauge(front.hub.watching()));
            },
        }
    }
}

/// Counts each answer by its route's first words, so that ids do not make a series each.
fn observer(metrics: Metrics) -> serve::Observer {
    Arc::new(move |access| metrics.count_request(route_of(access.path), access.status.as_u16()))
}

fn route_of(path: &str) -> &'static str {
    let mut parts = path.trim_matches('/').split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("v1"), Some("chat"), None, None) => "/v1/chat",
        (Some("v1"), Some("ingest"), None, None) => "/v1/ingest",
        (Some("v1"), Some("ws"), None, None) => "/v1/ws",
        (Some("v1"), Some("conversations"), None, None) => "/v1/conversations",
        (Some("v1"), Some("conversations"), Some(_), Some("messages")) => "/v1/conversations/{id}/messages",
        (Some("v1"), Some("conversations"), Some(_), Some("events")) => "/v1/conversations/{id}/events",
        (Some("v1"), Some("conversations"), Some(_), Some("stop")) => "/v1/conversations/{id}/stop",
        _ => "other",
    }
}
