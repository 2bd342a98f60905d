//! What became of the lines, of one request and of all.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Refused lines that are named.
const FIRST_ERRORS: usize = 20;

/// What became of the lines so far.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    accepted: u64,
    duplicates: u64,
    pub(super) refused: u64,
    pub(super) lines: u64,
    first_errors: Vec<LineError>,
    pub(super) next_line: u64,
    last_seq: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LineError {
    line: u64,
    code: String,
    reason: String,
}

/// The frontend's counts: an answer's, or those in a refusal.
#[derive(Debug, Deserialize)]
pub(super) struct Counts {
    accepted: u64,
    duplicates: u64,
    refused: u64,
    /// That were read.
    pub(super) lines: u64,
    first_errors: Vec<LineError>,
    pub(super) next_line: u64,
    pub(super) last_seq: Option<u64>,
    /// Nothing from `next_line` on is stored, nor will be.
    #[serde(default)]
    pub(super) settled: bool,
}

impl Report {
    pub(super) fn begin_at(line: u64) -> Self {
        Self { next_line: line, ..Self::default() }
    }

    pub(super) fn add(&mut self, counts: Counts) {
        self.accepted += counts.accepted;
        self.duplicates += counts.duplicates;
        self.refused += counts.refused;
        self.last_seq = self.last_seq.max(counts.last_seq);
        let room = FIRST_ERRORS.saturating_sub(self.first_errors.len());
        self.first_errors.extend(counts.first_errors.into_iter().take(room));
    }

    pub(super) fn go_on_at(&mut self, line: u64) {
        self.lines += line.saturating_sub(self.next_line);
        self.next_line = line;
    }

    pub(super) fn refuse(&mut self, line: u64) {
        self.refused += 1;
        if self.first_errors.len() < FIRST_ERRORS {
            let (code, reason) = ("line_too_long".to_owned(), "the line is too long for any frontend".to_owned());
            self.first_errors.push(LineError { line, code, reason });
        }
    }

    /// For people.
    pub(super) fn told(&self, took: Duration) -> String {
        let errors = self.first_errors.iter().map(|error| format!("line {}: {}", error.line, error.reason));
        let mut told: Vec<String> = errors.collect();
        let named = u64::try_from(self.first_errors.len()).unwrap_or(u64::MAX);
        if self.refused > named {
            told.push(format!("and {} more", self.refused - named));
        }
        let Self { accepted, duplicates, refused, lines, .. } = self;
        told.push(format!(
            "{lines} lines in {:.1} s, {}/s: {accepted} accepted, {duplicates} duplicates, {refused} refused\n",
            took.as_secs_f64(),
            self.rate(took)
        ));
        told.join("\n")
    }

    /// Lines a second.
    pub(super) fn rate(&self, took: Duration) -> u128 {
        u128::from(self.lines) * 1000 / took.as_millis().max(1)
    }
}
