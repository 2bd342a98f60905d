//! What somebody else could have changed in the cluster, and what its promises rest on.

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
    Ok(vec![
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
    ])
}
