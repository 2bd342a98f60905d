//! A question whose id its conversation had before: the net under the duplicate window.
//!
//! The window keeps a second copy out for two minutes, and frontends look older ids up before they publish them. What is
//! left is a publish that the network held back until after both. It is in the stream for good; a second answer is not.

use crate::bus::{Bus, BusError, From, Record};
use crate::domain::{Message, Timestamp, Who, limits};
use crate::wire;

/// Questions of one read.
const PAGE: usize = 256;

/// Whether an earlier message of the conversation has the id of `question`, stored as `stored`. Costs nothing while the id
/// is young: then the window was still open when it was stored. An earlier one that the stream has lost is not seen.
pub(super) async fn is_repeat(bus: &Bus, stored: &Record, question: &Message) -> Result<bool, BusError> {
    let made = question.id.time_ms();
    if stored.at.ms() <= made + limits::ID_LATE_MS {
        return Ok(false);
    }
    let filter = bus.subjects().record(question.conversation, Who::User);
    let mut from = From::Time(Timestamp::from_ms(made.saturating_sub(limits::ID_LATE_MS)));
    loop {
        let page = bus.read(&filter, from, PAGE).await?;
        for record in &page.records {
            if record.seq >= stored.seq {
                return Ok(false);
            }
            if wire::decode(&record.payload).is_ok_and(|message| message.id == question.id) {
                return Ok(true);
            }
            from = From::Seq(record.seq + 1);
        }
        if !page.more && bus.first_seq().await? <= stored.seq {
            // The question itself is in the stream, and a replica that does not show it lacks others too.
            return Err(BusError::unavailable("look for a repeat", "a replica lags behind"));
        }
        if !page.more {
            return Ok(false);
        }
    }
}
