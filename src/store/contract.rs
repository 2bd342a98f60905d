//! What every store promises, in domain words. `store/suite.rs` is this page as tests.

use std::future::Future;
use std::sync::Arc;

use super::StoreError;
use crate::domain::{Conversation, ConversationId, ListCursor, MessageId, Row, Timestamp};

/// No answer holds more rows than this, whatever limit is asked for: go on from its last row.
pub const MAX_ROWS: usize = 10_000;

/// The outcome of [`Contract::record`]; every row of the call is in exactly one of the four.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Rows that are new, and durable now.
    pub written: usize,
    /// Rows that were there already with the same digest: redeliveries. So are those that were retired: they stay away.
    pub known: usize,
    /// Sequences at which another row (another digest) is stored. The stored one stays; the new one is not kept here.
    pub conflicts: Vec<u64>,
    /// Rows that this store can't hold at all. Trying again is of no use.
    pub refused: Vec<Refused>,
}

/// A row that can't be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its sequence.
    pub seq: u64,
    /// Why, for the log and the dead letter.
    pub reason: String,
}

/// Which rows of a conversation. With neither bound: the newest ones. With `after`: the first ones after it (and before
/// `before`, if that is given too). With `before` alone: the last ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PageQuery {
    /// Only rows with a larger sequence.
    pub after: Option<u64>,
    /// Only rows with a smaller sequence.
    pub before: Option<u64>,
    /// At most this many rows, and at most [`MAX_ROWS`].
    pub limit: usize,
}

/// A stored row's place in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its sequence.
    pub seq: u64,
    /// The stream's time of it.
    pub at: Timestamp,
}

/// A setting of the store itself on which its promises rest, and that others than yalo can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name in the store's own words.
    pub name: &'static str,
    /// What it is.
    pub found: String,
    /// What it should be.
    pub wanted: &'static str,
    /// Whether it is.
    pub fits: bool,
    /// What may come of it if not.
    pub risk: &'static str,
    /// What mends it.
    pub mend: &'static str,
}

/// What the store holds in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Rows; where a store can't count them, sequences from the first to the last row: as many, if none is missing.
    pub messages: u64,
    /// Conversations that have a row; `None` where a store can't count them.
    pub conversations: Option<u64>,
    /// The row with the smallest sequence.
    pub first: Option<Place>,
    /// The row with the largest sequence.
    pub last: Option<Place>,
}

/// A stream that rows of this store came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundStream {
    /// Its name.
    pub name: String,
    /// When it was made: a stream made anew under the same name differs here.
    pub created: Timestamp,
    /// The highest sequence stored when it was bound; 0 in an empty store. Its rows lie above.
    pub above_seq: u64,
}

impl BoundStream {
    /// Whether both are the same stream.
    pub fn is(&self, other: &Self) -> bool {
        self.name == other.name && self.created == other.created
    }
}

/// What [`Contract::bind_stream`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamBinding {
    /// No stream was bound; this one is now.
    New,
    /// This very stream is bound.
    Same,
    /// Another one is bound and stays so. If the new stream's sequences run above `last_seq`,
    /// [`Contract::rebind_stream`] goes on with it; otherwise its rows would meet the stored ones.
    Other {
        /// The bound stream.
        bound: BoundStream,
        /// The highest stored sequence; 0 in an empty store.
        last_seq: u64,
    },
}

/// What one step of [`Contract::retire`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retired {
    /// Rows that went.
    pub rows: u64,
    /// Whether more may have to go: call again.
    pub more: bool,
}

/// What a store knows besides its rows, and a copy of it has to know too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heritage {
    /// The streams that its rows came from, oldest first.
    pub streams: Vec<BoundStream>,
    /// Everything below was retired from it; 0 if nothing was.
    pub retired_below: u64,
    /// Owners of conversations whose `opened` row was retired.
    pub owners: Vec<(ConversationId, String)>,
}

/// The audit store. All reading answers are ascending by sequence unless said otherwise.
pub trait Contract: Send + Sync {
    /// Stores rows; they are durable (synced to disk) when this returns. Idempotent by sequence: repeat it after any
    /// error. A row that can't be stored never keeps the others from being stored. An `Arc` lets a caller repeat without
    /// a copy.
    fn record(&self, rows: impl Into<Arc<[Row]>> + Send) -> impl Future<Output = Result<Recorded, StoreError>> + Send {
        self.record_above(u64::MAX, rows)
    }

    /// As [`record`](Self::record), of a caller who knows that nothing is stored above `above`, or at most these very rows:
    /// a store that has to look for what is there before it writes leaves that out for them. Another row that is stored
    /// there nevertheless is not found out here; `audit verify` names it.
    fn record_above(
        &self,
        above: u64,
        rows: impl Into<Arc<[Row]>> + Send,
    ) -> impl Future<Output = Result<Recorded, StoreError>> + Send;

    /// Removes some of the oldest rows, if they were stored before `before` and their sequence is at most `upto`: in order
    /// of sequence, none behind a row that stays. A step is short; several processes may take them at once.
    fn retire(&self, before: Timestamp, upto: u64) -> impl Future<Output = Result<Retired, StoreError>> + Send;

    /// Everything below this sequence was retired and is not missing; 0 if nothing was.
    fn retired_below(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// The highest stored sequence, retired rows included: no new row may come to lie at or below it.
    fn last_seq(&self) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send;

    /// What the store holds in all; cheap enough for every second.
    fn totals(&self) -> impl Future<Output = Result<Totals, StoreError>> + Send;

    /// Rows with `from <= at < to`; cheap enough for every second. Exact, or where a store can't count them, exact if none is
    /// missing and clocks never stepped back.
    fn count_between(&self, from: Timestamp, to: Timestamp) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// A page of one conversation.
    fn page(
        &self,
        conversation: ConversationId,
        query: PageQuery,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// The row of a sequence.
    fn by_seq(&self, seq: u64) -> impl Future<Output = Result<Option<Row>, StoreError>> + Send;

    /// The message `id` of a conversation: of several rows with this id, the one with the smallest sequence among those
    /// whose time fits the id's, else among all.
    fn by_id(
        &self,
        conversation: ConversationId,
        id: MessageId,
    ) -> impl Future<Output = Result<Option<Row>, StoreError>> + Send;

    /// Rows of all conversations with `from <= at < to` and a sequence above `after_seq`.
    fn between(
        &self,
        from: Timestamp,
        to: Timestamp,
        after_seq: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// All rows above `after_seq`: for checks and exports.
    fn scan(&self, after_seq: u64, limit: usize) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// One conversation, if it has a row.
    fn conversation(&self, id: ConversationId)
    -> impl Future<Output = Result<Option<Conversation>, StoreError>> + Send;

    /// Conversations, the one with the newest message first. Go on with `before` = (`last.at`, `id`) of the last one.
    fn recent(
        &self,
        before: Option<ListCursor>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Conversation>, StoreError>> + Send;

    /// The same, of those that `owner` opened.
    fn owned_by(
        &self,
        owner: &str,
        before: Option<ListCursor>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Conversation>, StoreError>> + Send;

    /// All conversations that `owner` opened, ascending, each with how many messages it has where the store counts them. No
    /// page, but 32 bytes each: reading them all by pages of the list above would read what each of them ended with again
    /// for every page.
    fn all_owned_by(
        &self,
        owner: &str,
    ) -> impl Future<Output = Result<Vec<(ConversationId, Option<u64>)>, StoreError>> + Send;

    /// Remembers which stream the rows come from, or says that they come from another one.
    fn bind_stream(
        &self,
        name: &str,
        created: Timestamp,
    ) -> impl Future<Output = Result<StreamBinding, StoreError>> + Send;

    /// Goes on with another stream, whose sequences run above all stored ones. The earlier ones stay on record.
    fn rebind_stream(&self, name: &str, created: Timestamp) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The streams that rows came from, oldest first.
    fn streams(&self) -> impl Future<Output = Result<Vec<BoundStream>, StoreError>> + Send;

    /// Takes over what another store knows besides its rows, as much as is given; repeating it changes nothing. Streams that
    /// are bound already stay as they are. What was retired there counts as retired here and never comes: no row of it may
    /// be here, for none is removed.
    fn inherit(&self, heritage: Heritage) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The settings on which the promises rest, as they are now.
    fn settings(&self) -> impl Future<Output = Result<Vec<Setting>, StoreError>> + Send;

    /// Whether the store answers, and is still the one that was opened.
    fn ping(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Finishes what is queued, tidies up and ends the threads. Later calls are refused with [`StoreError::Closed`].
    fn close(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}
