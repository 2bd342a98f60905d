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
use crate::domain::{Cursor, Row};
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
    /// Begin behind this place instead of at the first row.
    pub after: Option<Cursor>,
    /// The last sequence that may be in it; what is stored by now if there is none.
    pub upto: Option<u64>,
    /// A part of the same output is written already, the header line with it.
    pub is_begun: bool,
}

/// Why an export can't begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store could not be read.
    #[error(transparent)]
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
        let upto = match order.upto {
            Some(upto) => upto,
            None => settled_end(&store).await?,
        };
        let press = Press::new(&order);
        let mut reader = Reader::begin(store, order.selection, order.after, upto).await?;
        let page = reader.next_page().await?;
        Ok(Self { reader, press: Some(press), page, ready: VecDeque::new(), is_over: false })
    }

    /// The last sequence that can be in it.
    pub fn upto(&self) -> u64 {
        self.reader.upto()
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

/// The highest sequence up to which the end of the record has no hole, or the highest one if that stays as it is:
/// auditors side by side store in any order, a moment apart.
async fn settled_end(store: &Store) -> Result<u64, ExportError> {
    let Some(last) = store.last_seq().await? else { return Ok(0) };
    let deadline = tokio::time::Instant::now() + TAIL_PATIENCE;
    loop {
        let mut tail = store.scan(last.saturating_sub(TAIL), usize::try_from(TAIL).unwrap_or(usize::MAX)).await?;
        tail.retain(|row| row.seq <= last);
        let is_whole = tail.windows(2).all(|pair| matches!(pair, [one, next] if one.seq + 1 == next.seq));
        if is_whole || tokio::time::Instant::now() > deadline {
            return Ok(last);
        }
        tokio::time::sleep(TAIL_PAUSE).await;
    }
}
