//! The envelope: JSON with a version, `{"v":1,"id":..,"conversation":..,"who":..,..}`.
//!
//! Unknown fields are ignored by readers and kept by the store, which holds the raw bytes. An unknown version is not an
//! error of the publisher: a newer neighbour wrote it, so it is stored raw and never dead-lettered.

use serde::{Deserialize, Serialize};

use crate::domain::Message;

/// The version that this release writes and understands.
pub const VERSION: u32 = 1;

#[derive(Serialize)]
struct Out<'a> {
    v: u32,
    #[serde(flatten)]
    message: &'a Message,
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
    // A `Message` has string keys only and no map that could fail, so serialising to memory cannot fail.
    serde_json::to_vec(&Out { v: VERSION, message }).unwrap_or_default()
}

/// Reads a payload.
pub fn decode(payload: &[u8]) -> Result<Message, DecodeError> {
    // What yalo itself wrote begins like this: one pass instead of two.
    if payload.starts_with(br#"{"v":1,"#) {
        return Ok(serde_json::from_slice(payload)?);
    }
    let message = serde_json::from_slice::<Message>(payload);
    // The version is looked at before the error: a newer shape may well not parse as ours.
    match (message, serde_json::from_slice::<Version>(payload)) {
        (_, Ok(Version { v })) if v > VERSION => Err(DecodeError::Newer(v)),
        (_, Err(error)) => Err(error.into()),
        (message, Ok(_)) => Ok(message?),
    }
}

#[cfg(test)]
mod tests {
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
