//! Batches into the store, acknowledgements after the commit, and patience while the store is away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::audit::{Decoded, decode};
use crate::bus::{Bus, BusError, Delivery, Publish, Streak};
use crate::config::AuditorConfig;
use crate::domain::{Row, Timestamp};
use crate::mistake::{self, Mistake};
use crate::role::Ctx;
use crate::store::{Contract, Recorded, Store};
use crate::telemetry::{Hop, Metrics};
use crate::web::ops::Dependency;

/// Writes the batches of one auditor. Cheap to clone: the collecting side asks it whether the store is there.
#[derive(Clone)]
pub(super) struct Writer {
    bus: Bus,
    store: Store,
    metrics: Metrics,
    store_ready: Dependency,
    stream_ready: Dependency,
    config: AuditorConfig,
    /// How long a stop waits for a write that is under way.
    last_write: Duration,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// The store's highest sequence when it was last compared with the stream. What is delivered above it for the first
    /// time is new: until it is acknowledged nobody else gets it.
    above: AtomicU64,
    away: AtomicBool,
    back: Notify,
}

impl Writer {
    pub(super) fn new(ctx: &Ctx, config: &AuditorConfig, store: Store, store_ready: Dependency) -> Self {
        Self {
            bus: ctx.bus.clone(),
            store,
            metrics: ctx.metrics.clone(),
            store_ready,
            stream_ready: ctx.readiness.dependency(&format!("stream ({})", ctx.name)),
            config: config.clone(),
            last_write: ctx.grace / 2,
            state: Arc::default(),
        }
    }

    /// Refuses a stream whose sequences run below what the store has: writing on would put two messages at one place.
    pub(super) async fn check_stream(&self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let mut failures = Streak::default();
        let stored = loop {
            match self.store.last_seq().await {
                Ok(stored) => break stored,
                Err(error) if error.is_transient() => {
                    self.store_ready.set_ready(false, &error.to_string());
                    if failures.fails() {
                        tracing::warn!(%error, "nothing is stored until the store answers: {error}");
                    }
                    if self.pause(failures.failures(), shutdown).await {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error).context("read the store's highest sequence"),
            }
        };
        self.store_ready.set_ready(true, "");
        self.state.above.store(stored.unwrap_or(0), Ordering::Release);
        let last = loop {
            match self.bus.stream_state().await {
                Ok(stream) => break stream.last_seq,
                Err(error) if error.is_transient() => {
                    self.stream_ready.set_ready(false, &error.to_string());
                    if failures.fails() {
                        tracing::warn!(%error, "nothing is stored until the stream can be compared with the store: {error}");
                    }
                    if self.pause(failures.failures(), shutdown).await {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error).context("read the state of the stream"),
            }
        };
        self.stream_ready.set_ready(true, "");
        if failures.ends() {
            tracing::info!("store and stream answer again");
        }
        if let Some(stored) = stored.filter(|stored| *stored > last) {
            bail!(
                "the stream {} ends at sequence {last}, but the store already holds {stored}: this is another stream, or \
                 one that lost its tail. Nothing is overwritten. Way out: remove the stream and run `yalo init`, which \
                 begins a new one above the store's highest sequence",
                self.bus.chat_stream()
            );
        }
        Ok(())
    }

    pub(super) fn is_away(&self) -> bool {
        self.state.away.load(Ordering::Acquire)
    }

    /// Waits until the store takes rows again, or the writer has ended.
    pub(super) async fn back(&self) {
        while self.is_away() {
            let back = self.state.back.notified();
            if self.is_away() {
                back.await;
            }
        }
    }

    /// Writes batches until the channel closes, a few at once: each is acknowledged when it is stored, in whatever order.
    pub(super) async fn run(
        self,
        mut batches: mpsc::Receiver<Vec<Delivery>>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut writing = FuturesUnordered::new();
        loop {
            let written = tokio::select! {
                biased;
                Some(written) = writing.next() => written,
                batch = batches.recv(), if writing.len() < self.config.flushes => match batch {
                    Some(batch) => {
                        writing.push(self.write(batch, &shutdown));
                        Ok(())
                    }
                    None => break,
                },
            };
            self.let_go(written)?;
        }
        while let Some(written) = writing.next().await {
            self.let_go(written)?;
        }
        Ok(())
    }

    /// Nobody waits any longer for a store that is not coming back.
    fn let_go(&self, written: anyhow::Result<()>) -> anyhow::Result<()> {
        if written.is_err() {
            self.set_away(false);
        }
        written
    }

    async fn write(&self, batch: Vec<Delivery>, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let mut rows = Vec::with_capacity(batch.len());
        let mut letters = HashMap::new();
        let mut above = self.state.above.load(Ordering::Acquire);
        for delivery in &batch {
            if delivery.delivered > 1 {
                above = above.max(delivery.record.seq);
            }
            let Decoded { row, dead } = decode(self.bus.subjects(), &delivery.record);
            letters.extend(dead.map(|reason| (row.seq, reason)));
            rows.push(row);
        }
        if mistake::made(Mistake::AckBeforeWrite) {
            for delivery in &batch {
                delivery.handle.ack().await;
            }
        }
        let Some(recorded) = self.record(above, rows.into(), shutdown).await? else {
            // Stopped while the store was away: unacknowledged, so another auditor gets them.
            return Ok(());
        };
        let now = Timestamp::now();
        for delivery in &batch {
            let seq = delivery.record.seq;
            self.metrics.observe(Hop::Commit, now.since(delivery.record.at));
            if let Some(reason) = not_kept(&recorded, seq) {
                tracing::error!(seq, "message {seq} was not kept: {reason}");
                letters.insert(seq, reason);
            }
            if !letters.contains_key(&seq) {
                // Ack after the write: a crash here repeats the message, it never loses it.
                delivery.handle.ack().await;
            }
        }
        for delivery in &batch {
            let Some(reason) = letters.get(&delivery.record.seq) else { continue };
            let Decoded { row, .. } = decode(self.bus.subjects(), &delivery.record);
            let laid = tokio::select! {
                biased;
                () = shutdown.cancelled() => false,
                laid = self.lay_down(&row, reason) => laid,
            };
            if !laid {
                // Where one could not be laid down in all its time, the next one can't either: they come again.
                break;
            }
            delivery.handle.ack().await;
        }
        Ok(())
    }

    /// Writes rows until the store says they are durable. `None`: stopped before that.
    async fn record(
        &self,
        mut above: u64,
        rows: Arc<[Row]>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Option<Recorded>> {
        let mut failures = 0;
        let count = rows.len();
        loop {
            let recorded = tokio::select! {
                biased;
                recorded = self.store.record_above(above, Arc::clone(&rows)) => recorded,
                () = self.is_late(shutdown) => return Ok(None),
            };
            match recorded {
                Ok(recorded) => {
                    if self.is_away() {
                        tracing::info!("the store is back, after {failures} attempts of this write");
                        self.store_ready.set_ready(true, "");
                        self.set_away(false);
                    }
                    self.metrics.store_flush_rows.observe(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
                    self.metrics.store_rows.inc_by(u64::try_from(recorded.written).unwrap_or(u64::MAX));
                    return Ok(Some(recorded));
                }
                Err(error) if error.is_transient() => {
                    failures += 1;
                    // Some of them may be there by now.
                    above = u64::MAX;
                    if !self.is_away() {
                        tracing::warn!(%error, "the store is away, the stream holds everything meanwhile: {error}");
                        self.store_ready.set_ready(false, &error.to_string());
                        self.set_away(true);
                    }
                    if self.pause(failures, shutdown).await {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error).context("write to the store"),
            }
        }
    }

    /// Ends when a stop no longer waits for a write: at once while the store is away, which may take its longest wait for
    /// each write, or when half of the grace time is over.
    async fn is_late(&self, shutdown: &CancellationToken) {
        shutdown.cancelled().await;
        if !self.is_away() {
            tokio::time::sleep(self.last_write).await;
        }
    }

    fn set_away(&self, away: bool) {
        self.state.away.store(away, Ordering::Release);
        if !away {
            self.state.back.notify_waiters();
        }
    }

    /// Waits longer after each failure; true when it was told to stop.
    async fn pause(&self, failures: u32, shutdown: &CancellationToken) -> bool {
        let doubled = self.config.retry_min_ms.saturating_mul(1 << failures.min(16));
        let most = doubled.clamp(self.config.retry_min_ms, self.config.retry_max_ms);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => true,
            () = tokio::time::sleep(Duration::from_millis(fastrand::u64(most / 2..=most))) => false,
        }
    }

    /// Keeps what could not be decoded or stored, with the reason; whether it is done. Repeatable: its id is the sequence.
    async fn lay_down(&self, row: &Row, reason: &str) -> bool {
        use base64::Engine as _;
        let payload = serde_json::json!({
            "v": 1, "role": "auditor", "seq": row.seq, "subject": row.subject, "reason": reason, "at": row.at,
            "raw": base64::engine::general_purpose::STANDARD.encode(&row.payload),
        });
        let seq = row.seq;
        let publish = Publish {
            subject: self.bus.subjects().dead("auditor", row.conversation),
            payload: payload.to_string().into(),
            message_id: Some(format!("dead/auditor/{seq}")),
            ..Publish::default()
        };
        match self.bus.publish(publish).await {
            Ok(_) => {
                self.metrics.dead_letters("auditor").inc();
                tracing::warn!(seq, "message {seq} is a dead letter: {reason}");
                true
            }
            Err(error @ BusError::Refused { .. }) => {
                // The raw row is stored all the same; a dead letter that can't be laid down must not stop the flow.
                tracing::error!(seq, %error, "message {seq} could not be laid down: {error}");
                true
            }
            Err(error) => {
                tracing::error!(
                    seq, %error,
                    "message {seq} is to be a dead letter ({reason}) and can't be laid down, it is tried again: {error}"
                );
                false
            }
        }
    }
}

/// Why the store does not have this message, although it answered for the batch.
fn not_kept(recorded: &Recorded, seq: u64) -> Option<String> {
    if recorded.conflicts.contains(&seq) {
        return Some("another message is stored at this sequence; the stored one was kept".to_owned());
    }
    recorded.refused.iter().find(|refused| refused.seq == seq).map(|refused| refused.reason.clone())
}
