//! The envelope: JSON with a version, `{"v":1,"id":..,"conversation":..,"who":..,..}`.
//!
//! Unknown fields are ignored by readers and kept by the store, which holds the raw bytes. An unknown version is not an
//! error of the publisher: a newer neighbour wrote it, so it is stored raw and never dead-lettered.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::text::Text;
use crate::domain::{ConversationId, Kind, Message, MessageId, ReplyTo, Timestamp, Who};

/// The version that this release writes and understands.
pub const VERSION: u32 = 1;

/// Bytes of an envelope beside its texts: if there are more, the buffer grows.
const FIXED: usize = 256;

#[derive(Serialize)]
struct Out<'a> {
    v: u32,
    #[serde(flatten)]
    message: &'a Message,
}

/// What a message is listed and found by. Nothing of the payload is copied; a payload has a head if it is a message, and
/// only then.
#[derive(Debug, Deserialize)]
pub struct Head<'a> {
    /// As in [`Message`].
    pub id: MessageId,
    /// As in [`Message`].
    pub conversation: ConversationId,
    /// As in [`Message`].
    pub who: Who,
    /// As in [`Message`].
    #[serde(borrow)]
    pub author: Cow<'a, str>,
    /// As in [`Message`].
    pub kind: Kind,
    #[serde(default, borrow, rename = "text")]
    _text: Option<Text<'a>>,
    #[serde(default, rename = "reply_to")]
    _reply_to: Option<ReplyTo>,
    #[serde(default, borrow, rename = "bot")]
    _bot: Option<Text<'a>>,
    #[serde(rename = "sent_at")]
    _sent_at: Timestamp,
    #[serde(default, borrow, rename = "data")]
    _data: Option<&'a RawValue>,
    #[serde(default, rename = "side")]
    _side: Option<Who>,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// Why a payload is not a message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A newer release wrote it: store it raw, do not dead-letter it.
    #[error("envelope version {0} is newer than {VERSION}")]
    Newer(u32),
    /// Not an envelope at all: store it raw and dead-letter it.
    #[error("not an envelope: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// The bytes to publish.
pub fn encode(message: &Message) -> Vec<u8> {
    let data = message.data.as_ref().map_or(0, |data| data.get().len());
    let texts = message.author.len() + message.text.as_ref().map_or(0, String::len) + data;
    let mut bytes = Vec::with_capacity(FIXED + texts);
    // A `Message` has string keys only and no map that could fail, so serialising to memory cannot fail.
    drop(serde_json::to_writer(&mut bytes, &Out { v: VERSION, message }));
    bytes
}

/// Reads a payload.
pub fn decode(payload: &[u8]) -> Result<Message, DecodeError> {
    read(payload)
}

/// Reads what the record needs of a payload.
pub fn head(payload: &[u8]) -> Result<Head<'_>, DecodeError> {
    read(payload)
}

fn read<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, DecodeError> {
    // What yalo itself wrote begins like this: one pass instead of two.
    if payload.starts_with(br#"{"v":1,"#) {
        return Ok(serde_json::from_slice(payload)?);
    }
    let message = serde_json::from_slice::<T>(payload);
    // The version is looked at before the error: a newer shape may well not parse as ours.
    match (message, serde_json::from_slice::<Version>(payload)) {
        (_, Ok(Version { v })) if v > VERSION => Err(DecodeError::Newer(v)),
        (_, Err(error)) => Err(error.into()),
        (message, Ok(_)) => Ok(message?),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GOLDEN: &str = include_str!("../../tests/golden/envelope-v1.json");

    #[test]
    fn the_golden_envelopes_decode_and_encode_to_the_same_bytes() {
        for line in GOLDEN.lines() {
            let message = decode(line.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(encode(&message)).unwrap(), line);
        }
    }

    #[test]
    fn the_side_of_an_ingested_message_is_read_where_it_is_and_absent_elsewhere() {
        let sides: Vec<_> = GOLDEN.lines().map(|line| decode(line.as_bytes()).unwrap().side).collect();
        assert_eq!(sides, [None, None, None, Some(crate::domain::Who::Bot)]);
    }

    #[test]
    fn what_is_a_message_has_a_head_and_nothing_else_has() {
        let whole = GOLDEN.lines().next().unwrap();
        let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(whole).unwrap();
        let values = [
            json!(null),
            json!(7),
            json!(""),
            json!("\u{e9}\n\\"),
            json!([]),
            json!({"id": 1}),
            json!("user"),
            json!(true),
        ];
        let names =
            ["v", "id", "conversation", "who", "author", "kind", "text", "reply_to", "bot", "sent_at", "data", "side"];
        let mut taken = 0;
        for name in names {
            let mut without = fields.clone();
            without.remove(name);
            let with = values.iter().map(|value| {
                let mut with = fields.clone();
                with.insert(name.to_owned(), value.clone());
                with
            });
            for case in std::iter::once(without).chain(with) {
                // Both ways in: the version first, as yalo writes it, and anywhere.
                let anywhere = serde_json::to_string(&case).unwrap();
                let first = anywhere.replacen('{', r#"{"v":1,"#, 1);
                for text in [anywhere, first] {
                    match (decode(text.as_bytes()), head(text.as_bytes())) {
                        (Ok(message), Ok(head)) => {
                            taken += 1;
                            let of_message =
                                (message.id, message.conversation, message.who, message.author, message.kind);
                            let of_head = (head.id, head.conversation, head.who, head.author.into_owned(), head.kind);
                            assert_eq!(of_message, of_head, "{text}");
                        }
                        (Err(message), Err(head)) => assert_eq!(message.to_string(), head.to_string(), "{text}"),
                        (message, head) => panic!("{text}: {message:?}, {head:?}"),
                    }
                }
            }
        }
        assert!(taken > 30, "{taken}");
    }

    #[test]
    fn unknown_fields_are_ignored_and_a_newer_version_is_told_apart() {
        let line = GOLDEN.lines().next().unwrap();
        let more = line.replacen('{', r#"{"colour":"green","#, 1);
        assert!(decode(more.as_bytes()).is_ok());
        let newer = r#"{"v":2,"shape":"other"}"#;
        assert!(matches!(decode(newer.as_bytes()), Err(DecodeError::Newer(2))));
        for garbage in ["", "null", "{}", r#"{"v":1}"#, "\u{0}"] {
            assert!(matches!(decode(garbage.as_bytes()), Err(DecodeError::Malformed(_))), "{garbage}");
        }
    }
}
