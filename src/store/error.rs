//! What can go wrong with a store, sorted by what the caller can do about it.

use std::fmt;
use std::path::PathBuf;

/// An error of a store. Every message says what was tried with which file, why it failed, and the next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Away for now (disk full, input/output error, overloaded): keep the rows and try again.
    #[error("{0}")]
    Unavailable(Trouble),
    /// Another process holds the store's lock: keep the rows and try again.
    #[error("{0}")]
    Locked(Trouble),
    /// The store's content is damaged: stop, an operator has to decide.
    #[error("{0}")]
    Corrupt(Trouble),
    /// The place or file can't be used as it is (missing folder, no permission, another program's file): stop.
    #[error("{0}")]
    Unusable(Trouble),
    /// A newer release of yalo made it: run that one.
    #[error(
        "cannot open the store {}: its schema has version {found}, this yalo knows {known}; run the newer yalo again, or \
         set store.path to another file", path.display()
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this release knows.
        known: i64,
    },
    /// It was opened for reading only.
    #[error("cannot write to the store {}: it was opened for reading only", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// It was closed, or its thread has ended.
    #[error("cannot use the store {}: it is closed", path.display())]
    Closed {
        /// The file.
        path: PathBuf,
    },
}

impl StoreError {
    /// Whether the same call may succeed later without anybody's help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Locked(_) => true,
            Self::Corrupt(_)
            | Self::Unusable(_)
            | Self::NewerVersion { .. }
            | Self::ReadOnly { .. }
            | Self::Closed { .. } => false,
        }
    }
}

/// What was tried with which file, why it failed, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What was tried: "write 500 rows to".
    pub action: String,
    /// The store's file.
    pub path: PathBuf,
    /// Why it failed.
    pub cause: String,
    /// The next step.
    pub next: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "cannot {} the store {}: {}; {}", self.action, self.path.display(), self.cause, self.next)
    }
}
