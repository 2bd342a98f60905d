//! A message: who said what in which conversation, and in answer to what.

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{ConversationId, Cursor, MessageId, Timestamp};

/// The side that a message comes from; the last token of its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// A person on the frontend.
    User,
    /// A bot's record of one question, or an unprompted note.
    Bot,
    /// A person who answers in place of the bot.
    Agent,
    /// The life of the conversation itself: opened, closed, joined, left.
    Meta,
    /// Bulk ingest: stored, never answered.
    Log,
}

impl Who {
    /// All sides, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::User, Self::Bot, Self::Agent, Self::Meta, Self::Log];

    /// The word of subjects and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Bot => "bot",
            Self::Agent => "agent",
            Self::Meta => "meta",
            Self::Log => "log",
        }
    }

    /// Back from the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|who| who.as_str() == text)
    }
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Words.
    Text,
    /// The bot could not answer and says so.
    Apology,
    /// The answer was stopped by the user; what was written so far is its text.
    Stopped,
    /// The record of a question that gets no answer (silence, takeover, duplicate). Never shown to users.
    None,
    /// A bot's message that answers nothing.
    Note,
    /// Meta: the conversation begins; the author is its owner.
    Opened,
    /// Meta: the conversation ends.
    Closed,
    /// Meta: a person takes over.
    Joined,
    /// Meta: a person hands back.
    Left,
    /// Ingested data without text.
    Event,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Text,
        Self::Apology,
        Self::Stopped,
        Self::None,
        Self::Note,
        Self::Opened,
        Self::Closed,
        Self::Joined,
        Self::Left,
        Self::Event,
    ];

    /// The word of the envelope.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Apology => "apology",
            Self::Stopped => "stopped",
            Self::None => "none",
            Self::Note => "note",
            Self::Opened => "opened",
            Self::Closed => "closed",
            Self::Joined => "joined",
            Self::Left => "left",
            Self::Event => "event",
        }
    }

    /// Back from the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The question that a record answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyTo {
    /// The question's id.
    pub id: MessageId,
    /// The question's stream sequence: what decides whether it has been answered.
    pub seq: u64,
}

/// One message, as it was said. Its place in the record is in [`Stored`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    /// The idempotency key.
    pub id: MessageId,
    /// The conversation that it belongs to.
    pub conversation: ConversationId,
    /// The side that said it.
    pub who: Who,
    /// The user id, the bot's name or the person's name; at most 128 bytes.
    pub author: String,
    /// What it is.
    pub kind: Kind,
    /// The words, at most 16 KiB of UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The question that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<ReplyTo>,
    /// The bot that should answer (on questions) or did (on answers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot: Option<String>,
    /// The clock of who sent it; the stream's own time decides.
    pub sent_at: Timestamp,
    /// Anything else, as JSON of at most 16 KiB, kept byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// Of an ingested message (`who` is [`Who::Log`]): the side that said it where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Who>,
}

impl Message {
    /// Whether both say the same in the same name: of two messages with one id anything else is a mistake. When it was sent
    /// does not matter, since it may be said anew with each try; nor does it whether a side has said it or a log tells so.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let side = |message: &Self| if message.who == Who::Log { message.side } else { Some(message.who) };
        let data = |message: &Self| message.data.as_ref().map(|data| data.get().to_owned());
        side(self) == side(other)
            && (&self.author, self.kind, &self.text) == (&other.author, other.kind, &other.text)
            && (self.reply_to, &self.bot) == (other.reply_to, &other.bot)
            && data(self) == data(other)
    }
}

/// A message with its place in the record: what every reading side shows.
///
/// JSON is the message's own fields, then `seq`, `at` (RFC 3339) and `cursor`.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The stream sequence: the order of record.
    pub seq: u64,
    /// When the stream stored it.
    pub at: Timestamp,
    /// What was said.
    pub message: Message,
}

impl Stored {
    /// The position just after this message.
    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.at, self.seq)
    }

    /// Whether users see it: records of silence, bookkeeping and what was ingested are for operators.
    pub fn is_shown(&self) -> bool {
        self.message.kind != Kind::None && self.message.who != Who::Log
    }
}

impl Serialize for Stored {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message = &self.message;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &message.id)?;
        map.serialize_entry("conversation", &message.conversation)?;
        map.serialize_entry("who", &message.who)?;
        map.serialize_entry("author", &message.author)?;
        map.serialize_entry("kind", &message.kind)?;
        if let Some(text) = &message.text {
            map.serialize_entry("text", text)?;
        }
        if let Some(reply_to) = &message.reply_to {
            map.serialize_entry("reply_to", reply_to)?;
        }
        if let Some(bot) = &message.bot {
            map.serialize_entry("bot", bot)?;
        }
        map.serialize_entry("sent_at", &message.sent_at)?;
        if let Some(data) = &message.data {
            map.serialize_entry("data", data)?;
        }
        if let Some(side) = &message.side {
            map.serialize_entry("side", side)?;
        }
        map.serialize_entry("seq", &self.seq)?;
        map.serialize_entry("at", &self.at)?;
        map.serialize_entry("cursor", &self.cursor().to_string())?;
        map.end()
    }
}
