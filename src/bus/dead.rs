//! The stream of dead letters: what nobody could handle, each with its reason, until an operator has dealt with it.

use serde::Deserialize;
use serde_json::json;

use super::{Bus, BusError, Read, Record, state};

#[derive(Deserialize)]
struct Deleted {
    success: bool,
}

impl Bus {
    /// Up to `limit` dead letters from `seq` on, oldest first.
    pub async fn dead_letters(&self, seq: u64, limit: usize) -> Result<Read, BusError> {
        let request = json!({ "next_by_subj": ">", "seq": seq.max(1), "batch": limit });
        self.direct_get(&self.options.dead_stream(), &request).await
    }

    /// One dead letter; `None` if it is not there (any more).
    pub async fn dead_letter(&self, seq: u64) -> Result<Option<Record>, BusError> {
        let read = self.dead_letters(seq, 1).await?;
        Ok(read.records.into_iter().find(|record| record.seq == seq))
    }

    /// Removes a dead letter for good. The message that it is about stays where it is, in stream and store.
    pub async fn drop_dead_letter(&self, seq: u64) -> Result<bool, BusError> {
        let subject = format!("$JS.API.STREAM.MSG.DELETE.{}", self.options.dead_stream());
        let answer = self.ask("drop a dead letter", subject, json!({ "seq": seq }).to_string().into()).await?;
        Ok(state::parse::<Deleted>(&answer.payload, "the dead letter")?.success)
    }
}
