//! All rows from one sequence to another, also where several stand at one.

use super::{Contract, MAX_ROWS, StoreError};
use crate::domain::Row;

/// Rows that are read beyond the expected ones, so that one look is enough where a few sequences have two.
const TWINS: usize = 16;

/// The rows from one sequence to another, both included; there are about so many.
pub async fn within(store: &impl Contract, from: u64, to: u64, about: usize) -> Result<Vec<Row>, StoreError> {
    let limit = about.saturating_add(TWINS).min(MAX_ROWS);
    let mut rows: Vec<Row> = Vec::new();
    let mut after = from.saturating_sub(1);
    loop {
        let mut more = store.scan(after, limit).await?;
        let (Some(first), Some(last)) = (more.first().map(|row| row.seq), more.last().map(|row| row.seq)) else {
            return Ok(rows);
        };
        let is_last = more.len() < limit || last > to;
        if !is_last && first < last {
            // It may have a twin that is not in here: it is read again.
            more.retain(|row| row.seq < last);
            after = last - 1;
        } else {
            after = last;
        }
        rows.extend(more.into_iter().filter(|row| row.seq <= to));
        if is_last {
            return Ok(rows);
        }
    }
}
