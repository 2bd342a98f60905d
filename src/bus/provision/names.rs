//! What the streams, the bucket and the consumers of a deployment are called.

use crate::wire::Subjects;

/// The consumer that reads every message for the store.
pub const AUDIT: &str = "audit";

/// The names of one deployment, all made from `nats.prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The stream of all messages: `YALO_CHAT`.
    pub chat: String,
    /// The stream of dead letters: `YALO_DEAD`.
    pub dead: String,
    /// The key-value bucket of the bots' heartbeats: `yalo_members`.
    pub members: String,
    /// The stream behind that bucket: `KV_yalo_members`.
    pub members_stream: String,
}

impl Names {
    /// The names that belong to a prefix.
    pub fn new(subjects: &Subjects) -> Self {
        let (word, upper) = (subjects.prefix(), subjects.prefix().to_ascii_uppercase());
        Self {
            chat: format!("{upper}_CHAT"),
            dead: format!("{upper}_DEAD"),
            members: format!("{word}_members"),
            members_stream: format!("KV_{word}_members"),
        }
    }

    /// The consumer of one group of partitions: `bot-0` and so on.
    pub fn bot(group: u8) -> String {
        format!("bot-{group}")
    }

    /// The consumers of so many groups.
    pub fn bots(groups: u16) -> impl DoubleEndedIterator<Item = (u8, String)> {
        (0..groups).filter_map(|group| u8::try_from(group).ok()).map(|group| (group, Self::bot(group)))
    }
}
