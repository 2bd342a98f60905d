//! The reading side of the store: for operators over HTTP and its page, for frontends over NATS.

mod api;
mod dead;
mod export;
mod flow;
mod proof;
mod replies;
mod routes;
mod rpc;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::flow::Flow;
use super::Ctx;
use super::opened::{self, Opened};
use crate::audit::Pace;
use crate::bus::Bus;
use crate::config::AdminConfig;
use crate::store::{Store, StoreOptions};
use crate::web::auth::OperatorToken;
use crate::web::serve::{self, ServeOptions};

/// What all requests of one admin share.
struct Admin {
    store: Store,
    bus: Bus,
    flow: Flow,
    token: OperatorToken,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Room for exports at the same time.
    exports: Arc<Semaphore>,
}

/// Runs one admin until `shutdown`.
pub(crate) async fn run(
    ctx: Ctx,
    config: AdminConfig,
    store: StoreOptions,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let listener = Arc::clone(ctx.listener.as_ref().context("admin needs a listener")?);
    let tasks = TaskTracker::new();
    let waiting = shutdown.child_token();
    let until_then = wait(Arc::clone(&listener), tasks.clone(), waiting.clone(), shutdown.clone());
    ctx.beside.spawn(&tasks, "the listener before there is a store", until_then);
    let waiting = waiting.drop_guard();
    let Some(Opened { store, ready }) = opened::open(&ctx, &store, &shutdown).await? else {
        return Ok(());
    };
    drop(waiting);
    let admin = Arc::new(Admin {
        flow: Flow::new(ctx.bus.clone(), store.clone(), ctx.metrics.clone()),
        store,
        bus: ctx.bus.clone(),
        token: OperatorToken::new(config.token.reveal()),
        tasks: tasks.clone(),
        stop: shutdown.clone(),
        exports: Arc::new(Semaphore::new(export::AT_ONCE)),
    });
    let answering = rpc::start(&admin, &ctx.beside, &tasks).await?;
    ctx.beside.spawn(&tasks, "the watch over the flow", flow::watch(Arc::clone(&admin), ready));
    let pace = Pace { new: config.check_per_second, again: config.recheck_per_second };
    let proving = proof::watch(Arc::clone(&admin), pace, ctx.metrics.clone());
    ctx.beside.spawn(&tasks, "the check of the record", proving);
    let serving =
        serve::serve(listener, routes::routes(&admin), ServeOptions::default(), tasks.clone(), shutdown.clone());
    ctx.beside.spawn(&tasks, "the listener", serving);
    ctx.ready();

    shutdown.cancelled().await;
    answering.stop().await;
    tasks.close();
    if tokio::time::timeout(ctx.grace / 2, tasks.wait()).await.is_err() {
        tracing::warn!("{} readers were cut off at the end of the grace time", tasks.len());
    }
    ctx.bus.close(ctx.grace / 4).await;
    Ok(())
}

/// Whoever asks before there is a store is told so, unless it is a matter of the moment that a start takes.
async fn wait(listener: Arc<TcpListener>, tasks: TaskTracker, over: CancellationToken, shutdown: CancellationToken) {
    // One answer for each connection, and it is given also when the wait is over meanwhile: nobody is cut off.
    let options = ServeOptions::default();
    options.leaving.cancel();
    let waiting = async {
        tokio::time::sleep(START).await;
        serve::serve(listener, routes::waiting(), options, tasks, shutdown).await;
    };
    over.run_until_cancelled(waiting).await;
}

/// How long a start may take before readers are told that there is no store.
const START: Duration = Duration::from_secs(2);
/// How long the operators' own requests may take.
const PATIENCE: Duration = Duration::from_secs(10);
