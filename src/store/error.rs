//! What can go wrong with a store, sorted by what the caller can do about it.

use std::fmt;

/// An error of a store. Every message says what was tried with which store, why it failed, and the next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Away for now (disk full, input/output error, overloaded): keep the rows and try again.
    #[error("{0}")]
    Unavailable(Trouble),
    /// A cluster that does not answer, or not enough of it: keep the rows and try again.
    #[error("{0}")]
    Away(Trouble),
    /// Another process holds the store's lock: keep the rows and try again.
    #[error("{0}")]
    Locked(Trouble),
    /// The store's content is damaged: stop, an operator has to decide.
    #[error("{0}")]
    Corrupt(Trouble),
    /// The place can't be used as it is (missing folder or keyspace, no permission, another program's file): stop.
    #[error("{0}")]
    Unusable(Trouble),
    /// An older release of yalo made it, and only `yalo init` brings it up to date.
    #[error(
        "cannot open the store {place}: its schema has version {found}, this yalo needs {known}; run `yalo init`, which brings \
         it up to date while the older yalo runs"
    )]
    OlderVersion {
        /// The store.
        place: String,
        /// Its version.
        found: i64,
        /// The version of this release.
        known: i64,
    },
    /// A newer release of yalo made it: run that one.
    #[error(
        "cannot open the store {place}: its schema has version {found}, this yalo knows {known}; run the newer yalo again, or \
         name another store"
    )]
    NewerVersion {
        /// The store.
        place: String,
        /// Its version.
        found: i64,
        /// The newest version that this release knows.
        known: i64,
    },
    /// It was opened for reading only.
    #[error("cannot write to the store {place}: it was opened for reading only")]
    ReadOnly {
        /// The store.
        place: String,
    },
    /// It was closed, or its thread has ended.
    #[error("cannot use the store {place}: it is closed")]
    Closed {
        /// The store.
        place: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later without anybody's help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Away(_) | Self::Locked(_) => true,
            Self::Corrupt(_)
            | Self::Unusable(_)
            | Self::OlderVersion { .. }
            | Self::NewerVersion { .. }
            | Self::ReadOnly { .. }
            | Self::Closed { .. } => false,
        }
    }
}

/// What was tried with which store, why it failed, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What was tried: "write 500 rows to".
    pub action: String,
    /// Which store: a file, or a keyspace and its nodes.
    pub place: String,
    /// Why it failed.
    pub cause: String,
    /// The next step.
    pub next: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "cannot {} the store {}: {}; {}", self.action, self.place, self.cause, self.next)
    }
}
