//! What became of an upload's lines, and from which line on it has to be sent again.

use std::collections::VecDeque;

use serde::Serialize;

use crate::telemetry::Metrics;
use crate::web::ApiError;

/// Refused lines that are named.
const FIRST_ERRORS: usize = 20;

/// The answer to an upload; also in the problem document of one that ended early.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tally {
    /// Lines that are stored now.
    pub(super) accepted: u64,
    /// Lines that were stored before.
    pub(super) duplicates: u64,
    /// Lines that will never be taken as they are.
    pub(super) refused: u64,
    /// Lines that were read, empty ones included.
    pub(super) lines: u64,
    first_errors: Vec<LineError>,
    /// The line to go on with: everything before it is dealt with.
    next_line: u64,
    /// The highest sequence of what was stored.
    last_seq: Option<u64>,
    /// Whether nothing from `next_line` on is stored, nor will be.
    settled: bool,
    /// The lines whose fate is not known yet, in the order of sending.
    #[serde(skip)]
    open: VecDeque<Open>,
    #[serde(skip)]
    held: bool,
}

/// A line under way, and what those behind it have come to: that counts when this one is dealt with, since the upload goes
/// on with it otherwise.
#[derive(Debug)]
struct Open {
    line: u64,
    duplicates: u64,
    refused: u64,
    last_seq: Option<u64>,
}

#[derive(Debug, Serialize)]
struct LineError {
    line: u64,
    code: &'static str,
    reason: String,
}

impl Tally {
    /// The first line has this number.
    pub(super) fn begin_at(line: u64) -> Self {
        Self { next_line: line, settled: true, ..Self::default() }
    }

    /// The number of the next line that is read.
    pub(super) fn read_line(&mut self) -> u64 {
        let number = self.next_line;
        self.next_line += 1;
        self.lines += 1;
        number
    }

    /// The line is under way.
    pub(super) fn sent(&mut self, line: u64) {
        self.open.push_back(Open { line, duplicates: 0, refused: 0, last_seq: None });
    }

    /// The oldest line under way is stored.
    pub(super) fn stored(&mut self, seq: u64, duplicate: bool) {
        if self.oldest().is_none() {
            return;
        }
        if duplicate {
            self.duplicates += 1;
        } else {
            self.accepted += 1;
        }
        self.reached(Some(seq));
    }

    /// The oldest lines under way are stored, nobody knows where yet.
    pub(super) fn stored_in_batch(&mut self, lines: u64) {
        for _ in 0..lines {
            self.accepted += u64::from(self.oldest().is_some());
        }
    }

    /// Something of it is stored at this sequence.
    pub(super) fn reached(&mut self, seq: Option<u64>) {
        self.last_seq = self.last_seq.max(seq);
    }

    /// The oldest line under way will never be taken.
    pub(super) fn turned_down(&mut self, problem: &ApiError) {
        if let Some(line) = self.oldest() {
            self.refused += 1;
            self.name(line, problem);
        }
    }

    /// The line that was read last has been stored before.
    pub(super) fn known(&mut self, seq: u64) {
        let (duplicates, last_seq) = match self.open.back_mut() {
            Some(open) => (&mut open.duplicates, &mut open.last_seq),
            None => (&mut self.duplicates, &mut self.last_seq),
        };
        *duplicates += 1;
        *last_seq = (*last_seq).max(Some(seq));
    }

    /// The line that was read last is not taken.
    pub(super) fn refuse(&mut self, line: u64, problem: &ApiError) {
        let refused = self.open.back_mut().map_or(&mut self.refused, |open| &mut open.refused);
        *refused += 1;
        self.name(line, problem);
    }

    /// Takes out the oldest line under way, as long as its fate is known.
    fn oldest(&mut self) -> Option<u64> {
        if self.held {
            return None;
        }
        let Open { line, duplicates, refused, last_seq } = self.open.pop_front()?;
        self.duplicates += duplicates;
        self.refused += refused;
        self.last_seq = self.last_seq.max(last_seq);
        Some(line)
    }

    fn name(&mut self, line: u64, problem: &ApiError) {
        if self.first_errors.len() < FIRST_ERRORS {
            let (code, reason) = (problem.code().as_str(), problem.detail().to_owned());
            self.first_errors.push(LineError { line, code, reason });
        }
    }

    /// The fate of the oldest line under way is not known for now: the upload goes on with it, so nothing behind it counts.
    pub(super) fn hold(&mut self) {
        self.held = true;
    }

    /// What was sent is waited for no longer; whether all of it has come to an end.
    pub(super) fn settle(&mut self, all: bool) {
        self.settled = all && !self.held;
    }

    /// No more lines come: the first one without a known fate is the one to go on with, and nothing behind it counts.
    pub(super) fn close(&mut self, metrics: &Metrics) {
        if let Some(open) = self.open.front() {
            self.next_line = open.line;
            self.first_errors.retain(|error| error.line < open.line);
        }
        self.first_errors.sort_by_key(|error| error.line);
        for (outcome, lines) in [("accepted", self.accepted), ("duplicate", self.duplicates), ("refused", self.refused)]
        {
            metrics.ingested(outcome).inc_by(lines);
        }
    }

    /// The line to go on with.
    #[cfg(test)]
    pub(super) fn next_line(&self) -> u64 {
        self.next_line
    }

    /// The same as members of a problem document.
    pub(super) fn told_in(&self, problem: ApiError) -> ApiError {
        let Ok(serde_json::Value::Object(members)) = serde_json::to_value(self) else { return problem };
        members.into_iter().fold(problem, |problem, (name, value)| problem.with(&name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_line_is_the_first_one_without_a_known_fate() {
        let metrics = Metrics::new();
        let mut tally = Tally::begin_at(11);
        for _ in 0..4 {
            let line = tally.read_line();
            if line == 12 {
                tally.refuse(line, &ApiError::invalid_field("text", "no"));
            } else {
                tally.sent(line);
            }
        }
        // They are sent again with the line before them, and count then.
        let line = tally.read_line();
        tally.refuse(line, &ApiError::invalid_field("text", "no"));
        tally.read_line();
        tally.known(2000);
        tally.stored(900, false);
        tally.stored(17, true);
        tally.close(&metrics);
        let told = serde_json::to_value(&tally).unwrap();
        assert_eq!(
            told,
            serde_json::json!({
                "accepted": 1, "duplicates": 1, "refused": 1, "lines": 6, "next_line": 14, "last_seq": 900, "settled": true,
                "first_errors": [{"line": 12, "code": "invalid_field", "reason": "no"}],
            })
        );
        tally.hold();
        tally.settle(true);
        assert!(!tally.settled, "what is behind may be stored");
        tally.held = false;
        tally.stored(901, false);
        tally.next_line = 17;
        tally.close(&metrics);
        assert_eq!((tally.next_line, tally.refused, tally.duplicates, tally.last_seq), (17, 2, 2, Some(2000)));
    }

    #[test]
    fn only_the_first_errors_are_kept() {
        let mut tally = Tally::begin_at(1);
        for line in 1..=100 {
            tally.refuse(line, &ApiError::invalid_field("text", "no"));
        }
        assert_eq!((tally.refused, tally.first_errors.len(), tally.first_errors[19].line), (100, 20, 20));
    }
}
