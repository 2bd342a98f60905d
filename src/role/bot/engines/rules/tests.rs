//! Rules files and the answers that come of them.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;

use super::*;
use crate::domain::{ConversationId, MessageId, limits};

const EXAMPLE: &str = include_str!("../../../../../config/rules.example.toml");

fn question(text: &str) -> Question<'_> {
    let conversation = ConversationId::parse("0198c0de-0000-7000-8000-000000000001").unwrap();
    Question { text, conversation, id: MessageId::new(), seq: 7, author: "someone", bot: None, data: None }
}

fn book(file: &str) -> Book {
    file::read(file.as_bytes()).unwrap_or_else(|flaw| panic!("{flaw:?}"))
}

fn answer(book: &Book, text: &str) -> String {
    book.answer(&question(text)).0
}

fn reason(bytes: &[u8]) -> String {
    file::read(bytes).unwrap_err().refuse(Path::new("r.toml"), bytes).to_string()
}

#[test]
fn the_example_answers_as_it_says() {
    let book = book(EXAMPLE);
    for text in ["Hello!", "HI", " good   Morning.", "שלום", "你好！", "สวัสดี"] {
        assert!(["Hello!", "Hi, how can I help?"].contains(&answer(&book, text).as_str()), "{text}");
    }
    for (text, expected) in [
        ("I want a REFUND for my order, please", "Please tell me the number of your order, such as: order 4711."),
        ("What are your opening hours?", "We are open from 9 to 17."),
        ("明日の営業時間は？", "We are open from 9 to 17."),
        ("Hey, my NAME is Zoë-Marie!", "Nice to meet you, Zoë-Marie."),
        ("my name is 王小明", "Nice to meet you, 王小明."),
    ] {
        assert_eq!(answer(&book, text), expected, "{text}");
    }
    assert!(answer(&book, "where is order 4711?").contains("4711"));
    for text in ["", "refund", "reorder and refunds", "   "] {
        let said = answer(&book, text);
        assert!(["I do not know that yet.", "Could you say that in other words?"].contains(&said.as_str()), "{text}");
    }
}

#[test]
fn an_exact_text_wins_and_then_the_order_of_the_file_decides() {
    let book = book(
        r"
        rule = [
            { pattern = 'tea', answers = 'pattern' },
            { keywords = 'tea', answers = 'keyword after pattern' },
            { keywords = 'coffee', answers = 'keyword' },
            { pattern = 'coffee', answers = 'pattern after keyword' },
            { exact = ['tea', 'Coffee?'], answers = 'exact' },
        ]",
    );
    for (text, expected) in [
        ("tea", "exact"),
        ("coffee", "exact"),
        ("a tea", "pattern"),
        ("a coffee", "keyword"),
        ("tea, coffee", "pattern"),
    ] {
        assert_eq!(answer(&book, text), expected, "{text}");
    }
    assert_eq!(answer(&book, "water"), "I have no answer to that.");
}

#[test]
fn keywords_are_whole_words_and_phrases_in_any_order() {
    let book = book(
        r"
        rule = [
            { keywords = ['new york', 'C++'], answers = 'any' },
            { keywords = ['red', 'green', 'Red'], match = 'all', answers = 'all' },
            { keywords = ['天気', 'ราคา', '?'], answers = 'part' },
        ]",
    );
    for (text, expected) in [
        ("to New  York!", "any"),
        ("i like c++.", "any"),
        ("york new", ""),
        ("anew york", ""),
        ("green and red", "all"),
        ("red red", ""),
        ("redgreen", ""),
        ("今日の天気は", "part"),
        ("สอบถามราคาสินค้า", "part"),
        ("really?", "part"),
    ] {
        let expected = if expected.is_empty() { "I have no answer to that." } else { expected };
        assert_eq!(answer(&book, text), expected, "{text}");
    }
}

#[test]
fn a_rule_whose_answer_is_blank_is_passed_over() {
    let book = book(
        r"
        rule = [
            { pattern = 'say (\w+)?', answers = '$1' },
            { keywords = 'say', answers = 'say what' },
        ]",
    );
    assert_eq!(answer(&book, "say cheese"), "cheese");
    assert_eq!(answer(&book, "say "), "say what");
}

#[test]
fn patterns_see_the_text_as_it_was_written() {
    let book = book(
        r"
        rule = [
            { pattern = '^echo (?s:(.*))$', answers = '$1' },
            { pattern = '(?-i)^Big$', answers = 'big' },
        ]",
    );
    assert_eq!(answer(&book, "ECHO Ａ  b\n\u{200b}$1!"), "Ａ  b\n\u{200b}$1!");
    assert_eq!(answer(&book, "Big"), "big");
    assert_eq!(answer(&book, "big"), "I have no answer to that.");
}

#[test]
fn a_choice_by_conversation_is_stable_and_a_random_one_meets_all() {
    let book = book(
        r"
        rule = [
            { exact = 'random', answers = ['a', 'b', 'c'] },
            { exact = 'first', choose = 'first', answers = ['a', 'b', 'c'] },
            { exact = 'stable', choose = 'conversation', answers = ['a', 'b', 'c'] },
        ]",
    );
    let all = |text: &str| (0..300).map(|_| answer(&book, text)).collect::<HashSet<_>>().len();
    assert_eq!(all("random"), 3);
    assert_eq!(all("first"), 1);
    assert_eq!(all("stable"), 1);
    // The same for ever: other releases of yalo must choose alike.
    let said = |seq| book.answer(&Question { seq, ..question("stable") }).0;
    assert_eq!((1..=12).map(said).collect::<String>(), "bcccacaaacbb");
}

#[test]
fn the_settings_and_the_fallback_choose_too() {
    let book = book(
        r"
        settings.choose = 'first'
        rule = [{ exact = 'x', answers = ['a', 'b'] }]
        fallback.answers = ['c', 'd']",
    );
    assert!((0..50).all(|_| answer(&book, "x") == "a" && answer(&book, "y") == "c"));
}

#[test]
fn a_bad_file_is_refused_with_line_column_and_reason() {
    for (file, expected) in [
        ("", "r.toml: there is no [[rule]] in it"),
        ("[fallback]\nanswers = 'x'", "r.toml: there is no [[rule]] in it"),
        ("[[rule]]\nexact = 'a'\nanswers = 'b'\n\n[[rule]]\nexact = [oops]", "r.toml:6:10: "),
        ("[[rule]]\nexact = 'a'\nanswer = 'b'", "r.toml:3:1: unknown field `answer`"),
        ("[[rule]]\nexact = 'a'", "r.toml:1:1: missing field `answers`"),
        ("[[rule]]\nexact = 'a'\nanswers = 3", "r.toml:3:11: invalid type: integer `3`, expected a string or a list"),
        ("[[rule]]\nexact = ['é', 3]\nanswers = 'b'", "r.toml:2:15: invalid type"),
        ("[[rule]]\nexact = 'a'\nanswers = []", "r.toml:3:11: `answers` is an empty list"),
        ("[[rule]]\nexact = 'a'\nanswers = ['b',\n ' ']", "r.toml:4:2: an answer is blank"),
        ("[[rule]]\nexact = 'a'\nanswers = \"b\\u0000\"", "r.toml:3:11: an answer contains NUL"),
        ("[[rule]]\nexact = ['a', ' ']\nanswers = 'b'", "r.toml:2:15: an `exact` text is blank"),
        ("[[rule]]\nkeywords = ['']\nanswers = 'b'", "r.toml:2:13: a keyword is blank"),
        ("[[rule]]\nanswers = 'b'", "r.toml:1:1: a rule has exactly one of"),
        ("[[rule]]\nexact = 'a'\npattern = 'a'\nanswers = 'b'", "r.toml:1:1: a rule has exactly one of"),
        ("[[rule]]\nexact = 'a'\nmatch = 'all'\nanswers = 'b'", "r.toml:3:9: `match` belongs to `keywords`"),
        ("[[rule]]\nkeywords = 'a'\nmatch = 'some'\nanswers = 'b'", "r.toml:3:9: unknown variant `some`"),
        ("[settings]\nchoose = 'best'", "r.toml:2:10: unknown variant `best`"),
        ("[[rule]]\npattern = '(a'\nanswers = 'b'", "r.toml:2:11: the pattern is not valid: unclosed group"),
        ("[[rule]]\npattern = '(\\w{500}){500}'\nanswers = 'b'", "r.toml:2:11: the pattern needs more than"),
        ("[[rule]]\npattern = 'a'\nanswers = ['b', '$1']", "r.toml:3:17: an answer names the group \"1\""),
        (
            "[[rule]]\nexact = 'a'\nanswers = 'b'\n[[rule]]\nexact = ['c', 'A!']\nanswers = 'b'",
            "r.toml:5:15: the rule at line 1 has the same `exact` text \"A!\"",
        ),
    ] {
        let reason = reason(file.as_bytes());
        assert!(reason.starts_with(expected), "{file}\n  said {reason}\n  not  {expected}");
        assert!(!reason.contains('\n'), "{reason}");
    }
    assert_eq!(reason(b"[[rule]]\nexact = '\xff'"), "r.toml:2:10: this is not UTF-8");
}

#[test]
fn a_file_beyond_the_limits_is_refused() {
    let long = format!("[[rule]]\nexact = 'a'\nanswers = '{}'", "x".repeat(limits::TEXT_BYTES + 1));
    assert!(reason(long.as_bytes()).starts_with("r.toml:3:11: an answer is longer than 16384 bytes"));

    let mut patterns = String::new();
    for number in 0..=file::PATTERNS {
        write!(patterns, "[[rule]]\npattern = 'a{number}'\nanswers = 'b'\n").unwrap();
    }
    assert_eq!(reason(patterns.as_bytes()), "r.toml:3002:11: more than 1000 patterns");

    let large = vec![b'\n'; file::FILE_BYTES + 1];
    assert_eq!(reason(&large), "r.toml: the file is larger than 16777216 bytes");
}

#[test]
fn twenty_thousand_rules_are_read_and_looked_up_without_walking_them() {
    let mut many = String::new();
    for number in 0..20_000 {
        write!(many, "[[rule]]\nexact = 'question {number}'\nanswers = 'answer {number}'\n").unwrap();
    }
    // Once each rule was placed by counting the lines before it, and this took minutes.
    let book = book(&many);
    for number in 0..20_000 {
        let (text, line) = book.answer(&question(&format!("Question {number}?")));
        assert_eq!((text, line), (format!("answer {number}"), Some(3 * number + 1)));
    }
}

#[test]
fn an_answer_that_captures_make_too_long_is_cut() {
    let book = book(r"rule = [{ pattern = '(?s)(.*)', answers = '$1$1' }]");
    let text = answer(&book, &"é".repeat(limits::TEXT_BYTES / 2));
    let cut = Answer::new(text);
    assert!(cut.text().len() <= limits::TEXT_BYTES && cut.text().ends_with('…'));
}

const ONE: &str = "[[rule]]\nexact = 'q'\nanswers = 'one'\n";
const TWO: &str = "[[rule]]\nexact = 'q'\nanswers = 'two'\n";

/// A rules file in a folder that goes away.
struct OnDisk {
    _folder: tempfile::TempDir,
    path: PathBuf,
    rules: Rules,
}

fn on_disk() -> OnDisk {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.toml");
    fs::write(&path, ONE).unwrap();
    let rules = Rules::open(&path).unwrap();
    OnDisk { _folder: folder, path, rules }
}

impl OnDisk {
    fn said(&self) -> String {
        answer(&self.rules.shelf.book(), "q")
    }

    fn check(&self) -> Check {
        self.rules.shelf.check()
    }

    /// Written beside and renamed over, as most editors do; the new inode can't be taken for the old one.
    fn replace(&self, text: &str) {
        let beside = self.path.with_extension("new");
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, &self.path).unwrap();
    }
}

#[test]
fn a_file_is_read_again_when_it_is_replaced() {
    let file = on_disk();
    assert_eq!((file.check(), file.said().as_str()), (Check::Same, "one"));
    file.replace(TWO);
    assert_eq!((file.check(), file.said().as_str()), (Check::Taken, "two"));
    assert_eq!(file.check(), Check::Same);
}

#[test]
fn a_file_is_read_again_when_it_is_rewritten_in_place() {
    let file = on_disk();
    fs::write(&file.path, format!("{TWO}# longer\n")).unwrap();
    assert_eq!((file.check(), file.said().as_str()), (Check::Taken, "two"));
}

#[test]
fn a_bad_file_is_refused_once_and_the_old_rules_stay() {
    let file = on_disk();
    file.replace("[[rule]]\nexact = 'q'\nanswers = two\n");
    let Check::Refused(refusal) = file.check() else { panic!("not refused") };
    assert_eq!((refusal.path.as_path(), refusal.place), (file.path.as_path(), Some((3, 11))));
    assert_eq!((file.check(), file.said().as_str()), (Check::Same, "one"));
    file.replace(TWO);
    assert_eq!((file.check(), file.said().as_str()), (Check::Taken, "two"));
}

#[test]
fn a_file_that_vanishes_is_told_once_and_the_old_rules_stay() {
    let file = on_disk();
    fs::remove_file(&file.path).unwrap();
    let Check::Refused(refusal) = file.check() else { panic!("not refused") };
    assert!(refusal.to_string().contains("cannot be read"), "{refusal}");
    assert_eq!((file.check(), file.said().as_str()), (Check::Same, "one"));
    fs::write(&file.path, TWO).unwrap();
    assert_eq!((file.check(), file.said().as_str()), (Check::Taken, "two"));
}

#[test]
fn a_bad_or_missing_file_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.toml");
    assert!(Rules::open(&path).unwrap_err().to_string().contains("cannot be read"));
    fs::write(&path, "[[rule]]\nexact = 'q'").unwrap();
    assert_eq!(Rules::open(&path).unwrap_err().place, Some((1, 1)));
}

#[tokio::test]
async fn the_first_question_after_an_edit_gets_the_new_rules() {
    let file = on_disk();
    assert_eq!(file.rules.answer(&question("q")).await.text(), "one");
    file.replace(TWO);
    assert_eq!(file.rules.answer(&question("q")).await.text(), "one", "trusted for a second");
    let later = Rules { gate: Gate::default(), shelf: Arc::clone(&file.rules.shelf), opened: file.rules.opened };
    assert_eq!(later.answer(&question("q")).await.text(), "two");
}
