//! What is wrong with a configuration: all of it at once, each with its key, its source and a way out.

use std::fmt;

use super::source::Source;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The dotted key, or as much of one as was given; empty if a whole file is meant.
    pub key: String,
    /// Where it stands.
    pub source: Source,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl Finding {
    pub(super) fn new(key: impl Into<String>, source: &Source, problem: impl Into<String>) -> Self {
        Self { key: key.into(), source: source.clone(), problem: problem.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return write!(out, "{}: {}", self.source, self.problem);
        }
        write!(out, "{} ({}): {}", self.key, self.source, self.problem)
    }
}

/// A configuration that can't be used; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// Everything that is wrong, in the order of the layers.
    pub findings: Vec<Finding>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.findings.as_slice() {
            [only] => write!(out, "configuration: {only}"),
            several => {
                write!(out, "configuration: {} problems", several.len())?;
                several.iter().try_for_each(|finding| write!(out, "\n  {finding}"))
            }
        }
    }
}
