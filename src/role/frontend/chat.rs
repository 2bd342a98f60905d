//! `POST /v1/chat`: text in, answer out; one call is enough to talk to a bot.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::mpsc;
use warp::http::StatusCode;
use warp::reply::{Reply, Response};

use super::accept::{Accepted, accept};
use super::answer::{self, Turn};
use super::callers::{self, Sent};
use super::conversations;
use super::hub::Watch;
use super::problems;
use super::replies::ChatReply;
use super::requests::ChatRequest;
use super::state::Front;
use crate::domain::{ConversationId, Stored};
use crate::web::body::Payload;
use crate::web::query::Query;
use crate::web::{ApiError, sse};

/// Events held for one stream of an answer.
const EVENTS: usize = 64;

/// How the answer should come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    EventStream,
}

pub(super) struct ChatCall {
    pub(super) sent: Sent,
    pub(super) query: Query,
    pub(super) form: Form,
    pub(super) trace: Option<String>,
    pub(super) body: Result<Payload<ChatRequest>, ApiError>,
}

/// A stored question that waits for its answer.
struct Asked {
    conversation: ConversationId,
    token: Option<String>,
    accepted: Accepted,
    watch: Watch,
}

pub(super) async fn post_chat(front: Arc<Front>, call: ChatCall) -> Result<Response, ApiError> {
    let (user, token) = callers::user_or_guest(&front, call.sent)?;
    let request = match call.body? {
        Payload::Json(request) => {
            call.query.only(&[])?;
            request
        }
        Payload::Text(text) => {
            let query = call.query.only(&["conversation", "id", "bot"])?;
            let parameter = |name: &str| query.text(name).map(str::to_owned);
            ChatRequest { text, conversation: parameter("conversation"), id: parameter("id"), bot: parameter("bot") }
        }
    };
    let (conversation, said) = request.check(call.trace)?;
    let conversation = match conversation {
        Some(conversation) => {
            conversations::check_owner(&front, conversation, &user.id).await?;
            conversation
        }
        None => conversations::open(&front, &user.id, None).await?.0,
    };
    // Listening begins before the question is stored, so that its answer can't pass unheard.
    let watch = front.hub.watch(conversation).await.map_err(|error| problems::from_bus(&error))?;
    let accepted = accept(&front, conversation, &user.id, said).await?;
    let asked = Asked { conversation, token, accepted, watch };
    match call.form {
        Form::Json => answer_json(&front, asked).await,
        Form::EventStream => answer_stream(front, asked).await,
    }
}

async fn answer_json(front: &Front, mut asked: Asked) -> Result<Response, ApiError> {
    let turn = turn(front, &mut asked).await?;
    let question = match turn.question {
        Some(question) => question,
        None => asked.accepted.stored(front, asked.conversation).await?,
    };
    let status = if turn.answer.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let answer = turn.answer.filter(Stored::is_shown);
    let cursor = answer.as_ref().unwrap_or(&question).cursor().to_string();
    let reply = ChatReply {
        conversation: asked.conversation,
        message: &question,
        answer: answer.as_ref(),
        cursor,
        duplicate: asked.accepted.duplicate,
        token: asked.token.as_deref(),
    };
    Ok(warp::reply::with_status(warp::reply::json(&reply), status).into_response())
}

/// The answer to what was asked, within the configured time; to a repeated question the first answer.
async fn turn(front: &Front, asked: &mut Asked) -> Result<Turn, ApiError> {
    let known = answer::known(front, asked.conversation, &asked.accepted).await;
    if let Some(answer) = known.map_err(|error| problems::from_history(&error))? {
        return Ok(Turn { question: None, answer: Some(answer) });
    }
    let limit = Duration::from_millis(front.config.answer_timeout_ms);
    Ok(answer::wait(front, &mut asked.watch, asked.accepted.seq, limit, |_| std::future::ready(())).await)
}

#[derive(Serialize)]
struct AcceptedEvent<'a> {
    conversation: ConversationId,
    message: &'a Stored,
    cursor: String,
    duplicate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

async fn answer_stream(front: Arc<Front>, mut asked: Asked) -> Result<Response, ApiError> {
    let question = asked.accepted.stored(&front, asked.conversation).await?;
    let (events, frames) = sse::channel(EVENTS);
    let accepted = AcceptedEvent {
        conversation: asked.conversation,
        message: &question,
        cursor: question.cursor().to_string(),
        duplicate: asked.accepted.duplicate,
        token: asked.token.as_deref(),
    };
    send(&events, sse::json_event("accepted", None, &accepted)).await;
    let stop = front.stop.clone();
    front.tasks.clone().spawn(async move {
        let limit = Duration::from_millis(front.config.answer_timeout_ms);
        let answer = match answer::known(&front, asked.conversation, &asked.accepted).await {
            Ok(Some(answer)) => Some(answer),
            // Not answered yet, or it is not known now: waiting looks again.
            Ok(None) | Err(_) => {
                let hand_on = |draft: crate::wire::Draft| {
                    let events = events.clone();
                    async move { send(&events, sse::json_event(draft.name(), None, &draft.fields())).await }
                };
                answer::wait(&front, &mut asked.watch, asked.accepted.seq, limit, hand_on).await.answer
            }
        };
        if let Some(answer) = answer.filter(Stored::is_shown) {
            let cursor = answer.cursor().to_string();
            send(&events, sse::json_event("message", Some(&cursor), &answer)).await;
        }
    });
    Ok(sse::response(frames, None, stop))
}

/// Hands a frame on; a reader that has gone away needs none.
pub(super) async fn send(events: &mpsc::Sender<Bytes>, frame: serde_json::Result<Bytes>) {
    match frame {
        Ok(frame) => drop(events.send(frame).await),
        Err(error) => tracing::error!(%error, "an event could not be written: {error}"),
    }
}
