//! Sends chunks to a frontend, one after the other, until their lines are dealt with.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::source::Chunk;
use crate::cli::exit::{CliError, note};
use crate::config::Secret;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A frontend that has not answered a chunk after this long is away; one that searches the record first takes longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
const SEARCH_TIMEOUT: Duration = Duration::from_secs(600);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Refused lines that are named.
const FIRST_ERRORS: usize = 20;

/// What is sent where.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) url: String,
    pub(super) token: Secret,
    pub(super) as_user: bool,
    pub(super) source: String,
    /// Lines of the first chunk may be in the record behind this sequence.
    pub(super) after: Option<u64>,
    /// How long nothing may get on.
    pub(super) patience: Duration,
}

#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    address: reqwest::Url,
    options: Options,
    /// What is still to be stored will lie behind this sequence.
    after: u64,
    /// An earlier try may have stored lines of the chunk in hand.
    in_doubt: bool,
    /// Whether the frontend has ever answered: then it is worth waiting for.
    reached: bool,
}

/// What became of the lines so far.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    accepted: u64,
    duplicates: u64,
    pub(super) refused: u64,
    pub(super) lines: u64,
    first_errors: Vec<LineError>,
    pub(super) next_line: u64,
    last_seq: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LineError {
    line: u64,
    code: String,
    reason: String,
}

/// The frontend's counts: an answer's, or those in a refusal.
#[derive(Debug, Deserialize)]
struct Counts {
    accepted: u64,
    duplicates: u64,
    refused: u64,
    first_errors: Vec<LineError>,
    next_line: u64,
    last_seq: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    code: String,
    detail: String,
    next: Option<String>,
}

/// How one request ended.
enum Sent {
    All(Counts),
    /// Some of it, perhaps; the rest may be taken later.
    Part {
        counts: Option<Counts>,
        cause: String,
        pause: Option<Duration>,
    },
    /// Some of it, perhaps, and no more.
    Ended {
        counts: Option<Counts>,
        cause: String,
    },
}

/// Where the record ends.
#[derive(Debug, Deserialize)]
struct End {
    last_seq: u64,
}

impl Client {
    pub(super) fn new(options: Options) -> anyhow::Result<Self> {
        let wrong = |problem: String| CliError::Usage(format!("--url {:?}: {problem}", options.url));
        let mut address = reqwest::Url::parse(&options.url).map_err(|error| wrong(error.to_string()))?;
        if address.scheme() != "http" || !address.has_host() {
            return Err(wrong("write it as http://HOST:PORT".to_owned()).into());
        }
        address.set_path(&format!("{}/v1/ingest", address.path().trim_end_matches('/')));
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy();
        let http = http.build().context("make an HTTP client")?;
        let (after, in_doubt) = (options.after.unwrap_or(0), options.after.is_some());
        Ok(Self { http, address, options, after, in_doubt, reached: false })
    }

    /// Asks where the record ends: what is sent from now on lies behind that.
    pub(super) async fn begin(&mut self) -> anyhow::Result<()> {
        let request = self.http.get(self.address.clone()).bearer_auth(self.options.token.reveal());
        let response = match request.timeout(ANSWER_TIMEOUT).send().await {
            Ok(response) => response,
            Err(error) => return Err(self.unreachable(&innermost(&error))),
        };
        let (status, body) = (response.status(), response.bytes().await.unwrap_or_default());
        if !status.is_success() {
            let cause = self.cause(status, &body);
            return Err(if passes(status) { self.unreachable(&cause) } else { anyhow::anyhow!(cause) });
        }
        let end: Option<End> = serde_json::from_slice(&body).ok();
        let url = &self.options.url;
        let end = end.with_context(|| format!("{url} does not answer as a yalo frontend does"))?.last_seq;
        self.reached = true;
        if self.in_doubt && self.after > end {
            bail!(
                "the record at {url} ends at {end}, the earlier run had stored up to {}: it is another one, or has lost its \
                 end. `yalo audit verify` tells; --from-line N begins anew",
                self.after
            );
        }
        if !self.in_doubt {
            self.after = end;
        }
        Ok(())
    }

    /// What is still to be stored will lie behind this sequence.
    pub(super) fn after(&self) -> u64 {
        self.after
    }

    /// Sends a chunk, again and again from the first line that is not dealt with, for as long as the patience lasts.
    pub(super) async fn send(&mut self, mut chunk: Chunk, report: &mut Report) -> anyhow::Result<()> {
        for line in &chunk.too_long {
            report.refuse(*line);
        }
        let end = chunk.first_line + chunk.lines;
        let mut deadline = Instant::now() + self.options.patience;
        let mut pause = FIRST_PAUSE;
        let mut told = false;
        loop {
            let (counts, cause, asked) = match self.once(&chunk).await? {
                Sent::All(counts) => {
                    (self.after, self.in_doubt) = (self.after.max(counts.last_seq.unwrap_or(0)), false);
                    report.add(counts);
                    report.go_on_at(end);
                    return Ok(());
                }
                Sent::Part { counts, cause, pause } => (counts, cause, Some(pause)),
                Sent::Ended { counts, cause } => (counts, cause, None),
            };
            self.in_doubt = true;
            if let Some(counts) = counts {
                let next = counts.next_line.clamp(chunk.first_line, end);
                if next > chunk.first_line {
                    (deadline, pause) = (Instant::now() + self.options.patience, FIRST_PAUSE);
                }
                chunk.cut(next);
                report.add(counts);
                report.go_on_at(next);
            }
            let Some(asked) = asked else { bail!(cause) };
            if chunk.lines == 0 {
                return Ok(());
            }
            let until = Instant::now() + asked.unwrap_or(pause).min(LONGEST_PAUSE);
            if !self.reached || until >= deadline {
                return Err(self.unreachable(&cause));
            }
            if !told {
                note(&format!("{cause}; trying again from line {}", chunk.first_line));
                told = true;
            }
            sleep(until - Instant::now()).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn unreachable(&self, cause: &str) -> anyhow::Error {
        let url = &self.options.url;
        CliError::Unreachable(if self.reached {
            format!("{url} takes no more for now: {cause}")
        } else {
            format!("cannot reach {url}: {cause}; is `yalo all` or `yalo frontend` running there?")
        })
        .into()
    }

    fn cause(&self, status: StatusCode, body: &[u8]) -> String {
        let problem: Option<Problem> = serde_json::from_slice(body).ok();
        problem.map_or_else(
            || format!("{} says {status}", self.options.url),
            |Problem { code, detail, next }| format!("{detail} ({code}): {}", next.unwrap_or_default()),
        )
    }

    async fn once(&mut self, chunk: &Chunk) -> anyhow::Result<Sent> {
        let mut address = self.address.clone();
        address
            .query_pairs_mut()
            .append_pair("as", if self.options.as_user { "user" } else { "log" })
            .append_pair("source", &self.options.source)
            .append_pair("line", &chunk.first_line.to_string());
        let searches = self.in_doubt && !self.options.as_user;
        if searches {
            address.query_pairs_mut().append_pair("after", &self.after.to_string());
        }
        let request = self.http.post(address).bearer_auth(self.options.token.reveal());
        let request = request.timeout(if searches { SEARCH_TIMEOUT } else { ANSWER_TIMEOUT });
        let request = request.header("content-type", "application/x-ndjson").body(chunk.bytes.clone());
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                // A connection that was made and then broke was one to a frontend that is there.
                self.reached |= !error.is_connect();
                return Ok(Sent::Part { counts: None, cause: innermost(&error), pause: None });
            }
        };
        self.reached = true;
        let status = response.status();
        let pause = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let pause = pause.map(Duration::from_secs);
        let body = match response.bytes().await {
            Ok(body) => body,
            Err(error) => return Ok(Sent::Part { counts: None, cause: innermost(&error), pause }),
        };
        let counts: Option<Counts> = serde_json::from_slice(&body).ok();
        if status.is_success() {
            let url = &self.options.url;
            return counts.map(Sent::All).with_context(|| format!("{url} does not answer as a yalo frontend does"));
        }
        let cause = self.cause(status, &body);
        Ok(if passes(status) { Sent::Part { counts, cause, pause } } else { Sent::Ended { counts, cause } })
    }
}

/// What broke on the way, or does not go now.
fn passes(status: StatusCode) -> bool {
    let server = status.is_server_error() && status != StatusCode::INTERNAL_SERVER_ERROR;
    server || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status)
}

impl Chunk {
    /// Leaves out the lines before this one.
    fn cut(&mut self, first_line: u64) {
        let gone = first_line.saturating_sub(self.first_line);
        let mut ends = memchr::memchr_iter(b'\n', &self.bytes).map(|at| at + 1);
        let start = match usize::try_from(gone) {
            Ok(0) => 0,
            Ok(gone) => ends.nth(gone - 1).unwrap_or(self.bytes.len()),
            Err(_) => self.bytes.len(),
        };
        self.bytes.drain(..start);
        self.first_line = first_line;
        self.lines = self.lines.saturating_sub(gone);
    }
}

impl Report {
    pub(super) fn begin_at(line: u64) -> Self {
        Self { next_line: line, ..Self::default() }
    }

    fn add(&mut self, counts: Counts) {
        self.accepted += counts.accepted;
        self.duplicates += counts.duplicates;
        self.refused += counts.refused;
        self.last_seq = self.last_seq.max(counts.last_seq);
        let room = FIRST_ERRORS.saturating_sub(self.first_errors.len());
        self.first_errors.extend(counts.first_errors.into_iter().take(room));
    }

    fn go_on_at(&mut self, line: u64) {
        self.lines += line.saturating_sub(self.next_line);
        self.next_line = line;
    }

    fn refuse(&mut self, line: u64) {
        self.refused += 1;
        if self.first_errors.len() < FIRST_ERRORS {
            let (code, reason) = ("line_too_long".to_owned(), "the line is too long for any frontend".to_owned());
            self.first_errors.push(LineError { line, code, reason });
        }
    }

    /// For people.
    pub(super) fn told(&self, took: Duration) -> String {
        let errors = self.first_errors.iter().map(|error| format!("line {}: {}", error.line, error.reason));
        let mut told: Vec<String> = errors.collect();
        let named = u64::try_from(self.first_errors.len()).unwrap_or(u64::MAX);
        if self.refused > named {
            told.push(format!("and {} more", self.refused - named));
        }
        let Self { accepted, duplicates, refused, lines, .. } = self;
        told.push(format!(
            "{lines} lines in {:.1} s, {}/s: {accepted} accepted, {duplicates} duplicates, {refused} refused\n",
            took.as_secs_f64(),
            self.rate(took)
        ));
        told.join("\n")
    }

    /// Lines a second.
    pub(super) fn rate(&self, took: Duration) -> u128 {
        u128::from(self.lines) * 1000 / took.as_millis().max(1)
    }
}

/// The innermost cause: what the system said, such as "connection refused".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_chunk_begins_with_the_line_to_go_on_with() {
        let chunk = || Chunk { first_line: 11, lines: 3, bytes: b"one\n\nthree".to_vec(), too_long: Vec::new() };
        for (line, left) in [(11, &b"one\n\nthree"[..]), (12, b"\nthree"), (13, b"three"), (14, b"")] {
            let mut chunk = chunk();
            chunk.cut(line);
            assert_eq!((&chunk.bytes[..], chunk.first_line, chunk.lines), (left, line, 14 - line));
        }
    }
}
