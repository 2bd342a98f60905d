//! JSON with errors for people: what is wrong, in which field, in which line and column.

use serde::Deserialize;
use serde_json::error::Category;

use super::not_utf8;
use crate::web::problem::{ApiError, Code};

/// Longest piece of a parser's message that is sent back.
const MESSAGE: usize = 200;

/// Reads one JSON object, of a body or of a WebSocket frame.
///
/// Refused besides what is no JSON: NUL and unpaired surrogates written as escapes, wherever they stand. The first cannot
/// be kept by every store, the second is no text; and a part that is kept unparsed would carry them on.
pub fn parse_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(not_utf8)?;
    check_escapes(text)?;
    // A struct could be read from a list of its values, too, which nobody means.
    if !text.trim_start().is_empty() && !text.trim_start().starts_with('{') {
        return Err(ApiError::new(Code::InvalidJson, "the JSON is no object").next("send an object: {\"name\": value}"));
    }
    serde_json::from_str(text).map_err(|error| explain::<T>(text, &error))
}

/// Walks the escapes. A backslash stands in strings only, or the parser refuses the document anyway.
fn check_escapes(text: &str) -> Result<(), ApiError> {
    let bytes = text.as_bytes();
    // Most texts have none, and that is seen faster.
    if !bytes.contains(&b'\\') {
        return Ok(());
    }
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\\')) {
        let escape = at + found;
        let Some(unit) = utf16_unit(bytes, escape) else {
            at = escape + 2;
            continue;
        };
        at = escape + 6;
        match unit {
            0 => return Err(refused(text, escape, "the character NUL (\\u0000)")),
            0xd800..=0xdbff => match utf16_unit(bytes, at) {
                Some(0xdc00..=0xdfff) => at += 6,
                _ => return Err(refused(text, escape, "an unpaired surrogate")),
            },
            0xdc00..=0xdfff => return Err(refused(text, escape, "an unpaired surrogate")),
            _ => {}
        }
    }
    Ok(())
}

/// The value of `\uXXXX` at this place, if that is what stands there.
fn utf16_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits =
        std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

fn refused(text: &str, at: usize, what: &str) -> ApiError {
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|letter| *letter != '\n').count() + 1;
    ApiError::new(Code::InvalidJson, format!("line {line}, column {column} holds {what}, which no text may contain"))
        .with("line", line)
        .with("column", column)
        .next("leave the character out")
}

fn explain<'a, T: Deserialize<'a>>(text: &'a str, error: &serde_json::Error) -> ApiError {
    let message = error.to_string();
    // Line and column are members of their own.
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    let message = shortened(message);
    let problem = match error.classify() {
        Category::Data => {
            let field = field_of::<T>(text, message);
            let code = if message.starts_with("unknown field") { Code::UnknownField } else { Code::InvalidField };
            match field {
                Some(field) => ApiError::new(code, format!("field {field:?}: {message}")).field(&field),
                None => ApiError::new(code, message.to_owned()),
            }
        }
        Category::Eof if text.trim().is_empty() => ApiError::new(Code::InvalidJson, "the body is empty"),
        Category::Eof => ApiError::new(Code::InvalidJson, "the JSON ends too early"),
        Category::Syntax | Category::Io => ApiError::new(Code::InvalidJson, message.to_owned()),
    };
    problem.with("line", error.line()).with("column", error.column())
}

/// The path of the field that was refused. Parses once more, which only refused requests pay for.
fn field_of<'a, T: Deserialize<'a>>(text: &'a str, message: &str) -> Option<String> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let path = serde_path_to_error::deserialize::<_, T>(&mut parser).err()?.path().to_string();
    let parent = if path == "." { None } else { Some(path) };
    // Missing and doubled fields are an error of the object around them: the name is in the message.
    let named = ["missing field `", "duplicate field `"].iter().find_map(|start| message.strip_prefix(start));
    match (named.and_then(|rest| rest.split('`').next()), parent) {
        (Some(name), Some(parent)) => Some(format!("{parent}.{name}")),
        (Some(name), None) => Some(name.to_owned()),
        (None, parent) => parent,
    }
}

/// A parser's message may repeat the client's value in full.
fn shortened(message: &str) -> &str {
    let end = (0..=MESSAGE.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
    message.get(..end.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Post {
        text: String,
        #[serde(default)]
        count: Option<u8>,
        #[serde(default)]
        reply: Option<Box<Post>>,
        #[serde(default)]
        data: Option<Box<RawValue>>,
    }

    fn code_and_field(body: &str) -> (Code, Option<String>) {
        let problem = parse_json::<Post>(body.as_bytes()).unwrap_err();
        (problem.code(), problem.extra("field").and_then(|field| field.as_str().map(ToOwned::to_owned)))
    }

    #[test]
    fn what_is_wrong_is_said_by_code_and_field() {
        use Code::{InvalidField, InvalidJson, UnknownField};
        let deep = format!("{{\"text\":\"x\",\"data\":{}", "[".repeat(500));
        let cases: &[(&str, Code, Option<&str>)] = &[
            ("", InvalidJson, None),
            ("  \n", InvalidJson, None),
            ("{", InvalidJson, None),
            ("{\"text\":\"x\"} {", InvalidJson, None),
            ("{'text':'x'}", InvalidJson, None),
            ("{\"text\":\"a\u{0}b\"}", InvalidJson, None),
            ("{\"text\":\"a\nb\"}", InvalidJson, None),
            ("{\"text\":\"\\x\"}", InvalidJson, None),
            ("\u{feff}{\"text\":\"x\"}", InvalidJson, None),
            (&deep, InvalidJson, None),
            (r#"{"text":"\u0000"}"#, InvalidJson, None),
            (r#"{"text":"\ud800"}"#, InvalidJson, None),
            (r#"{"text":"\ud800\u0041"}"#, InvalidJson, None),
            (r#"{"text":"\udc00"}"#, InvalidJson, None),
            (r#"{"text":"x","data":{"deep":["\ud83d"]}}"#, InvalidJson, None),
            (r#"{"text":"x","data":"\ud83d\u0041"}"#, InvalidJson, None),
            (r#"{"text":"x","data":{"\u0000":1}}"#, InvalidJson, None),
            (r#"{"text":"x","\ud800":1}"#, InvalidJson, None),
            ("[]", InvalidJson, None),
            ("[\"x\"]", InvalidJson, None),
            ("null", InvalidJson, None),
            ("5", InvalidJson, None),
            ("{}", InvalidField, Some("text")),
            (r#"{"text":5}"#, InvalidField, Some("text")),
            (r#"{"text":null}"#, InvalidField, Some("text")),
            (r#"{"text":"x","text":"y"}"#, InvalidField, Some("text")),
            (r#"{"text":"x","count":256}"#, InvalidField, Some("count")),
            (r#"{"text":"x","count":1e999}"#, InvalidJson, None),
            (r#"{"text":"x","reply":{"text":7}}"#, InvalidField, Some("reply.text")),
            (r#"{"text":"x","reply":{}}"#, InvalidField, Some("reply.text")),
            (r#"{"text":"x","txet":"y"}"#, UnknownField, Some("txet")),
            (r#"{"text":"x","reply":{"text":"y","odd":1}}"#, UnknownField, Some("reply.odd")),
        ];
        for (body, code, field) in cases {
            assert_eq!(code_and_field(body), (*code, field.map(ToOwned::to_owned)), "{body}");
        }
    }

    #[test]
    fn ordinary_text_of_any_script_passes() {
        let cases = [
            (r#"{"text":"grüß 👋"}"#, "grüß 👋"),
            (r#"{"text":"\ud83d\udc4b"}"#, "👋"),
            (r#"{"text":"\\u0000 and \\ud800 are spelled out"}"#, "\\u0000 and \\ud800 are spelled out"),
            (r#"{"text":"\\\\\u0041"}"#, "\\\\A"),
            (r#"{"text":"\u0001\uFFFF"}"#, "\u{1}\u{ffff}"),
        ];
        for (body, text) in cases {
            let post: Post = parse_json(body.as_bytes()).unwrap();
            assert_eq!(post.text, text);
            assert!(post.count.is_none() && post.reply.is_none() && post.data.is_none());
        }
    }

    #[test]
    fn the_place_is_given_in_lines_and_columns() {
        let problem = parse_json::<Post>("{\n  \"text\": \"ä\\u0000\"}".as_bytes()).unwrap_err();
        assert_eq!((problem.extra("line"), problem.extra("column")), (Some(2.into()), Some(13.into())));
        assert_eq!(parse_json::<Post>(b"{\"text\":\"\xff\"}").unwrap_err().code(), Code::NotUtf8);
    }

    #[test]
    fn a_long_value_is_not_echoed_in_full() {
        let body = format!(r#"{{"text":"x","count":"{}"}}"#, "ü".repeat(5000));
        assert!(parse_json::<Post>(body.as_bytes()).unwrap_err().detail().len() < 300);
    }
}
