//! How full the parts of conversations are, as far as this process has to know: which part a row goes into.
//!
//! What is forgotten is asked for again, so that no part grows past its bound (`place.rs`), whoever writes and restarts.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};
use lru::LruCache;

use super::columns::{uuid, written_at};
use super::place::{FULL, Part};
use super::{Shared, WIDTH};
use crate::domain::{ConversationId, Row};
use crate::store::StoreError;

/// Parts that are remembered, about 100 bytes each.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// Rows that are known to be in a part; the finest parts are not counted.
pub(super) struct Counts(Mutex<LruCache<(ConversationId, Part), u32>>);

impl Counts {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED)))
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<(ConversationId, Part), u32>> {
        // Nothing that runs under it can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which of these parts has to be asked for.
    fn unknown(&self, open: &[Open<'_>]) -> BTreeSet<(ConversationId, Part)> {
        let counts = self.lock();
        open.iter().map(|open| (open.conversation, open.part)).filter(|key| counts.peek(key).is_none()).collect()
    }

    fn learn(&self, key: (ConversationId, Part), rows: u32) {
        let mut counts = self.lock();
        // Another flush may have learnt it meanwhile, and added to it.
        if counts.peek(&key).is_none() {
            counts.put(key, rows);
        }
    }

    /// Puts rows into parts that are known and not full; gives back the others, one part finer if theirs is full.
    fn settle<'a>(&self, open: Vec<Open<'a>>, placed: &mut Vec<Open<'a>>) -> Vec<Open<'a>> {
        let mut counts = self.lock();
        let mut left = Vec::new();
        for mut one in open {
            match counts.get_mut(&(one.conversation, one.part)) {
                Some(count) if *count < FULL || one.part.is_finest() => {
                    *count = count.saturating_add(1);
                    placed.push(one);
                }
                Some(_) => {
                    one.part = one.part.finer(one.row.seq);
                    left.push(one);
                }
                None => left.push(one),
            }
        }
        left
    }
}

/// A row of a conversation, and the part that it is to go into.
#[derive(Clone, Copy)]
pub(super) struct Open<'a> {
    pub(super) row: &'a Row,
    pub(super) conversation: ConversationId,
    pub(super) part: Part,
}

/// Finds a part for each row that belongs to a conversation, and lists those that this process did not know.
pub(super) async fn place<'a>(shared: &Shared, rows: &[&'a Row]) -> Result<Vec<Open<'a>>, StoreError> {
    let open = |row: &&'a Row| {
        let conversation = row.conversation?;
        Some(Open { row, conversation, part: Part::first(row.seq) })
    };
    let mut left: Vec<Open<'a>> = rows.iter().filter_map(open).collect();
    let mut placed = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let unknown: Vec<_> = shared.counts.unknown(&left).into_iter().map(|key| look(shared, key)).collect();
        let found = stream::iter(unknown).buffer_unordered(WIDTH).try_collect::<Vec<_>>().await?;
        for (key, rows) in found {
            shared.counts.learn(key, rows);
        }
        left = shared.counts.settle(left, &mut placed);
    }
    Ok(placed)
}

/// How many rows a part has, up to [`FULL`]. Whoever meets a part first lists it, so that what is in it will be found: also
/// one that has rows, since whoever wrote them may have known another keyspace of this name.
async fn look(
    shared: &Shared,
    (conversation, part): (ConversationId, Part),
) -> Result<((ConversationId, Part), u32), StoreError> {
    let (flight, statements) = (&shared.flight, &shared.statements);
    let limit = if part.is_finest() { 1 } else { FULL.cast_signed() };
    let asked = (uuid(&conversation), part.number(), limit);
    let listed = (uuid(&conversation), part.number(), written_at(crate::domain::Timestamp::now()));
    let (found, _) = tokio::try_join!(
        flight.rows("look at a conversation in", &statements.part_sequences, asked),
        flight.write("list a part of a conversation in", &statements.insert_part, listed),
    )?;
    let rows = u32::try_from(found.rows_num()).unwrap_or(FULL);
    Ok(((conversation, part), rows))
}
