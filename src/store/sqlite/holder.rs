//! Who holds the lock on a store's file, as far as the system tells: `process 4242 (sqlite3)`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The byte of the shared memory whose lock is the right to write, as SQLite's file format has it. Readers hold the
/// bytes behind it, for a moment even exclusively.
const WRITE_BYTE: u64 = 120;

/// A process that holds a write lock on the file or on its shared memory; `None` if the system does not say.
///
/// The table of locks is read, not the file: opening and closing a file drops all locks of this process on it.
pub(super) fn of(path: &Path) -> Option<String> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let memory = beside(path, "-shm");
    let pid = writer_of(&locks, path, None).or_else(|| writer_of(&locks, &memory, Some(WRITE_BYTE)))?;
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

/// Who has a write lock on `file`, on this `byte` if one is named. A line of the table reads `1: POSIX  ADVISORY  WRITE 4242 08:01:1311 120 120`.
fn writer_of(locks: &str, file: &Path, byte: Option<u64>) -> Option<u32> {
    let file = fs::metadata(file).ok()?;
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", file.ino());
    locks.lines().find_map(|line| {
        let words = line.split_whitespace().collect::<Vec<_>>();
        let [_, "POSIX", _, "WRITE", pid, at, first, last] = words.as_slice() else { return None };
        // The last one may be `EOF`.
        let (first, last) = (first.parse().unwrap_or(0), last.parse().unwrap_or(u64::MAX));
        let is_held = *at == place && byte.is_none_or(|byte| (first..=last).contains(&byte));
        if is_held { pid.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_moves_its_mark_is_not_taken_for_the_writer() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let at = fs::metadata(file.path()).unwrap();
        let (major, minor) = (rustix::fs::major(at.dev()), rustix::fs::minor(at.dev()));
        let line = |kind: &str, pid: u32, range: &str| {
            format!("1: POSIX  ADVISORY  {kind} {pid} {major:02x}:{minor:02x}:{} {range}\n", at.ino())
        };
        let marks = [line("READ", 7, "120 120"), line("WRITE", 8, "124 124"), line("WRITE", 9, "1 119")].concat();
        assert_eq!(writer_of(&marks, file.path(), Some(WRITE_BYTE)), None);
        let written = marks.clone() + &line("WRITE", 10, "120 120");
        assert_eq!(writer_of(&written, file.path(), Some(WRITE_BYTE)), Some(10));
        let whole = marks + &line("WRITE", 11, "0 EOF");
        assert_eq!(writer_of(&whole, file.path(), Some(WRITE_BYTE)), Some(11));
        assert_eq!(writer_of(&whole, file.path(), None), Some(8));
    }
}
