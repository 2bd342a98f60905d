//! Asking the question of a dead letter again: once, however often it is asked for.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Bus, BusError, Letter, Record};
use crate::bus::{From, Publish};
use crate::domain::{ConversationId, Kind, Message, MessageId, Timestamp, Who, limits};
use crate::wire;

/// Messages of one read.
const PAGE: usize = 256;

/// A question that was asked again.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Replayed {
    /// The letter that it was in, which is dropped now.
    pub letter: u64,
    /// Where it is asked.
    pub conversation: ConversationId,
    /// The sequence of the new question.
    pub seq: u64,
    /// It had been asked again before, and only its letter was still there.
    pub duplicate: bool,
}

/// Why a letter cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It is not about a question of a user.
    #[error("the dead letter {0} is not about a question, so it cannot be asked again")]
    NotAQuestion(u64),
    /// The name of the old question does not fit beside the data of the question.
    #[error("the `data` of letter {0} has no room for the name of the old question")]
    NoRoom(u64),
    /// NATS.
    #[error(transparent)]
    Bus(#[from] BusError),
}

#[derive(Deserialize)]
struct Marked {
    replay_of: Original,
}

#[derive(Deserialize)]
struct Original {
    seq: u64,
}

impl Bus {
    /// Asks the question of a letter as a new one that names the old one, then drops the letter. Broken off in between,
    /// the next call finds the new question and only drops the letter.
    pub async fn replay(&self, letter: &Letter) -> Result<Replayed, ReplayError> {
        let number = letter.letter;
        let question = again(letter)?;
        let (conversation, subject) = (question.conversation, self.subjects().record(question.conversation, Who::User));
        // The window of the stream knows ids of the last minutes; older replays are found in the conversation.
        let earlier = self.asked_again(letter.seq, &subject).await?;
        let (seq, duplicate) = match earlier {
            Some(seq) => (seq, true),
            None => {
                let payload = wire::encode(&question).into();
                let message_id = Some(format!("replay/{number}"));
                let published = self.publish(Publish { subject, payload, message_id, ..Publish::default() }).await?;
                (published.seq, published.duplicate)
            }
        };
        self.drop_dead_letter(number).await?;
        Ok(Replayed { letter: number, conversation, seq, duplicate })
    }

    async fn asked_again(&self, old: Option<u64>, subject: &str) -> Result<Option<u64>, BusError> {
        let mut next = old.unwrap_or(0) + 1;
        loop {
            let page = self.read(subject, From::Seq(next), PAGE).await?;
            if let Some(found) = page.records.iter().find(|record| replays(record, old)) {
                return Ok(Some(found.seq));
            }
            match page.records.last() {
                Some(last) if page.more => next = last.seq + 1,
                _ => return Ok(None),
            }
        }
    }
}

fn replays(record: &Record, old: Option<u64>) -> bool {
    let marked = |message: Message| serde_json::from_str::<Marked>(message.data?.get()).ok();
    let marked = wire::decode(&record.payload).ok().and_then(marked);
    marked.is_some_and(|marked| Some(marked.replay_of.seq) == old)
}

/// The question of a letter as a new one: a replay is never the old question, which has its record.
fn again(letter: &Letter) -> Result<Message, ReplayError> {
    let (Some(seq), Some(message), true) = (letter.seq, letter.message.clone(), letter.replayable) else {
        return Err(ReplayError::NotAQuestion(letter.letter));
    };
    let data = message.data.as_deref().and_then(|data| serde_json::from_str(data.get()).ok());
    let mut data = match data {
        None => json!({}),
        Some(data @ Value::Object(_)) => data,
        Some(other) => json!({ "data": other }),
    };
    data["replay_of"] = json!({ "id": message.id, "seq": seq });
    let data = RawValue::from_string(data.to_string()).ok().filter(|data| data.get().len() <= limits::DATA_BYTES);
    Ok(Message {
        id: MessageId::new(),
        kind: Kind::Text,
        sent_at: Timestamp::now(),
        reply_to: None,
        data: Some(data.ok_or(ReplayError::NoRoom(letter.letter))?),
        ..message
    })
}
