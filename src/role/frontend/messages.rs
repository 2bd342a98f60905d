//! The messages of one conversation: saying, reading, following, stopping.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};
use warp::http::StatusCode;
use warp::reply::{Reply, Response};

use super::accept::accept;
use super::answer;
use super::callers::{self, Sent};
use super::chat::send;
use super::conversations::check_owner;
use super::follow::{Event, Follow};
use super::history::{self, Page};
use super::problems;
use super::replies::{AcceptedReply, AnsweredReply, GapEvent, PageReply};
use super::requests::{self, SendRequest};
use super::state::Front;
use crate::domain::{ConversationId, Cursor, Stored};
use crate::web::query::{Query, cursor};
use crate::web::{ApiError, Code, sse};
use crate::wire::Control;

/// Events held for one follower over HTTP.
const EVENTS: usize = 64;

pub(super) struct SendCall {
    pub(super) sent: Sent,
    pub(super) conversation: String,
    pub(super) prefer: Option<String>,
    pub(super) trace: Option<String>,
    pub(super) body: Result<SendRequest, ApiError>,
}

pub(super) async fn post_message(front: Arc<Front>, call: SendCall) -> Result<Response, ApiError> {
    let user = callers::user(&front, call.sent)?;
    let conversation = requests::conversation("conversation", &call.conversation)?;
    let said = call.body?.check(call.trace)?;
    check_owner(&front, conversation, &user.id).await?;
    let Some(wait) = call.prefer.as_deref().and_then(preferred_wait) else {
        let accepted = accept(&front, conversation, &user.id, said).await?;
        let stored = accepted.stored(&front, conversation).await?;
        let reply = warp::reply::json(&AcceptedReply::new(&stored, accepted.duplicate));
        return Ok(warp::reply::with_status(reply, StatusCode::ACCEPTED).into_response());
    };
    let wait = wait.min(Duration::from_millis(front.config.max_wait_ms));
    let mut watch = front.hub.watch(conversation).await.map_err(|error| problems::from_bus(&error))?;
    let accepted = accept(&front, conversation, &user.id, said).await?;
    let known = answer::known(&front, conversation, &accepted).await;
    let answer = match known.map_err(|error| problems::from_history(&error))? {
        Some(answer) => Some(answer),
        None => answer::wait(&front, &mut watch, accepted.seq, wait, |_| std::future::ready(())).await.answer,
    };
    let status = if answer.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let question = accepted.stored(&front, conversation).await?;
    let reply = AnsweredReply {
        accepted: AcceptedReply::new(&question, accepted.duplicate),
        answer: answer.filter(Stored::is_shown),
    };
    Ok(warp::reply::with_status(warp::reply::json(&reply), status).into_response())
}

/// `wait=N` of a Prefer header (RFC 7240), in seconds.
fn preferred_wait(prefer: &str) -> Option<Duration> {
    let mut preferences = prefer.split([',', ';']).filter_map(|preference| preference.trim().split_once('='));
    let (_, seconds) = preferences.find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))?;
    seconds.trim().trim_matches('"').parse().ok().map(Duration::from_secs)
}

pub(super) struct ReadCall {
    pub(super) sent: Sent,
    pub(super) conversation: String,
    pub(super) query: Query,
}

pub(super) async fn get_messages(front: Arc<Front>, call: ReadCall) -> Result<Response, ApiError> {
    let user = callers::user(&front, call.sent)?;
    let conversation = requests::conversation("conversation", &call.conversation)?;
    let query = call.query.only(&["after", "before", "limit", "wait"])?;
    let (after, before, limit) = (query.cursor("after")?, query.cursor("before")?, query.limit()?);
    let wait: u64 = query.parse("wait", "a number of seconds")?.unwrap_or(0);
    check_owner(&front, conversation, &user.id).await?;
    let page = match (after, before) {
        (Some(_), Some(_)) => {
            return Err(ApiError::new(Code::InvalidCursor, "`after` and `before` exclude each other").field("before"));
        }
        (Some(after), None) => history::after(&front.bus, conversation, after.seq, limit).await,
        (None, Some(before)) => history::before(&front.bus, conversation, Some(before.seq), limit).await,
        (None, None) => history::newest(&front.bus, conversation, limit).await,
    };
    let mut page = page.map_err(|error| problems::from_history(&error))?;
    if let (Some(after), true, true) = (after, page.messages.is_empty(), wait > 0) {
        let most = Duration::from_millis(front.config.max_wait_ms);
        page = wait_for_more(&front, conversation, after, Duration::from_secs(wait).min(most)).await?;
    }
    Ok(warp::reply::json(&page_reply(page, after)).into_response())
}

fn page_reply(page: Page, after: Option<Cursor>) -> PageReply {
    let next = page.messages.last().map(Stored::cursor).or(after).map(|cursor| cursor.to_string());
    let older = page.older || after.is_some_and(|after| after.seq > 0);
    let previous = page.messages.first().filter(|_| older).map(|first| first.cursor().to_string());
    PageReply { messages: page.messages, next, previous }
}

/// A long poll: the first message after the cursor, or an empty page when the time is over.
async fn wait_for_more(
    front: &Arc<Front>,
    conversation: ConversationId,
    after: Cursor,
    wait: Duration,
) -> Result<Page, ApiError> {
    let deadline = Instant::now() + wait;
    let follow = Follow::open(front, conversation, Some(after)).await;
    let mut follow = follow.map_err(|error| problems::from_bus(&error))?;
    loop {
        let event = tokio::select! {
            biased;
            () = front.stop.cancelled() => return Ok(Page::default()),
            event = timeout_at(deadline, follow.next()) => event,
        };
        let stored = match event {
            Ok(Event::Message(message)) => message.stored.clone(),
            Ok(Event::Read(stored)) => stored,
            Ok(Event::Draft(_) | Event::Gap { .. }) => continue,
            Err(_) => return Ok(Page::default()),
        };
        return Ok(Page { read_to: stored.seq, messages: vec![stored], newer: true, older: true });
    }
}

pub(super) async fn get_events(
    front: Arc<Front>,
    call: ReadCall,
    last_event_id: Option<String>,
) -> Result<Response, ApiError> {
    let user = callers::user(&front, call.sent)?;
    let conversation = requests::conversation("conversation", &call.conversation)?;
    let query = call.query.only(&["after"])?;
    let after = match (query.text("after"), last_event_id.as_deref()) {
        (_, Some(last)) => Some(cursor("last-event-id", last)?),
        (Some(after), None) => Some(cursor("after", after)?),
        (None, None) => None,
    };
    check_owner(&front, conversation, &user.id).await?;
    let follow = Follow::open(&front, conversation, after).await.map_err(|error| problems::from_bus(&error))?;
    let (events, frames) = sse::channel(EVENTS);
    let stop = front.stop.clone();
    let farewell = sse::json_event("bye", None, &serde_json::json!({"code": "stopping", "reason": STOPPING})).ok();
    front.tasks.clone().spawn(pass_on(front, conversation, follow, events));
    Ok(sse::response(frames, farewell, stop))
}

/// What a stream or socket says last when the process stops.
pub(super) const STOPPING: &str = "this server is going down, connect again";

async fn pass_on(
    front: Arc<Front>,
    conversation: ConversationId,
    mut follow: Follow,
    events: tokio::sync::mpsc::Sender<Bytes>,
) {
    loop {
        let event = tokio::select! {
            biased;
            () = front.stop.cancelled() => return,
            () = events.closed() => return,
            event = follow.next() => event,
        };
        let frame = match event {
            Event::Message(message) => message_frame(&message.stored),
            Event::Read(stored) => message_frame(&stored),
            Event::Draft(draft) => sse::json_event(draft.name(), None, &draft.fields()),
            Event::Gap { after, before } => sse::json_event("gap", None, &gap(conversation, after, before)),
        };
        send(&events, frame).await;
    }
}

fn message_frame(stored: &Stored) -> serde_json::Result<Bytes> {
    sse::json_event("message", Some(&stored.cursor().to_string()), stored)
}

/// The time part of a cursor is a hint; 0 says "from the beginning".
pub(super) fn gap(conversation: ConversationId, after: u64, before: u64) -> GapEvent {
    let cursor = |seq| Cursor { at_ms: 0, seq }.to_string();
    GapEvent { conversation, after: cursor(after), before: cursor(before) }
}

pub(super) async fn post_stop(front: Arc<Front>, sent: Sent, conversation: String) -> Result<Response, ApiError> {
    let user = callers::user(&front, sent)?;
    let conversation = requests::conversation("conversation", &conversation)?;
    check_owner(&front, conversation, &user.id).await?;
    stop_answer(&front, conversation).await?;
    Ok(warp::reply::with_status(warp::reply::json(&serde_json::json!({})), StatusCode::ACCEPTED).into_response())
}

/// Tells the bot that has a question of this conversation to stop writing.
pub(super) async fn stop_answer(front: &Front, conversation: ConversationId) -> Result<(), ApiError> {
    let subject = front.bus.subjects().control(conversation);
    let payload = Bytes::from(serde_json::to_vec(&Control::Stop).unwrap_or_default());
    front.bus.send(subject, payload).await.map_err(|error| problems::from_bus(&error))
}
