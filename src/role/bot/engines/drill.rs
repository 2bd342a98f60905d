//! The drill engine: does what the question says, for rehearsals. Never to be run where strangers talk.
//!
//! `sleep 500 ...` waits so many milliseconds and then echoes, `fail` finds no answer, `panic` panics, `abort` ends the whole
//! process; anything else is echoed.

use std::time::Duration;

use super::{Answer, EngineError, Question};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Drill;

impl Drill {
    #[expect(clippy::panic, reason = "that is what it is asked for")]
    pub(super) async fn answer(self, question: &Question<'_>) -> Result<Answer, EngineError> {
        let (order, rest) = question.text.split_once(' ').unwrap_or((question.text, ""));
        match order {
            "sleep" => tokio::time::sleep(Duration::from_millis(first(rest))).await,
            "fail" => return Err(EngineError::Unavailable("as the question said".to_owned())),
            "panic" => panic!("as the question said"),
            "abort" => std::process::abort(),
            _ => {}
        }
        Ok(Answer::new(question.text.to_owned()))
    }
}

/// The number that an order begins with.
fn first(rest: &str) -> u64 {
    rest.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
