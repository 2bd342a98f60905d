//! All rows of consecutive sequences, also where several stand at one.

use super::{Contract, MAX_ROWS, StoreError};
use crate::domain::Row;

/// Rows that are read beyond the expected ones, so that one look is enough where a few sequences have two.
const TWINS: usize = 16;

/// All rows up to a sequence.
pub(super) struct Span {
    /// That sequence.
    pub(super) to: u64,
    pub(super) rows: Vec<Row>,
}

/// The rows from one sequence to another, both included; there are about so many.
pub async fn within(store: &impl Contract, from: u64, to: u64, about: usize) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    let mut next = from;
    while next <= to {
        let span = span(store, next, to, about).await?;
        rows.extend(span.rows);
        next = span.to.saturating_add(1);
    }
    Ok(rows)
}

/// The rows from one sequence to another, or to an earlier one if they are more than about so many: go on behind it.
pub(super) async fn span(store: &impl Contract, from: u64, to: u64, about: usize) -> Result<Span, StoreError> {
    let limit = about.saturating_add(TWINS).min(MAX_ROWS);
    let mut rows = store.scan(from.saturating_sub(1), limit).await?;
    let is_cut = rows.len() >= limit;
    drop_cut(&mut rows, limit);
    let to = rows.last().filter(|_| is_cut).map_or(to, |last| to.min(last.seq));
    rows.retain(|row| row.seq <= to);
    Ok(Span { to, rows })
}

/// Takes the last sequence off rows that were read with this limit, if that may have cut between it and its twin.
pub fn drop_cut(rows: &mut Vec<Row>, limit: usize) {
    let (Some(first), Some(last)) = (rows.first().map(|row| row.seq), rows.last().map(|row| row.seq)) else { return };
    if rows.len() >= limit && first < last {
        rows.retain(|row| row.seq < last);
    }
}
