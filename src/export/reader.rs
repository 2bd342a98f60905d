//! The rows of a selection, page by page, through the store's contract.

use super::{End, ExportError, Order, Selection, Whose};
use crate::domain::{Bound, ConversationId, Row, Timestamp};
use crate::store::{Contract, PageQuery, Store, drop_cut};

/// Rows of the first page and of any: 64 MiB, if small messages are followed by nothing but the largest ones. A page is
/// made to hold about so many bytes, by what the one before held.
const MOST_ROWS: usize = 512;
const LEAST_ROWS: usize = 16;
const PAGE_BYTES: usize = 2 << 20;

/// Where it is.
pub(super) struct Reader {
    store: Store,
    selection: Selection,
    end: End,
    /// The conversations that are still to be read, the present one last; `None` for everyone's.
    conversations: Option<Vec<ConversationId>>,
    /// What lies up to here is not asked for.
    start: u64,
    /// Rows of the present conversation, or of all, up to here have been read.
    after: u64,
    rows: usize,
    expected: Option<u64>,
}

impl Reader {
    pub(super) async fn begin(store: Store, order: Order, end: End) -> Result<Self, ExportError> {
        let Order { selection, after, after_in, .. } = order;
        let mut expected = None;
        let mut conversations = match &selection.whose {
            Whose::Everyone => None,
            Whose::Conversation(id) => {
                let found = store.conversation(*id).await?;
                let found =
                    found.ok_or_else(|| ExportError::NotFound(format!("no message of conversation {id} is stored")))?;
                expected = found.messages;
                Some(vec![*id])
            }
            Whose::User(user) => {
                let owned = store.all_owned_by(user).await?;
                if owned.is_empty() {
                    return Err(ExportError::NotFound(format!("no conversation of the user {user:?} is stored")));
                }
                expected = owned.iter().map(|(_, messages)| *messages).sum();
                Some(owned.into_iter().map(|(id, _)| id).rev().collect())
            }
        };
        let mut start = match selection.from {
            None => 0,
            Some(Bound::Seq(seq)) => seq.saturating_sub(1),
            Some(Bound::At(at)) => {
                let first = store.between(at, Timestamp::from_ns(i64::MAX), 0, 1).await?;
                first.first().map_or(u64::MAX, |row| row.seq.saturating_sub(1))
            }
        };
        let passed = start.max(after.map_or(0, |cursor| cursor.seq));
        let mut after = passed;
        match (after_in, &mut conversations) {
            (Some(present), Some(left)) => {
                left.retain(|id| *id >= present);
                if left.last() != Some(&present) {
                    after = start;
                }
            }
            _ => start = passed,
        }
        Ok(Self { store, selection, end, conversations, start, after, rows: MOST_ROWS, expected })
    }

    pub(super) fn end(&self) -> End {
        self.end
    }

    pub(super) async fn expected(&self) -> Result<u64, ExportError> {
        if let Some(expected) = self.expected {
            return Ok(expected);
        }
        let (from, to) = self.instants();
        match (self.selection.from, self.selection.to) {
            (None, None) => Ok(self.store.totals().await?.messages),
            (None | Some(Bound::At(_)), None | Some(Bound::At(_))) => Ok(self.store.count_between(from, to).await?),
            _ => Ok(self.end.upto.saturating_sub(self.start)),
        }
    }

    /// The next rows, in order, all of the last sequence among them; none at the end.
    pub(super) async fn next_page(&mut self) -> Result<Vec<Row>, ExportError> {
        loop {
            let mut rows = self.read().await?;
            drop_cut(&mut rows, self.rows);
            let is_over = rows.last().is_none_or(|last| last.seq >= self.end.upto);
            if let Some(last) = rows.last() {
                self.after = last.seq;
                let bytes = rows.iter().map(|row| row.payload.len() + 200).sum::<usize>();
                self.rows = (rows.len() * PAGE_BYTES / bytes.max(1)).clamp(LEAST_ROWS, MOST_ROWS);
            }
            rows.retain(|row| row.seq <= self.end.upto && self.selection.has(row));
            if is_over && !self.next_conversation() {
                // Nothing more is read: the next page is empty.
                self.after = u64::MAX;
            }
            if !rows.is_empty() || self.after == u64::MAX {
                return Ok(rows);
            }
        }
    }

    async fn read(&self) -> Result<Vec<Row>, ExportError> {
        if self.after >= self.end.upto {
            return Ok(Vec::new());
        }
        if let Some(conversations) = &self.conversations {
            let Some(present) = conversations.last() else { return Ok(Vec::new()) };
            let query = PageQuery { after: Some(self.after), before: None, limit: self.rows };
            return Ok(self.store.page(*present, query).await?);
        }
        let (from, to) = self.instants();
        if self.selection.is_by_time() {
            return Ok(self.store.between(from, to, self.after, self.rows).await?);
        }
        Ok(self.store.scan(self.after, self.rows).await?)
    }

    /// Goes to the next conversation, if there is one.
    fn next_conversation(&mut self) -> bool {
        self.after = self.start;
        self.conversations.as_mut().is_some_and(|conversations| {
            conversations.pop();
            !conversations.is_empty()
        })
    }

    fn instants(&self) -> (Timestamp, Timestamp) {
        let at = |bound, open| if let Some(Bound::At(at)) = bound { at } else { Timestamp::from_ns(open) };
        (at(self.selection.from, i64::MIN), at(self.selection.to, i64::MAX))
    }
}
