//! What a copy takes over from the store that it is a copy of, besides the rows.

use rusqlite::{Connection, TransactionBehavior, params};

use super::{retire, streams};
use crate::domain::Timestamp;
use crate::store::Heritage;

/// Takes it over in one transaction.
pub(super) fn inherit(connection: &mut Connection, heritage: &Heritage) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let bound = streams::all(&transaction)?;
    for stream in &heritage.streams {
        if !bound.iter().any(|bound| bound.is(stream)) {
            streams::add(&transaction, &stream.name, stream.created, stream.above_seq)?;
        }
    }
    for (conversation, owner) in &heritage.owners {
        // The row that said so is gone; it lay below all that are here, and none of those takes its place.
        transaction
            .prepare_cached("UPDATE conversations SET owner = ?2, opened_seq = 0 WHERE conversation = ?1")?
            .execute(params![conversation.as_bytes(), owner])?;
    }
    let below = i64::try_from(heritage.retired_below).unwrap_or(i64::MAX);
    if below > retire::below(&transaction)? {
        retire::receipt(&transaction, below, 0, Timestamp::now())?;
    }
    transaction.commit()
}
