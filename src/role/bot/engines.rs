//! Bot engines: from one question to one answer.
//!
//! A closed set, so an enum and a `match`. An engine may be called more than once for one question (a retry, a second
//! owner); which of its answers becomes the record is decided by the stream, never here. What an engine says is at most
//! [`limits::TEXT_BYTES`] long, so that it always fits the stream.

mod drill;
mod echo;
pub mod rules;

use std::path::Path;

use serde_json::value::RawValue;

use crate::config::EngineKind;
use crate::domain::{ConversationId, MessageId, Stored, limits};

pub use drill::Drill;
pub use echo::Echo;
pub use rules::{Refusal, Rules};

/// What an engine gets to see.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The words; empty for a message without text.
    pub text: &'a str,
    /// Where it was asked.
    pub conversation: ConversationId,
    /// The question's id.
    pub id: MessageId,
    /// The question's stream sequence: new for each question, the same in each retry.
    pub seq: u64,
    /// Who asked.
    pub author: &'a str,
    /// The bot that was asked for by name.
    pub bot: Option<&'a str>,
    /// What came with the words.
    pub data: Option<&'a RawValue>,
}

impl<'a> From<&'a Stored> for Question<'a> {
    fn from(stored: &'a Stored) -> Self {
        let message = &stored.message;
        Self {
            text: message.text.as_deref().unwrap_or_default(),
            conversation: message.conversation,
            id: message.id,
            seq: stored.seq,
            author: &message.author,
            bot: message.bot.as_deref(),
            data: message.data.as_deref(),
        }
    }
}

/// What an engine says.
#[derive(Debug, Clone)]
pub struct Answer {
    /// At most [`limits::TEXT_BYTES`]; never longer, since the only way to make one cuts it.
    text: String,
    data: Option<Box<RawValue>>,
}

impl Answer {
    /// An answer of these words, cut with `…` where they are too many for a message.
    pub fn new(mut text: String) -> Self {
        const CUT: char = '…';
        if text.len() > limits::TEXT_BYTES {
            text.truncate(text.floor_char_boundary(limits::TEXT_BYTES - CUT.len_utf8()));
            text.push(CUT);
        }
        Self { text, data: None }
    }

    /// The words.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The words and the `data` of the record.
    pub fn into_parts(self) -> (String, Option<Box<RawValue>>) {
        (self.text, self.data)
    }
}

/// Why an engine could not be opened or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The rules engine was chosen, but no file named.
    #[error("the rules engine needs a file: set bot.rules")]
    NoRules,
    /// The rules file is not what it should be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An engine outside of this process does not answer now.
    #[error("the engine is not available: {0}")]
    Unavailable(String),
}

impl EngineError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoRules | Self::Refused(_) => false,
            Self::Unavailable(_) => true,
        }
    }
}

/// The engines that a bot can run.
#[derive(Debug)]
pub enum Engine {
    /// Says what it heard.
    Echo(Echo),
    /// Answers by a rules file.
    Rules(Rules),
    /// Does what the question says, for rehearsals.
    Drill(Drill),
}

impl Engine {
    /// Opens an engine; a rules file is read here, so a bad one stops the start.
    pub fn open(kind: EngineKind, rules: &Path) -> Result<Self, EngineError> {
        match kind {
            EngineKind::Echo => Ok(Self::Echo(Echo)),
            EngineKind::Drill => Ok(Self::Drill(Drill)),
            EngineKind::Rules if rules.as_os_str().is_empty() => Err(EngineError::NoRules),
            EngineKind::Rules => Ok(Self::Rules(Rules::open(rules)?)),
        }
    }

    /// The word that its answers are signed with.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Echo(_) => "echo",
            Self::Rules(_) => "rules",
            Self::Drill(_) => "drill",
        }
    }

    /// Answers one question. The caller sets the time limit; dropping the future is safe at any point.
    pub async fn answer(&self, question: &Question<'_>) -> Result<Answer, EngineError> {
        match self {
            Self::Echo(echo) => Ok(echo.answer(question)),
            Self::Rules(rules) => Ok(rules.answer(question).await),
            Self::Drill(drill) => drill.answer(question).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_answer_is_cut_between_characters() {
        let fits = "é".repeat(limits::TEXT_BYTES / 2);
        assert_eq!(Answer::new(fits.clone()).text(), fits);
        let cut = Answer::new(fits + "é");
        assert!(cut.text().ends_with("é…"));
        assert!(cut.text().len() <= limits::TEXT_BYTES && cut.text().len() > limits::TEXT_BYTES - 4);
    }

    #[test]
    fn the_rules_engine_without_a_file_says_which_key_to_set() {
        let error = Engine::open(EngineKind::Rules, Path::new("")).unwrap_err();
        assert!(error.to_string().contains("bot.rules"), "{error}");
        assert!(!error.is_transient());
    }
}
