//! The proof of completeness: every sequence that the stream gave out has its row, byte for byte.
//!
//! Where the stream still holds the message, row and message are compared; past the stream's retention the sequences
//! have to be consecutive and each row has to fit its own digest. Both are read in windows of consecutive sequences, a
//! few at a time, so memory stays flat however long the record is.

use futures_util::{StreamExt, stream};

use super::finding::Report;
use super::window::{Ends, WINDOW, check, mend};
use crate::bus::{Bus, BusError};
use crate::store::{Contract, Store, StoreError};

/// Windows that are read while an earlier one is compared.
const AHEAD: usize = 4;
/// The consumer that the auditors share.
const AUDIT: &str = "audit";

/// What to look at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope {
    /// The first sequence; the beginning of the record if there is none.
    pub from: Option<u64>,
    /// The last sequence; the end of the stream if there is none.
    pub to: Option<u64>,
    /// Store what is missing and the stream still holds.
    pub repair: bool,
}

/// The proof could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The stream could not be read.
    #[error("read the stream")]
    Bus(#[from] BusError),
    /// The store could not be read or, for a repair, written.
    #[error("use the store")]
    Store(#[from] StoreError),
    /// The process is ending.
    #[error("the check was cut off")]
    CutOff,
}

/// Holds the store against the stream. Tells `progress` how many sequences of how many have been looked at.
pub async fn verify(
    store: &Store,
    bus: &Bus,
    scope: Scope,
    mut progress: impl FnMut(u64, u64),
) -> Result<Report, VerifyError> {
    // In this order: what is acknowledged by then is in what is read after.
    let audited = bus.consumer_state(AUDIT).await?.ack_floor;
    let state = bus.stream_state().await?;
    let totals = store.totals().await?;
    let retired_below = store.retired_below().await?;
    let ends = Ends { first: state.first_seq.max(1), last: state.last_seq, audited, retired_below };
    let place = |place: Option<crate::store::Place>| place.map(|place| place.seq);
    let (stored_first, stored_last) = (place(totals.first), place(totals.last).unwrap_or(0));

    let to = scope.to.unwrap_or(u64::MAX).min(ends.last.max(stored_last));
    let from = scope.from.unwrap_or(1).max(1);
    // A record that begins late misses all before: one finding, not a walk through nothing.
    let begins = ends.beginning(stored_first).min(to.saturating_add(1));
    let mut report = Report { from, to, ..ends.before(from, begins.max(from)) };
    let starts = (from.max(begins)..=to).step_by(usize::try_from(WINDOW).unwrap_or(usize::MAX));
    let windows = starts.map(|start| check(store, bus, ends, scope.repair, (start, to.min(start + WINDOW - 1))));
    let mut windows = stream::iter(windows).buffered(AHEAD);
    while let Some(window) = windows.next().await {
        let window = window?;
        let done = window.to + 1 - from;
        report.absorb(mend(store, window).await?);
        progress(done, to + 1 - from);
    }
    Ok(report)
}
