//! The server's log: each line goes on into ours at its own level, and the last ones are kept for an error message.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::ChildStderr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{debug, error, trace, warn};

use super::room;

/// How many lines an error message shows.
const LINES: usize = 12;
/// Longest line that is read at once.
const LINE_BYTES: u64 = 4096;

/// The last lines of one server process.
#[derive(Debug, Clone, Default)]
pub(super) struct LastWords(Arc<Heard>);

#[derive(Debug, Default)]
struct Heard {
    lines: Mutex<VecDeque<String>>,
    missed_write: AtomicBool,
}

impl LastWords {
    fn push(&self, line: &str) {
        if room::is_write_missed_in(line) {
            self.0.missed_write.store(true, Ordering::Release);
        }
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    /// The lines, each on its own, indented by two.
    pub(super) fn text(&self) -> String {
        let lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return "  (it said nothing)".to_owned();
        }
        lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }

    /// Whether a write of this process has failed.
    pub(super) fn has_missed_a_write(&self) -> bool {
        self.0.missed_write.load(Ordering::Acquire)
    }
}

/// Reads until the server closes its end, which is when it ends.
pub(super) fn follow(stderr: ChildStderr, words: &LastWords) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let (level, text) = taken_apart(text.trim_end_matches(['\r', '\n']));
        words.push(text);
        forward(level, text);
    }
}

/// Level and text of `[123] [INF] Server is ready`. Anything else is the complaint of a server that can't even start.
fn taken_apart(line: &str) -> (&str, &str) {
    let after_pid = line.split_once("] ").map_or(line, |(_, rest)| rest);
    let known = after_pid.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    known.unwrap_or(("ERR", line))
}

fn forward(level: &str, text: &str) {
    // The password is a random one in a file of the owner's: nothing to warn of at each start.
    let level = if text.starts_with("Plaintext passwords detected") { "DBG" } else { level };
    match level {
        "FTL" | "ERR" => error!("nats-server: {text}"),
        "WRN" => warn!("nats-server: {text}"),
        "TRC" => trace!("nats-server: {text}"),
        _ => debug!("nats-server: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart_into_level_and_text() {
        assert_eq!(taken_apart("[12] [WRN] disk [almost] full"), ("WRN", "disk [almost] full"));
        assert_eq!(taken_apart("[12] [INF] "), ("INF", ""));
        assert_eq!(taken_apart("nats-server: open /x: no such file"), ("ERR", "nats-server: open /x: no such file"));
        assert_eq!(taken_apart(""), ("ERR", ""));
    }

    #[test]
    fn a_failed_write_is_heard_and_not_forgotten() {
        let words = LastWords::default();
        words.push("disk [almost] full");
        assert!(!words.has_missed_a_write());
        words.push("Filestore [YALO_CHAT] Critical write error: write /data/1.blk: no space left on device");
        (0..100).for_each(|number| words.push(&format!("line {number}")));
        assert!(words.has_missed_a_write());
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let words = LastWords::default();
        assert!(words.text().contains("nothing"));
        for number in 0..100 {
            words.push(&format!("line {number}"));
        }
        assert_eq!(words.text().lines().count(), LINES);
        assert!(words.text().ends_with("line 99"));
    }
}
