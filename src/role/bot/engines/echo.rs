//! The echo engine: says what it heard, byte for byte.

use super::{Answer, Question};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Echo;

impl Echo {
    #[expect(clippy::unused_self, reason = "every engine is called the same way")]
    pub(super) fn answer(self, question: &Question<'_>) -> Answer {
        Answer::new(question.text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ConversationId, MessageId, limits};

    #[test]
    fn an_echo_is_the_same_to_the_byte() {
        for text in
            ["", "hi", " \t two  spaces \r\n", "שלום", "e\u{301} é", "👩‍👩‍👧", "a\u{0}b", &"x".repeat(limits::TEXT_BYTES)]
        {
            let question = Question {
                text,
                conversation: ConversationId::new(),
                id: MessageId::new(),
                seq: 1,
                author: "someone",
                bot: None,
                data: None,
            };
            assert_eq!(Echo.answer(&question).text(), text);
        }
    }
}
