//! Reading conversations: one, the recent ones, and those of an owner.

use rusqlite::{Connection, OptionalExtension, Params, params};

use super::columns::{self, COLUMNS};
use crate::domain::{Conversation, ConversationId, ListCursor, Timestamp};

/// Conversation columns, then those of its newest row.
fn select(rest: &str) -> String {
    format!(
        "SELECT c.conversation, c.owner, c.first_at_ns, c.messages, {COLUMNS}
         FROM conversations c JOIN messages m ON m.seq = c.last_seq {rest}"
    )
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Conversation> {
    Ok(Conversation {
        id: ConversationId::from_bytes(row.get(0)?),
        owner: row.get(1)?,
        first_at: Timestamp::from_ns(row.get(2)?),
        messages: Some(row.get(3)?),
        last: columns::read(row, 4)?,
    })
}

fn list(connection: &Connection, sql: &str, parameters: impl Params) -> rusqlite::Result<Vec<Conversation>> {
    connection.prepare_cached(sql)?.query_map(parameters, read)?.collect()
}

pub(super) fn conversation(connection: &Connection, id: ConversationId) -> rusqlite::Result<Option<Conversation>> {
    connection.prepare_cached(&select("WHERE c.conversation = ?1"))?.query_row([id.as_bytes()], read).optional()
}

/// Where a list goes on; without a place it starts beyond every conversation: 17 bytes sort after any 16.
fn start(before: Option<ListCursor>) -> (i64, Vec<u8>) {
    before.map_or((i64::MAX, vec![0xff; 17]), |last| (last.last_at.ns(), last.conversation.as_bytes().to_vec()))
}

pub(super) fn recent(
    connection: &Connection,
    before: Option<ListCursor>,
    limit: usize,
) -> rusqlite::Result<Vec<Conversation>> {
    let (at_ns, id) = start(before);
    list(connection, &recent_sql(), params![at_ns, id, limit])
}

pub(super) fn recent_sql() -> String {
    // CROSS JOIN keeps the order of the tables: the list is walked by its index and cut off by the limit.
    select("WHERE (c.last_at_ns, c.conversation) < (?1, ?2) ORDER BY c.last_at_ns DESC, c.conversation DESC LIMIT ?3")
        .replace(" JOIN ", " CROSS JOIN ")
}

pub(super) fn owned_by(
    connection: &Connection,
    owner: &str,
    before: Option<ListCursor>,
    limit: usize,
) -> rusqlite::Result<Vec<Conversation>> {
    let (at_ns, id) = start(before);
    list(connection, &owned_sql(), params![at_ns, id, limit, owner])
}

pub(super) fn all_owned_by(
    connection: &Connection,
    owner: &str,
) -> rusqlite::Result<Vec<(ConversationId, Option<u64>)>> {
    let sql = "SELECT conversation, messages FROM conversations WHERE owner = ?1 ORDER BY conversation";
    let read = |row: &rusqlite::Row<'_>| Ok((ConversationId::from_bytes(row.get(0)?), Some(row.get(1)?)));
    connection.prepare_cached(sql)?.query_map([owner], read)?.collect()
}

pub(super) fn owned_sql() -> String {
    // The unary plus keeps the planner on the index of owners; one owner's conversations are sorted in memory, the rows
    // of messages are fetched only for the page.
    format!(
        "SELECT c.conversation, c.owner, c.first_at_ns, c.messages, {COLUMNS} FROM
            (SELECT * FROM conversations WHERE owner = ?4 AND (+last_at_ns, conversation) < (?1, ?2)
             ORDER BY +last_at_ns DESC, conversation DESC LIMIT ?3) c
         CROSS JOIN messages m ON m.seq = c.last_seq ORDER BY c.last_at_ns DESC, c.conversation DESC"
    )
}
