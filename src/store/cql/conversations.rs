//! Reading conversations: a page of one, a message by its id, one, the recent ones, and those of an owner.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::columns::{self, uuid};
use super::place::{self, LAST, OwnerShard, Part, signed};
use super::{Shared, WIDTH, log, record};
use crate::domain::{Conversation, ConversationId, ListCursor, MessageId, Row, Timestamp, limits};
use crate::store::{PageQuery, StoreError};

/// Parts that are read at once.
const PARTS: usize = 4;
/// Rows of the list of recent conversations that are read at once.
const STEPS: usize = 200;
/// Rows of a conversation that are read at once while one of them is looked for.
const LOOK: usize = 1000;
/// Rows that are looked at for the one that opened a conversation: it comes before all but late ones of an earlier life.
const FIRST: usize = 32;
/// What the clocks of frontend and stream may differ by when the time of an id is compared with that of its row.
const CLOCKS_MS: u64 = 30_000;

/// A page, ascending.
pub(super) async fn page(
    shared: &Shared,
    conversation: ConversationId,
    query: PageQuery,
) -> Result<Vec<Row>, StoreError> {
    let parts = parts(shared, conversation).await?;
    page_of(shared, conversation, parts, query).await
}

async fn page_of(
    shared: &Shared,
    conversation: ConversationId,
    mut parts: Vec<Part>,
    query: PageQuery,
) -> Result<Vec<Row>, StoreError> {
    let after = query.after.unwrap_or(0).min(LAST);
    let before = query.before.unwrap_or(u64::MAX).min(LAST);
    // No message has the sequence 0, so that `seq > 0` takes all of them.
    if query.limit == 0 || after >= before {
        return Ok(Vec::new());
    }
    let newest_first = query.after.is_none();
    parts.retain(|part| *part.sequences().end() > after && *part.sequences().start() < before);
    // Nearest first: a part further on holds nothing nearer than its own beginning.
    if newest_first {
        parts.sort_by_key(|part| Reverse(*part.sequences().end()));
    } else {
        parts.sort_by_key(|part| *part.sequences().start());
    }
    // By sequence, then digest: a row that lies in two parts, written by two auditors, is one.
    let mut rows: BTreeMap<(u64, [u8; 32]), Row> = BTreeMap::new();
    let mut left = parts.as_slice();
    while let Some(next) = left.first() {
        if enough(&rows, query.limit, newest_first, *next) {
            break;
        }
        let (now, later) = left.split_at(left.len().min(PARTS));
        left = later;
        let asked: Vec<_> = now
            .iter()
            .map(|part| rows_of(shared, conversation, *part, (after, before), newest_first, query.limit))
            .collect();
        let found: Vec<Vec<Row>> = stream::iter(asked).buffer_unordered(PARTS).try_collect().await?;
        rows.extend(found.into_iter().flatten().map(|row| ((row.seq, row.digest), row)));
    }
    let skip = if newest_first { rows.len().saturating_sub(query.limit) } else { 0 };
    Ok(rows.into_values().skip(skip).take(query.limit).collect())
}

/// Whether nothing in this part or behind it belongs to the page any more.
fn enough(rows: &BTreeMap<(u64, [u8; 32]), Row>, limit: usize, newest_first: bool, next: Part) -> bool {
    let last = if newest_first { rows.keys().rev().nth(limit - 1) } else { rows.keys().nth(limit - 1) };
    last.is_some_and(
        |(seq, _)| {
            if newest_first { *seq > *next.sequences().end() } else { *seq < *next.sequences().start() }
        },
    )
}

async fn rows_of(
    shared: &Shared,
    conversation: ConversationId,
    part: Part,
    (after, before): (u64, u64),
    newest_first: bool,
    limit: usize,
) -> Result<Vec<Row>, StoreError> {
    let action = "read a page from";
    let statements = &shared.statements;
    let statement = if newest_first { &statements.page_newest } else { &statements.page_oldest };
    // The largest sequence itself is below the bound of one who names none.
    let before = if before == LAST { i64::MAX } else { signed(before) };
    let mut most = limit;
    loop {
        let values =
            (uuid(&conversation), part.number(), signed(after), before, i32::try_from(most).unwrap_or(i32::MAX));
        let result = shared.flight.rows(action, statement, values).await?;
        let rows = columns::read_messages(&result, conversation).map_err(|error| shared.odd(action, error))?;
        if rows.len() >= limit || result.rows_num() < most {
            return Ok(rows);
        }
        // Some were there in part, and took the places of others.
        most = limit + result.rows_num() - rows.len();
    }
}

pub(super) async fn parts(shared: &Shared, conversation: ConversationId) -> Result<Vec<Part>, StoreError> {
    let action = "read the parts of a conversation from";
    let result = shared.flight.rows(action, &shared.statements.parts, (uuid(&conversation),)).await?;
    let rows = result.rows::<(i64,)>().map_err(|error| shared.odd(action, error))?;
    let numbers: Vec<(i64,)> = rows.collect::<Result<_, _>>().map_err(|error| shared.odd(action, error))?;
    // A part that this release does not know was written by a newer one.
    Ok(numbers.into_iter().filter_map(|(number,)| Part::from_number(number)).collect())
}

pub(super) async fn newest(shared: &Shared, conversation: ConversationId) -> Result<Option<Row>, StoreError> {
    let query = PageQuery { limit: 1, ..PageQuery::default() };
    Ok(page(shared, conversation, query).await?.pop())
}

/// A conversation, if it has a row.
pub(super) async fn one(shared: &Shared, id: ConversationId) -> Result<Option<Conversation>, StoreError> {
    let parts = parts(shared, id).await?;
    let newest = PageQuery { limit: 1, ..PageQuery::default() };
    let oldest = PageQuery { after: Some(0), ..newest };
    let (owner, first, last) = tokio::try_join!(
        owner(shared, id, &parts),
        page_of(shared, id, parts.clone(), oldest),
        page_of(shared, id, parts.clone(), newest)
    )?;
    let (first, last) = (first.into_iter().next(), last.into_iter().next());
    let whole = |(first, last): (Row, Row)| Conversation { id, owner, first_at: first.at, last, messages: None };
    Ok(first.zip(last).map(whole))
}

/// Who opened a conversation.
async fn owner(shared: &Shared, conversation: ConversationId, parts: &[Part]) -> Result<Option<String>, StoreError> {
    match written_owner(shared, conversation).await? {
        Some(owner) => Ok(Some(owner)),
        None => Ok(opening(shared, conversation, parts).await?.and_then(|row| row.author)),
    }
}

/// The owner by the cell of the conversation.
pub(super) async fn written_owner(shared: &Shared, conversation: ConversationId) -> Result<Option<String>, StoreError> {
    let action = "read the owner of a conversation from";
    let result = shared.flight.rows(action, &shared.statements.owner, (uuid(&conversation),)).await?;
    let row = result.maybe_first_row::<(Option<String>,)>().map_err(|error| shared.odd(action, error))?;
    Ok(row.and_then(|(owner,)| owner))
}

/// The first row that names an owner: that of a conversation which was opened again after all of it was retired. Its cell
/// was deleted then, and as the time of a cell says which of several is the first, none is written over the deletion.
pub(super) async fn opening(
    shared: &Shared,
    conversation: ConversationId,
    parts: &[Part],
) -> Result<Option<Row>, StoreError> {
    let oldest = PageQuery { after: Some(0), limit: FIRST, ..PageQuery::default() };
    let rows = page_of(shared, conversation, parts.to_vec(), oldest).await?;
    Ok(rows.into_iter().find(|row| record::opener(row).is_some()))
}

/// The recent ones. The steps of `activity` are walked back from the newest: a conversation stands at its newest one.
pub(super) async fn recent(
    shared: &Shared,
    before: Option<ListCursor>,
    limit: usize,
) -> Result<Vec<Conversation>, StoreError> {
    let mut found = Vec::new();
    let Some(last) = log::last(shared).await? else { return Ok(found) };
    let end = match before {
        Some(before) => position(shared, before).await?,
        None => LAST,
    };
    let first = log::first(shared).await?.map_or(0, |first| first.seq);
    let (mut slot, mut below) = (place::slot(last.seq.min(end)), end);
    let mut seen = HashSet::new();
    while found.len() < limit && slot >= place::slot(first) {
        let steps = steps(shared, slot, below).await?;
        match steps.last() {
            Some((seq, _)) if steps.len() == STEPS => below = *seq,
            _ => slot -= 1,
        }
        let met: Vec<_> =
            steps.into_iter().map(|(_, conversation)| conversation).filter(|id| seen.insert(*id)).collect();
        // They stand in the order of their newest rows, so that no more are read than are wanted.
        for some in met.chunks(limit) {
            let asked: Vec<_> = some.iter().map(|id| one(shared, *id)).collect();
            let whole = stream::iter(asked).buffered(WIDTH).try_collect::<Vec<_>>().await?;
            // What has moved on was on an earlier page, or is on none: it stands higher up now.
            found.extend(whole.into_iter().flatten().filter(|conversation| conversation.last.seq < end));
            if found.len() >= limit {
                break;
            }
        }
    }
    found.sort_by_key(|conversation| Reverse(conversation.last.seq));
    found.truncate(limit);
    Ok(found)
}

async fn steps(shared: &Shared, slot: i64, below: u64) -> Result<Vec<(u64, ConversationId)>, StoreError> {
    let action = "list conversations of";
    let below = if below == LAST { i64::MAX } else { signed(below) };
    let values = (slot, below, i32::try_from(STEPS).unwrap_or(i32::MAX));
    let result = shared.flight.rows(action, &shared.statements.activity, values).await?;
    let rows = result.rows::<(i64, uuid::Uuid)>().map_err(|error| shared.odd(action, error))?;
    let read = |row: Result<(i64, uuid::Uuid), _>| {
        row.map(|(seq, id)| (seq.unsigned_abs(), ConversationId::from_bytes(id.into_bytes())))
    };
    rows.map(read).collect::<Result<_, _>>().map_err(|error| shared.odd(action, error))
}

/// The sequence that a list's last conversation ended with when it was listed.
async fn position(shared: &Shared, cursor: ListCursor) -> Result<u64, StoreError> {
    let mut before = None;
    loop {
        let rows = page(shared, cursor.conversation, PageQuery { before, limit: LOOK, ..PageQuery::default() }).await?;
        if let Some(row) = rows.iter().rev().find(|row| row.at <= cursor.last_at) {
            return Ok(row.seq);
        }
        match rows.first() {
            Some(first) => before = Some(first.seq),
            None => return Ok(log::seq_at(shared, cursor.last_at).await?.unwrap_or(0)),
        }
    }
}

/// Those that somebody opened, the one with the newest message first.
pub(super) async fn owned_by(
    shared: &Shared,
    owner: &str,
    before: Option<ListCursor>,
    limit: usize,
) -> Result<Vec<Conversation>, StoreError> {
    let ids = all_owned(shared, owner).await?;
    let asked: Vec<_> = ids.into_iter().map(|id| async move { Ok((id, newest(shared, id).await?)) }).collect();
    let newest: Vec<_> = stream::iter(asked).buffer_unordered(WIDTH).try_collect::<Vec<_>>().await?;
    let mut newest: Vec<_> = newest.into_iter().filter_map(|(id, last)| Some((id, last?))).collect();
    let end = match before {
        Some(before) => position(shared, before).await?,
        None => u64::MAX,
    };
    newest.retain(|(_, last)| last.seq < end);
    newest.sort_by_key(|(_, last)| Reverse(last.seq));
    let mut found = Vec::new();
    for some in newest.chunks(limit.max(1)) {
        let asked: Vec<_> = some.iter().map(|(id, _)| one(shared, *id)).collect();
        let whole: Vec<_> = stream::iter(asked).buffered(WIDTH).try_collect::<Vec<_>>().await?;
        // What came meanwhile is not of this list. If somebody else opened it before, it is theirs.
        let listed = whole.into_iter().zip(some).filter_map(|(whole, (_, last))| Some((whole?, last.clone())));
        let listed = listed.map(|(whole, last)| Conversation { last, ..whole });
        found.extend(listed.filter(|conversation| conversation.owner.as_deref() == Some(owner)));
        if found.len() >= limit {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// All that somebody opened, ascending.
pub(super) async fn all_owned_by(
    shared: &Shared,
    owner: &str,
) -> Result<Vec<(ConversationId, Option<u64>)>, StoreError> {
    let listed = all_owned(shared, owner).await?;
    // If somebody else opened it before, it is theirs.
    let asked = listed.into_iter().map(async |id| Ok((id, opener(shared, id).await?)));
    let met = stream::iter(asked).buffer_unordered(WIDTH);
    let theirs = met.try_filter_map(async |(id, opener)| Ok((opener.as_deref() == Some(owner)).then_some((id, None))));
    let mut owned: Vec<_> = theirs.try_collect().await?;
    owned.sort_unstable();
    Ok(owned)
}

/// Who opened a conversation, mostly in one read.
async fn opener(shared: &Shared, conversation: ConversationId) -> Result<Option<String>, StoreError> {
    if let Some(owner) = written_owner(shared, conversation).await? {
        return Ok(Some(owner));
    }
    let parts = parts(shared, conversation).await?;
    Ok(opening(shared, conversation, &parts).await?.and_then(|row| row.author))
}

/// Each once: one that was written again after its shard was full stands in a finer one too.
async fn all_owned(shared: &Shared, owner: &str) -> Result<HashSet<ConversationId>, StoreError> {
    let mut all = HashSet::new();
    if !record::has_list(owner) {
        return Ok(all);
    }
    let mut shards: Vec<OwnerShard> = OwnerShard::all_first().collect();
    while !shards.is_empty() {
        let asked: Vec<_> = shards.iter().map(|shard| owned(shared, owner, *shard)).collect();
        let found: Vec<_> = stream::iter(asked).buffered(WIDTH).try_collect().await?;
        let divided = shards.iter().zip(&found).filter(|(_, found)| found.contains(&OwnerShard::DIVIDED));
        shards = divided.flat_map(|(shard, _)| shard.parts()).collect();
        all.extend(found.into_iter().flatten());
    }
    Ok(all)
}

/// Whether a shard is full, and what came after that stands in finer ones.
pub(super) async fn is_divided(shared: &Shared, owner: &str, shard: OwnerShard) -> Result<bool, StoreError> {
    let action = "look at a user's conversations in";
    // All zeros come before every other id.
    let result = shared.flight.rows(action, &shared.statements.owned_some, (owner, shard.number(), 1)).await?;
    let first = result.maybe_first_row::<(uuid::Uuid,)>().map_err(|error| shared.odd(action, error))?;
    Ok(first.is_some_and(|(id,)| id.as_bytes() == OwnerShard::DIVIDED.as_bytes()))
}

async fn owned(shared: &Shared, owner: &str, shard: OwnerShard) -> Result<Vec<ConversationId>, StoreError> {
    let action = "list a user's conversations of";
    let result = shared.flight.rows(action, &shared.statements.owned, (owner, shard.number())).await?;
    let rows = result.rows::<(uuid::Uuid,)>().map_err(|error| shared.odd(action, error))?;
    let read = |row: Result<(uuid::Uuid,), _>| row.map(|(id,)| ConversationId::from_bytes(id.into_bytes()));
    rows.map(read).collect::<Result<_, _>>().map_err(|error| shared.odd(action, error))
}

/// A message is stored within moments of the time in its id: the conversation is walked from there. Only if it is not
/// there (bulk ingest may bring old ids), all of the conversation is.
pub(super) async fn by_id(
    shared: &Shared,
    conversation: ConversationId,
    id: MessageId,
) -> Result<Option<Row>, StoreError> {
    let from = Timestamp::from_ms(id.time_ms().saturating_sub(limits::ID_AHEAD_MS + CLOCKS_MS));
    let to = Timestamp::from_ms(id.time_ms().saturating_add(limits::ID_BEHIND_MS + CLOCKS_MS));
    let (Some(first), Some(end)) = tokio::try_join!(log::seq_at(shared, from), log::seq_at(shared, to))? else {
        return Ok(None);
    };
    match find(shared, conversation, id, first.saturating_sub(1), end).await? {
        Some(row) => Ok(Some(row)),
        None => find(shared, conversation, id, 0, LAST).await,
    }
}

/// The first message with this id above one sequence and up to another.
async fn find(
    shared: &Shared,
    conversation: ConversationId,
    id: MessageId,
    mut after: u64,
    last: u64,
) -> Result<Option<Row>, StoreError> {
    loop {
        let before = last.checked_add(1);
        let query = PageQuery { after: Some(after), before, limit: LOOK };
        let rows = page(shared, conversation, query).await?;
        let end = rows.last().map(|row| row.seq);
        if let Some(row) = rows.into_iter().find(|row| row.id == Some(id)) {
            return Ok(Some(row));
        }
        match end {
            Some(end) => after = end,
            None => return Ok(None),
        }
    }
}
