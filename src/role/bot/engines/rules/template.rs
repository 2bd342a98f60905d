//! One possible answer: words, and the places where a pattern's captures go.

use regex::{Captures, Regex};

use crate::domain::limits;

/// Parsed at load, so that a wrong reference is found then and not in front of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Words(String),
    Group(usize),
}

impl Template {
    /// Words as they stand; `$` has no meaning.
    pub(super) fn literal(text: &str) -> Self {
        Self(vec![Piece::Words(text.to_owned())])
    }

    /// Words with `$1`, `${1}`, `$name` and `${name}`; `$$` is a dollar sign. Refuses a group that the pattern does not
    /// have.
    pub(super) fn parse(text: &str, pattern: &Regex) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut words = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            words.push_str(before);
            let (name, after) = reference(after)?;
            rest = after;
            match name {
                None => words.push('$'),
                Some(name) => {
                    let group = group_index(name, pattern)?;
                    pieces.push(Piece::Words(std::mem::take(&mut words)));
                    pieces.push(Piece::Group(group));
                }
            }
        }
        words.push_str(rest);
        pieces.push(Piece::Words(words));
        Ok(Self(pieces))
    }

    /// The answer, with each group's text in its place; a group that took no part is nothing. Stops soon after the
    /// length of a message is passed, since what follows would be cut anyway.
    pub(super) fn fill(&self, captures: Option<&Captures<'_>>) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            text.push_str(match piece {
                Piece::Words(words) => words,
                Piece::Group(group) => {
                    captures.and_then(|found| found.get(*group)).map(|found| found.as_str()).unwrap_or_default()
                }
            });
            if text.len() > limits::TEXT_BYTES {
                break;
            }
        }
        text
    }
}

/// What follows a `$`: the name of a group, or nothing for a second `$`; and the rest.
fn reference(after: &str) -> Result<(Option<&str>, &str), String> {
    if let Some(rest) = after.strip_prefix('$') {
        return Ok((None, rest));
    }
    if let Some(braced) = after.strip_prefix('{') {
        let (name, rest) = braced.split_once('}').ok_or("an answer has ${ without }")?;
        return Ok((Some(name), rest));
    }
    let end = after.find(|sign: char| sign != '_' && !sign.is_ascii_alphanumeric()).unwrap_or(after.len());
    match after.split_at(end) {
        ("", _) => Err("an answer has a lone $; write $$ for a dollar sign".to_owned()),
        (name, rest) => Ok((Some(name), rest)),
    }
}

fn group_index(name: &str, pattern: &Regex) -> Result<usize, String> {
    let by_number = name.parse().ok().filter(|index| *index < pattern.captures_len());
    let by_name = || pattern.capture_names().position(|known| known == Some(name));
    by_number.or_else(by_name).ok_or_else(|| {
        let digits = name.len() - name.trim_start_matches(|sign: char| sign.is_ascii_digit()).len();
        match name.split_at(digits) {
            ("", _) | (_, "") => format!("an answer names the group {name:?}, which the pattern does not have"),
            (number, more) => {
                format!(
                    "an answer names the group {name:?}, which the pattern does not have; write ${{{number}}}{more}"
                )
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str, pattern: &str, text: &str) -> Result<String, String> {
        let pattern = Regex::new(pattern).unwrap();
        Template::parse(template, &pattern).map(|template| template.fill(pattern.captures(text).as_ref()))
    }

    #[test]
    fn captures_go_where_they_are_named() {
        let pattern = r"(\w+) and (?<other>\w+)(!)?";
        for (template, expected) in [
            ("$1", "salt"),
            ("${1}y, $other.", "salty, pepper."),
            ("$2${other}", "pepperpepper"),
            ("[$0]", "[salt and pepper]"),
            ("$$5 for $1$$", "$5 for salt$"),
            ("<$3>", "<>"),
            ("no group", "no group"),
            ("שלום $1。", "שלום salt。"),
        ] {
            assert_eq!(filled(template, pattern, "salt and pepper").as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn a_capture_is_not_read_for_references_again() {
        assert_eq!(filled("$1", "(.*)", "costs $2 ${x} $$").as_deref(), Ok("costs $2 ${x} $$"));
    }

    #[test]
    fn a_reference_to_nothing_is_refused_with_the_way_out() {
        for (template, part) in [
            ("$2", "\"2\""),
            ("$1a", "${1}a"),
            ("$nobody", "\"nobody\""),
            ("costs $", "$$"),
            ("costs $ 5", "$$"),
            ("${1", "without }"),
            ("${}", "\"\""),
        ] {
            let reason = filled(template, "(a)", "a").unwrap_err();
            assert!(reason.contains(part), "{template}: {reason}");
        }
    }

    #[test]
    fn a_template_does_not_grow_without_end() {
        let template = "$1".repeat(5000);
        let text = filled(&template, "(?s)(.*)", &"x".repeat(limits::TEXT_BYTES)).unwrap();
        assert_eq!(text.len(), 2 * limits::TEXT_BYTES);
    }
}
