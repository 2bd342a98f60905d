//! One owner at a time: the lock of yalo's data folder, and the lock of the server's store inside it.
//!
//! Both are `flock`s on a file that names the holder. The kernel lets go of them when the holder dies, however it dies,
//! so there is no stale lock to clean up.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::domain::Timestamp;

/// Why a data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "the data folder {dir:?} is in use by {holder}; stop that one, or choose another folder with --set data.dir=DIR"
    )]
    Held {
        /// The folder.
        dir: PathBuf,
        /// `process 123, since 2026-01-01T00:00:00Z`.
        holder: String,
    },
    /// The path is there and is no folder.
    #[error("{dir:?} is not a folder; choose another one with --set data.dir=DIR")]
    NotAFolder {
        /// What was given.
        dir: PathBuf,
    },
    /// It can't be made or written.
    #[error(
        "cannot {action} in the data folder {dir:?}; see who owns it and whether the disk has room, or choose another \
         folder with --set data.dir=DIR"
    )]
    NotWritable {
        /// The folder.
        dir: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// The data folder is ours for as long as this lives. A second yalo is told the process that holds it.
#[derive(Debug)]
pub struct DataLock {
    dir: PathBuf,
    _file: File,
}

impl DataLock {
    /// Makes the folder if it is missing (for the owner alone, since keys lie in it) and locks `<dir>/yalo.lock`.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        private_folder(dir)?;
        let failed = |action| move |source| LockError::NotWritable { dir: dir.to_owned(), action, source };
        let mut file = open(&dir.join("yalo.lock")).map_err(failed("open yalo.lock"))?;
        if !try_lock(&file).map_err(failed("lock yalo.lock"))? {
            return Err(LockError::Held { dir: dir.to_owned(), holder: holder(&mut file) });
        }
        sign(&mut file, std::process::id()).map_err(failed("write yalo.lock"))?;
        Ok(Self { dir: dir.to_owned(), _file: file })
    }

    /// The folder that it holds.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Makes `dir` with mode 0700 unless it is there.
pub(super) fn private_folder(dir: &Path) -> Result<(), LockError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    match made {
        _ if dir.is_dir() => Ok(()),
        // A file stands at the path, or at one of its parents.
        Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory) => {
            Err(LockError::NotAFolder { dir: dir.to_owned() })
        }
        Err(source) => Err(LockError::NotWritable { dir: dir.to_owned(), action: "make it or a folder", source }),
        Ok(()) => Err(LockError::NotAFolder { dir: dir.to_owned() }),
    }
}

/// Opens a lock file without touching what a holder wrote into it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// `false` if someone else has it.
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Names the holder in the file: process id and start time.
pub(super) fn sign(file: &mut File, pid: u32) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "process {pid}, since {}", Timestamp::now())?;
    file.flush()
}

/// Who signed the file.
pub(super) fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(200).read_to_string(&mut text));
    // Between its locking and its signing the holder has no name yet.
    if read.is_err() || text.is_empty() { "another process".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_the_process_that_holds_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("not/yet/there");
        let first = DataLock::take(&data).unwrap();
        let refusal = DataLock::take(&data).unwrap_err().to_string();
        assert!(refusal.contains(&format!("process {}", std::process::id())), "{refusal}");
        assert!(refusal.contains("data.dir"), "{refusal}");
        drop(first);
        DataLock::take(&data).unwrap();
    }

    #[test]
    fn a_file_in_place_of_the_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let refusal = DataLock::take(&path).unwrap_err();
            assert!(matches!(refusal, LockError::NotAFolder { .. }), "{refusal:?}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error_with_its_cause() {
        let refusal = DataLock::take(Path::new("/proc/yalo")).unwrap_err();
        assert!(matches!(refusal, LockError::NotWritable { .. }), "{refusal:?}");
    }
}
