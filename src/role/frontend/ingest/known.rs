//! What the record has of an upload's lines, however long ago they were stored: the duplicate window forgets after minutes.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::stopping;
use super::way::{Stop, stop};
use crate::bus::{BusError, From};
use crate::domain::{ConversationId, Message, MessageId};
use crate::role::frontend::state::Front;
use crate::web::ApiError;
use crate::wire;

/// Records of one page.
const PAGE: usize = 1000;
/// A replica may lag behind the leader for so long.
const LAG: Duration = Duration::from_secs(5);

/// What the record has under an id: its sequence, and what it says, as far as it can be read.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) seq: u64,
    says: Option<Message>,
}

impl Found {
    /// Whether it is another message than this one, which has the same id.
    pub(super) fn is_another(&self, message: &Message) -> bool {
        self.says.as_ref().is_some_and(|known| !known.says_the_same_as(message))
    }
}

/// What the record has of the lines of an upload, which are few: see `SEARCHED_BYTES`.
pub(super) type Known = HashMap<(ConversationId, MessageId), Found>;

/// Looks for `wanted` among what was logged behind the sequence `after`.
pub(super) async fn find(
    front: &Front,
    after: u64,
    mut wanted: HashSet<(ConversationId, MessageId)>,
) -> Result<Known, Stop> {
    let (bus, filter) = (&front.bus, front.bus.subjects().logs());
    let (mut known, mut from, mut lag) = (Known::new(), after.saturating_add(1), None);
    while !wanted.is_empty() {
        if front.stop.is_cancelled() {
            return Err(Stop(stopping()));
        }
        let page = bus.read(&filter, From::Seq(from), PAGE).await.map_err(|error| stop(&error))?;
        for record in &page.records {
            let place = bus.subjects().parse(&record.subject);
            let (Some(place), Ok(head)) = (place, wire::head(&record.payload)) else { continue };
            let key = (place.conversation, head.id);
            if wanted.remove(&key) {
                known.insert(key, Found { seq: record.seq, says: wire::decode(&record.payload).ok() });
            }
        }
        if let Some(last) = page.records.last() {
            (from, lag) = (last.seq + 1, None);
            continue;
        }
        // A replica may lag: only the leader knows that nothing follows.
        if bus.next_by_leader(&filter, from).await.map_err(|error| stop(&error))?.is_none() {
            // Asked afterwards: nothing was trimmed under the read.
            let begins = bus.first_seq().await.map_err(|error| stop(&error))?;
            if begins <= after.saturating_add(1) {
                break;
            }
            let detail =
                format!("the stream begins at {begins} by now: lines behind {after} can't be looked for in it");
            let next = "compare with an export of the record, then send what is missing without `after` (`yalo ingest`: by \
                        --from-line instead of --resume)";
            return Err(Stop(ApiError::invalid_field("after", detail).next(next)));
        }
        if lag.get_or_insert_with(Instant::now).elapsed() > LAG {
            return Err(stop(&BusError::unavailable("read the stream", "a replica lags behind its leader")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(known)
}

/// What the record has at this sequence; nothing if it has been trimmed since.
pub(super) async fn at(front: &Front, seq: u64) -> Result<Found, Stop> {
    let record = match front.bus.record(seq).await.map_err(|error| stop(&error))? {
        Some(record) => Some(record),
        // A replica may not know of it yet.
        None => front.bus.record_by_leader(">", seq).await.map_err(|error| stop(&error))?,
    };
    let record = record.filter(|record| record.seq == seq);
    Ok(Found { seq, says: record.and_then(|record| wire::decode(&record.payload).ok()) })
}
