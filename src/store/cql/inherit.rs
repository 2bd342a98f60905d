//! What a copy takes over from the store that it is a copy of, besides the rows.

use super::record::{self, Opened};
use super::{Shared, retire, streams};
use crate::domain::Timestamp;
use crate::store::{Heritage, StoreError};

pub(super) async fn inherit(shared: &Shared, heritage: &Heritage) -> Result<(), StoreError> {
    let bound = streams::all(shared).await?;
    for stream in &heritage.streams {
        if !bound.iter().any(|bound| bound.is(stream)) {
            streams::add(shared, &stream.name, stream.created, stream.above_seq).await?;
        }
    }
    // The row that said so is gone; it lay below all that are here, and none of those takes its place.
    let owners = heritage.owners.iter();
    let owners = owners.map(|(id, owner)| Opened { conversation: *id, owner, seq: 0, at: Timestamp::now() });
    record::own(shared, &owners.collect::<Vec<_>>()).await?;
    match heritage.retired_below {
        0 => Ok(()),
        below => retire::raise(shared, below).await,
    }
}
