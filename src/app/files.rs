//! How many files, and so connections, this process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Takes what the system allows: most shells begin with 1024, which is less than a frontend serves.
pub(super) fn allow_most() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files could not be raised");
    }
}

/// How many a process may have; `None` without a limit.
pub(crate) fn most_files() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}
