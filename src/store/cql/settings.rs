//! What somebody else could have changed in the cluster, and what its promises rest on; not the table of that name.

use super::Shared;
use crate::store::{Setting, StoreError};

/// Copies of which one may be lost.
const SAFE: u32 = 3;

pub(super) async fn all(shared: &Shared) -> Result<Vec<Setting>, StoreError> {
    let action = "read the settings of";
    let text = "SELECT replication, durable_writes FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let session = &shared.flight.session;
    let result = Box::pin(session.query_unpaged(text, (&shared.options.keyspace,))).await;
    let result = result.map_err(|error| super::unavailable(action, shared.flight.place(), error.to_string()))?;
    let rows = result.into_rows_result().map_err(|error| shared.odd(action, error))?;
    let row = rows.maybe_first_row::<(std::collections::BTreeMap<String, String>, bool)>();
    let row = row.map_err(|error| shared.odd(action, error))?;
    let (replication, durable) = row.ok_or_else(|| shared.odd(action, "the keyspace is gone"))?;
    let copies: Vec<u32> = replication.values().filter_map(|value| value.parse().ok()).collect();
    let least = copies.iter().min().copied().unwrap_or(0);
    let mut settings = vec![
        Setting {
            name: "replication",
            fits: least >= SAFE,
            found: format!("{replication:?}"),
            wanted: "3 copies in each data centre",
            risk: "a lost disk takes what it alone had; the stream holds it for nats.max_age_hours only, and with one node \
                   away nothing can be stored or read",
            mend: "ALTER KEYSPACE to 3 copies, then repair; it needs three nodes",
        },
        Setting {
            name: "durable_writes",
            fits: durable,
            found: durable.to_string(),
            wanted: "true",
            risk: "without a commit log a node that crashes forgets what it has acknowledged",
            mend: "ALTER KEYSPACE ... WITH durable_writes = true",
        },
    ];
    settings.extend(commit_log(shared).await.map(|sync| synced(sync, least)));
    Ok(settings)
}

/// When the node that answers syncs its commit log; nothing if it has no table that says so.
async fn commit_log(shared: &Shared) -> Option<String> {
    let text = "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'";
    let result = Box::pin(shared.flight.session.query_unpaged(text, ())).await.ok()?;
    let (sync,) = result.into_rows_result().ok()?.maybe_first_row::<(String,)>().ok()??;
    Some(sync)
}

fn synced(sync: String, copies: u32) -> Setting {
    Setting {
        name: "commitlog_sync",
        fits: copies >= SAFE || matches!(sync.as_str(), "batch" | "group"),
        found: sync,
        wanted: "batch or group, as long as there are not 3 copies",
        risk: "a node that is killed takes back what it has acknowledged in the last tenth of a second, one that loses its \
               power up to commitlog_sync_period, and with so few copies no other has it; the stream does, for \
               nats.max_age_hours",
        mend: "3 copies, or commitlog_sync: batch in the cassandra.yaml of each node; `yalo audit verify --repair` puts \
               back what is missing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_copy_needs_a_commit_log_that_is_synced_before_the_answer() {
        for (sync, copies, fits) in
            [("periodic", 1, false), ("batch", 1, true), ("group", 2, true), ("periodic", 3, true)]
        {
            assert_eq!(synced(sync.to_owned(), copies).fits, fits, "{sync} {copies}");
        }
    }
}
