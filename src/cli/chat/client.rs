//! The API as a terminal needs it: say something, get the answer. A broken connection is retried with the same message
//! id, so that nothing is said twice.

use std::error::Error;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

use crate::cli::exit::note;
use crate::config::Secret;
use crate::domain::{ConversationId, MessageId};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// One long poll, in seconds.
const POLL_SECONDS: u64 = 20;
/// More than the largest page of messages is.
const LARGEST_BODY: usize = 32 << 20;

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChatError {
    /// The address makes no sense.
    #[error("--url {url:?}: {problem}")]
    Address { url: String, problem: String },
    /// Nobody there, or not for long enough.
    #[error("cannot reach {url}: {cause}; is `yalo all` or `yalo frontend` running there?")]
    Unreachable { url: String, cause: String },
    /// The frontend says no, and why.
    #[error("{detail} ({code})")]
    Refused { code: String, detail: String },
    /// Accepted, but not answered in time.
    #[error("no answer within {seconds} s; your message is kept in conversation {conversation}")]
    Late { seconds: u64, conversation: ConversationId },
    /// Something else than yalo answers there.
    #[error("{url} does not answer as a yalo frontend does: {problem}")]
    Foreign { url: String, problem: String },
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// An answer, or the bot's apology.
    Text(String),
    /// The record says that there is none.
    Silence,
}

/// A conversation to begin or to go on with.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) url: String,
    pub(super) token: Option<Secret>,
    pub(super) bot: Option<String>,
    pub(super) conversation: Option<ConversationId>,
    /// For one answer, reconnecting included.
    pub(super) patience: Duration,
}

#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    options: Options,
    /// Whether the frontend has ever answered: then it is worth waiting for.
    reached: bool,
}

#[derive(Debug, Serialize)]
struct Question<'a> {
    id: MessageId,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<ConversationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bot: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
struct Accepted {
    conversation: ConversationId,
    answer: Option<Answer>,
    cursor: String,
    token: Option<Secret>,
}

#[derive(Debug, Deserialize)]
struct Page {
    messages: Vec<Answer>,
    next: Option<String>,
}

/// As much of a message as a terminal shows; kinds of later releases are shown as text.
#[derive(Debug, Deserialize)]
struct Answer {
    kind: String,
    text: Option<String>,
    reply_to: Option<Replied>,
}

#[derive(Debug, Deserialize)]
struct Replied {
    id: MessageId,
}

#[derive(Debug, Deserialize)]
struct Problem {
    code: String,
    detail: String,
    next: Option<String>,
}

/// How one request failed.
#[derive(Debug)]
enum Fault {
    /// It may work later: broken connection, or "not now".
    Passing { cause: String, pause: Option<Duration> },
    /// It never will.
    Final(ChatError),
}

impl Client {
    pub(super) fn new(options: Options) -> Result<Self, ChatError> {
        let address = |problem: String| ChatError::Address { url: options.url.clone(), problem };
        let url = reqwest::Url::parse(&options.url).map_err(|error| address(error.to_string()))?;
        if url.scheme() != "http" || !url.has_host() {
            return Err(address("write it as http://HOST:PORT".to_owned()));
        }
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy();
        let http = http.build().map_err(|error| address(chain(&error)))?;
        let url = options.url.trim_end_matches('/').to_owned();
        Ok(Self { http, options: Options { url, ..options }, reached: false })
    }

    pub(super) fn conversation(&self) -> Option<ConversationId> {
        self.options.conversation
    }

    pub(super) fn token(&self) -> Option<&Secret> {
        self.options.token.as_ref()
    }

    /// Says `text` and waits for the answer, for as long as the patience lasts.
    pub(super) async fn ask(&mut self, text: &str) -> Result<Reply, ChatError> {
        let deadline = Instant::now() + self.options.patience;
        let question = Question {
            id: MessageId::new(),
            text,
            conversation: self.options.conversation,
            bot: self.options.bot.as_deref(),
        };
        let id = question.id;
        let request = self.http.post(format!("{}/v1/chat", self.options.url)).json(&question);
        let accepted: Accepted = self.insist(request, deadline).await?;
        self.options.conversation = Some(accepted.conversation);
        if accepted.token.is_some() {
            self.options.token = accepted.token;
        }
        match accepted.answer {
            Some(answer) => Ok(answer.reply()),
            None => self.wait_for_answer(id, accepted.conversation, accepted.cursor, deadline).await,
        }
    }

    /// Long polls from the question's place until its record comes.
    async fn wait_for_answer(
        &mut self,
        id: MessageId,
        conversation: ConversationId,
        mut cursor: String,
        deadline: Instant,
    ) -> Result<Reply, ChatError> {
        while Instant::now() < deadline {
            let path = format!("{}/v1/conversations/{conversation}/messages", self.options.url);
            let query = format!("after={cursor}&wait={POLL_SECONDS}");
            let page: Page = match self.insist(self.http.get(format!("{path}?{query}")), deadline).await {
                Err(ChatError::Unreachable { .. }) => break,
                page => page?,
            };
            let answers = |answer: &Answer| answer.reply_to.as_ref().is_some_and(|question| question.id == id);
            if let Some(answer) = page.messages.into_iter().find(answers) {
                return Ok(answer.reply());
            }
            cursor = page.next.unwrap_or(cursor);
            // A frontend that is configured not to wait must not be asked without a pause.
            sleep(FIRST_PAUSE).await;
        }
        Err(ChatError::Late { seconds: self.options.patience.as_secs(), conversation })
    }

    /// Repeats a request through broken connections and "not now" until the deadline.
    async fn insist<T: DeserializeOwned>(
        &mut self,
        request: RequestBuilder,
        deadline: Instant,
    ) -> Result<T, ChatError> {
        let request = match &self.options.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        };
        let unreachable = |url: &str, cause| ChatError::Unreachable { url: url.to_owned(), cause };
        let mut pause = FIRST_PAUSE;
        let mut told = false;
        loop {
            let Some(attempt) = request.try_clone() else {
                return Err(unreachable(&self.options.url, "the request can't be repeated".to_owned()));
            };
            let attempt = timeout_at(deadline, self.once(attempt)).await;
            let (cause, asked) = match attempt {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(Fault::Final(error))) => return Err(error),
                Ok(Err(Fault::Passing { cause, pause })) => (cause, pause),
                Err(_) => ("no answer in time".to_owned(), None),
            };
            let until = Instant::now() + asked.unwrap_or(pause).min(LONGEST_PAUSE);
            if !self.reached || until >= deadline {
                return Err(unreachable(&self.options.url, cause));
            }
            if !told {
                note(&format!("{cause}; your message is kept, trying again"));
                told = true;
            }
            sleep(until - Instant::now()).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once<T: DeserializeOwned>(&mut self, request: RequestBuilder) -> Result<T, Fault> {
        let response = request.send().await.map_err(|error| {
            // A connection that was made and then broke was one to a frontend that is there.
            self.reached |= !error.is_connect();
            broken(&error)
        })?;
        self.reached = true;
        let status = response.status();
        let pause = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = read(response).await?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.foreign(error.to_string()));
        }
        let Ok(problem) = serde_json::from_slice::<Problem>(&body) else {
            // A proxy in front of a frontend that restarts.
            return Err(match status {
                StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                    Fault::Passing { cause: format!("the server says {status}"), pause: None }
                }
                _ => self.foreign(format!("it says {status}")),
            });
        };
        let detail = [Some(problem.detail), problem.next].into_iter().flatten().collect::<Vec<_>>().join(" ");
        Err(match status {
            StatusCode::SERVICE_UNAVAILABLE => Fault::Passing { cause: detail, pause: pause.map(Duration::from_secs) },
            _ => Fault::Final(ChatError::Refused { code: problem.code, detail }),
        })
    }

    fn foreign(&self, problem: String) -> Fault {
        Fault::Final(ChatError::Foreign { url: self.options.url.clone(), problem })
    }
}

impl Answer {
    fn reply(self) -> Reply {
        match self.text {
            Some(text) if self.kind != "none" => Reply::Text(text),
            _ => Reply::Silence,
        }
    }
}

/// The body, up to a size that no answer of a frontend has.
async fn read(mut response: Response) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
        body.extend_from_slice(&chunk);
        if body.len() > LARGEST_BODY {
            let url = response.url().to_string();
            return Err(Fault::Final(ChatError::Foreign { url, problem: "its answer does not end".to_owned() }));
        }
    }
    Ok(body)
}

fn broken(error: &reqwest::Error) -> Fault {
    Fault::Passing { cause: chain(error), pause: None }
}

/// The innermost cause: what the system said, such as "connection refused".
fn chain(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
