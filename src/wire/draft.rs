//! What bots say while they work, and what users want of them meanwhile: core subjects, which nobody stores, so a late
//! joiner may miss something.

use serde::{Deserialize, Serialize};

use crate::domain::{ConversationId, ReplyTo};

/// What a user wants of the bot that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Control {
    /// No answer to the question that is being answered.
    Stop,
}

/// A sign of work on one question.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Draft {
    /// The engine has the question and takes its time.
    Working {
        /// Where.
        conversation: ConversationId,
        /// The question.
        reply_to: ReplyTo,
    },
    /// The answer as far as it is written.
    Draft {
        /// Where.
        conversation: ConversationId,
        /// The question.
        reply_to: ReplyTo,
        /// The owner's membership revision: lower ones are of a bot that lost the question.
        revision: u64,
        /// Where `text` begins in the answer, in bytes.
        offset: usize,
        /// What was written.
        text: String,
    },
}

impl Draft {
    /// The fields without the `type`, for SSE, whose event has a name of its own.
    pub fn fields(&self) -> serde_json::Value {
        let mut fields = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = fields.as_object_mut() {
            fields.remove("type");
        }
        fields
    }

    /// The word of the SSE event and of the WebSocket frame.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Working { .. } => "working",
            Self::Draft { .. } => "draft",
        }
    }
}
