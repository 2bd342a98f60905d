//! The record is held against the stream for as long as admin runs: `yalo audit verify`, a little at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::Admin;
use super::flow::Looked;
use crate::audit::{Finding, Flaw, Pace, Proof, VerifyError};
use crate::domain::Timestamp;
use crate::telemetry::Metrics;

/// Findings that are shown.
const SHOWN: usize = 20;
/// The least rest between two stretches of what has been checked before, and the rest after a failure.
const REST: Duration = Duration::from_secs(2);
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// How often the ends of the stream, which the flow knows, are compared.
const TICK: Duration = Duration::from_secs(1);

/// How far the proof is, and what it found.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct ProofReply {
    /// Everything up to here was checked since admin started.
    to: u64,
    /// When all that was settled had been checked, or what came nearest to it.
    at: Option<Timestamp>,
    /// Messages that are missing or altered.
    flawed: u64,
    /// The first findings.
    findings: Vec<Found>,
    /// Why it does not go on.
    trouble: Option<String>,
}

/// A finding, and what to say of it.
#[derive(Debug, Clone, Serialize)]
struct Found {
    from: u64,
    to: u64,
    #[serde(flatten)]
    flaw: Flaw,
    words: String,
}

impl From<Finding> for Found {
    fn from(finding: Finding) -> Self {
        let words = finding.to_string();
        Self { from: finding.from, to: finding.to, flaw: finding.flaw, words }
    }
}

/// What is known of the proof; shared with those who show it.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<ProofReply>);

impl Shown {
    pub(super) fn now(&self) -> ProofReply {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut ProofReply)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Checks until admin stops.
pub(super) async fn watch(admin: Arc<Admin>, pace: Pace, metrics: Metrics) {
    let mut proof = Proof::new(pace);
    // What has been checked before waits at least for its turn.
    let mut turn = tokio::time::Instant::now();
    let mut rest = TICK;
    loop {
        tokio::select! {
            biased;
            () = admin.stop.cancelled() => return,
            () = tokio::time::sleep(rest) => {}
        }
        rest = TICK;
        let Some(looked) = admin.flow.looked() else { continue };
        let is_level = proof.is_level(looked.ends);
        if is_level {
            admin.flow.proof.change(|shown| shown.at = Some(looked.at));
            if tokio::time::Instant::now() < turn {
                continue;
            }
        }
        match step(&admin, &mut proof, looked).await {
            Ok(pause) if is_level => turn = tokio::time::Instant::now() + pause.max(REST),
            Ok(pause) => rest = pause.max(Duration::from_millis(1)),
            Err(error) => {
                let trouble = format!("{:#}", anyhow::Error::from(error));
                tracing::debug!("cannot check the record: {trouble}");
                admin.flow.proof.change(|shown| shown.trouble = Some(trouble));
                rest = AFTER_FAILURE;
            }
        }
        metrics.audit_gap.set(i64::try_from(proof.known().flawed()).unwrap_or(i64::MAX));
    }
}

async fn step(admin: &Admin, proof: &mut Proof, looked: Looked) -> Result<Duration, VerifyError> {
    let (fresh, pause) = proof.step(&admin.store, &admin.bus, looked.ends, looked.first_row).await?;
    for finding in fresh {
        tracing::error!(from = finding.from, to = finding.to, "the record is not as it must be: {finding}");
    }
    let known = proof.known();
    let (flawed, findings) = (known.flawed(), known.first(SHOWN).into_iter().map(Found::from).collect());
    admin.flow.proof.change(|shown| {
        *shown = ProofReply { to: proof.checked_to(), at: Some(Timestamp::now()), flawed, findings, trouble: None };
    });
    Ok(pause)
}
