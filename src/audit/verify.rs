//! The proof of completeness: every sequence that the stream gave out has its row, byte for byte.
//!
//! Where the stream still holds the message, row and message are compared; past the stream's retention the sequences
//! have to be consecutive and each row has to fit its own digest. Both are read in windows of consecutive sequences, a
//! few at a time, so memory stays flat however long the record is.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::finding::{Flaw, Report};
use super::{Decoded, decode};
use crate::bus::{Bus, BusError, From, Record};
use crate::domain::Row;
use crate::store::{Contract, Store, StoreError};
use crate::wire::Subjects;

/// Sequences of one window.
const WINDOW: u64 = 1000;
/// Windows that are read while an earlier one is compared.
const AHEAD: usize = 4;
/// How often a replica that lags is asked again, 50 ms apart.
const ASK_AGAIN: u32 = 40;
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
    #[error("read the stream: {0}")]
    Bus(#[from] BusError),
    /// The store could not be read or, for a repair, written.
    #[error("use the store: {0}")]
    Store(#[from] StoreError),
}

/// The ends of the stream, taken once at the beginning.
#[derive(Debug, Clone, Copy)]
struct Ends {
    first: u64,
    last: u64,
    /// Everything up to here was acknowledged after it was stored.
    audited: u64,
}

/// Both sides of some consecutive sequences.
struct Window {
    from: u64,
    to: u64,
    rows: Vec<Row>,
    records: Vec<Record>,
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
    let ends = Ends { first: state.first_seq.max(1), last: state.last_seq, audited };
    let totals = store.totals().await?;
    let place = |place: Option<crate::store::Place>| place.map(|place| place.seq);
    let (stored_first, stored_last) = (place(totals.first), place(totals.last).unwrap_or(0));

    let to = scope.to.unwrap_or(u64::MAX).min(ends.last.max(stored_last));
    let from = scope.from.unwrap_or(1).max(1);
    let mut report = Report { from, to, ..Report::default() };
    // A record that begins late misses all before: one finding, not a walk through nothing.
    let begins = stored_first.unwrap_or(u64::MAX).min(ends.first).min(to.saturating_add(1));
    if begins > from {
        report.add_range(from, begins - 1, Flaw::Missing { in_stream: false }, false);
    }
    let starts = (from.max(begins)..=to).step_by(usize::try_from(WINDOW).unwrap_or(usize::MAX));
    let windows = starts.map(|start| read(store, bus, ends, start, to.min(start + WINDOW - 1)));
    let mut windows = stream::iter(windows).buffered(AHEAD);
    while let Some(window) = windows.next().await {
        let window = window?;
        let done = window.to + 1 - from;
        compare(store, bus.subjects(), ends, scope.repair, window, &mut report).await?;
        progress(done, to + 1 - from);
    }
    Ok(report)
}

async fn read(store: &Store, bus: &Bus, ends: Ends, from: u64, to: u64) -> Result<Window, VerifyError> {
    let limit = usize::try_from(to - from + 1).unwrap_or(usize::MAX);
    let (rows, records) =
        tokio::join!(store.scan(from - 1, limit), records(bus, from.max(ends.first), to.min(ends.last)));
    let mut rows = rows?;
    rows.retain(|row| row.seq <= to);
    Ok(Window { from, to, rows, records: records? })
}

/// All messages of the stream between two sequences. Any replica answers, and one that lags is asked again.
async fn records(bus: &Bus, from: u64, to: u64) -> Result<Vec<Record>, BusError> {
    let (mut records, mut next, mut asked) = (Vec::new(), from, 0);
    while next <= to {
        let limit = usize::try_from(to - next + 1).unwrap_or(usize::MAX);
        let page = bus.read(">", From::Seq(next), limit).await?;
        if let Some(last) = page.records.last() {
            next = last.seq + 1;
        } else if asked == ASK_AGAIN {
            return Err(BusError::unavailable("read the stream", "the replica that answers lags behind the leader"));
        } else {
            asked += 1;
            // The head may have been trimmed meanwhile.
            next = next.max(bus.stream_state().await?.first_seq);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        records.extend(page.records.into_iter().filter(|record| record.seq <= to));
    }
    Ok(records)
}

async fn compare(
    store: &Store,
    subjects: &Subjects,
    ends: Ends,
    repair: bool,
    window: Window,
    report: &mut Report,
) -> Result<(), VerifyError> {
    let rows: HashMap<u64, &Row> = window.rows.iter().map(|row| (row.seq, row)).collect();
    let records: HashMap<u64, &Record> = window.records.iter().map(|record| (record.seq, record)).collect();
    let mut missing = Vec::new();
    for seq in window.from..=window.to {
        match (rows.get(&seq), records.get(&seq)) {
            (Some(row), record) => {
                report.rows += 1;
                report.compared += u64::from(record.is_some());
                if let Some(flaw) = flaw_of(subjects, ends, row, record.copied()) {
                    report.add(seq, flaw, false);
                }
            }
            (None, Some(record)) if repair => missing.push(decode(subjects, record).row),
            (None, Some(_)) if seq > ends.audited => report.on_their_way += 1,
            (None, record) => report.add(seq, Flaw::Missing { in_stream: record.is_some() }, false),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let sequences: Vec<u64> = missing.iter().map(|row| row.seq).collect();
    let recorded = store.record(missing).await?;
    let kept =
        |seq: &u64| !recorded.conflicts.contains(seq) && !recorded.refused.iter().any(|refused| refused.seq == *seq);
    for seq in sequences {
        report.add(seq, Flaw::Missing { in_stream: true }, kept(&seq));
    }
    Ok(())
}

/// What is wrong with a row, if anything is.
fn flaw_of(subjects: &Subjects, ends: Ends, row: &Row, record: Option<&Record>) -> Option<Flaw> {
    let own = original(subjects, row);
    let Decoded { row: expected, .. } = decode(subjects, &own);
    if expected.digest != row.digest {
        return Some(Flaw::Altered);
    }
    match record {
        Some(record) if record.payload != own.payload || record.subject != own.subject || record.at != own.at => {
            return Some(Flaw::Differs);
        }
        None if row.seq > ends.last => return Some(Flaw::Extra),
        _ => {}
    }
    let columns = [
        ("conversation", expected.conversation != row.conversation),
        ("id", expected.id != row.id),
        ("who", expected.who != row.who),
        ("kind", expected.kind != row.kind),
        ("author", expected.author != row.author),
    ];
    columns.into_iter().find(|(_, differs)| *differs).map(|(name, _)| Flaw::Column { name })
}

/// The message as the row says that it was.
fn original(subjects: &Subjects, row: &Row) -> Record {
    let named = || Some(subjects.record(row.conversation?, row.who?));
    let subject = row.subject.clone().or_else(named).unwrap_or_default();
    Record { subject, seq: row.seq, at: row.at, payload: row.payload.clone() }
}
