//! The store of a role: a cluster is opened as soon as it can be, however long it is away; `/readyz` says why it is not yet.

use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::Ctx;
use crate::store::{Store, StoreError, StoreOptions};
use crate::web::ops::Dependency;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// An open store, and its line in the readiness.
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) ready: Dependency,
}

/// Opens the store. A cluster that is away is waited for; what somebody has to mend is an error, and so is a file that
/// can't be had now: it is at hand, and so is whoever holds it. `None`: stopped before.
pub(crate) async fn open(
    ctx: &Ctx,
    options: &StoreOptions,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<Opened>> {
    let ready = ctx.readiness.dependency("store");
    let mut said = String::new();
    loop {
        let opening = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(None),
            opening = Store::open(options) => opening,
        };
        let reason = match opening {
            Ok(store) => {
                if !said.is_empty() {
                    tracing::info!("the store is there: {}", options.place());
                }
                return Ok(Some(Opened { store, ready }));
            }
            Err(error @ StoreError::Away(_)) => error.to_string(),
            Err(error) => return Err(error).context("open the store"),
        };
        ready.set_ready(false, &reason);
        // Once for each cause, however long it lasts.
        if reason != said {
            tracing::warn!("the store is not there yet, {} waits for it: {reason}", ctx.name);
            said = reason;
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(PAUSE.mul_f64(0.5 + fastrand::f64() / 2.0)) => {}
        }
    }
}
