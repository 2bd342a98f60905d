//! Whether a file is still the one that was read: cheap to ask, true for a rewrite in place and for a rename over it.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// What changes when a file does: which file it is, its length, and both of its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    file: (u64, u64),
    len: u64,
    modified: (i64, i64),
    /// Can't be set back, unlike the time above: tells a copy that kept its times.
    changed: (i64, i64),
}

impl Fingerprint {
    /// Of what the path leads to now; only a regular file has one.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Self::from_metadata(&std::fs::metadata(path)?)
    }

    fn from_metadata(metadata: &Metadata) -> io::Result<Self> {
        // A pipe would make the reader wait for ever.
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Self {
            file: (metadata.dev(), metadata.ino()),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// At most `limit` + 1 bytes of a file, so that one too long can be told.
pub(super) fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Lets one caller through in each span of time.
#[derive(Debug, Default)]
pub(super) struct Gate {
    next_ms: AtomicU64,
}

impl Gate {
    /// True for exactly one of the callers that come at or after the end of the last span; it begins a new one.
    pub(super) fn open(&self, now_ms: u64, span_ms: u64) -> bool {
        let next_ms = self.next_ms.load(Ordering::Relaxed);
        now_ms >= next_ms
            && self
                .next_ms
                .compare_exchange(next_ms, now_ms.saturating_add(span_ms), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_opens_once_in_each_span() {
        let gate = Gate::default();
        assert!(gate.open(0, 1000));
        assert!(!gate.open(0, 1000));
        assert!(!gate.open(999, 1000));
        assert!(gate.open(1000, 1000));
        assert!(!gate.open(1999, 1000));
        assert!(gate.open(5000, 1000));
    }

    #[test]
    fn a_folder_is_not_a_file_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let error = Fingerprint::of(folder.path()).unwrap_err();
        assert!(error.to_string().contains("regular file"), "{error}");
    }
}
