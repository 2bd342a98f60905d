//! The rules file as it is written: from bytes to a [`Book`], or the first flaw and its place.

use std::collections::HashMap;
use std::fmt;

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::book::{Answers, Book, Choose, Keywords, Need, Patterns, Rule};
use super::fold::{folded, folded_signs, words};
use super::refusal::{Flaw, Lines};
use super::template::Template;
use crate::domain::limits;

/// Largest file; also bounds the number of texts in it.
pub(super) const FILE_BYTES: usize = 16 * 1024 * 1024;
/// Most `[[rule]]` tables in a file.
pub(super) const RULES: usize = 100_000;
/// Most rules with a pattern: each question may have to be compared with all of them.
pub(super) const PATTERNS: usize = 1_000;
/// Largest compiled pattern, in bytes; the guard against `(\w{1000}){1000}`.
const PATTERN_BYTES: usize = 1024 * 1024;
/// Largest compiled set of all patterns.
const PATTERN_SET_BYTES: usize = 64 * 1024 * 1024;
/// Said when nothing fits and the file has no `[fallback]`.
const NO_ANSWER: &str = "I have no answer to that.";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileShape {
    #[serde(default)]
    settings: SettingsShape,
    #[serde(default)]
    rule: Vec<Spanned<RuleShape>>,
    fallback: Option<FallbackShape>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct SettingsShape {
    #[serde(default)]
    choose: Choose,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FallbackShape {
    answers: Spanned<Texts>,
    choose: Option<Choose>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleShape {
    exact: Option<Spanned<Texts>>,
    keywords: Option<Spanned<Texts>>,
    #[serde(rename = "match")]
    need: Option<Spanned<Need>>,
    pattern: Option<Spanned<String>>,
    answers: Spanned<Texts>,
    choose: Option<Choose>,
}

/// One text or a list of texts, each with its place where it has one.
struct Texts(Vec<(Option<usize>, String)>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Texts;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![(None, text.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element::<Spanned<String>>()? {
                    texts.push((Some(text.span().start), text.into_inner()));
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// The texts of a key, each with its place; none at all is a flaw.
fn texts(key: &str, found: Spanned<Texts>) -> Result<Vec<(usize, String)>, Flaw> {
    let start = found.span().start;
    let texts = found.into_inner().0;
    if texts.is_empty() {
        return Err(Flaw::at(start, format!("`{key}` is an empty list")));
    }
    Ok(texts.into_iter().map(|(byte, text)| (byte.unwrap_or(start), text)).collect())
}

/// Reads a whole file.
pub(super) fn read(bytes: &[u8]) -> Result<Book, Flaw> {
    if bytes.len() > FILE_BYTES {
        return Err(Flaw::whole(format!("the file is larger than {FILE_BYTES} bytes")));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| Flaw::at(error.valid_up_to(), "this is not UTF-8"))?;
    let shape: FileShape = toml::from_str(text).map_err(|error| Flaw {
        byte: error.span().map(|span| span.start),
        reason: error.message().replace('\n', ", "),
    })?;
    // Also the moment in which an editor has emptied the file and not written it yet.
    let Some(first) = shape.rule.first() else {
        return Err(Flaw::whole("there is no [[rule]] in it"));
    };
    if let Some(extra) = shape.rule.get(RULES) {
        return Err(Flaw::at(extra.span().start, format!("more than {RULES} rules")));
    }
    let first_rule = first.span().start;
    let settings = shape.settings;
    let mut reader = Reader { lines: Lines::of(bytes), choose: settings.choose, ..Reader::default() };
    for rule in shape.rule {
        reader.add(rule)?;
    }
    reader.finish(shape.fallback, first_rule)
}

/// What has been read so far.
#[derive(Default)]
struct Reader {
    lines: Lines,
    choose: Choose,
    rules: Vec<Rule>,
    exact: HashMap<String, usize>,
    keywords: Keywords,
    patterns: Vec<(usize, Regex)>,
}

impl Reader {
    fn add(&mut self, rule: Spanned<RuleShape>) -> Result<(), Flaw> {
        let start = rule.span().start;
        let rule = rule.into_inner();
        if let (Some(need), None) = (&rule.need, &rule.keywords) {
            return Err(Flaw::at(need.span().start, "`match` belongs to `keywords`"));
        }
        let pattern = match (rule.exact, rule.keywords, rule.pattern) {
            (Some(exact), None, None) => self.add_exact(exact).map(|()| None),
            (None, Some(keywords), None) => {
                self.add_keywords(keywords, rule.need.map(Spanned::into_inner).unwrap_or_default()).map(|()| None)
            }
            (None, None, Some(pattern)) => self.add_pattern(&pattern).map(Some),
            _ => Err(Flaw::at(start, "a rule has exactly one of `exact`, `keywords` and `pattern`")),
        }?;
        let answers = answers(rule.answers, rule.choose.unwrap_or(self.choose), pattern.as_ref())?;
        self.rules.push(Rule { line: self.lines.line(start), answers });
        Ok(())
    }

    fn add_exact(&mut self, exact: Spanned<Texts>) -> Result<(), Flaw> {
        let rule = self.rules.len();
        for (byte, text) in texts("exact", exact)? {
            let key = folded(&text);
            if key.is_empty() {
                return Err(Flaw::at(byte, "an `exact` text is blank"));
            }
            match self.exact.insert(key, rule) {
                // Two spellings of the same in one list do no harm.
                Some(earlier) if earlier != rule => {
                    let line = self.rules.get(earlier).map(|rule| rule.line).unwrap_or_default();
                    return Err(Flaw::at(byte, format!("the rule at line {line} has the same `exact` text {text:?}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add_keywords(&mut self, keywords: Spanned<Texts>, need: Need) -> Result<(), Flaw> {
        let rule = self.rules.len();
        let mut phrases: Vec<Vec<String>> = Vec::new();
        for (byte, text) in texts("keywords", keywords)? {
            let phrase: Vec<String> = words(&folded_signs(&text)).map(str::to_owned).collect();
            if phrase.is_empty() {
                return Err(Flaw::at(byte, "a keyword is blank"));
            }
            if !phrases.contains(&phrase) {
                phrases.push(phrase);
            }
        }
        self.keywords.add(rule, phrases, need);
        Ok(())
    }

    fn add_pattern(&mut self, pattern: &Spanned<String>) -> Result<Regex, Flaw> {
        let start = pattern.span().start;
        if self.patterns.len() == PATTERNS {
            return Err(Flaw::at(start, format!("more than {PATTERNS} patterns")));
        }
        let regex = RegexBuilder::new(pattern.get_ref())
            .case_insensitive(true)
            .size_limit(PATTERN_BYTES)
            .build()
            .map_err(|error| Flaw::at(start, pattern_reason(&error)))?;
        self.patterns.push((self.rules.len(), regex.clone()));
        Ok(regex)
    }

    fn finish(self, fallback: Option<FallbackShape>, first_rule: usize) -> Result<Book, Flaw> {
        let fallback = match fallback {
            Some(fallback) => answers(fallback.answers, fallback.choose.unwrap_or(self.choose), None)?,
            None => Answers { texts: vec![Template::literal(NO_ANSWER)], choose: Choose::First },
        };
        let set: RegexSet = RegexSetBuilder::new(self.patterns.iter().map(|(_, regex)| regex.as_str()))
            .case_insensitive(true)
            .size_limit(PATTERN_SET_BYTES)
            .build()
            .map_err(|error| Flaw::at(first_rule, format!("all patterns together: {}", pattern_reason(&error))))?;
        Ok(Book {
            rules: self.rules,
            exact: self.exact,
            keywords: self.keywords,
            patterns: Patterns { set, each: self.patterns },
            fallback,
        })
    }
}

fn answers(found: Spanned<Texts>, choose: Choose, pattern: Option<&Regex>) -> Result<Answers, Flaw> {
    let answer = |(byte, text): (usize, String)| {
        if text.trim().is_empty() {
            return Err(Flaw::at(byte, "an answer is blank"));
        }
        if text.contains('\0') {
            return Err(Flaw::at(byte, "an answer contains NUL, which messages can't"));
        }
        if text.len() > limits::TEXT_BYTES {
            return Err(Flaw::at(byte, format!("an answer is longer than {} bytes", limits::TEXT_BYTES)));
        }
        match pattern {
            Some(pattern) => Template::parse(&text, pattern).map_err(|reason| Flaw::at(byte, reason)),
            None => Ok(Template::literal(&text)),
        }
    };
    let texts = texts("answers", found)?.into_iter().map(answer).collect::<Result<_, _>>()?;
    Ok(Answers { texts, choose })
}

/// The one line that matters of an error that draws a picture.
fn pattern_reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!("the pattern needs more than {limit} bytes when compiled"),
        other => {
            let picture = other.to_string();
            let reason = picture.lines().rev().find_map(|line| line.trim().strip_prefix("error: "));
            format!("the pattern is not valid: {}", reason.unwrap_or(&picture))
        }
    }
}
