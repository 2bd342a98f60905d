//! The stream of dead letters: what nobody could handle, each with its reason, until an operator has dealt with it.

mod advisory;
mod letter;
mod replay;

use serde::Deserialize;
use serde_json::json;

use super::{Bus, BusError, Read, Record, state};

pub use letter::{Letter, LetterInFull};
pub use replay::{ReplayError, Replayed};

/// Who makes dead letters: the roles, and the server itself, whose advisories become letters of `nats`.
pub const LETTER_ROLES: [&str; 3] = ["bot", "auditor", NATS];
/// The server, as a maker of letters.
const NATS: &str = "nats";
/// What the server says of messages that a consumer gave up.
const ADVISORIES: &str = "$JS.EVENT.ADVISORY.>";

/// Some dead letters, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Letters {
    /// At most as many as asked for.
    pub letters: Vec<Letter>,
    /// Whether more lie behind the last one.
    pub more: bool,
}

#[derive(Deserialize)]
struct Deleted {
    success: bool,
}

impl Bus {
    /// Up to `limit` dead letters behind the letter `after`, oldest first.
    pub async fn dead_letters(&self, after: u64, limit: usize) -> Result<Letters, BusError> {
        let read = self.read_dead(">", after.saturating_add(1), limit).await?;
        Ok(Letters { letters: read.records.into_iter().map(Letter::read).collect(), more: read.more })
    }

    /// One dead letter; `None` if it is not there (any more).
    pub async fn dead_letter(&self, letter: u64) -> Result<Option<Letter>, BusError> {
        let read = self.read_dead(">", letter, 1).await?;
        Ok(read.records.into_iter().find(|record| record.seq == letter).map(Letter::read))
    }

    /// Removes a dead letter for good, and says whether it was there. The message that it is about stays where it is, in
    /// stream and store.
    pub async fn drop_dead_letter(&self, letter: u64) -> Result<bool, BusError> {
        let subject = format!("$JS.API.STREAM.MSG.DELETE.{}", self.options.dead_stream());
        let answer = self.ask("drop a dead letter", subject, json!({ "seq": letter }).to_string().into()).await?;
        match state::parse::<Deleted>(&answer.payload, "the dead letter") {
            Ok(deleted) => Ok(deleted.success),
            // The server's words for a message that is not there differ from release to release.
            Err(error) => match self.dead_letter(letter).await? {
                None => Ok(false),
                Some(_) => Err(error),
            },
        }
    }

    /// How many letters lie there by who made them, in the order of [`LETTER_ROLES`].
    pub async fn count_dead_letters(&self) -> Result<[u64; LETTER_ROLES.len()], BusError> {
        let mut counts = [0; LETTER_ROLES.len()];
        if self.state_of(&self.options.dead_stream()).await?.messages == 0 {
            return Ok(counts);
        }
        for (count, role) in counts.iter_mut().zip(LETTER_ROLES) {
            *count = self.count_of(&self.subjects().dead_of(role)).await?;
            if role == NATS {
                *count += self.count_of(ADVISORIES).await?;
            }
        }
        Ok(counts)
    }

    /// The server counts what lies behind the first match: nothing else has to be read.
    async fn count_of(&self, filter: &str) -> Result<u64, BusError> {
        let read = self.read_dead(filter, 1, 1).await?;
        Ok(read.left + u64::try_from(read.records.len()).unwrap_or(u64::MAX))
    }

    async fn read_dead(&self, filter: &str, seq: u64, limit: usize) -> Result<Read, BusError> {
        let request = json!({ "next_by_subj": filter, "seq": seq.max(1), "batch": limit });
        self.direct_get(&self.options.dead_stream(), &request).await
    }
}
