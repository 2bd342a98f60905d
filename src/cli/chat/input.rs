//! The lines of standard input. Read on a thread of their own: a blocked read of a terminal can't be cancelled, and
//! must not keep the process from ending.

use std::io::{self, BufRead, ErrorKind, Read};
use std::thread;

use tokio::sync::mpsc;

use crate::domain::limits;

/// One more than the longest text and its line break, so that a text that is too long is seen to be.
const LONGEST: u64 = limits::TEXT_BYTES as u64 + 3;

/// One line ahead of the conversation; the thread then waits.
pub(super) fn lines() -> io::Result<mpsc::Receiver<io::Result<String>>> {
    let (sender, receiver) = mpsc::channel(1);
    thread::Builder::new().name("standard input".to_owned()).spawn(move || {
        let mut input = io::stdin().lock();
        let mut number = 0;
        while let Some(line) = next_line(&mut input, number + 1).transpose() {
            number += 1;
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                break;
            }
        }
    })?;
    Ok(receiver)
}

/// The next line without its line break; `None` at the end.
fn next_line(input: &mut impl BufRead, number: u64) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    input.take(LONGEST).read_until(b'\n', &mut line)?;
    let ended = line.ends_with(b"\n");
    if !ended && line.len() as u64 == LONGEST {
        let problem = format!("line {number} is longer than {} bytes", limits::TEXT_BYTES);
        return Err(io::Error::new(ErrorKind::InvalidData, problem));
    }
    if line.is_empty() {
        return Ok(None);
    }
    let Ok(text) = String::from_utf8(line) else {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("line {number} is not UTF-8")));
    };
    Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut input: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut input, lines.len() as u64 + 1).transpose() {
            match line {
                Ok(line) => lines.push(line),
                Err(error) => {
                    lines.push(format!("! {error}"));
                    break;
                }
            }
        }
        lines
    }

    #[test]
    fn lines_lose_their_ends_and_nothing_else() {
        assert_eq!(all(b""), Vec::<String>::new());
        assert_eq!(all(b" a \r\n\nb"), [" a ", "", "b"]);
    }

    #[test]
    fn a_line_that_cannot_be_said_is_named() {
        assert_eq!(all(b"a\n\xff\n"), ["a", "! line 2 is not UTF-8"]);
        let longest = "x".repeat(limits::TEXT_BYTES);
        assert_eq!(all(format!("{longest}\r\nb\n").as_bytes()), [&longest, "b"]);
        assert_eq!(all("x".repeat(1 << 20).as_bytes()), ["! line 1 is longer than 16384 bytes"]);
    }
}
