//! Whether everything was stored, by the floor or by yalo; then the keyspace makes room.

use anyhow::{Result, ensure};

use crate::ingest::connect;
use crate::tables::{BLOCK, SHARDS};

/// Counts the rows of `log`, each partition by itself, and drops the keyspace. Sequences begin at 1.
pub async fn run(nodes: &str, keyspace: &str, messages: u64) -> Result<()> {
    let session = connect(nodes).await?;
    let text = format!("SELECT count(*) FROM {keyspace}.log WHERE stream = ? AND block = ? AND shard = ?");
    let count = session.prepare(text).await?;
    let mut stored = 0;
    for block in 0..=i64::try_from(messages)? / BLOCK {
        for shard in 0..i16::try_from(SHARDS)? {
            let answer = session.execute_unpaged(&count, (0i16, block, shard)).await?.into_rows_result()?;
            stored += u64::try_from(answer.single_row::<(i64,)>()?.0)?;
        }
    }
    ensure!(stored == messages, "{stored} rows are stored in {keyspace} instead of {messages}");
    session.query_unpaged(format!("DROP KEYSPACE {keyspace}"), ()).await?;
    println!("check keyspace={keyspace} rows={stored}");
    Ok(())
}
