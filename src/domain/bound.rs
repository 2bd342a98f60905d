//! An end of a stretch of the record, as people name it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A place in the record: a sequence, or an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// The message with this sequence.
    Seq(u64),
    /// The first message that the stream stored at this instant or later.
    At(Timestamp),
}

/// A text that names no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is a sequence such as 84521, or an instant such as 2026-11-23T22:04:13Z")]
pub struct BoundError;

impl FromStr for Bound {
    type Err = BoundError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(seq) = text.parse() {
            return Ok(Self::Seq(seq));
        }
        Timestamp::parse(text).map(Self::At).ok_or(BoundError)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seq(seq) => seq.fmt(out),
            Self::At(at) => at.fmt(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_its_text() {
        for text in ["84521", "2026-11-23T22:04:13.5Z"] {
            assert_eq!(text.parse::<Bound>().unwrap().to_string(), text);
        }
        for text in ["", "-1", "yesterday", "2026-11-23", "1-2"] {
            assert_eq!(text.parse::<Bound>(), Err(BoundError), "{text}");
        }
    }
}
