//! Everything that is said to the cluster once the tables are there, prepared once.

use std::sync::Arc;

use scylla::client::session::Session;
use scylla::errors::PrepareError;
use scylla::policies::load_balancing::LoadBalancingPolicy;
use scylla::policies::retry::{FallthroughRetryPolicy, RetryPolicy};
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;

use super::CqlOptions;
use super::columns::COLUMNS;
use super::nodes::Chosen;
use super::schema::MADE;

/// Rows of one partition in one request: two runs of the log (`place.rs`).
pub(super) const BATCH: usize = 64;

/// An insert, alone and several times at once.
pub(super) struct Insert {
    pub(super) one: PreparedStatement,
    /// By their number of rows, from 0 to [`BATCH`].
    several: Vec<Batch>,
}

impl Insert {
    /// The request for `rows` rows of one partition, at most [`BATCH`].
    pub(super) fn batch(&self, rows: usize) -> Option<&Batch> {
        self.several.get(rows)
    }
}

pub(super) struct Statements {
    pub(super) insert_log: Insert,
    pub(super) insert_stray_log: Insert,
    pub(super) insert_message: Insert,
    pub(super) insert_stray_message: Insert,
    pub(super) insert_activity: Insert,
    pub(super) insert_era: PreparedStatement,
    pub(super) insert_block: PreparedStatement,
    pub(super) insert_part: PreparedStatement,
    pub(super) insert_owner: PreparedStatement,
    pub(super) insert_owned: PreparedStatement,
    pub(super) insert_stream: PreparedStatement,
    pub(super) digests: PreparedStatement,
    pub(super) part_sequences: PreparedStatement,
    pub(super) log_range: PreparedStatement,
    pub(super) log_one: PreparedStatement,
    pub(super) log_time: PreparedStatement,
    pub(super) log_next: PreparedStatement,
    pub(super) log_heads: PreparedStatement,
    pub(super) log_last: PreparedStatement,
    pub(super) eras_last: PreparedStatement,
    pub(super) eras_next: PreparedStatement,
    pub(super) blocks_last: PreparedStatement,
    pub(super) blocks_next: PreparedStatement,
    pub(super) parts: PreparedStatement,
    pub(super) page_newest: PreparedStatement,
    pub(super) page_oldest: PreparedStatement,
    pub(super) owner: PreparedStatement,
    pub(super) owned: PreparedStatement,
    pub(super) owned_some: PreparedStatement,
    pub(super) activity: PreparedStatement,
    pub(super) streams: PreparedStatement,
    pub(super) setting: PreparedStatement,
    pub(super) insert_setting: PreparedStatement,
    pub(super) made: PreparedStatement,
    pub(super) delete_log: PreparedStatement,
    pub(super) delete_blocks: PreparedStatement,
    pub(super) delete_messages: PreparedStatement,
    pub(super) delete_part: PreparedStatement,
    pub(super) delete_activity: PreparedStatement,
    pub(super) delete_owner: PreparedStatement,
    pub(super) delete_owned: PreparedStatement,
}

impl Statements {
    pub(super) async fn prepare(session: &Session, options: &CqlOptions) -> Result<Self, PrepareError> {
        let (policy, retries): (Arc<dyn LoadBalancingPolicy>, Arc<dyn RetryPolicy>) =
            (Arc::new(Chosen), Arc::new(FallthroughRetryPolicy::new()));
        let prepared = async |text: String| {
            let is_read = text.starts_with("SELECT ");
            let mut statement = session.prepare(text).await?;
            if !is_read {
                statement.set_consistency(options.consistency.of_writes());
            }
            // Each may be repeated: the keys and times of what is written are those of the messages.
            statement.set_is_idempotent(true);
            // Who is asked and how often, `flight.rs` decides.
            statement.set_load_balancing_policy(Some(Arc::clone(&policy)));
            statement.set_retry_policy(Some(Arc::clone(&retries)));
            Ok::<_, PrepareError>(statement)
        };
        let one = async |text: &str| prepared(qualified(text, &options.keyspace)).await;
        let made = prepared(MADE.to_owned()).await?;
        let insert = async |text: &str| {
            let one = one(text).await?;
            let several = (0..=BATCH).map(|rows| unlogged(&one, rows)).collect();
            Ok::<_, PrepareError>(Insert { one, several })
        };
        let of_log = "FROM log WHERE stream = ? AND block = ? AND shard = ?";
        Ok(Self {
            // The columns in the order of their names, which is Cassandra's own, and none that rows leave out as a rule: it sorts
            // the others of each row, and writes down for each which of them it has.
            insert_log: insert(
                "INSERT INTO log (stream, block, shard, seq, digest, at_ns, author, conversation, id, kind, payload, \
                 who) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            insert_stray_log: insert(
                "INSERT INTO log (stream, block, shard, seq, digest, at_ns, author, conversation, id, kind, payload, \
                 subject, who) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            insert_message: insert(
                "INSERT INTO messages (conversation, part, seq, digest, at_ns, author, id, kind, payload, who) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            insert_stray_message: insert(
                "INSERT INTO messages (conversation, part, seq, digest, at_ns, author, id, kind, payload, subject, \
                 who) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            insert_activity: insert(
                "INSERT INTO activity (slot, seq, conversation) VALUES (?, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            insert_era: one("INSERT INTO log_eras (stream, era) VALUES (?, ?) USING TIMESTAMP ?").await?,
            insert_block: one("INSERT INTO log_blocks (stream, era, block) VALUES (?, ?, ?) USING TIMESTAMP ?").await?,
            insert_part: one("INSERT INTO conversation_parts (conversation, part) VALUES (?, ?) USING TIMESTAMP ?")
                .await?,
            insert_owner: one("INSERT INTO conversations (conversation, owner) VALUES (?, ?) USING TIMESTAMP ?")
                .await?,
            insert_owned: one(
                "INSERT INTO user_conversations (owner, shard, conversation) VALUES (?, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            insert_stream: one(
                "INSERT INTO streams (only, created_ns, name, above_seq, bound_ns) VALUES (0, ?, ?, ?, ?)",
            )
            .await?,
            // With the time, so that a row that is there in part has one (`columns.rs`).
            digests: one(&format!("SELECT seq, digest, at_ns {of_log} AND seq >= ? AND seq <= ?")).await?,
            part_sequences: one("SELECT seq FROM messages WHERE conversation = ? AND part = ? LIMIT ?").await?,
            log_range: one(&format!("SELECT {COLUMNS}, conversation {of_log} AND seq >= ? AND seq <= ?")).await?,
            log_one: one(&format!("SELECT {COLUMNS}, conversation {of_log} AND seq = ?")).await?,
            log_time: one(&format!("SELECT seq, at_ns {of_log} AND seq = ? LIMIT 1")).await?,
            log_next: one(&format!("SELECT seq, at_ns {of_log} AND seq >= ? LIMIT 1")).await?,
            log_heads: one(&format!("SELECT seq, at_ns, conversation {of_log} AND seq >= ? AND seq <= ?")).await?,
            log_last: one(&format!("SELECT seq, at_ns {of_log} ORDER BY seq DESC, digest DESC LIMIT 1")).await?,
            eras_last: one("SELECT era FROM log_eras WHERE stream = ? LIMIT 16").await?,
            eras_next: one("SELECT era FROM log_eras WHERE stream = ? AND era >= ? ORDER BY era ASC LIMIT 16").await?,
            blocks_last: one("SELECT block FROM log_blocks WHERE stream = ? AND era = ? LIMIT 16").await?,
            blocks_next: one(
                "SELECT block FROM log_blocks WHERE stream = ? AND era = ? AND block >= ? ORDER BY block ASC LIMIT 1",
            )
            .await?,
            parts: one("SELECT part FROM conversation_parts WHERE conversation = ?").await?,
            page_newest: one(&format!(
                "SELECT {COLUMNS} FROM messages WHERE conversation = ? AND part = ? AND seq > ? AND seq < ? LIMIT ?"
            ))
            .await?,
            page_oldest: one(&format!(
                "SELECT {COLUMNS} FROM messages WHERE conversation = ? AND part = ? AND seq > ? AND seq < ? \
                 ORDER BY seq ASC, digest DESC LIMIT ?"
            ))
            .await?,
            owner: one("SELECT owner FROM conversations WHERE conversation = ?").await?,
            owned: one("SELECT conversation FROM user_conversations WHERE owner = ? AND shard = ?").await?,
            owned_some: one("SELECT conversation FROM user_conversations WHERE owner = ? AND shard = ? LIMIT ?")
                .await?,
            activity: one("SELECT seq, conversation FROM activity WHERE slot = ? AND seq < ? LIMIT ?").await?,
            streams: one("SELECT created_ns, name, above_seq, bound_ns FROM streams WHERE only = 0").await?,
            setting: one("SELECT value FROM settings WHERE name = ?").await?,
            insert_setting: one("INSERT INTO settings (name, value) VALUES (?, ?) USING TIMESTAMP ?").await?,
            made,
            delete_log: one(
                "DELETE FROM log USING TIMESTAMP ? WHERE stream = ? AND block = ? AND shard = ? AND seq < ?",
            )
            .await?,
            delete_blocks: one("DELETE FROM log_blocks USING TIMESTAMP ? WHERE stream = ? AND era = ? AND block < ?")
                .await?,
            delete_messages: one(
                "DELETE FROM messages USING TIMESTAMP ? WHERE conversation = ? AND part = ? AND seq < ?",
            )
            .await?,
            delete_part: one("DELETE FROM conversation_parts USING TIMESTAMP ? WHERE conversation = ? AND part = ?")
                .await?,
            delete_activity: one("DELETE FROM activity USING TIMESTAMP ? WHERE slot = ? AND seq < ?").await?,
            delete_owner: one("DELETE FROM conversations USING TIMESTAMP ? WHERE conversation = ?").await?,
            delete_owned: one(
                "DELETE FROM user_conversations USING TIMESTAMP ? WHERE owner = ? AND shard = ? AND conversation = ?",
            )
            .await?,
        })
    }
}

/// The statement with the keyspace at its table: servers warn of prepared statements that rest on `USE`.
pub(super) fn qualified(text: &str, keyspace: &str) -> String {
    ["INTO ", "FROM ", "EXISTS ", "ALTER TABLE "]
        .iter()
        .fold(text.to_owned(), |text, before| text.replacen(before, &format!("{before}{keyspace}."), 1))
}

/// Rows of one partition need no batch log: they are one mutation.
fn unlogged(statement: &PreparedStatement, rows: usize) -> Batch {
    let statements = vec![BatchStatement::PreparedStatement(statement.clone()); rows];
    let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
    batch.set_is_idempotent(true);
    if let Some(consistency) = statement.get_consistency() {
        batch.set_consistency(consistency);
    }
    batch.set_load_balancing_policy(statement.get_load_balancing_policy().cloned());
    batch.set_retry_policy(statement.get_retry_policy().cloned());
    batch
}
