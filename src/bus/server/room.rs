//! A disk that runs full under the server: seen in its log, over when there is room again.
//!
//! nats-server (seen with 2.15) takes nothing more for a stream after the first write that failed, also when there is
//! space again: it has to be started anew. What it has acknowledged is on the disk.

use std::path::Path;

/// Less free space than this is not worth a start: the next message would fill it again.
const ENOUGH_BYTES: u64 = 8 << 20;

/// Whether a line of the server's log says that a write failed.
pub(super) fn is_write_missed_in(line: &str) -> bool {
    line.contains("critical write error") || line.contains("no space left on device")
}

/// Whether the disk of `folder` has space. One that can't be asked is left to the server to try.
pub(super) fn is_there(folder: &Path) -> bool {
    free_bytes(folder).is_none_or(|free| free >= ENOUGH_BYTES)
}

/// What is free on the disk of `folder`; `None` for one that can't be asked.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    rustix::fs::statvfs(folder).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}
