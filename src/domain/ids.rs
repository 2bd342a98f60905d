//! Identities: the conversation, the message, and the partition that a conversation falls into for ever.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Timestamp, limits};

/// Why a text is not an id, in words for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a UUID written as 36 lower-case characters.
    #[error("an id is a UUID in lower case, such as 0198c0de-0000-7000-8000-000000000001")]
    NotUuid,
    /// A UUID, but without a time in it.
    #[error("a message id is a UUID of version 7, this one has version {0}")]
    NotV7(usize),
    /// Its time lies ahead of the server's clock by more than the tolerated skew.
    #[error(
        "the id's time is {ahead_ms} ms ahead of the server's clock; at most {} ms are accepted",
        limits::ID_AHEAD_MS
    )]
    FromTheFuture {
        /// Milliseconds ahead of the server's clock.
        ahead_ms: u64,
    },
    /// Its time lies behind what the stream is sure to hold.
    #[error("the id is {behind_ms} ms old; at most {} ms are accepted, make a new id", limits::ID_BEHIND_MS)]
    TooOld {
        /// Milliseconds behind the server's clock.
        behind_ms: u64,
    },
}

/// The namespace of keys of other systems: a key's conversation is UUIDv5(this, key). It can never change.
pub const KEYS: Uuid = Uuid::from_u128(0x7a10_5eed_0000_8000_8000_6b65_7973_0001);

/// A UUID in exactly the 36-character lower-case form: one spelling, so one subject and one key.
fn parse_canonical(text: &str) -> Result<Uuid, IdError> {
    let canonical = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    let parsed = Uuid::try_parse(text).map_err(|_| IdError::NotUuid)?;
    if canonical { Ok(parsed) } else { Err(IdError::NotUuid) }
}

/// The first 48 bits of a UUID of version 7.
fn time_ms(id: &Uuid) -> u64 {
    id.as_bytes()[..6].iter().fold(0, |time, byte| time << 8 | u64::from(*byte))
}

/// A conversation: version 7 when yalo makes it, version 5 when a bulk loader maps its own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConversationId(Uuid);

impl ConversationId {
    /// All zeros: nobody is given it.
    pub const NIL: Self = Self(Uuid::nil());

    /// A new conversation, opened now.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The conversation of another system's key, such as a ticket's number or a device's name: UUIDv5 under [`KEYS`].
    pub fn of_key(key: &str) -> Self {
        Self(Uuid::new_v5(&KEYS, key.as_bytes()))
    }

    /// Reads the 36-character lower-case form, the only one that is accepted.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        parse_canonical(text).map(Self)
    }

    /// The time that it was opened at, of one that yalo made (version 7).
    pub fn opened_ms(&self) -> Option<u64> {
        (self.0.get_version_num() == 7).then(|| time_ms(&self.0))
    }

    /// The 16 bytes, as stores keep them.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Back from the 16 bytes of a store.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The subject token: `crc32(text) % 256`. It can never change, since it is part of every stored subject.
    pub fn partition(&self) -> Partition {
        let mut text = [0u8; 36];
        self.0.hyphenated().encode_lower(&mut text);
        Partition(crc32fast::hash(&text).to_le_bytes()[0])
    }
}

impl Default for ConversationId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(out)
    }
}

/// One of the 256 slices of all conversations; bots consume them in groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(pub u8);

impl Partition {
    /// The consumer group of bots that answers this partition, of so many groups.
    pub fn group(self, groups: u16) -> u8 {
        // Below 256, since the partition is.
        u8::try_from(u16::from(self.0) % groups.max(1)).unwrap_or_default()
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// The idempotency key of a message, a UUID of version 7 chosen by the client: the same id in the same conversation is
/// the same message, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(Uuid);

impl MessageId {
    /// A new id with the time of now.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// Reads the 36-character lower-case form of a version 7 UUID.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let id = parse_canonical(text)?;
        match id.get_version_num() {
            7 => Ok(Self(id)),
            other => Err(IdError::NotV7(other)),
        }
    }

    /// The 16 bytes, as stores keep them.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Back from the 16 bytes of a store.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// An id that follows from what it is the id of: this time, and 74 bits of a digest in place of random ones.
    pub fn derived(time_ms: u64, digest: &[u8; 16]) -> Self {
        let mut bytes = *digest;
        bytes[..6].copy_from_slice(&time_ms.to_be_bytes()[2..]);
        bytes[6] = 0x70 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        Self(Uuid::from_bytes(bytes))
    }

    /// The time in the id, in milliseconds since 1970: its first 48 bits.
    pub fn time_ms(&self) -> u64 {
        time_ms(&self.0)
    }

    /// Refuses an id whose time is outside what the duplicate window and the stream can vouch for.
    pub fn check_time(&self, now: Timestamp) -> Result<(), IdError> {
        let (time_ms, now_ms) = (self.time_ms(), now.ms());
        let ahead_ms = time_ms.saturating_sub(now_ms);
        let behind_ms = now_ms.saturating_sub(time_ms);
        if ahead_ms > limits::ID_AHEAD_MS {
            Err(IdError::FromTheFuture { ahead_ms })
        } else if behind_ms > limits::ID_BEHIND_MS {
            Err(IdError::TooOld { behind_ms })
        } else {
            Ok(())
        }
    }
}

impl Default for MessageId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_never_changes() {
        let conversation = ConversationId::parse("0198c0de-0000-7000-8000-000000000001").unwrap();
        assert_eq!(conversation.partition(), Partition(169));
        assert_eq!(conversation.partition().group(16), 169 % 16);
    }

    #[test]
    fn the_conversation_of_a_key_never_changes() {
        let of = |key| ConversationId::of_key(key).to_string();
        assert_eq!(of("ticket-4711"), "cf65ef66-6b79-5976-a3ca-274a92f99259");
        assert_ne!(of("ticket-4711"), of("ticket-4712"));
        assert_eq!(ConversationId::of_key("ticket-4711").opened_ms(), None);
    }

    #[test]
    fn a_derived_id_is_one_of_version_7_with_its_time() {
        let id = MessageId::derived(0x0198_c0de_0000, &[0xff; 16]);
        assert_eq!(id.to_string(), "0198c0de-0000-7fff-bfff-ffffffffffff");
        assert_eq!(MessageId::parse(&id.to_string()), Ok(id));
        assert_eq!(id.time_ms(), 0x0198_c0de_0000);
        assert_ne!(MessageId::derived(0, &[1; 16]), MessageId::derived(0, &[2; 16]));
    }

    #[test]
    fn only_one_spelling_of_an_id_is_accepted() {
        for text in ["", "x", "0198C0DE-0000-7000-8000-000000000001", "0198c0de000070008000000000000001"] {
            assert_eq!(ConversationId::parse(text), Err(IdError::NotUuid), "{text}");
        }
        let v4 = "936da01f-9abd-4d9d-80c7-02af85c822a8";
        assert!(ConversationId::parse(v4).is_ok());
        assert_eq!(MessageId::parse(v4), Err(IdError::NotV7(4)));
    }

    #[test]
    fn the_time_of_an_id_is_checked_both_ways() {
        let id = MessageId::parse("0198c0de-0000-7000-8000-000000000001").unwrap();
        let time = Timestamp::from_ms(id.time_ms());
        assert_eq!(id.time_ms(), 0x0198_c0de_0000);
        assert_eq!(id.check_time(time), Ok(()));
        assert!(matches!(id.check_time(Timestamp::from_ms(time.ms() - 30_001)), Err(IdError::FromTheFuture { .. })));
        assert!(matches!(
            id.check_time(Timestamp::from_ms(time.ms() + 6 * 86_400_000 + 1)),
            Err(IdError::TooOld { .. })
        ));
    }
}
