//! Whether the file at the store's path is still the one that was opened.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::store::{StoreError, Trouble};

/// Device and inode of the opened file. A file that was deleted or replaced can be written for ever, and all is lost
/// when the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(Option<(u64, u64)>);

impl Identity {
    pub(super) fn of(path: &Path) -> Self {
        Self(fs::metadata(path).ok().map(|file| (file.dev(), file.ino())))
    }

    pub(super) fn check(self, path: &Path) -> Result<(), StoreError> {
        if self == Self::of(path) {
            return Ok(());
        }
        Err(StoreError::Unusable(Trouble {
            action: "go on with".to_owned(),
            place: path.display().to_string(),
            cause: "the file was moved, replaced or deleted while it was open".to_owned(),
            next: "put it back or not, and start yalo again: what the stream still holds is stored anew".to_owned(),
        }))
    }
}
