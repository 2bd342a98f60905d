//! Sends chunks to a frontend, one after the other, until their lines are dealt with.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::report::{Counts, Report};
use super::source::{Chunk, LONGEST_CHUNK};
use crate::cli::exit::{CliError, note};
use crate::config::Secret;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A frontend that has not answered a chunk after this long is away; one that searches the record first takes longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
const SEARCH_TIMEOUT: Duration = Duration::from_secs(600);
/// A frontend takes the names of so many.
const PAST_BATCHES: usize = 64;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What is sent where.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) url: String,
    pub(super) token: Secret,
    pub(super) as_user: bool,
    pub(super) source: String,
    /// Lines of the first chunk may be in the record behind this sequence.
    pub(super) after: Option<u64>,
    /// Whether the lines go in batches, without ids.
    pub(super) batch: bool,
    /// Batches of an earlier run that may not be over.
    pub(super) past: Vec<Uuid>,
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
    /// Bytes of the next lines that an earlier try may have stored, behind `after`.
    doubt: usize,
    /// Batches of earlier tries that may not be over.
    past: Vec<Uuid>,
    /// The name of the next one.
    batch: Option<Uuid>,
    /// Whether the frontend has ever answered: then it is worth waiting for.
    reached: bool,
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
    /// Nobody was there.
    Nothing {
        cause: String,
    },
}

impl Sent {
    fn counts(&self) -> Option<&Counts> {
        match self {
            Self::All(counts) => Some(counts),
            Self::Part { counts, .. } | Self::Ended { counts, .. } => counts.as_ref(),
            Self::Nothing { .. } => None,
        }
    }

    /// Whether lines that are sent again may be in the record by now, or come into it. Of what nobody has read nothing is.
    fn may_be_stored(&self) -> bool {
        match self {
            Self::Part { counts, .. } | Self::Ended { counts, .. } => {
                counts.as_ref().is_none_or(|counts| counts.lines > 0 && !counts.settled)
            }
            Self::All(_) | Self::Nothing { .. } => false,
        }
    }
}

/// How long nothing may get on, and how long to wait until the next try.
pub(super) struct Patience {
    deadline: Instant,
    pause: Duration,
    told: bool,
}

impl Patience {
    fn new(span: Duration) -> Self {
        Self { deadline: Instant::now() + span, pause: FIRST_PAUSE, told: false }
    }
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
        // An earlier run had one chunk under way.
        let (after, doubt) = options.after.map_or((0, 0), |after| (after, LONGEST_CHUNK));
        let (past, batch) = (options.past.clone(), options.batch.then(Uuid::now_v7));
        Ok(Self { http, address, options, after, doubt, past, batch, reached: false })
    }

    /// Asks where the record ends: what is sent from now on lies behind that.
    pub(super) async fn begin(&mut self) -> anyhow::Result<()> {
        let mut patience = Patience::new(self.options.patience);
        let end = loop {
            let (cause, asked) = match self.end().await? {
                Ok(end) => break end,
                Err(refusal) => refusal,
            };
            self.wait(&mut patience, &cause, asked, "trying again").await?;
        };
        if self.doubt > 0 && self.after > end {
            bail!(
                "the record at {} ends at {end}, the earlier run had stored up to {}: it is another one, or has lost its \
                 end. `yalo audit verify` tells; --from-line N begins anew",
                self.options.url,
                self.after
            );
        }
        if self.doubt == 0 {
            self.after = end;
        }
        Ok(())
    }

    /// Where the record ends, or why it can't be said for now.
    async fn end(&mut self) -> anyhow::Result<Result<u64, (String, Option<Duration>)>> {
        let request = self.http.get(self.address.clone()).bearer_auth(self.options.token.reveal());
        let response = match request.timeout(ANSWER_TIMEOUT).send().await {
            Ok(response) => response,
            Err(error) => return Ok(Err((innermost(&error), None))),
        };
        self.reached = true;
        let (status, pause) = (response.status(), pause(&response));
        let body = response.bytes().await.unwrap_or_default();
        if status.is_success() {
            let end: Option<End> = serde_json::from_slice(&body).ok();
            let url = &self.options.url;
            return Ok(Ok(end.with_context(|| format!("{url} does not answer as a yalo frontend does"))?.last_seq));
        }
        let cause = self.cause(status, &body);
        if passes(status) { Ok(Err((cause, pause))) } else { bail!(cause) }
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// What is still to be stored will lie behind this sequence.
    pub(super) fn after(&self) -> u64 {
        self.after
    }

    /// The batches that may not be over if this run ends now.
    pub(super) fn batches(&self) -> Vec<Uuid> {
        self.past.iter().copied().chain(self.batch).collect()
    }

    pub(super) fn patience(&self) -> Patience {
        Patience::new(self.options.patience)
    }

    /// Sends a chunk once, and waits if the rest of it is to be sent again: from the first line that is not dealt with, with
    /// which the chunk begins then. [`Client::batches`] may be others after it.
    pub(super) async fn send(
        &mut self,
        chunk: &mut Chunk,
        patience: &mut Patience,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let (end, bytes) = (chunk.first_line + chunk.lines, chunk.bytes.len());
        let sent = self.once(chunk).await?;
        if sent.counts().is_some_and(|counts| counts.lines > 0) {
            // The frontend has ended them, before it read the first line.
            self.past.clear();
        }
        let batch = self.batch.map(|_| Uuid::now_v7());
        let batch = std::mem::replace(&mut self.batch, batch);
        if sent.may_be_stored() {
            self.doubt = self.doubt.max(bytes);
            self.past.extend(batch);
        }
        let (counts, cause, asked) = match sent {
            Sent::All(counts) => {
                self.doubt = self.doubt.saturating_sub(bytes);
                self.stands_at(counts.last_seq);
                report.add(counts);
                report.go_on_at(end);
                *chunk = Chunk { first_line: end, ..Chunk::default() };
                return Ok(());
            }
            Sent::Part { counts, cause, pause } => (counts, cause, Some(pause)),
            Sent::Ended { counts, cause } => (counts, cause, None),
            Sent::Nothing { cause } => (None, cause, Some(None)),
        };
        if let Some(counts) = counts {
            let next = counts.next_line.clamp(chunk.first_line, end);
            if next > chunk.first_line {
                *patience = self.patience();
            }
            chunk.cut(next);
            if counts.settled {
                self.stands_at(counts.last_seq);
            }
            report.add(counts);
            report.go_on_at(next);
        }
        let Some(asked) = asked else { bail!(cause) };
        if chunk.lines == 0 {
            return Ok(());
        }
        self.wait(patience, &cause, asked, &format!("trying again from line {}", chunk.first_line)).await
    }

    /// What is still to be stored lies behind this sequence. As long as there is doubt, lines that come next may lie before.
    fn stands_at(&mut self, last_seq: Option<u64>) {
        if self.doubt == 0 {
            self.after = self.after.max(last_seq.unwrap_or(0));
        }
    }

    /// Waits before another try, or says that it is no use.
    async fn wait(
        &self,
        patience: &mut Patience,
        cause: &str,
        asked: Option<Duration>,
        next: &str,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + asked.unwrap_or(patience.pause).min(LONGEST_PAUSE);
        if !self.reached || until >= patience.deadline {
            return Err(self.unreachable(cause));
        }
        if !std::mem::replace(&mut patience.told, true) {
            note(&format!("{cause}; {next}"));
        }
        tokio::time::sleep_until(until).await;
        patience.pause = (patience.pause * 2).min(LONGEST_PAUSE);
        Ok(())
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
        while self.past.len() > PAST_BATCHES {
            // More than fit: some by an upload without lines.
            let none = Chunk { first_line: chunk.first_line, ..Chunk::default() };
            match self.request(&none, &self.past[..PAST_BATCHES], None).await? {
                Sent::All(_) => drop(self.past.drain(..PAST_BATCHES)),
                other => return Ok(other),
            }
        }
        self.request(chunk, &self.past, self.batch).await
    }

    async fn request(&self, chunk: &Chunk, past: &[Uuid], batch: Option<Uuid>) -> anyhow::Result<Sent> {
        let mut address = self.address.clone();
        let mut query = address.query_pairs_mut();
        query.append_pair("as", if self.options.as_user { "user" } else { "log" });
        query.append_pair("source", &self.options.source).append_pair("line", &chunk.first_line.to_string());
        let searches = self.doubt > 0 && !self.options.as_user;
        if searches {
            query.append_pair("after", &self.after.to_string());
        }
        if searches && !past.is_empty() {
            let past: Vec<String> = past.iter().map(Uuid::to_string).collect();
            query.append_pair("past", &past.join(","));
        }
        if let Some(batch) = batch {
            query.append_pair("batch", &batch.to_string());
        }
        drop(query);
        let request = self.http.post(address).bearer_auth(self.options.token.reveal());
        let request = request.timeout(if searches { SEARCH_TIMEOUT } else { ANSWER_TIMEOUT });
        let request = request.header("content-type", "application/x-ndjson").body(chunk.bytes.clone());
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Ok(Sent::Nothing { cause: innermost(&error) }),
            Err(error) => return Ok(Sent::Part { counts: None, cause: innermost(&error), pause: None }),
        };
        let (status, pause) = (response.status(), pause(&response));
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

/// How long to wait, as the frontend asks.
fn pause(response: &reqwest::Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What broke on the way, or does not go now.
fn passes(status: StatusCode) -> bool {
    let server = status.is_server_error() && status != StatusCode::INTERNAL_SERVER_ERROR;
    server || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status)
}

/// The innermost cause: what the system said, such as "connection refused".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
