//! What a proof can find.

use std::fmt;

use serde::Serialize;

/// Findings that are kept by themselves; more are only counted.
const KEPT: usize = 1000;

/// Something in the record that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The first sequence that it is about.
    pub from: u64,
    /// The last one.
    pub to: u64,
    /// What is wrong.
    #[serde(flatten)]
    pub flaw: Flaw,
    /// Whether it has been mended.
    pub mended: bool,
}

/// What is wrong with a row, or with several in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "flaw", rename_all = "snake_case")]
pub enum Flaw {
    /// The store has no row.
    Missing {
        /// The stream still holds the messages.
        in_stream: bool,
    },
    /// The row's digest is not that of its own bytes: something was changed after it was stored.
    Altered,
    /// The row is whole, and another message than the stream has at this sequence.
    Differs,
    /// The row's bytes are right, and a column says something else than they do.
    Column {
        /// Which.
        name: &'static str,
    },
    /// The stream never gave out this sequence.
    Extra,
    /// Two rows stand at this sequence: a store of a fleet keeps both of two messages that met there.
    Twice,
}

impl Finding {
    /// How many messages it is about.
    pub fn messages(&self) -> u64 {
        self.to - self.from + 1
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, flaw, mended } = self;
        match to - from {
            0 => write!(out, "{from}: ")?,
            more => write!(out, "{from} to {to} ({} messages): ", more + 1)?,
        }
        match flaw {
            Flaw::Missing { in_stream: true } => write!(out, "missing; the stream holds it, `--repair` stores it")?,
            Flaw::Missing { in_stream: false } => {
                write!(
                    out,
                    "missing, and the stream does not hold it any more: restore it from a backup of the store"
                )?;
            }
            Flaw::Altered => write!(out, "altered: the digest is not that of the stored bytes")?,
            Flaw::Differs => write!(out, "another message than the stream holds at this sequence")?,
            Flaw::Column { name } => write!(out, "the column `{name}` does not say what the message says")?,
            Flaw::Extra => write!(out, "a row that the stream never gave out")?,
            Flaw::Twice => write!(out, "two rows at one sequence: see the auditors' log")?,
        }
        if *mended { write!(out, " (mended)") } else { Ok(()) }
    }
}

/// What a proof came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The first sequence that was looked at.
    pub from: u64,
    /// The last one.
    pub to: u64,
    /// Rows whose digest was computed anew.
    pub rows: u64,
    /// Of those, compared with the stream byte for byte.
    pub compared: u64,
    /// At the end of the stream, not acknowledged by an auditor yet: no finding, the auditors are at it.
    pub on_their_way: u64,
    /// Retired from the store by age: no finding, and not looked at.
    pub retired: u64,
    /// Messages that findings are about.
    pub flawed: u64,
    /// Of those, mended.
    pub mended: u64,
    /// The findings, in order; at most a thousand.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Adds one, joined to the last one if it goes on with it.
    pub(super) fn add(&mut self, seq: u64, flaw: Flaw, mended: bool) {
        self.add_range(seq, seq, flaw, mended);
    }

    /// Adds what was found in the sequences that come next.
    pub(super) fn absorb(&mut self, next: Self) {
        self.rows += next.rows;
        self.compared += next.compared;
        self.on_their_way += next.on_their_way;
        self.retired += next.retired;
        let named: u64 = next.findings.iter().map(Finding::messages).sum();
        self.flawed += next.flawed - named;
        for Finding { from, to, flaw, mended } in next.findings {
            self.add_range(from, to, flaw, mended);
        }
    }

    pub(super) fn add_range(&mut self, from: u64, to: u64, flaw: Flaw, mended: bool) {
        self.flawed += to - from + 1;
        self.mended += if mended { to - from + 1 } else { 0 };
        let room = self.findings.len() < KEPT;
        match self.findings.last_mut() {
            Some(last) if last.to + 1 == from && last.flaw == flaw && last.mended == mended => last.to = to,
            _ if room => self.findings.push(Finding { from, to, flaw, mended }),
            _ => {}
        }
    }

    /// Whether nothing is wrong any more.
    pub fn is_clean(&self) -> bool {
        self.flawed == self.mended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_kind_are_one_finding() {
        let mut report = Report::default();
        for seq in [3, 4, 5, 7] {
            report.add(seq, Flaw::Missing { in_stream: true }, false);
        }
        report.add(8, Flaw::Altered, false);
        let lines: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].starts_with("3 to 5 (3 messages): missing") && lines[0].contains("--repair"), "{lines:?}");
        assert!(lines[2].starts_with("8: altered"), "{lines:?}");
        assert_eq!((report.flawed, report.is_clean()), (5, false));
    }

    #[test]
    fn a_thousand_findings_are_kept_and_the_rest_is_counted() {
        let mut report = Report::default();
        for seq in 1..=3000 {
            report.add(seq * 2, Flaw::Altered, false);
        }
        assert_eq!((report.findings.len(), report.flawed), (1000, 3000));
    }
}
