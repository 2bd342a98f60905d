//! What can be seen without NATS: file limits, and where yalo's folders lie.

use std::path::{Path, PathBuf};

use super::disk::readable;
use super::{Diagnosis, Finding};
use crate::app;
use crate::bus::server::free_bytes;
use crate::config::Config;

/// What a process needs beside its users' connections: NATS, store, listeners, the page of health.
const OTHER_FILES: u64 = 128;
/// A store that has less room than this fills its disk soon.
const LEAST_ROOM: u64 = 1 << 30;
/// File systems that are gone after a restart of the machine.
const MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// File systems of other machines: NFS, SMB, CIFS, 9p. On them locks and shared memory can't be relied on.
const NETWORK: [u64; 5] = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997];
/// Folders that systems empty.
const EMPTIED: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/run"];

pub(super) fn examine(all: &mut Diagnosis, config: &Config) {
    files(all, config.frontend.max_connections, app::most_files());
    let data = &config.data.dir;
    let store = app::store_folder(config);
    // A fleet keeps only keys in its data folder.
    let standalone = config.nats.url.is_empty();
    let store = store.as_ref().map(|store| (store, "store.path"));
    let folders = [Some((data, "data.dir")).filter(|_| standalone), store];
    let mut seen: Option<PathBuf> = None;
    for (folder, key) in folders.into_iter().flatten() {
        let folder = existing(folder);
        if seen.as_ref().is_some_and(|seen| *seen == folder) {
            continue;
        }
        place(all, &folder, key);
        room(all, &folder, key);
        seen = Some(folder);
    }
}

fn files(all: &mut Diagnosis, connections: usize, most: Option<u64>) {
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    all.add(match most {
        Some(most) if most < needed => Finding::risk(
            "files",
            format!("a process may open {most} files here, and frontend.max_connections is {connections}"),
            "people are let wait before the frontend has as many connections as it is set to",
            &format!(
                "allow {needed} (`ulimit -Hn {needed}`, LimitNOFILE of a systemd unit, ulimits of a container), or lower \
                 frontend.max_connections to {}",
                most.saturating_sub(OTHER_FILES)
            ),
        ),
        Some(most) => Finding::ok("files", format!("a process may open {most} files here; a frontend needs {needed}")),
        None => Finding::ok("files", "a process may open any number of files here".to_owned()),
    });
}

/// The folder, absolute and without links, or the nearest one above it that is there.
fn existing(folder: &Path) -> PathBuf {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let there = folder.ancestors().find_map(|folder| folder.canonicalize().ok());
    there.unwrap_or(folder)
}

fn place(all: &mut Diagnosis, folder: &Path, key: &str) {
    let shown = folder.display();
    let kind = rustix::fs::statfs(folder).ok().and_then(|disk| u64::try_from(disk.f_type).ok());
    let elsewhere = format!("set {key} to a folder on a disk of this machine, after copying what is in it");
    all.add(if kind.is_some_and(|kind| MEMORY.contains(&kind)) {
        let risk = "a restart of the machine takes everything in it";
        Finding::risk("folder", format!("{shown} ({key}) lies in memory"), risk, &elsewhere)
    } else if is_emptied(folder) {
        let risk = "systems empty this folder, at a restart or by age: messages that were accepted go with it";
        Finding::risk("folder", format!("{shown} ({key}) is in a folder for temporary files"), risk, &elsewhere)
    } else if kind.is_some_and(|kind| NETWORK.contains(&kind)) {
        let risk =
            "SQLite and nats-server rely on locks and shared memory that such a disk does not have: the store breaks";
        Finding::risk("folder", format!("{shown} ({key}) lies on a disk of another machine"), risk, &elsewhere)
    } else {
        Finding::ok("folder", format!("{shown} ({key}) is on a disk of this machine"))
    });
}

/// Whether something lies in a folder for temporary files, by its path.
pub(super) fn is_emptied(folder: &Path) -> bool {
    let own = std::env::temp_dir();
    EMPTIED.iter().map(Path::new).chain([own.as_path()]).any(|emptied| folder.starts_with(emptied))
}

fn room(all: &mut Diagnosis, folder: &Path, key: &str) {
    let Some(free) = free_bytes(folder) else { return };
    if free < LEAST_ROOM {
        all.add(Finding::risk(
            "disk",
            format!("the disk of {} ({key}) has {} left", folder.display(), readable(free)),
            "a full disk refuses new messages (503) until there is room; nothing that was accepted is lost",
            "free some space, or move the folder to a larger disk",
        ));
    } else {
        all.add(Finding::ok("disk", format!("the disk of {} ({key}) has {} left", folder.display(), readable(free))));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn few_files_are_a_risk() {
        let level = |most| {
            let mut all = Diagnosis::default();
            files(&mut all, 1000, most);
            all.findings[0].level
        };
        assert_eq!((level(Some(1127)), level(Some(1128)), level(None)), (Level::Risk, Level::Ok, Level::Ok));
    }

    #[test]
    fn temporary_folders_are_known_by_their_path() {
        for (folder, emptied) in
            [("/tmp", true), ("/tmp/yalo", true), ("/run/yalo", true), ("/tmpfiles", false), ("/srv/tmp", false)]
        {
            assert_eq!(is_emptied(Path::new(folder)), emptied, "{folder}");
        }
    }

    #[test]
    fn a_folder_in_memory_is_a_risk() {
        let mut all = Diagnosis::default();
        place(&mut all, Path::new("/dev/shm"), "data.dir");
        assert_eq!(all.findings[0].level, Level::Risk);
        assert!(all.findings[0].mend.contains("data.dir"), "{:?}", all.findings);
        place(&mut all, Path::new("/usr"), "data.dir");
        assert_eq!(all.findings[1].level, Level::Ok, "{:?}", all.findings);
        assert_eq!(existing(Path::new("/usr/none/of/these")), Path::new("/usr"));
    }
}
