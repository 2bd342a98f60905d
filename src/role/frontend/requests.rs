//! What clients send, from text to checked values; one place for HTTP and WebSocket.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::accept::Said;
use super::problems;
use crate::domain::{ConversationId, MessageId, limits};
use crate::web::{ApiError, Code};

/// `POST /v1/chat`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChatRequest {
    pub(super) text: String,
    pub(super) conversation: Option<String>,
    pub(super) id: Option<String>,
    pub(super) bot: Option<String>,
}

/// `POST /v1/conversations`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenRequest {
    pub(super) bot: Option<String>,
}

/// `POST /v1/conversations/{id}/messages`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SendRequest {
    pub(super) text: String,
    pub(super) id: Option<String>,
    pub(super) bot: Option<String>,
    pub(super) data: Option<Box<RawValue>>,
}

impl ChatRequest {
    /// The conversation to go on with, and what is said.
    pub(super) fn check(self, trace: Option<String>) -> Result<(Option<ConversationId>, Said), ApiError> {
        let conversation = self.conversation.as_deref().map(|id| conversation("conversation", id)).transpose()?;
        let send = SendRequest { text: self.text, id: self.id, bot: self.bot, data: None };
        Ok((conversation, send.check(trace)?))
    }
}

impl SendRequest {
    /// What is said, if it may be.
    pub(super) fn check(self, traceparent: Option<String>) -> Result<Said, ApiError> {
        check_text(&self.text)?;
        check_data(self.data.as_deref())?;
        let id = self.id.as_deref().map(MessageId::parse).transpose();
        let id = id.map_err(|error| problems::from_id("id", &error))?;
        Ok(Said { id, text: self.text, bot: check_bot(self.bot)?, data: self.data, sent_at: None, traceparent })
    }
}

/// Data that may be stored: at most 16 KiB.
pub(super) fn check_data(data: Option<&RawValue>) -> Result<(), ApiError> {
    if data.is_some_and(|data| data.get().len() > limits::DATA_BYTES) {
        let detail = format!("`data` may hold at most {} bytes of JSON", limits::DATA_BYTES);
        return Err(ApiError::new(Code::BodyTooLarge, detail).field("data"));
    }
    Ok(())
}

/// A text that may be stored: some words, no NUL, at most 16 KiB.
pub(super) fn check_text(text: &str) -> Result<(), ApiError> {
    if text.trim().is_empty() {
        return Err(ApiError::new(Code::TextEmpty, "`text` holds nothing but white space").field("text"));
    }
    if text.len() > limits::TEXT_BYTES {
        let detail = format!("`text` has {} bytes, at most {} are accepted", text.len(), limits::TEXT_BYTES);
        return Err(ApiError::new(Code::TextTooLong, detail).field("text"));
    }
    if text.contains('\0') {
        return Err(ApiError::invalid_field("text", "`text` holds a NUL character, which no text may"));
    }
    Ok(())
}

/// A bot's name: short and printable.
pub(super) fn check_bot(bot: Option<String>) -> Result<Option<String>, ApiError> {
    let valid = |bot: &String| (1..=limits::NAME_BYTES).contains(&bot.len()) && !bot.chars().any(char::is_control);
    match bot {
        Some(bot) if !valid(&bot) => {
            let detail = format!("a bot's name has 1 to {} printable bytes", limits::NAME_BYTES);
            Err(ApiError::invalid_field("bot", detail))
        }
        bot => Ok(bot),
    }
}

/// A conversation's id in the named place.
pub(super) fn conversation(field: &str, text: &str) -> Result<ConversationId, ApiError> {
    ConversationId::parse(text).map_err(|error| problems::from_id(field, &error))
}
