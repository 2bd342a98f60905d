//! The end of a batch that nobody holds in his hands any more: its frontend died, or its connection broke.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Answer, Operation, code, not_of_a_batch, replies, reply};
use crate::bus::{Bus, BusError};
use crate::domain::{ConversationId, Who};

/// A replica forgets a batch 10 s after its last message.
const FORGOTTEN: Duration = Duration::from_secs(11);
/// So often is looked whether a batch is over in a cluster.
const LOOKS: usize = 5;
const DOING: &str = "end a batch";

impl Bus {
    /// Sees to it that nothing more of these batches is stored, wherever it may still lie.
    ///
    /// It is said first, where all frontends look before they send: so none that is slow begins one later. Then the leader is
    /// made to end what has begun: it does so at the first number that does not fit. A replica has its own idea of a batch,
    /// and would go on with it if it came to lead: so in a cluster all have to forget it first, which takes some seconds. Only
    /// one that was away all the time, and leads as soon as it is back, would still know of it.
    pub async fn end_batches(&self, names: &[Uuid]) -> Result<(), BusError> {
        if names.is_empty() {
            return Ok(());
        }
        let stream = self.stream_state().await?;
        if !stream.batches {
            return Ok(());
        }
        for name in names {
            self.put_member(&given_up(*name), Bytes::new()).await?;
        }
        for look in 1..=LOOKS {
            let mut found = false;
            for name in names {
                found |= self.end_batch(*name).await?;
            }
            if stream.replicas <= 1 || (look > 1 && !found) {
                return Ok(());
            }
            tokio::time::sleep(FORGOTTEN).await;
        }
        Err(BusError::unavailable(DOING, "it goes on"))
    }

    pub(super) async fn is_given_up(&self, name: Uuid) -> Result<bool, BusError> {
        self.is_member(&given_up(name)).await
    }

    /// Whether the leader knew of it.
    async fn end_batch(&self, name: Uuid) -> Result<bool, BusError> {
        let inbox = self.client().new_inbox();
        let mut answers = self.subscribe(format!("{inbox}.>")).await?;
        let deadline = Instant::now() + self.options.request_timeout;
        let subject = self.subjects().record(ConversationId::new(), Who::Log);
        let mut found = false;
        loop {
            // No batch has so many: a gap, at which it ends. Of one that is not there nothing begins.
            let reply = reply(&replies(&inbox, name), u64::MAX - 1, Operation::Ping);
            let asked = self.client().publish_with_reply(subject.clone(), reply, Bytes::new()).await;
            asked.map_err(|error| BusError::unavailable(DOING, error))?;
            loop {
                let answer = tokio::time::timeout_at(deadline, answers.next()).await;
                let answer = answer.map_err(|_| BusError::TimedOut { doing: DOING })?;
                let Some(answer) = answer.filter(|answer| answer.status.is_none()) else {
                    return Err(BusError::unavailable(DOING, "nobody answers on that subject"));
                };
                match Answer::of(&answer) {
                    Answer { error: Some(error), .. } if [code::UNKNOWN, code::DISABLED].contains(&error.err_code) => {
                        return Ok(found);
                    }
                    Answer { error: Some(error), .. } => return Err(error.into_error(DOING)),
                    // Its last word.
                    Answer { kind: None, count: Some(_), .. } => return Ok(true),
                    // Some of it is on its way to the replicas.
                    Answer { kind: Some(kind), .. } if kind == "ack" => break,
                    Answer { kind: Some(kind), .. } if kind == "gap" => found = true,
                    _ => return Err(not_of_a_batch(DOING)),
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The key in the bucket of members that says so.
fn given_up(name: Uuid) -> String {
    format!("batch.{}", name.simple())
}
