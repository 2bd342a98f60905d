//! A finding, and all of them together.

use std::fmt;

use serde::Serialize;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it must be.
    Ok,
    /// Worth knowing.
    Note,
    /// A promise is kept now, and something may break it.
    Risk,
    /// A promise is not kept.
    Fault,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Risk => "risk",
            Self::Fault => "FAULT",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A word for what was looked at; one check may find several things.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was seen: the cause, if it is bad.
    pub found: String,
    /// What may come of it; empty if nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub risk: String,
    /// The command or the setting that mends it; empty if nothing is to be mended.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
    /// The operator knows, and lives with it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub accepted: bool,
}

impl Finding {
    fn new(check: &'static str, level: Level, found: String, risk: &str, mend: &str) -> Self {
        Self { check, level, found, risk: risk.to_owned(), mend: mend.to_owned(), accepted: false }
    }

    pub(super) fn ok(check: &'static str, found: String) -> Self {
        Self::new(check, Level::Ok, found, "", "")
    }

    pub(super) fn note(check: &'static str, found: String, risk: &str, mend: &str) -> Self {
        Self::new(check, Level::Note, found, risk, mend)
    }

    pub(super) fn risk(check: &'static str, found: String, risk: &str, mend: &str) -> Self {
        Self::new(check, Level::Risk, found, risk, mend)
    }

    pub(super) fn fault(check: &'static str, found: String, risk: &str, mend: &str) -> Self {
        Self::new(check, Level::Fault, found, risk, mend)
    }

    fn counts(&self) -> bool {
        self.level >= Level::Risk && !self.accepted
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = if self.accepted { "known" } else { self.level.word() };
        write!(out, "{level:<6} {:<11} {}", self.check, self.found)?;
        for (word, text) in [("risk", &self.risk), ("mend", &self.mend)] {
            if !text.is_empty() {
                write!(out, "\n{:19}{word}: {text}", "")?;
            }
        }
        Ok(())
    }
}

/// All that was found, in the order of the looking.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    pub(super) fn add(&mut self, finding: Finding) {
        debug_assert!(CHECKS.contains(&finding.check), "{} is not in the list of checks", finding.check);
        self.findings.push(finding);
    }

    /// Marks what some checks found as known.
    pub fn accept(&mut self, checks: &[String]) {
        for finding in &mut self.findings {
            finding.accepted = finding.level >= Level::Risk && checks.iter().any(|check| check == finding.check);
        }
    }

    /// How many findings have to be mended.
    pub fn to_mend(&self) -> usize {
        self.findings.iter().filter(|finding| finding.counts()).count()
    }
}

/// Every check there is.
pub const CHECKS: [&str; 13] = [
    "files",
    "folder",
    "disk",
    "nats",
    "server",
    "sync",
    "copies",
    "clock",
    "streams",
    "consumers",
    "window",
    "work",
    "store",
];

impl fmt::Display for Diagnosis {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.iter().try_for_each(|finding| writeln!(out, "{finding}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_bad_and_not_known_has_to_be_mended() {
        let mut diagnosis = Diagnosis::default();
        diagnosis.add(Finding::ok("files", "many".to_owned()));
        diagnosis.add(Finding::note("sync", "100ms".to_owned(), "a little", ""));
        assert_eq!(diagnosis.to_mend(), 0);
        diagnosis.add(Finding::risk("copies", "one".to_owned(), "a lost disk", "nats.replicas"));
        diagnosis.add(Finding::fault("streams", "none".to_owned(), "nothing works", "`yalo init`"));
        assert_eq!(diagnosis.to_mend(), 2);
        diagnosis.accept(&["copies".to_owned(), "sync".to_owned()]);
        assert_eq!(diagnosis.to_mend(), 1);
        let told = diagnosis.to_string();
        assert!(told.contains("known  copies      one\n                   risk: a lost disk\n"), "{told}");
        assert!(told.contains("note   sync        100ms"), "{told}");
    }
}
