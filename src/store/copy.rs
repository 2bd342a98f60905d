//! Copying a record from one store into another, and holding the two against each other, in one pass.
//!
//! Both are read in windows of consecutive sequences. What the second one lacks is stored there, then the window is read
//! back and compared, row by row and byte for byte. So a copy that was cut off goes on by itself: what is there already is
//! read, found equal, and left alone. Nothing is noted down beside the stores.

mod compare;

use std::num::NonZeroUsize;

use futures_util::{StreamExt, TryStreamExt, stream};
use lru::LruCache;

use self::compare::compare;
pub use self::compare::{Difference, Unlike};
use super::within::{Span, span};
use super::{BoundStream, Contract, Heritage, StoreError};
use crate::domain::{ConversationId, Row};

/// Rows of one window.
const WINDOW: usize = 1000;
/// Windows that are at work side by side.
const AHEAD: usize = 4;
/// Conversations whose owners are compared at once, and those that are remembered as compared.
const OWNERS: usize = 32;
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
/// Differences that are kept by themselves; more are only counted.
const KEPT: usize = 20;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the two could not be used.
    #[error("one of the two stores can't be used")]
    Store(#[from] StoreError),
    /// There is nothing to copy.
    #[error("the store to copy from is empty")]
    Empty,
    /// The second one holds another record.
    #[error(
        "the store to copy to holds the record of another stream: {}, made at {}, and not {}, made at {}; name another \
         store", .bound.name, .bound.created, .wanted.name, .wanted.created
    )]
    OtherStream {
        /// The stream that it is bound to.
        bound: BoundStream,
        /// The one that the first is bound to.
        wanted: BoundStream,
    },
}

/// What a copy came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// The first sequence that was looked at.
    pub from: u64,
    /// The last one: the first store's highest when the copy began.
    pub upto: u64,
    /// Rows of the first store that were read and looked for in the second.
    pub rows: u64,
    /// Of those, stored by this run.
    pub stored: u64,
    /// Sequences that neither store has a row of, and that nobody retired.
    pub holes: u64,
    /// Everything below is equal and without a hole: a later run may begin here.
    pub next: u64,
    /// Sequences at which the stores differ.
    pub differing: u64,
    /// The first differences, in order.
    pub differences: Vec<Difference>,
}

/// Copies what `source` holds from sequence `from` on, up to its highest now, and compares all of it. Tells `progress` how
/// many sequences of how many are done.
pub async fn copy(
    source: &impl Contract,
    target: &impl Contract,
    from: u64,
    mut progress: impl FnMut(u64, u64),
) -> Result<Copied, CopyError> {
    let upto = source.last_seq().await?.ok_or(CopyError::Empty)?;
    bind(source, target).await?;
    let retired_below = retire(source, target).await?;
    let begins = [source.totals().await?.first, target.totals().await?.first].into_iter().flatten();
    // Before the first row there is nothing to walk through.
    let begins = begins.map(|place| place.seq).min().unwrap_or(upto.saturating_add(1));
    let from = from.max(begins).max(below(source, target).await?).max(1);
    let mut copied = Copied { from, upto, next: from, ..Copied::default() };
    let mut met = LruCache::new(REMEMBERED);
    let windows = windows(source, from, upto).map(|window| async move { settle(source, target, window?).await });
    let mut windows = std::pin::pin!(windows.buffered(AHEAD));
    while let Some(settled) = windows.next().await {
        let settled = settled?;
        if retired_below > 0 {
            let fresh = |id: &ConversationId| met.put(*id, ()).is_none();
            let conversations = settled.conversations.iter().copied().filter(fresh).collect();
            let owners = owners(source, target, conversations).await?;
            target.inherit(Heritage { owners, ..Heritage::default() }).await?;
        }
        let to = settled.to;
        copied.add(settled);
        progress((to + 1).saturating_sub(from), (upto + 1).saturating_sub(from));
    }
    // Before the first row was copied, more may have been retired.
    retire(source, target).await?;
    Ok(copied)
}

/// Makes the second one the store of the same streams.
async fn bind(source: &impl Contract, target: &impl Contract) -> Result<(), CopyError> {
    let (streams, bound) = (source.streams().await?, target.streams().await?);
    // One of them may know of more than the other: an earlier copy, or one that is in use already.
    if let Some((wanted, bound)) = streams.iter().zip(&bound).find(|(wanted, bound)| !wanted.is(bound)) {
        return Err(CopyError::OtherStream { bound: bound.clone(), wanted: wanted.clone() });
    }
    Ok(target.inherit(Heritage { streams, ..Heritage::default() }).await?)
}

/// Has the second one know what was retired from the first, unless it has rows from before: those stay until it retires
/// them itself. Says up to where the first has.
async fn retire(source: &impl Contract, target: &impl Contract) -> Result<u64, StoreError> {
    let retired_below = source.retired_below().await?;
    let first = target.totals().await?.first;
    if retired_below > 0 && first.is_none_or(|first| first.seq >= retired_below) {
        target.inherit(Heritage { retired_below, ..Heritage::default() }).await?;
    }
    Ok(retired_below)
}

/// Everything below was retired from one of them at least.
async fn below(source: &impl Contract, target: &impl Contract) -> Result<u64, StoreError> {
    Ok(source.retired_below().await?.max(target.retired_below().await?))
}

/// Consecutive sequences, and the rows that the first store has of them.
struct Window {
    from: u64,
    span: Span,
}

/// All rows from one sequence to another, in windows. They are cut where rows are, so that a wide hole costs nothing.
fn windows(source: &impl Contract, from: u64, upto: u64) -> impl stream::Stream<Item = Result<Window, StoreError>> {
    stream::try_unfold(from, move |from| async move {
        if from > upto {
            return Ok(None);
        }
        let span = span(source, from, upto, WINDOW).await?;
        let next = span.to.saturating_add(1);
        Ok(Some((Window { from, span }, next)))
    })
}

/// One window, stored and compared.
struct Settled {
    from: u64,
    to: u64,
    rows: u64,
    stored: u64,
    /// The sequences that neither has, as spans.
    holes: Vec<(u64, u64)>,
    differences: Vec<Difference>,
    conversations: Vec<ConversationId>,
}

async fn settle(source: &impl Contract, target: &impl Contract, window: Window) -> Result<Settled, StoreError> {
    let Window { from, span: Span { to, rows } } = window;
    let mut conversations: Vec<ConversationId> = rows.iter().filter_map(|row| row.conversation).collect();
    conversations.sort_unstable();
    conversations.dedup();
    let (holes, differences) = (Vec::new(), Vec::new());
    let mut settled = Settled { from, to, rows: rows.len() as u64, stored: 0, holes, differences, conversations };
    let (mut next, mut left) = (from, rows.as_slice());
    while next <= to {
        let done = settle_some(source, target, (next, to), left, &mut settled).await?;
        left = left.get(rows_upto(left, done).len()..).unwrap_or_default();
        next = done.saturating_add(1);
    }
    Ok(settled)
}

/// Stores and compares these sequences, or the first ones of them: where the first store has a wide hole, the second one
/// may have more rows than there is room for. Says up to where.
async fn settle_some(
    source: &impl Contract,
    target: &impl Contract,
    (from, to): (u64, u64),
    rows: &[Row],
    settled: &mut Settled,
) -> Result<u64, StoreError> {
    let mut there = span(target, from, to, WINDOW).await?;
    let is_there = |row: &&Row| there.rows.binary_search_by_key(&row.seq, |there| there.seq).is_ok();
    let here = rows_upto(rows, there.to).iter();
    let lacking: Vec<Row> = here.filter(|row| !is_there(row)).cloned().collect();
    let mut refused = Vec::new();
    if !lacking.is_empty() {
        let about = there.rows.len() + lacking.len();
        let recorded = target.record(lacking).await?;
        settled.stored += recorded.written as u64;
        refused = recorded.refused;
        there = span(target, from, there.to, about).await?;
    }
    let mut compared = compare((from, there.to), rows_upto(rows, there.to), &there.rows, &refused);
    if !compared.is_clean() {
        // Rows may have been retired on one side while the other was read. Where both have none, the second one has to know.
        compared.forget(below(source, target).await?, target.retired_below().await?);
    }
    settled.holes.extend(compared.holes);
    for difference in compared.differences {
        compare::join(&mut settled.differences, difference, usize::MAX);
    }
    Ok(there.to)
}

/// The rows up to a sequence.
fn rows_upto(rows: &[Row], to: u64) -> &[Row] {
    rows.get(..rows.partition_point(|row| row.seq <= to)).unwrap_or_default()
}

/// The owners that the second one does not know: a row that named one may have been retired.
async fn owners(
    source: &impl Contract,
    target: &impl Contract,
    conversations: Vec<ConversationId>,
) -> Result<Vec<(ConversationId, String)>, StoreError> {
    let owner = |id| async move {
        let (here, there) = tokio::try_join!(source.conversation(id), target.conversation(id))?;
        let (here, there) = (here.and_then(|one| one.owner), there.and_then(|one| one.owner));
        Ok::<_, StoreError>(here.filter(|owner| Some(owner) != there.as_ref()).map(|owner| (id, owner)))
    };
    let asked: Vec<_> = conversations.into_iter().map(owner).collect();
    let found: Vec<_> = stream::iter(asked).buffer_unordered(OWNERS).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

impl Copied {
    /// Adds the window that comes next.
    fn add(&mut self, settled: Settled) {
        let holes = settled.holes.iter().map(|(from, to)| (*from, to - from + 1));
        let unlike = settled.differences.iter().map(|difference| (difference.from, difference.sequences()));
        let first = holes.clone().chain(unlike.clone()).map(|(from, _)| from).min();
        if self.next == settled.from {
            self.next = first.unwrap_or(settled.to + 1);
        }
        self.rows += settled.rows;
        self.stored += settled.stored;
        self.holes += holes.map(|(_, sequences)| sequences).sum::<u64>();
        self.differing += unlike.map(|(_, sequences)| sequences).sum::<u64>();
        for difference in settled.differences {
            compare::join(&mut self.differences, difference, KEPT);
        }
    }

    /// Whether the two stores hold the same.
    pub fn is_equal(&self) -> bool {
        self.differing == 0
    }
}

#[cfg(test)]
mod tests;
