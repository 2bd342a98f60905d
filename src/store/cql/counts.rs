//! How full partitions are, as far as this process has to know: which one a row goes into.
//!
//! Where a row lies if nothing is full, `place.rs` says, and where if that is full. A partition is looked at when the first row
//! for it comes, and counted from then on. What is forgotten is looked at again, so that none grows past its bound, whoever
//! writes and restarts.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};
use lru::LruCache;
use uuid::Uuid;

use super::columns::{uuid, written_at};
use super::place::{FULL, OwnerShard, Part};
use super::{Shared, WIDTH};
use crate::domain::{ConversationId, Row, Timestamp};
use crate::store::StoreError;

/// Parts of conversations that are remembered, about 100 bytes each.
const PARTS: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
/// Shards of owners that are remembered, about 150 bytes each: who opens a conversation soon opens another, or none.
const SHARDS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// What one process knows of how full partitions are. Its stores share it, so that together they are one writer, of which a
/// partition bears a limited number (`place.rs`).
#[derive(Default)]
pub struct Fullness {
    /// The log that it knows of: another one of the same name is empty.
    made: Mutex<Option<Uuid>>,
    pub(super) parts: Counts<(ConversationId, Part)>,
    pub(super) shards: Counts<(String, OwnerShard)>,
}

impl Fullness {
    /// Forgets everything, unless it is known of this log.
    pub(super) fn begin(&self, made: Uuid) {
        let mut known = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if known.replace(made) != Some(made) {
            self.parts.lock().take();
            self.shards.lock().take();
        }
    }
}

impl fmt::Debug for Fullness {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Fullness").finish_non_exhaustive()
    }
}

/// Rows that are known to be in a partition; those that are never full are not counted. Made with the first one.
pub(super) struct Counts<K: Hash + Eq>(Mutex<Option<LruCache<K, u32>>>);

impl<K: Hash + Eq> Default for Counts<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Ord + Clone> Counts<K> {
    fn lock(&self) -> MutexGuard<'_, Option<LruCache<K, u32>>> {
        // Nothing that runs under it can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which of the partitions of these rows has to be looked at.
    fn unknown<T: Placed<Key = K>>(&self, open: &[T]) -> BTreeSet<K> {
        let counts = self.lock();
        let knows = |key: &K| counts.as_ref().is_some_and(|counts| counts.peek(key).is_some());
        open.iter().map(T::key).filter(|key| !knows(key)).collect()
    }

    fn learn(&self, key: K, rows: u32, most: NonZeroUsize) {
        let mut counts = self.lock();
        let counts = counts.get_or_insert_with(|| LruCache::new(most));
        // Another flush may have learnt it meanwhile, and added to it.
        if counts.peek(&key).is_none() {
            counts.put(key, rows);
        }
    }

    /// Puts rows into partitions that are known and not full; gives back the others, a step finer if theirs is full.
    fn settle<T: Placed<Key = K>>(&self, open: Vec<T>, placed: &mut Vec<T>) -> Vec<T> {
        let mut counts = self.lock();
        let mut left = Vec::new();
        for mut one in open {
            match counts.as_mut().and_then(|counts| counts.get_mut(&one.key())) {
                Some(count) if *count < FULL || one.is_finest() => {
                    *count = count.saturating_add(1);
                    placed.push(one);
                }
                Some(_) => {
                    one.refine();
                    left.push(one);
                }
                None => left.push(one),
            }
        }
        left
    }
}

/// Something that is to go into a partition, from coarse to fine.
pub(super) trait Placed: Sized {
    type Key: Hash + Eq + Ord + Clone;
    /// How many partitions are remembered.
    const REMEMBERED: NonZeroUsize;

    fn counts(fullness: &Fullness) -> &Counts<Self::Key>;

    /// The partition that it is to go into now.
    fn key(&self) -> Self::Key;

    /// Whether that is never full.
    fn is_finest(&self) -> bool;

    /// That one is full: to the next finer one.
    fn refine(&mut self);

    /// How many rows a partition has, up to [`FULL`]. Whoever meets one first writes down that it is there, so that what is in
    /// it will be found: also one that has rows, since whoever wrote them may have known another keyspace of this name.
    fn look(shared: &Shared, key: &Self::Key) -> impl Future<Output = Result<u32, StoreError>> + Send;
}

/// Finds a partition for each, and looks at those that this process does not know.
pub(super) async fn place<T: Placed + Send>(shared: &Shared, mut left: Vec<T>) -> Result<Vec<T>, StoreError>
where
    T::Key: Send + Sync,
{
    let counts = T::counts(&shared.options.fullness);
    let mut placed = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let look = |key: T::Key| async move { T::look(shared, &key).await.map(|rows| (key, rows)) };
        let unknown: Vec<_> = counts.unknown(&left).into_iter().map(look).collect();
        let found = stream::iter(unknown).buffer_unordered(WIDTH).try_collect::<Vec<_>>().await?;
        for (key, rows) in found {
            counts.learn(key, rows, T::REMEMBERED);
        }
        left = counts.settle(left, &mut placed);
    }
    Ok(placed)
}

/// A row of a conversation, and the part that it is to go into.
#[derive(Clone, Copy)]
pub(super) struct Open<'a> {
    pub(super) row: &'a Row,
    pub(super) conversation: ConversationId,
    pub(super) part: Part,
}

impl<'a> Open<'a> {
    /// Nothing for a row that no conversation has.
    pub(super) fn new(row: &'a Row) -> Option<Self> {
        let conversation = row.conversation?;
        Some(Self { row, conversation, part: Part::first(row.seq) })
    }
}

impl Placed for Open<'_> {
    type Key = (ConversationId, Part);
    const REMEMBERED: NonZeroUsize = PARTS;

    fn counts(fullness: &Fullness) -> &Counts<Self::Key> {
        &fullness.parts
    }

    fn key(&self) -> Self::Key {
        (self.conversation, self.part)
    }

    fn is_finest(&self) -> bool {
        self.part.is_finest()
    }

    fn refine(&mut self) {
        self.part = self.part.finer(self.row.seq);
    }

    async fn look(shared: &Shared, (conversation, part): &Self::Key) -> Result<u32, StoreError> {
        let (flight, statements) = (&shared.flight, &shared.statements);
        let asked = (uuid(conversation), part.number(), most(part.is_finest()));
        let listed = (uuid(conversation), part.number(), written_at(Timestamp::now()));
        let (found, _) = tokio::try_join!(
            flight.rows("look at a conversation in", &statements.part_sequences, asked),
            flight.write("list a part of a conversation in", &statements.insert_part, listed),
        )?;
        Ok(u32::try_from(found.rows_num()).unwrap_or(FULL))
    }
}

/// A conversation, and where it is to stand among those of its owner.
#[derive(Clone)]
pub(super) struct Owned<'a> {
    pub(super) owner: &'a str,
    pub(super) conversation: ConversationId,
    pub(super) at: Timestamp,
    pub(super) shard: OwnerShard,
}

impl Placed for Owned<'_> {
    type Key = (String, OwnerShard);
    const REMEMBERED: NonZeroUsize = SHARDS;

    fn counts(fullness: &Fullness) -> &Counts<Self::Key> {
        &fullness.shards
    }

    fn key(&self) -> Self::Key {
        (self.owner.to_owned(), self.shard)
    }

    fn is_finest(&self) -> bool {
        self.shard.is_finest()
    }

    fn refine(&mut self) {
        self.shard = self.shard.finer(self.conversation);
    }

    async fn look(shared: &Shared, (owner, shard): &Self::Key) -> Result<u32, StoreError> {
        let (flight, statements) = (&shared.flight, &shared.statements);
        let asked = (owner, shard.number(), most(shard.is_finest()));
        let look = flight.rows("look at a user's conversations in", &statements.owned_some, asked);
        let Some(coarser) = shard.coarser() else {
            return look.await.map(|found| u32::try_from(found.rows_num()).unwrap_or(FULL));
        };
        let marked = (owner, coarser.number(), uuid(&OwnerShard::DIVIDED), written_at(Timestamp::now()));
        let mark = flight.write("divide a user's conversations in", &statements.insert_owned, marked);
        let (found, _) = tokio::try_join!(look, mark)?;
        Ok(u32::try_from(found.rows_num()).unwrap_or(FULL))
    }
}

/// How many rows are looked for.
fn most(is_finest: bool) -> i32 {
    if is_finest { 1 } else { FULL.cast_signed() }
}
