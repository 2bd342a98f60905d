//! What the record has of an upload's lines, however long ago they were stored: the duplicate window forgets after minutes.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::stopping;
use super::way::{Stop, stop};
use crate::bus::{BusError, From};
use crate::domain::{ConversationId, Message, MessageId, Who};
use crate::role::frontend::state::Front;
use crate::web::ApiError;
use crate::wire;

/// Records of one page.
const PAGE: usize = 1000;
/// A replica may lag behind the leader for so long.
const LAG: Duration = Duration::from_secs(5);

/// The sequences of messages.
pub(super) type Known = HashMap<(ConversationId, MessageId), u64>;

/// Looks for `wanted` among what was logged behind the sequence `after`.
pub(super) async fn find(
    front: &Front,
    after: u64,
    mut wanted: HashSet<(ConversationId, MessageId)>,
) -> Result<Known, Stop> {
    let (bus, filter) = (&front.bus, front.bus.subjects().logs());
    let begins = bus.first_seq().await.map_err(|error| stop(&error))?;
    if begins > after.saturating_add(1) {
        let detail = format!("the stream begins at {begins} by now: lines behind {after} can't be looked for in it");
        let next = "compare with an export of the record, then send what is missing without `after`";
        return Err(Stop(ApiError::invalid_field("after", detail).next(next)));
    }
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
                known.insert(key, record.seq);
            }
        }
        if let Some(last) = page.records.last() {
            (from, lag) = (last.seq + 1, None);
            continue;
        }
        // A replica may lag: only the leader knows that nothing follows.
        if bus.next_by_leader(&filter, from).await.map_err(|error| stop(&error))?.is_none() {
            break;
        }
        if lag.get_or_insert_with(Instant::now).elapsed() > LAG {
            return Err(stop(&BusError::unavailable("read the stream", "a replica lags behind its leader")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(known)
}

/// Whether the record has another message at this sequence than `message`, which has the same id. The time that it was sent
/// at may differ: a line that names none gets a new one each time.
pub(super) async fn is_another(front: &Front, seq: u64, message: &Message) -> Result<bool, Stop> {
    let subject = front.bus.subjects().record(message.conversation, Who::Log);
    let record = match front.bus.record(seq).await.map_err(|error| stop(&error))? {
        Some(record) => Some(record),
        // Trimmed, or not yet known to a replica.
        None => front.bus.record_by_leader(&subject, seq).await.map_err(|error| stop(&error))?,
    };
    let stored = record.filter(|record| record.seq == seq).and_then(|record| wire::decode(&record.payload).ok());
    let Some(stored) = stored else { return Ok(false) };
    let stored = Message { sent_at: message.sent_at, ..stored };
    Ok(wire::encode(&stored) != wire::encode(message))
}
