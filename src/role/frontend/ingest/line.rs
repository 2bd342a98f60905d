//! One line of an upload: from its bytes to the message that is stored, or the reason why not.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::domain::{ConversationId, Kind, Message, MessageId, ReplyTo, Timestamp, Who, limits};
use crate::role::frontend::accept::Said;
use crate::role::frontend::problems;
use crate::role::frontend::requests::{check_bot, check_data, check_text, conversation};
use crate::web::body::parse_json;
use crate::web::{ApiError, Code};
use crate::wire::Text;

/// Longest key of another system, in bytes.
const KEY_BYTES: usize = 512;
/// The author of a line that names none.
const AUTHOR: &str = "ingest";
/// Below this likeness a suggestion confuses more than it helps.
const ALIKE: f64 = 0.6;
/// What a line may hold, for suggestions.
const FIELDS: [&str; 12] =
    ["conversation", "key", "who", "side", "author", "kind", "text", "data", "sent_at", "id", "reply_to", "bot"];

/// The fields of a line: those of a message, a `key` in place of the conversation, and, without effect, those that say
/// where an exported message lay: a line of an export is a line of an upload.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow)]
    conversation: Option<Text<'a>>,
    key: Option<Text<'a>>,
    who: Option<Text<'a>>,
    side: Option<Text<'a>>,
    author: Option<String>,
    kind: Option<Text<'a>>,
    text: Option<String>,
    data: Option<Box<RawValue>>,
    sent_at: Option<Text<'a>>,
    id: Option<Text<'a>>,
    reply_to: Option<ReplyTo>,
    bot: Option<String>,
    #[serde(rename = "v")]
    _version: Option<IgnoredAny>,
    #[serde(rename = "seq")]
    _seq: Option<IgnoredAny>,
    #[serde(rename = "at")]
    _at: Option<IgnoredAny>,
    #[serde(rename = "cursor")]
    _cursor: Option<IgnoredAny>,
}

/// A line on its way: what it says, and which line of which source it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) number: u64,
    /// The name that its upload gave to where it comes from.
    pub(super) source: Option<&'a str>,
}

/// A message of the log.
#[derive(Debug)]
pub(super) struct Logged {
    pub(super) message: Message,
    /// The line gave an id of its own: the same one may come with other content.
    pub(super) own_id: bool,
}

/// A question of a user, and in which conversation of whom.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) conversation: ConversationId,
    pub(super) user: String,
    pub(super) said: Said,
}

impl<'a> Line<'a> {
    /// The message that is stored and never answered.
    pub(super) fn log(self) -> Result<Logged, ApiError> {
        let fields = self.fields()?;
        let conversation = fields.conversation()?;
        let kind = fields.kind()?;
        let side = word("side", fields.side.as_deref(), Who::parse, "user, bot, agent, meta")?;
        let who = word("who", fields.who.as_deref(), Who::parse, "user, bot, agent, meta, log")?;
        let sent_at = fields.sent_at()?;
        let own_id = fields.id()?;
        let id = match own_id {
            Some(id) => id,
            // Without a time of its own an id of 1970: it has to be the same each time.
            None => self.derived_id(sent_at.unwrap_or(Timestamp::from_ms(0))).unwrap_or_default(),
        };
        let message = Message {
            id,
            conversation,
            who: Who::Log,
            author: name("author", fields.author)?.unwrap_or_else(|| AUTHOR.to_owned()),
            kind,
            text: fields.text,
            reply_to: fields.reply_to,
            bot: check_bot(fields.bot)?,
            sent_at: sent_at.unwrap_or_else(Timestamp::now),
            data: fields.data,
            side: side.or(who).filter(|side| *side != Who::Log),
        };
        Ok(Logged { message, own_id: own_id.is_some() })
    }

    /// The question that bots answer.
    pub(super) fn question(self) -> Result<Question, ApiError> {
        let fields = self.fields()?;
        let conversation = fields.conversation()?;
        if fields.who.as_deref().is_some_and(|who| who != "user") {
            let detail = "with `as=user` every line is said by a user: leave `who` out, or send it as a log";
            return Err(ApiError::invalid_field("who", detail));
        }
        if fields.side.as_deref().is_some_and(|side| side != "user") {
            let detail = "with `as=user` every line is said by a user: leave `side` out, or send it as a log";
            return Err(ApiError::invalid_field("side", detail));
        }
        if fields.kind()? != Kind::Text {
            return Err(ApiError::invalid_field("text", "with `as=user` a line needs a `text`"));
        }
        let sent_at = fields.sent_at()?;
        let id = match (fields.id()?, sent_at) {
            (None, None) if self.source.is_some() => {
                let detail = "with `as=user` and a source, a line needs an `id` or a `sent_at` of its own";
                return Err(ApiError::invalid_field("id", detail));
            }
            (None, Some(sent_at)) => self.derived_id(sent_at),
            (id, _) => id,
        };
        let user = name("author", fields.author)?
            .ok_or_else(|| ApiError::invalid_field("author", "with `as=user` a line needs its user as `author`"))?;
        let (text, bot) = (fields.text.unwrap_or_default(), check_bot(fields.bot)?);
        Ok(Question { conversation, user, said: Said { id, text, bot, data: fields.data, sent_at, traceparent: None } })
    }

    fn fields(self) -> Result<Fields<'a>, ApiError> {
        let fields: Fields<'_> = parse_json(self.bytes).map_err(suggesting)?;
        if let Some(text) = &fields.text {
            check_text(text)?;
        }
        check_data(fields.data.as_deref())?;
        Ok(fields)
    }

    /// The same line of the same source has the same id each time it is sent; another text in its place has another.
    fn derived_id(self, time: Timestamp) -> Option<MessageId> {
        let mut digest = Sha256::new();
        digest.update(self.source?);
        digest.update([0]);
        digest.update(self.number.to_be_bytes());
        digest.update(self.bytes);
        let digest = digest.finalize();
        digest.first_chunk().map(|digest| MessageId::derived(time.ms(), digest))
    }
}

impl Fields<'_> {
    fn conversation(&self) -> Result<ConversationId, ApiError> {
        match (&self.conversation, &self.key) {
            (Some(id), None) => conversation("conversation", id),
            (None, Some(key)) if (1..=KEY_BYTES).contains(&key.len()) => Ok(ConversationId::of_key(key)),
            (None, Some(_)) => Err(ApiError::invalid_field("key", format!("a key has 1 to {KEY_BYTES} bytes"))),
            (Some(_), Some(_)) => {
                Err(ApiError::invalid_field("key", "`conversation` and `key` exclude each other: leave one out"))
            }
            (None, None) => Err(ApiError::invalid_field(
                "conversation",
                "a line needs a `conversation`, or a `key` that stands for one",
            )),
        }
    }

    /// What it is: as it says, else a text if it has one, else an event.
    fn kind(&self) -> Result<Kind, ApiError> {
        let kinds = "text, apology, stopped, none, note, opened, closed, joined, left, event";
        let said = word("kind", self.kind.as_deref(), Kind::parse, kinds)?;
        match (said, &self.text, &self.data) {
            (Some(Kind::Text), None, _) => Err(ApiError::invalid_field("text", "a line of kind `text` needs a `text`")),
            (Some(kind), ..) => Ok(kind),
            (None, Some(_), _) => Ok(Kind::Text),
            (None, None, Some(_)) => Ok(Kind::Event),
            (None, None, None) => Err(ApiError::invalid_field("text", "a line needs a `text` or a `data`")),
        }
    }

    fn id(&self) -> Result<Option<MessageId>, ApiError> {
        let id = self.id.as_deref().map(MessageId::parse).transpose();
        id.map_err(|error| problems::from_id("id", &error))
    }

    fn sent_at(&self) -> Result<Option<Timestamp>, ApiError> {
        let wrong = || ApiError::invalid_field("sent_at", "`sent_at` is an instant such as 2026-11-23T22:04:13.5Z");
        self.sent_at.as_deref().map(|text| Timestamp::parse(text).ok_or_else(wrong)).transpose()
    }
}

/// One of some words.
fn word<T>(
    field: &str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
    words: &str,
) -> Result<Option<T>, ApiError> {
    let wrong = || ApiError::invalid_field(field, format!("`{field}` is one of {words}"));
    text.map(|text| parse(text).ok_or_else(wrong)).transpose()
}

/// A name: short and printable.
fn name(field: &str, name: Option<String>) -> Result<Option<String>, ApiError> {
    let valid = |name: &String| (1..=limits::NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
    match name {
        Some(name) if !valid(&name) => {
            let detail = format!("`{field}` has 1 to {} printable bytes", limits::NAME_BYTES);
            Err(ApiError::invalid_field(field, detail))
        }
        name => Ok(name),
    }
}

/// An unknown field is most often a mistyped one: kept somewhere unseen, its content would be missed too late.
fn suggesting(problem: ApiError) -> ApiError {
    let field = problem.extra("field").and_then(|field| field.as_str().map(ToOwned::to_owned));
    let Some(field) = field.filter(|_| problem.code() == Code::UnknownField) else { return problem };
    if field == "raw" || field == "subject" {
        let detail =
            "this is a raw row of an export: its payload could not be read as a message, so it can't become one";
        return ApiError::new(Code::UnknownField, detail).field(&field);
    }
    let likeness = |known: &&str| strsim::normalized_damerau_levenshtein(&field, known);
    let nearest = FIELDS.iter().copied().max_by(|left, right| likeness(left).total_cmp(&likeness(right)));
    let meant = nearest.filter(|known| likeness(known) >= ALIKE);
    let meant = meant.map_or_else(String::new, |known| format!("did you mean `{known}`? "));
    let detail = format!("a message has no field {field:?}; {meant}what is your own belongs into `data`");
    ApiError::new(Code::UnknownField, detail).field(&field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line<'_> {
        Line { bytes: text.as_bytes(), number: 7, source: None }
    }

    fn refused(text: &str) -> String {
        line(text).log().unwrap_err().to_string()
    }

    #[test]
    fn a_line_becomes_a_message_that_keeps_its_side() {
        let text =
            r#"{"key":"ticket-4711","who":"agent","author":"eve","text":"hi","sent_at":"2020-01-01T00:00:00+01:00"}"#;
        let message = line(text).log().unwrap().message;
        assert_eq!(message.conversation, ConversationId::of_key("ticket-4711"));
        assert_eq!((message.who, message.side, message.kind), (Who::Log, Some(Who::Agent), Kind::Text));
        assert_eq!((message.author.as_str(), message.text.as_deref()), ("eve", Some("hi")));
        assert_eq!(message.sent_at.to_string(), "2019-12-31T23:00:00Z");
        let event = line(r#"{"key":"sensor","data":{"t": 20.50}}"#).log().unwrap().message;
        assert_eq!((event.kind, event.side, event.author.as_str()), (Kind::Event, None, AUTHOR));
        assert_eq!(event.data.unwrap().get(), r#"{"t": 20.50}"#);
    }

    #[test]
    fn a_line_of_an_export_is_a_line_of_an_upload() {
        let text = r#"{"id":"0198c0de-0002-7000-8000-00000000000b","conversation":"0198c0de-0000-7000-8000-000000000001",
            "who":"bot","author":"echo","kind":"apology","text":"hello","reply_to":{"id":"0198c0de-0001-7000-8000-00000000000a",
            "seq":42},"bot":"echo","sent_at":"2026-11-23T22:04:13Z","data":{"b": 1},"seq":43,"at":"2026-11-23T22:04:13Z",
            "cursor":"1-43"}"#;
        let message = line(text).log().unwrap().message;
        assert_eq!((message.kind, message.side), (Kind::Apology, Some(Who::Bot)));
        assert_eq!(message.id.to_string(), "0198c0de-0002-7000-8000-00000000000b");
        assert_eq!(message.reply_to.unwrap().seq, 42);
        let silence = r#"{"key":"k","who":"bot","kind":"none","author":"echo"}"#;
        assert_eq!(line(silence).log().unwrap().message.kind, Kind::None);
        let logged = r#"{"key":"k","who":"log","side":"bot","text":"x"}"#;
        assert_eq!(line(logged).log().unwrap().message.side, Some(Who::Bot));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said_with_its_field() {
        for (text, words) in [
            (r#"{"text":"x"}"#, "invalid_field: a line needs a `conversation`"),
            (r#"{"key":"k","conversation":"0198c0de-0000-7000-8000-000000000001","text":"x"}"#, "exclude each other"),
            (r#"{"key":"","text":"x"}"#, "a key has 1 to 512 bytes"),
            (r#"{"key":"k"}"#, "a line needs a `text` or a `data`"),
            (r#"{"key":"k","text":" "}"#, "text_empty: "),
            (r#"{"key":"k","kind":"text","data":1}"#, "needs a `text`"),
            (r#"{"key":"k","text":"x","who":"nobody"}"#, "`who` is one of user"),
            (r#"{"key":"k","text":"x","sent_at":"yesterday"}"#, "`sent_at` is an instant"),
            (r#"{"key":"k","text":"x","id":"7"}"#, "invalid_id: "),
            (r#"{"key":"k","text":"x","author":""}"#, "`author` has 1 to 128"),
            (r#"{"key":"k","txt":"x"}"#, "unknown_field: a message has no field \"txt\"; did you mean `text`?"),
            (r#"{"seq":7,"at":"2026-11-23T22:04:13Z","subject":"yalo.log.x","raw":"eA=="}"#, "a raw row of an export"),
            (r#"{"key":"k","text":"x","colour":1}"#, "what is your own belongs into `data`"),
            ("[1]", "invalid_json: "),
            ("{", "invalid_json: "),
        ] {
            assert!(refused(text).contains(words), "{text}: {}", refused(text));
        }
        assert!(!refused(r#"{"key":"k","text":"x","colour":1}"#).contains("did you mean"));
        let long = format!(r#"{{"key":"k","text":"{}"}}"#, "x".repeat(limits::TEXT_BYTES + 1));
        assert!(refused(&long).starts_with("text_too_long"));
    }

    #[test]
    fn an_id_follows_from_source_line_and_content() {
        let of = |source, number, text: &str| Line { bytes: text.as_bytes(), number, source }.log().unwrap().message.id;
        let (one, two) = (r#"{"key":"k","text":"x"}"#, r#"{"key":"k","text":"y"}"#);
        assert_eq!(of(Some("file"), 7, one), of(Some("file"), 7, one));
        assert_ne!(of(Some("file"), 7, one), of(Some("file"), 8, one));
        assert_ne!(of(Some("file"), 7, one), of(Some("file"), 7, two));
        assert_ne!(of(Some("file"), 7, one), of(Some("other"), 7, one));
        assert_ne!(of(None, 7, one), of(None, 7, one));
        let dated = r#"{"key":"k","text":"x","sent_at":"2020-01-01T00:00:00Z"}"#;
        assert_eq!(of(Some("file"), 7, dated).time_ms(), 1_577_836_800_000);
    }

    #[test]
    fn a_question_needs_words_and_a_user() {
        let refused = |text: &str| line(text).question().unwrap_err().to_string();
        let question = line(r#"{"key":"k","author":"eve","text":"why?"}"#).question().unwrap();
        assert_eq!((question.user.as_str(), question.said.text.as_str()), ("eve", "why?"));
        assert!(refused(r#"{"key":"k","text":"why?"}"#).contains("its user as `author`"));
        assert!(refused(r#"{"key":"k","author":"eve","data":1}"#).contains("needs a `text`"));
        assert!(refused(r#"{"key":"k","author":"eve","who":"bot","text":"x"}"#).contains("said by a user"));
        assert!(refused(r#"{"key":"k","author":"eve","side":"bot","text":"x"}"#).contains("leave `side` out"));
        let sourced = Line { source: Some("file"), ..line(r#"{"key":"k","author":"eve","text":"x"}"#) };
        assert!(sourced.question().unwrap_err().to_string().contains("`id` or a `sent_at`"));
    }
}
