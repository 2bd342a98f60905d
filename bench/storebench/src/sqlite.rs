//! SQLite with yalo's own schema and pragmas: what the file must hold, written in the fewest statements.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, TransactionBehavior, params};

use crate::messages::{Message, digest, subject};

/// The schema is read from yalo's sources: the same tables and indexes by construction.
const SCHEMA: &str = include_str!("../../../src/store/sqlite/schema/1.sql");
/// As in yalo's `store/sqlite/schema.rs`.
const PRAGMAS: &str = "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 64000; PRAGMA cache_size = -16384;
    PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;";
/// As in yalo's `store/sqlite.rs`.
const BLOCK: i64 = 4096;

/// An open file.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
}

#[derive(Debug)]
struct Sum {
    messages: i64,
    first_at_ns: i64,
    last_at_ns: i64,
    last_seq: i64,
}

impl Sum {
    fn add(sum: Option<Self>, message: &Message) -> Self {
        let at_ns = message.at_ns;
        let start = Self { messages: 0, first_at_ns: at_ns, last_at_ns: at_ns, last_seq: 0 };
        let sum = sum.unwrap_or(start);
        Self {
            messages: sum.messages + 1,
            first_at_ns: sum.first_at_ns.min(at_ns),
            last_at_ns: sum.last_at_ns.max(at_ns),
            last_seq: sum.last_seq.max(message.seq),
        }
    }
}

impl Sqlite {
    /// Makes a new file.
    pub fn create(path: &Path) -> Result<Self> {
        let connection = Connection::open(path).with_context(|| format!("open {path:?}"))?;
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.execute_batch(PRAGMAS)?;
        connection.execute_batch(SCHEMA).context("make the schema")?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self { connection })
    }

    /// One durable transaction.
    pub fn write(&mut self, messages: &[(Message, [u8; 32])]) -> Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut conversations: HashMap<[u8; 16], Sum> = HashMap::new();
        let mut blocks: BTreeMap<i64, Sum> = BTreeMap::new();
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO messages (seq, at_ns, conversation, id, who, kind, author, subject, payload, digest)
                 VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, NULL, ?7, ?8) ON CONFLICT (seq) DO NOTHING",
            )?;
            for (message, digest) in messages {
                let Message { seq, at_ns, conversation, id, who, author, payload, .. } = message;
                insert.execute(params![seq, at_ns, conversation, id, who, author, payload, digest])?;
                let sum = Sum::add(conversations.remove(conversation), message);
                conversations.insert(*conversation, sum);
                let sum = Sum::add(blocks.remove(&(seq / BLOCK)), message);
                blocks.insert(seq / BLOCK, sum);
            }
            let mut sorted: Vec<_> = conversations.into_iter().collect();
            sorted.sort_unstable_by_key(|(conversation, _)| *conversation);
            let mut upsert = transaction.prepare_cached(
                "INSERT INTO conversations (conversation, messages, first_at_ns, last_seq, last_at_ns)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (conversation) DO UPDATE SET
                     messages = messages + excluded.messages, first_at_ns = min(first_at_ns, excluded.first_at_ns),
                     last_seq = max(last_seq, excluded.last_seq), last_at_ns = max(last_at_ns, excluded.last_at_ns)",
            )?;
            for (conversation, sum) in sorted {
                upsert.execute(params![conversation, sum.messages, sum.first_at_ns, sum.last_seq, sum.last_at_ns])?;
            }
            let mut upsert = transaction.prepare_cached(
                "INSERT INTO blocks VALUES (?1, ?2, ?3, ?4) ON CONFLICT (block) DO UPDATE SET
                     messages = messages + excluded.messages, first_at_ns = min(first_at_ns, excluded.first_at_ns),
                     last_at_ns = max(last_at_ns, excluded.last_at_ns)",
            )?;
            for (block, sum) in blocks {
                upsert.execute(params![block, sum.messages, sum.first_at_ns, sum.last_at_ns])?;
            }
            transaction
                .prepare_cached("UPDATE totals SET messages = messages + ?1")?
                .execute([i64::try_from(messages.len())?])?;
        }
        transaction.commit().context("commit")
    }
}

/// Reads every row in its order and holds it against its digest: how many there are.
pub fn prove(path: &Path) -> Result<u64> {
    let connection = Connection::open(path).with_context(|| format!("open {path:?}"))?;
    connection.execute_batch(PRAGMAS)?;
    let mut rows =
        connection.prepare("SELECT seq, at_ns, conversation, who, payload, digest FROM messages ORDER BY seq")?;
    let mut rows = rows.query([])?;
    let mut proved = 0;
    while let Some(row) = rows.next()? {
        let (seq, at_ns, conversation, who): (i64, i64, [u8; 16], u8) =
            (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let digest = digest(&subject(&conversation, who), seq, at_ns, row.get_ref(4)?.as_blob()?);
        ensure!(digest == row.get::<_, [u8; 32]>(5)?, "row {seq} is not what was written");
        proved += 1;
    }
    Ok(proved)
}

/// How many messages a file holds, and how many conversations.
pub fn count(path: &Path) -> Result<(i64, i64)> {
    let connection = Connection::open(path).with_context(|| format!("open {path:?}"))?;
    let sql = "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM conversations)";
    Ok(connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?)
}
