//! Why a rules file is refused, and where in it.

use std::fmt;
use std::path::{Path, PathBuf};

/// Prints as `path:line:column: reason`, or `path: reason` when the whole file is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// The file.
    pub path: PathBuf,
    /// Line and column, from 1; the column counts characters.
    pub place: Option<(usize, usize)>,
    /// What is wrong, in one line.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.place {
            Some((line, column)) => write!(out, "{path}:{line}:{column}: {}", self.reason),
            None => write!(out, "{path}: {}", self.reason),
        }
    }
}

/// What is wrong at which byte of the text; the path is added by who knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) byte: Option<usize>,
    pub(super) reason: String,
}

impl Flaw {
    pub(super) fn at(byte: usize, reason: impl Into<String>) -> Self {
        Self { byte: Some(byte), reason: reason.into() }
    }

    pub(super) fn whole(reason: impl Into<String>) -> Self {
        Self { byte: None, reason: reason.into() }
    }

    /// `bytes` is the file, up to the flaw at least.
    pub(super) fn refuse(self, path: &Path, bytes: &[u8]) -> Refusal {
        let place = self.byte.map(|byte| place(bytes, byte));
        Refusal { path: path.to_owned(), place, reason: self.reason }
    }
}

/// Where the lines of a file begin: asked for each rule, so it must not walk the file each time.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let newlines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        Self(std::iter::once(0).chain(newlines.map(|(place, _)| place + 1)).collect())
    }

    /// The line of a byte, from 1.
    pub(super) fn line(&self, byte: usize) -> usize {
        self.0.partition_point(|start| *start <= byte)
    }
}

/// Line and column of a byte, from 1.
fn place(bytes: &[u8], byte: usize) -> (usize, usize) {
    let before = bytes.get(..byte).unwrap_or(bytes);
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let column = 1 + String::from_utf8_lossy(before.get(line_start..).unwrap_or_default()).chars().count();
    (Lines::of(before).line(byte), column)
}
