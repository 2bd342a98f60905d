//! The rules in force: which answer a question gets.
//!
//! An exact text wins over everything, wherever it stands; then the first rule of the file whose keywords or pattern
//! fit; then the fallback. A rule whose answer comes out blank (an empty capture) is passed over.

use std::collections::{BTreeMap, HashMap, HashSet};

use regex::{Regex, RegexSet};
use serde::Deserialize;

use super::fold::{folded, folded_signs, words};
use super::template::Template;
use crate::role::bot::engines::Question;

/// All rules of one file.
#[derive(Debug)]
pub(super) struct Book {
    /// In the order of the file; the other fields hold indices of it.
    pub(super) rules: Vec<Rule>,
    pub(super) exact: HashMap<String, usize>,
    pub(super) keywords: Keywords,
    pub(super) patterns: Patterns,
    pub(super) fallback: Answers,
}

#[derive(Debug)]
pub(super) struct Rule {
    /// Where it stands in the file.
    pub(super) line: usize,
    pub(super) answers: Answers,
}

/// What a rule may say.
#[derive(Debug)]
pub(super) struct Answers {
    /// Never empty.
    pub(super) texts: Vec<Template>,
    pub(super) choose: Choose,
}

/// Which of several answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Choose {
    /// Any, each time anew.
    #[default]
    Random,
    /// The first one.
    First,
    /// By conversation and question: another question may get another, a retry gets the same.
    Conversation,
}

/// How many of a rule's keywords a text must have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Need {
    /// One of them.
    #[default]
    Any,
    /// Every one.
    All,
}

/// Keywords by their first word, so that a text is walked through once however many there are.
#[derive(Debug, Default)]
pub(super) struct Keywords {
    by_first: HashMap<String, Vec<Phrase>>,
    /// How many different phrases a rule needs.
    needed: HashMap<usize, usize>,
}

#[derive(Debug)]
struct Phrase {
    words: Vec<String>,
    rule: usize,
    /// Its number within its rule.
    number: usize,
}

/// Patterns, and a set of all that tells in one pass which ones are worth a look.
#[derive(Debug)]
pub(super) struct Patterns {
    pub(super) set: RegexSet,
    /// In the order of the set: the rule and its pattern.
    pub(super) each: Vec<(usize, Regex)>,
}

impl Book {
    /// The words of the answer, and the line of the rule that gave it (none: the fallback).
    pub(super) fn answer(&self, question: &Question<'_>) -> (String, Option<usize>) {
        let exact = self.exact.get(&folded(question.text)).and_then(|rule| self.rules.get(*rule));
        if let Some(rule) = exact {
            return (rule.answers.pick(question).fill(None), Some(rule.line));
        }
        for (index, pattern) in self.fitting(question.text) {
            let Some(rule) = self.rules.get(index) else { continue };
            let captures = pattern.and_then(|pattern| pattern.captures(question.text));
            let text = rule.answers.pick(question).fill(captures.as_ref());
            if !text.trim().is_empty() {
                return (text, Some(rule.line));
            }
        }
        (self.fallback.pick(question).fill(None), None)
    }

    /// The rules whose keywords or pattern fit, in the order of the file.
    fn fitting(&self, text: &str) -> BTreeMap<usize, Option<&Regex>> {
        let by_keywords = self.keywords.fitting(text).map(|rule| (rule, None));
        let patterns = self.patterns.set.matches(text);
        let by_pattern = patterns.iter().filter_map(|index| self.patterns.each.get(index));
        by_pattern.map(|(rule, pattern)| (*rule, Some(pattern))).chain(by_keywords).collect()
    }
}

impl Keywords {
    /// Takes the different phrases of one rule, none of them empty.
    pub(super) fn add(&mut self, rule: usize, phrases: Vec<Vec<String>>, need: Need) {
        let needed = if need == Need::All { phrases.len() } else { 1 };
        self.needed.insert(rule, needed);
        for (number, words) in phrases.into_iter().enumerate() {
            if let Some(first) = words.first() {
                self.by_first.entry(first.clone()).or_default().push(Phrase { words, rule, number });
            }
        }
    }

    fn fitting(&self, text: &str) -> impl Iterator<Item = usize> {
        let mut found: HashMap<usize, HashSet<usize>> = HashMap::new();
        if !self.by_first.is_empty() {
            let signs = folded_signs(text);
            let all: Vec<&str> = words(&signs).collect();
            for (place, word) in all.iter().enumerate() {
                let rest = all.get(place..).unwrap_or_default();
                for phrase in self.by_first.get(*word).into_iter().flatten() {
                    if phrase.begins(rest) {
                        found.entry(phrase.rule).or_default().insert(phrase.number);
                    }
                }
            }
        }
        found
            .into_iter()
            .filter(|(rule, phrases)| self.needed.get(rule).is_some_and(|needed| phrases.len() >= *needed))
            .map(|(rule, _)| rule)
    }
}

impl Phrase {
    fn begins(&self, text: &[&str]) -> bool {
        text.len() >= self.words.len() && self.words.iter().zip(text).all(|(word, found)| word == found)
    }
}

impl Answers {
    fn pick(&self, question: &Question<'_>) -> &Template {
        let count = self.texts.len();
        let index = match self.choose {
            Choose::First => 0,
            Choose::Random => fastrand::usize(..count),
            Choose::Conversation => {
                let mut hash = crc32fast::Hasher::new();
                hash.update(question.conversation.as_bytes());
                hash.update(&question.seq.to_be_bytes());
                usize::try_from(hash.finalize()).unwrap_or_default() % count
            }
        };
        &self.texts[index]
    }
}
