//! From dialogues to a rules file: what was said next is the answer.

use std::collections::HashMap;
use std::fmt::Write as _;

use yalo::role::bot::engines::rules::folded;

use crate::corpus::Dialogue;

/// A question, as it was first written, and all its answers in the order of the corpus, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The words that are asked.
    pub(crate) question: String,
    /// What may be said to them.
    pub(crate) answers: Vec<String>,
}

/// Each turn of a dialogue is a question to which the next turn is an answer, as the corpus is meant. Questions that
/// the rules engine takes for the same are put together.
pub(crate) fn pairs<'a>(dialogues: impl IntoIterator<Item = &'a Dialogue>) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut known = HashMap::new();
    for turns in dialogues.into_iter().flat_map(|dialogue| dialogue.turns.windows(2)) {
        let [question, answer] = turns else { continue };
        let index = *known.entry(folded(question)).or_insert_with(|| {
            pairs.push(Pair { question: question.clone(), answers: Vec::new() });
            pairs.len() - 1
        });
        let answers = &mut pairs[index].answers;
        if !answers.contains(answer) {
            answers.push(answer.clone());
        }
    }
    pairs
}

/// The text of a rules file: one exact rule for each pair.
pub(crate) fn rules_file(pairs: &[Pair]) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let mut file = String::from("# Made from chatterbot-corpus; see config/rules.example.toml for the format.\n");
    for pair in pairs {
        let answers: Vec<String> = pair.answers.iter().map(|answer| quoted(answer)).collect();
        let question = quoted(&pair.question);
        // Writing to a `String` cannot fail.
        write!(file, "\n[[rule]]\nexact = {question}\nanswers = [{}]\n", answers.join(", ")).unwrap_or_default();
    }
    file
}

#[cfg(test)]
mod tests {
    use yalo::config::EngineKind;
    use yalo::domain::{ConversationId, MessageId};
    use yalo::role::bot::engines::{Engine, Question};

    use super::*;
    use crate::corpus::{dialogues, folder};

    async fn answer(engine: &Engine, text: &str, seq: u64) -> String {
        let (conversation, id) = (ConversationId::new(), MessageId::new());
        let question = Question { text, conversation, id, seq, author: "someone", bot: None, data: None };
        engine.answer(&question).await.unwrap().into_parts().0
    }

    /// Asks everything that is followed by something, and looks whether the answer is one of the corpus.
    async fn every_question_is_answered(chosen: &[Dialogue]) -> usize {
        let pairs = pairs(chosen);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, rules_file(&pairs)).unwrap();
        let engine = Engine::open(EngineKind::Rules, file.path()).unwrap();
        let mut answers: HashMap<String, Vec<&str>> = HashMap::new();
        let followed = || chosen.iter().flat_map(|dialogue| dialogue.turns.windows(2));
        for turns in followed() {
            answers.entry(folded(&turns[0])).or_default().push(&turns[1]);
        }
        for (turns, seq) in followed().zip(1..) {
            let said = answer(&engine, &turns[0], seq).await;
            let expected = &answers[&folded(&turns[0])];
            assert!(expected.contains(&said.as_str()), "{:?}: {said:?}, not of {expected:?}", turns[0]);
        }
        pairs.len()
    }

    #[tokio::test]
    async fn each_english_question_gets_an_answer_of_the_corpus() {
        let mut english = dialogues(&folder()).unwrap();
        english.retain(|dialogue| dialogue.language == "english");
        let rules = every_question_is_answered(&english).await;
        println!("{} English dialogues make {rules} rules", english.len());
    }

    #[tokio::test]
    async fn each_question_of_any_language_gets_an_answer_of_the_corpus() {
        let all = dialogues(&folder()).unwrap();
        let rules = every_question_is_answered(&all).await;
        println!("{} dialogues of all languages make {rules} rules", all.len());
    }

    #[test]
    fn turns_become_pairs_and_equal_questions_one_rule() {
        let dialogue = |turns: &[&str]| Dialogue {
            language: "english".to_owned(),
            file: "english/x.yml".to_owned(),
            turns: turns.iter().map(|turn| (*turn).to_owned()).collect(),
        };
        let dialogues =
            [dialogue(&["Hi", "Hello", "Bye"]), dialogue(&["hi!", "Hey \"you\"\n"]), dialogue(&["Hi", "Hello"])];
        let pairs = pairs(&dialogues);
        let pair = |question: &str, answers: &[&str]| Pair {
            question: question.to_owned(),
            answers: answers.iter().map(|answer| (*answer).to_owned()).collect(),
        };
        assert_eq!(pairs, [pair("Hi", &["Hello", "Hey \"you\"\n"]), pair("Hello", &["Bye"])]);
        assert!(
            rules_file(&dialogues.iter().flat_map(|_| pairs.clone()).collect::<Vec<_>>()).contains("exact = \"Hi\"")
        );
    }
}
