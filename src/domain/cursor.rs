//! A position in the whole record, valid in any conversation and on every transport.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ConversationId, Timestamp};

/// `<at in ms>-<seq>`, such as `1764000000123-84521`. Opaque to clients; `seq` alone decides, the time only helps a
/// store to find the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cursor {
    /// Milliseconds since 1970 of the message at this position.
    pub at_ms: u64,
    /// The stream sequence of that message; reading goes on after it.
    pub seq: u64,
}

/// A text that is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor looks like 1764000000123-84521; use one that an earlier answer gave")]
pub struct CursorError;

impl Cursor {
    /// The position of the message `seq` that was stored at `at`.
    pub fn new(at: Timestamp, seq: u64) -> Self {
        Self { at_ms: at.ms(), seq }
    }

    /// Reads exactly what `Display` writes: two plain decimal numbers, no signs, no leading zeros.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        let (at_ms, seq) = text.split_once('-').ok_or(CursorError)?;
        Ok(Self { at_ms: decimal(at_ms)?, seq: decimal(seq)? })
    }
}

fn decimal(text: &str) -> Result<u64, CursorError> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = plain && (text == "0" || !text.starts_with('0'));
    // One below i64::MAX: stores keep sequences as signed 64-bit numbers.
    let number = text.parse::<u64>().map_err(|_| CursorError)?;
    if canonical && i64::try_from(number).is_ok() { Ok(number) } else { Err(CursorError) }
}

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.at_ms, self.seq)
    }
}

/// A position in a list of conversations, newest first: that of the last one that was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ListCursor {
    /// When its newest message was stored.
    pub last_at: Timestamp,
    /// Which one, since two may share an instant.
    pub conversation: ConversationId,
}

impl ListCursor {
    /// Reads what `Display` writes: nanoseconds since 1970, a dash, the conversation.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        let (ns, conversation) = text.split_once('-').ok_or(CursorError)?;
        let ns = i64::try_from(decimal(ns)?).map_err(|_| CursorError)?;
        let conversation = ConversationId::parse(conversation).map_err(|_| CursorError)?;
        Ok(Self { last_at: Timestamp::from_ns(ns), conversation })
    }
}

impl fmt::Display for ListCursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.last_at.ns(), self.conversation)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_place_in_a_list_survives_its_text(ns in 0..i64::MAX) {
            let cursor = ListCursor { last_at: Timestamp::from_ns(ns), conversation: ConversationId::new() };
            prop_assert_eq!(ListCursor::parse(&cursor.to_string()), Ok(cursor));
            prop_assert_eq!(ListCursor::parse(&cursor.to_string().to_uppercase()).ok(), None);
        }

        #[test]
        fn every_cursor_survives_its_text(at_ms in 0..i64::MAX as u64, seq in 0..i64::MAX as u64) {
            let cursor = Cursor { at_ms, seq };
            prop_assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
        }

        #[test]
        fn a_mangled_cursor_is_refused_or_means_itself(text in "[0-9+ -]{0,24}") {
            if let Ok(cursor) = Cursor::parse(&text) {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }

    #[test]
    fn what_is_not_two_plain_numbers_is_refused() {
        for text in ["", "-", "1-", "-1", "1", "01-2", "1-02", "+1-2", "1-2-3", "1-99999999999999999999", "a-b"] {
            assert_eq!(Cursor::parse(text), Err(CursorError), "{text}");
        }
    }
}
