//! One window of consecutive sequences: both sides read at once, then held against each other.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::finding::{Flaw, Report};
use super::{Decoded, VerifyError, decode};
use crate::bus::{Bus, BusError, From, Record};
use crate::domain::Row;
use crate::store::{Contract, Store, within};
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
    /// Everything below was retired from the store. Read after the first row was: rows go while others look.
    pub retired_below: u64,
}

impl Ends {
    /// Where a record begins that has to be whole: the first row, or what the stream still holds below it; above what was
    /// retired, of which the stream may hold more.
    pub(super) fn beginning(self, first_row: Option<u64>) -> u64 {
        first_row.unwrap_or(u64::MAX).min(self.first).max(self.retired_below)
    }

    /// What is to be said of `from` up to the beginning of a record: retired up to a point, and missing behind it.
    pub(super) fn before(self, from: u64, begins: u64) -> Report {
        let mut report = Report::default();
        let missing = from.max(self.retired_below.min(begins));
        report.retired = missing - from;
        if missing < begins {
            report.add_range(missing, begins - 1, Flaw::Missing { in_stream: false }, false);
        }
        report
    }
}

/// Both sides of some consecutive sequences.
struct Window {
    from: u64,
    to: u64,
    rows: Vec<Row>,
    records: Vec<Record>,
    /// Everything below was retired by the time that the rows had been read.
    retired_below: u64,
}

async fn read(store: &Store, bus: &Bus, ends: Ends, from: u64, to: u64) -> Result<Window, VerifyError> {
    let sequences = usize::try_from(to - from + 1).unwrap_or(usize::MAX);
    let (rows, records) =
        tokio::join!(within(store, from, to, sequences), records(bus, from.max(ends.first), to.min(ends.last)));
    let rows = rows?;
    // What is not there may just have been retired: then the receipt lies there by now.
    let retired_below = if rows.len() < sequences { store.retired_below().await? } else { 0 };
    Ok(Window { from, to, rows, records: records?, retired_below })
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
            (None, _) if seq < window.retired_below => report.retired += 1,
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
    // Where somebody has deleted a row, a cluster takes the same row again and shows it no more: what is there counts.
    let (first, last) = (sequences.iter().min().copied().unwrap_or(1), sequences.iter().max().copied().unwrap_or(0));
    let there = within(store, first, last, sequences.len()).await?;
    let there: HashSet<u64> = there.iter().map(|row| row.seq).collect();
    let refused = |seq: &u64| recorded.refused.iter().any(|refused| refused.seq == *seq);
    let kept = |seq: &u64| !recorded.conflicts.contains(seq) && !refused(seq) && there.contains(seq);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_beginning_it_is_retired_up_to_the_receipt_and_missing_behind() {
        let ends = |first, retired_below| Ends { first, last: 500, audited: 500, retired_below };
        // The stream reaches back to 1, the store begins at 101: 1 to 40 have to be looked at only without a receipt.
        assert_eq!((ends(1, 0).beginning(Some(101)), ends(1, 41).beginning(Some(101))), (1, 41));
        let seen = |ends: Ends, from, first_row, to: u64| {
            let report = ends.before(from, ends.beginning(first_row).min(to + 1).max(from));
            let found: Vec<_> = report.findings.iter().map(|finding| (finding.from, finding.to)).collect();
            (report.retired, found)
        };
        assert_eq!(seen(ends(200, 41), 1, Some(101), 500), (40, vec![(41, 100)]));
        assert_eq!(seen(ends(200, 41), 60, Some(101), 500), (0, vec![(60, 100)]));
        assert_eq!(seen(ends(200, 41), 1, Some(101), 20), (20, vec![]));
        assert_eq!(seen(ends(200, 101), 1, Some(101), 500), (100, vec![]));
        assert_eq!(seen(ends(200, 501), 1, None, 500), (500, vec![]));
        assert_eq!(seen(ends(200, 41), 300, Some(101), 500), (0, vec![]));
    }
}
