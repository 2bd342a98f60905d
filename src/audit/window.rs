//! One window of consecutive sequences: both sides read at once, then held against each other.

use std::collections::HashMap;
use std::time::Duration;

use super::finding::{Flaw, Report};
use super::{Decoded, VerifyError, decode};
use crate::bus::{Bus, BusError, From, Record};
use crate::domain::Row;
use crate::store::{Contract, Store};
use crate::wire::Subjects;

/// Sequences of one window.
pub(super) const WINDOW: u64 = 1000;
/// How often a replica that lags is asked again, 50 ms apart.
const ASK_AGAIN: u32 = 40;

/// How far the stream and its audit consumer are. What is acknowledged has to be known before the store is read: by then
/// it is in there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// The oldest sequence that the stream still holds.
    pub first: u64,
    /// The newest one.
    pub last: u64,
    /// Everything up to here was acknowledged after it was stored.
    pub audited: u64,
}

impl Ends {
    /// Where a record begins that has to be whole: the first row, or what the stream still holds below it.
    pub(super) fn beginning(self, first_row: Option<u64>) -> u64 {
        first_row.unwrap_or(u64::MAX).min(self.first)
    }
}

/// Both sides of some consecutive sequences.
struct Window {
    from: u64,
    to: u64,
    rows: Vec<Row>,
    records: Vec<Record>,
}

async fn read(store: &Store, bus: &Bus, ends: Ends, from: u64, to: u64) -> Result<Window, VerifyError> {
    let limit = usize::try_from(to - from + 1).unwrap_or(usize::MAX);
    let (rows, records) =
        tokio::join!(store.scan(from - 1, limit), records(bus, from.max(ends.first), to.min(ends.last)));
    let mut rows = rows?;
    // Where two rows stand at one sequence, the last ones of the window are still to come.
    while let Some(last) = rows.last().map(|last| last.seq).filter(|last| *last < to && rows.len() >= limit) {
        let more = store.scan(last, limit).await?;
        if more.is_empty() {
            break;
        }
        rows.extend(more);
    }
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

/// What a window came to, before anything is mended.
#[derive(Default)]
pub(super) struct Judged {
    pub(super) to: u64,
    pub(super) report: Report,
    missing: Vec<Row>,
}

/// Reads a window and holds its sides against each other. That is work for the processor, so it has a thread of its own
/// while the next windows are read.
pub(super) async fn check(
    store: &Store,
    bus: &Bus,
    ends: Ends,
    repair: bool,
    (from, to): (u64, u64),
) -> Result<Judged, VerifyError> {
    let window = read(store, bus, ends, from, to).await?;
    let subjects = bus.subjects().clone();
    let judged = tokio::task::spawn_blocking(move || judge(&subjects, ends, repair, &window)).await;
    judged.map_err(|_| VerifyError::CutOff)
}

fn judge(subjects: &Subjects, ends: Ends, repair: bool, window: &Window) -> Judged {
    let records: HashMap<u64, &Record> = window.records.iter().map(|record| (record.seq, record)).collect();
    let mut judged = Judged { to: window.to, ..Judged::default() };
    let report = &mut judged.report;
    let mut rows: HashMap<u64, &Row> = HashMap::with_capacity(window.rows.len());
    for row in &window.rows {
        let Some(other) = rows.insert(row.seq, row) else { continue };
        report.add(row.seq, Flaw::Twice, false);
        // The one that the stream has is looked at further.
        if records.get(&row.seq).is_some_and(|record| record.payload == other.payload) {
            rows.insert(row.seq, other);
        }
    }
    for seq in window.from..=window.to {
        match (rows.get(&seq), records.get(&seq)) {
            (Some(row), record) => {
                report.rows += 1;
                report.compared += u64::from(record.is_some());
                if let Some(flaw) = flaw_of(subjects, ends, row, record.copied()) {
                    report.add(seq, flaw, false);
                }
            }
            (None, Some(record)) if repair => judged.missing.push(decode(subjects, record).row),
            (None, Some(_)) if seq > ends.audited => report.on_their_way += 1,
            (None, record) => report.add(seq, Flaw::Missing { in_stream: record.is_some() }, false),
        }
    }
    judged
}

/// Stores what is missing, if that was asked for, and adds it to what was found.
pub(super) async fn mend(store: &Store, judged: Judged) -> Result<Report, VerifyError> {
    let Judged { mut report, missing, .. } = judged;
    if missing.is_empty() {
        return Ok(report);
    }
    let sequences: Vec<u64> = missing.iter().map(|row| row.seq).collect();
    let recorded = store.record(missing).await?;
    let kept =
        |seq: &u64| !recorded.conflicts.contains(seq) && !recorded.refused.iter().any(|refused| refused.seq == *seq);
    for seq in sequences {
        report.add(seq, Flaw::Missing { in_stream: true }, kept(&seq));
    }
    Ok(report)
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
