//! Export: rows of the store as text that other programs read, piece by piece, in an order that can be gone on with.
//!
//! Memory is flat: a page is read while the one before is written down, and a piece is about a mebibyte of text. Where a
//! piece ends follows from where it begins and from nothing else, so an export that goes on behind any of its pieces
//! comes to the same bytes as one that was never interrupted. Each piece is whole in itself: lines end with it, and so
//! does a member of gzip or a frame of zstd; both formats allow any number of them behind each other.

mod csv;
mod pack;
mod press;
mod reader;
mod selection;
mod shown;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use pack::Packing;
pub use press::Format;
pub use selection::{Selection, Whose};
pub use shown::Shown;

use self::press::Press;
use self::reader::Reader;
use crate::domain::{Bound, ConversationId, Cursor, Row, Timestamp};
use crate::store::{Contract, Store, StoreError};

/// Rows at the end of the record that auditors may be writing side by side, and how long they are waited for.
const TAIL: u64 = 2000;
const TAIL_PATIENCE: Duration = Duration::from_secs(2);
const TAIL_PAUSE: Duration = Duration::from_millis(50);

/// What to export, and how to write it down.
#[derive(Debug, Clone)]
pub struct Order {
    /// Which rows.
    pub selection: Selection,
    /// As what.
    pub format: Format,
    /// Packed how.
    pub packing: Packing,
    /// Leave out everything up to this sequence.
    pub after: Option<Cursor>,
    /// Of a user's conversations: `after` lies in this one, and those before it are written already.
    pub after_in: Option<ConversationId>,
    /// Where it ends; with what is stored by now if it is not said.
    pub end: Option<End>,
    /// A part of the same output is written already, the header line with it.
    pub is_begun: bool,
}

/// Where an export ends, and where the next one has to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct End {
    /// The last sequence that may be in it.
    pub upto: u64,
    /// An export from this sequence on, of the same, has everything that is not in this one. Rows below `upto` that were
    /// still on their way may lie between: then some rows are in both.
    pub next: u64,
}

/// Why an export can't begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store could not be read.
    #[error("the store can't be read")]
    Store(#[from] StoreError),
    /// Nothing is stored of what was asked for.
    #[error("{0}")]
    NotFound(String),
    /// The text could not be packed, or the process is ending.
    #[error("the text could not be written down: {0}")]
    Press(String),
}

/// A part of the output.
#[derive(Debug, Clone)]
pub struct Piece {
    /// What to write.
    pub bytes: Bytes,
    /// Rows in it.
    pub rows: u64,
    /// Its last row: what comes behind begins after it. `None` without a row.
    pub cursor: Option<Cursor>,
    /// The conversation of that row.
    pub conversation: Option<ConversationId>,
    /// What is missing between its rows, and between them and those of the piece before. Only known of an export of
    /// everything.
    pub holes: Option<Holes>,
}

/// Sequences that the store does not have between rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holes {
    /// The first of them.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl Holes {
    /// Those of two stretches, one after the other.
    pub fn join(one: Option<Self>, next: Option<Self>) -> Option<Self> {
        match (one, next) {
            (Some(one), Some(next)) => Some(Self { count: one.count + next.count, ..one }),
            (one, next) => one.or(next),
        }
    }
}

/// A running export.
pub struct Export {
    reader: Reader,
    press: Option<Press>,
    page: Vec<Row>,
    ready: VecDeque<Piece>,
    is_over: bool,
}

impl Export {
    /// Finds out what is to be exported, as of now: what is stored later is not in it.
    pub async fn begin(store: Store, order: Order) -> Result<Self, ExportError> {
        let end = match order.end {
            Some(end) => end,
            None => end_of(&store, &order.selection).await?,
        };
        let press = Press::new(&order, before(&store, &order).await?);
        let mut reader = Reader::begin(store, order, end).await?;
        let page = reader.next_page().await?;
        Ok(Self { reader, press: Some(press), page, ready: VecDeque::new(), is_over: false })
    }

    /// Where it ends.
    pub fn end(&self) -> End {
        self.reader.end()
    }

    /// About how many rows it has in all, those before `after` included.
    pub async fn expected(&self) -> Result<u64, ExportError> {
        self.reader.expected().await
    }

    /// The next piece; `None` at the end. After an error the export is over, and not complete.
    pub async fn next(&mut self) -> Result<Option<Piece>, ExportError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            if self.is_over {
                return Ok(None);
            }
            self.step().await?;
        }
    }

    /// Writes down one page, on a thread of its own, while the next one is read.
    async fn step(&mut self) -> Result<(), ExportError> {
        let gone = || ExportError::Press("it was cut off".to_owned());
        let mut press = self.press.take().ok_or_else(gone)?;
        let page = std::mem::take(&mut self.page);
        let is_last = page.is_empty();
        let pressing = tokio::task::spawn_blocking(move || {
            let pieces = if is_last { press.finish() } else { press.add(&page) };
            (press, pieces)
        });
        let reading = async { if is_last { Ok(Vec::new()) } else { self.reader.next_page().await } };
        let (pressed, page) = tokio::join!(pressing, reading);
        let (press, pieces) = pressed.map_err(|_| gone())?;
        self.ready.extend(pieces.map_err(|error| ExportError::Press(error.to_string()))?);
        self.page = page?;
        self.press = Some(press);
        self.is_over = is_last;
        Ok(())
    }
}

/// The end of an export that begins now.
async fn end_of(store: &Store, selection: &Selection) -> Result<End, StoreError> {
    let End { upto, next } = settled_end(store).await?;
    let from = if let Some(Bound::Seq(from)) = selection.from { from } else { 0 };
    Ok(match selection.to {
        None => End { upto, next: next.max(from) },
        Some(Bound::Seq(to)) => End { upto: upto.min(to), next: next.min(to.saturating_add(1)).max(from) },
        Some(Bound::At(to)) => {
            // Clocks step back: some rows of before the instant may lie behind this one.
            let first = store.between(to, Timestamp::from_ns(i64::MAX), 0, 1).await?;
            End { upto, next: first.first().map_or(next, |row| next.min(row.seq)).max(from) }
        }
    })
}

/// The end of the record, once no sequence is missing just before it, or if that stays as it is: auditors side by side
/// store in any order, a moment apart.
async fn settled_end(store: &Store) -> Result<End, StoreError> {
    let Some(last) = store.last_seq().await? else { return Ok(End { upto: 0, next: 1 }) };
    let deadline = tokio::time::Instant::now() + TAIL_PATIENCE;
    loop {
        let tail = store.scan(last.saturating_sub(TAIL), usize::try_from(TAIL).unwrap_or(usize::MAX)).await?;
        let missing = tail.windows(2).find_map(|pair| match pair {
            [one, after] if one.seq + 1 < after.seq && one.seq < last => Some(one.seq + 1),
            _ => None,
        });
        // The newest one itself may be there in part.
        let shown = tail.last().map_or(last, |row| row.seq);
        let missing = missing.or((shown < last).then_some(shown + 1));
        if missing.is_none() || tokio::time::Instant::now() > deadline {
            return Ok(End { upto: last, next: missing.unwrap_or(last + 1) });
        }
        tokio::time::sleep(TAIL_PAUSE).await;
    }
}

/// The sequence behind which no row may be missing at the start, if there is one.
async fn before(store: &Store, order: &Order) -> Result<Option<u64>, StoreError> {
    if let Some(after) = order.after {
        return Ok(Some(after.seq));
    }
    let Some(Bound::Seq(from)) = order.selection.from.filter(|_| order.selection.is_consecutive()) else {
        return Ok(None);
    };
    // What lies before the first row was never stored here, or retired.
    let first = store.totals().await?.first;
    Ok(first.filter(|first| first.seq < from).map(|_| from - 1))
}
