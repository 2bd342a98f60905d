//! CSV by RFC 4180, with a header line: for people and their spreadsheets. NDJSON is the exact form.
//!
//! Users choose their words, and a spreadsheet may take a cell for a formula that begins with `=`, `+`, `-`, `@`, one of
//! these in full width, a tab or a line break (OWASP's list). So such a text gets an apostrophe in front, and so does one
//! that begins with an apostrophe: to take one away gives the text back.

use super::shown::{RawRow, Shown};
use crate::domain::{Cursor, Who};

/// The header line.
pub(super) const HEADER: &str =
    "seq,at,cursor,conversation,id,who,side,author,kind,text,reply_to_id,reply_to_seq,bot,sent_at,data,subject,raw\r\n";

/// What a formula may begin with.
const FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

/// Adds one row.
pub(super) fn write(out: &mut Vec<u8>, shown: &Shown) {
    match shown {
        Shown::Message(stored) => {
            let message = &stored.message;
            let cursor = Cursor::new(stored.at, stored.seq);
            plain(
                out,
                &format!(
                    "{},{},{cursor},{},{},{},{}",
                    stored.seq,
                    stored.at,
                    message.conversation,
                    message.id,
                    message.who.as_str(),
                    message.side.map_or("", Who::as_str)
                ),
            );
            word(out, &message.author);
            plain(out, ",");
            plain(out, message.kind.as_str());
            word(out, message.text.as_deref().unwrap_or_default());
            match &message.reply_to {
                Some(reply_to) => plain(out, &format!(",{},{}", reply_to.id, reply_to.seq)),
                None => plain(out, ",,"),
            }
            word(out, message.bot.as_deref().unwrap_or_default());
            plain(out, &format!(",{}", message.sent_at));
            word(out, message.data.as_deref().map(serde_json::value::RawValue::get).unwrap_or_default());
            plain(out, ",,");
        }
        Shown::Raw(RawRow { seq, at, cursor, subject, raw, conversation }) => {
            let conversation = conversation.map(|conversation| conversation.to_string()).unwrap_or_default();
            plain(out, &format!("{seq},{at},{cursor},{conversation},,,,,,,,,,,"));
            word(out, subject.as_deref().unwrap_or_default());
            word(out, raw);
        }
    }
    plain(out, "\r\n");
}

fn plain(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// A comma and a text of somebody's.
fn word(out: &mut Vec<u8>, text: &str) {
    out.push(b',');
    let guard = text.starts_with(FORMULA) || text.starts_with('\'');
    let quoted = text.contains(['"', ',', '\r', '\n']);
    if quoted {
        out.push(b'"');
    }
    if guard {
        out.push(b'\'');
    }
    if quoted {
        for part in text.split_inclusive('"') {
            plain(out, part);
            if part.ends_with('"') {
                out.push(b'"');
            }
        }
        out.push(b'"');
    } else {
        plain(out, text);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The fields of one line, as RFC 4180 says.
    fn read(line: &[u8]) -> Vec<String> {
        let text = std::str::from_utf8(line).unwrap();
        let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '"' if quoted && letters.peek() == Some(&'"') => field.extend(letters.next()),
                '"' => quoted = !quoted,
                ',' if !quoted => fields.push(std::mem::take(&mut field)),
                _ => field.push(letter),
            }
        }
        assert!(!quoted, "{text:?}");
        fields.push(field);
        fields
    }

    proptest! {
        #[test]
        fn every_text_survives_and_none_begins_as_a_formula(text in "[-=+@＝＋－＠'\"\t\r\n,a]{0,6}|.*", next in ".*") {
            let mut line = Vec::new();
            word(&mut line, &text);
            word(&mut line, &next);
            let fields = read(&line);
            prop_assert_eq!(fields.len(), 3);
            prop_assert!(!fields[1].starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠', '\t', '\r', '\n']));
            prop_assert_eq!(fields[1].strip_prefix('\'').unwrap_or(&fields[1]), &text);
        }
    }
}
