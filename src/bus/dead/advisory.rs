//! The net under the roles: what the server says of messages that a consumer gave up becomes a letter like any other.
//!
//! No consumer of yalo ever gives a message up (`max_deliver` is -1, no role terminates), so an advisory means a foreign
//! hand. The stream of dead letters captures advisories by itself, so none is lost while nobody looks. Each becomes one
//! letter with the message in it: the letter first, then the advisory goes.

use base64::Engine as _;
use serde::Deserialize;
use serde_json::json;

use super::{ADVISORIES, Bus, BusError, NATS, Record};
use crate::bus::Publish;
use crate::wire;

/// Advisories of one look.
const AT_ONCE: usize = 256;

#[derive(Deserialize)]
struct Advisory {
    consumer: String,
    stream_seq: u64,
    #[serde(default)]
    deliveries: u64,
    #[serde(default)]
    reason: String,
}

impl Bus {
    /// Turns the advisories that lie there into letters, and says how many letters that made. Several may do it at once:
    /// the id of a letter is the message's.
    pub async fn settle_advisories(&self) -> Result<u64, BusError> {
        let found = self.read_dead(ADVISORIES, 1, AT_ONCE).await?;
        let mut made = 0;
        for record in found.records {
            // What is no advisory as we know them is left to the operator as it is.
            let Ok(advisory) = serde_json::from_slice::<Advisory>(&record.payload) else { continue };
            let letter = self.letter_of(&record, &advisory).await?;
            if !self.publish(letter).await?.duplicate {
                made += 1;
                let Advisory { consumer, stream_seq, .. } = &advisory;
                tracing::error!(
                    seq = stream_seq,
                    "message {stream_seq} was given up for the consumer {consumer} and is a dead letter now"
                );
            }
            self.drop_dead_letter(record.seq).await?;
        }
        Ok(made)
    }

    async fn letter_of(&self, record: &Record, advisory: &Advisory) -> Result<Publish, BusError> {
        let Advisory { consumer, stream_seq, .. } = advisory;
        let about = self.record(*stream_seq).await?;
        let mut body = json!({
            "v": 1, "role": NATS, "seq": stream_seq, "consumer": consumer, "reason": reason(record, advisory),
            "advisory": record.subject,
        });
        let mut conversation = None;
        if let Some(about) = &about {
            body["subject"] = json!(about.subject);
            body["at"] = json!(about.at);
            conversation = self.subjects().parse(&about.subject).map(|place| place.conversation);
            match wire::decode(&about.payload) {
                Ok(message) => body["message"] = json!(message),
                Err(_) => body["raw"] = json!(base64::engine::general_purpose::STANDARD.encode(&about.payload)),
            }
        }
        Ok(Publish {
            subject: self.subjects().dead(NATS, conversation),
            payload: body.to_string().into(),
            message_id: Some(format!("dead/advisory/{consumer}/{stream_seq}")),
            ..Publish::default()
        })
    }
}

/// What happened, and for the record what to do: an answer is asked for by a replay, a row is stored by a repair.
fn reason(record: &Record, advisory: &Advisory) -> String {
    let Advisory { consumer, deliveries, reason, .. } = advisory;
    let how = if record.subject.contains("MAX_DELIVERIES") { "was delivered too often" } else { "was terminated" };
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let next = if consumer == "audit" { "; the store lacks it until `yalo audit verify --repair`" } else { "" };
    format!("it {how} for the consumer {consumer}, at delivery {deliveries}{why}{next}")
}
