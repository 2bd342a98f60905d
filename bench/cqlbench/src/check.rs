//! Whether everything was stored, by the floor, by yalo or by another; then the keyspace makes room.

use anyhow::{Result, ensure};
use futures_util::TryStreamExt;

use crate::ingest::connect;

/// Counts the rows of a table, and drops the keyspace.
pub async fn run(nodes: &str, keyspace: &str, table: &str, messages: u64) -> Result<()> {
    let session = connect(nodes).await?;
    // Page by page: one count of them all would take longer than Cassandra lets a request take.
    let rows = session.query_iter(format!("SELECT seq FROM {keyspace}.{table}"), ()).await?;
    let stored = rows.rows_stream::<(i64,)>()?.try_fold(0, async |stored: u64, _| Ok(stored + 1)).await?;
    ensure!(stored == messages, "{stored} rows are stored in {keyspace}.{table} instead of {messages}");
    session.query_unpaged(format!("DROP KEYSPACE {keyspace}"), ()).await?;
    println!("check keyspace={keyspace} table={table} rows={stored}");
    Ok(())
}
