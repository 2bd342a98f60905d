//! The sums of one transaction: what its new rows change in `conversations`, `blocks` and `totals`.
//!
//! Only rows that were really inserted count, so a redelivery changes nothing. All sums commute, so several writers may
//! store rows in any order.

use rusqlite::{CachedStatement, Connection, params};

use super::BLOCK;
use crate::domain::ConversationId;

/// A new row, as far as the sums need it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Touched<'a> {
    pub(super) seq: i64,
    pub(super) at_ns: i64,
    pub(super) conversation: Option<&'a ConversationId>,
    /// The author, if the row opens the conversation.
    pub(super) owner: Option<&'a str>,
}

/// All new rows of a transaction; sorted instead of hashed.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    rows: Vec<Touched<'a>>,
}

impl<'a> Tally<'a> {
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self { rows: Vec::with_capacity(rows) }
    }

    pub(super) fn add(&mut self, row: Touched<'a>) {
        self.rows.push(row);
    }

    /// Writes the sums: one statement for each block and each conversation, however many rows they got.
    pub(super) fn write(mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        self.rows.sort_unstable_by_key(|row| row.seq);
        let mut blocks = connection.prepare_cached(ADD_TO_BLOCK)?;
        for rows in self.rows.chunk_by(|one, next| one.seq / BLOCK == next.seq / BLOCK) {
            add_to_block(&mut blocks, rows)?;
        }
        let messages = self.rows.len();
        self.rows.retain(|row| row.conversation.is_some());
        // Stable, so that the rows of a conversation stay in order of sequence.
        self.rows.sort_by_key(|row| row.conversation);
        let mut conversations = 0;
        let mut statements = Conversations::prepare(connection)?;
        for rows in self.rows.chunk_by(|one, next| one.conversation == next.conversation) {
            conversations += usize::from(statements.add(rows)?);
        }
        connection
            .prepare_cached("UPDATE totals SET messages = messages + ?1, conversations = conversations + ?2")?
            .execute([messages, conversations])?;
        Ok(())
    }
}

const ADD_TO_BLOCK: &str = "INSERT INTO blocks VALUES (?1, ?2, ?3, ?4) ON CONFLICT (block) DO UPDATE SET
    messages = messages + excluded.messages,
    first_at_ns = min(first_at_ns, excluded.first_at_ns),
    last_at_ns = max(last_at_ns, excluded.last_at_ns)";

fn add_to_block(statement: &mut CachedStatement<'_>, rows: &[Touched<'_>]) -> rusqlite::Result<()> {
    let Some(first) = rows.first() else { return Ok(()) };
    let (first_at_ns, last_at_ns) = span(rows, first.at_ns);
    statement.execute(params![first.seq / BLOCK, rows.len(), first_at_ns, last_at_ns])?;
    Ok(())
}

/// The statements that each conversation of a transaction needs, looked up once.
struct Conversations<'a> {
    update: CachedStatement<'a>,
    insert: CachedStatement<'a>,
    own: CachedStatement<'a>,
}

impl<'a> Conversations<'a> {
    fn prepare(connection: &'a Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            // The owner is left out here: naming an indexed column rewrites its index entry, changed or not.
            update: connection.prepare_cached(
                "UPDATE conversations SET messages = messages + ?2, first_at_ns = min(first_at_ns, ?3),
                    last_at_ns = iif(?4 > last_seq, ?5, last_at_ns), last_seq = max(last_seq, ?4)
                 WHERE conversation = ?1",
            )?,
            insert: connection.prepare_cached(
                "INSERT INTO conversations (conversation, messages, first_at_ns, last_seq, last_at_ns, owner, opened_seq)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?,
            own: connection.prepare_cached(
                "UPDATE conversations SET owner = ?2, opened_seq = ?3
                 WHERE conversation = ?1 AND (opened_seq IS NULL OR opened_seq > ?3)",
            )?,
        })
    }

    /// Adds the rows of one conversation; returns whether it is new.
    fn add(&mut self, rows: &[Touched<'_>]) -> rusqlite::Result<bool> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(false) };
        let conversation = first.conversation.map(ConversationId::as_bytes);
        let (first_at_ns, _) = span(rows, first.at_ns);
        let opened = rows.iter().find_map(|row| row.owner.map(|owner| (owner, row.seq)));
        let count = rows.len();
        let known = self.update.execute(params![conversation, count, first_at_ns, last.seq, last.at_ns])?;
        if known == 0 {
            let (owner, opened_seq) = opened.unzip();
            let new = params![conversation, count, first_at_ns, last.seq, last.at_ns, owner, opened_seq];
            self.insert.execute(new)?;
        } else if let Some((owner, opened_seq)) = opened {
            self.own.execute(params![conversation, owner, opened_seq])?;
        }
        Ok(known == 0)
    }
}

fn span(rows: &[Touched<'_>], start: i64) -> (i64, i64) {
    rows.iter().fold((start, start), |(least, most), row| (least.min(row.at_ns), most.max(row.at_ns)))
}
