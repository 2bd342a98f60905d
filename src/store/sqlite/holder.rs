//! Who holds the lock on a store's file, as far as the system tells: `process 4242 (sqlite3)`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A process that holds a write lock on the file or on its shared memory; `None` if the system does not say.
///
/// The table of locks is read, not the file: opening and closing a file drops all locks of this process on it.
pub(super) fn of(path: &Path) -> Option<String> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = [path.to_owned(), beside(path, "-shm")].iter().find_map(|file| writer_of(&locks, file))?;
    let own = if pid == std::process::id() { ", this one" } else { "" };
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => Some(format!("process {pid} ({}{own})", name.trim())),
        Err(_) => Some(format!("process {pid}")),
    }
}

/// SQLite's file next to the main one: `-wal` or `-shm`.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// A line of the table reads `1: POSIX  ADVISORY  WRITE 4242 08:01:1311 120 120`.
fn writer_of(locks: &str, file: &Path) -> Option<u32> {
    let file = fs::metadata(file).ok()?;
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", file.ino());
    locks.lines().find_map(|line| {
        let words = line.split_whitespace().collect::<Vec<_>>();
        match words.as_slice() {
            [_, "POSIX", _, "WRITE", pid, at, ..] if *at == place => pid.parse().ok(),
            _ => None,
        }
    })
}
