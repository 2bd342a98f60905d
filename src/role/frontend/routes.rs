//! Which address leads to which handler; the busiest first.

use std::sync::Arc;
use std::time::Duration;

use warp::http::HeaderValue;
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

use super::chat::{ChatCall, Form, post_chat};
use super::ingest::{self, IngestCall, get_ingest, post_ingest};
use super::list::{get_conversations, post_conversation};
use super::messages::{ReadCall, SendCall, get_events, get_messages, post_message, post_stop};
use super::socket;
use super::state::Front;
use crate::web::body::{self, BodyLimits};
use crate::web::origin::Origins;
use crate::web::socket::{SocketOptions, Upgrade};
use crate::web::{ApiError, Routes, assets, auth, method, pages, problem, query};

/// A frame holds a text of 16 KiB and data of 16 KiB, and JSON may write each byte as six.
const FRAME_BYTES: usize = 256 * 1024;

pub(super) fn routes(front: &Arc<Front>, origins: &Origins) -> Routes {
    let shared = {
        let front = Arc::clone(front);
        warp::any().map(move || Arc::clone(&front))
    };
    let limits = BodyLimits { bytes: front.body_bytes, timeout: Duration::from_millis(front.config.body_timeout_ms) };
    let v1 = || warp::path("v1");
    let conversations = || v1().and(warp::path("conversations"));
    let of_one = |name: &'static str| {
        conversations().and(warp::path::param::<String>()).and(warp::path(name)).and(warp::path::end())
    };

    let chat = v1()
        .and(warp::path("chat"))
        .and(warp::path::end())
        .and(method::post())
        .and(shared.clone())
        .and(auth::bearer())
        .and(query::query())
        .and(header("accept"))
        .and(header("traceparent"))
        .and(body::json_or_text(limits))
        .then(|front, sent, query, accept: Option<String>, trace, body| {
            let call = ChatCall { sent, query, form: form(accept.as_deref()), trace: trace_of(trace), body };
            answer(post_chat(front, call))
        })
        .boxed();
    let send = of_one("messages")
        .and(method::post())
        .and(shared.clone())
        .and(auth::bearer())
        .and(header("prefer"))
        .and(header("traceparent"))
        .and(body::json(limits))
        .then(|conversation, front, sent, prefer, trace, body| {
            let call = SendCall { sent, conversation, prefer, trace: trace_of(trace), body };
            answer(post_message(front, call))
        })
        .boxed();
    let read = of_one("messages")
        .and(method::get())
        .and(shared.clone())
        .and(auth::bearer())
        .and(query::query())
        .then(|conversation, front, sent, query| answer(get_messages(front, ReadCall { sent, conversation, query })))
        .boxed();
    let events = of_one("events")
        .and(method::get())
        .and(shared.clone())
        .and(auth::bearer())
        .and(query::query())
        .and(header("last-event-id"))
        .then(|conversation, front, sent, query, last| {
            answer(get_events(front, ReadCall { sent, conversation, query }, last))
        })
        .boxed();
    let stop = of_one("stop")
        .and(method::post())
        .and(shared.clone())
        .and(auth::bearer())
        .then(|conversation, front, sent| answer(post_stop(front, sent, conversation)))
        .boxed();
    let open = conversations()
        .and(warp::path::end())
        .and(method::post())
        .and(shared.clone())
        .and(auth::bearer())
        .and(body::json(limits))
        .then(|front, sent, body| answer(post_conversation(front, sent, body)))
        .boxed();
    let list = conversations()
        .and(warp::path::end())
        .and(method::get())
        .and(shared.clone())
        .and(auth::bearer())
        .and(query::query())
        .then(|front, sent, query| answer(get_conversations(front, sent, query)))
        .boxed();
    let end = v1()
        .and(warp::path("ingest"))
        .and(warp::path::end())
        .and(method::get())
        .and(shared.clone())
        .and(auth::bearer())
        .and(query::query())
        .then(|front, sent, query| answer(get_ingest(front, sent, query)))
        .boxed();
    let ingest = v1()
        .and(warp::path("ingest"))
        .and(warp::path::end())
        .and(method::post())
        .and(shared.clone())
        .and(auth::bearer())
        .and(query::query())
        .and(header("content-encoding"))
        .and(warp::body::stream())
        .then(|front, sent, query, encoding, body| {
            answer(post_ingest(front, IngestCall { sent, query, encoding, body: ingest::body(body) }))
        })
        .boxed();
    let options =
        SocketOptions { protocol: "yalo.v1", message_bytes: FRAME_BYTES, write_timeout: Duration::from_secs(10) };
    let ws = v1()
        .and(warp::path("ws"))
        .and(warp::path::end())
        .and(method::get())
        .and(shared)
        .and(crate::web::socket::upgrade(options, origins.clone()))
        .then(|front: Arc<Front>, upgrade: Result<Upgrade, ApiError>| async move {
            match upgrade {
                Ok(upgrade) => {
                    let (tasks, stop) = (front.tasks.clone(), front.stop.clone());
                    upgrade.accept(&tasks, stop, |socket| socket::serve(front, socket))
                }
                Err(refusal) => refusal.into_response(),
            }
        })
        .boxed();

    let hot = chat.or(send).unify().or(read).unify().or(ws).unify().boxed();
    let rest = events.or(stop).unify().or(open).unify().or(list).unify().or(end).unify().or(ingest).unify().boxed();
    problem::finish(hot.or(rest).unify().or(assets::routes(pages::CHAT)).unify())
}

async fn answer(handler: impl Future<Output = Result<Response, ApiError>>) -> Response {
    handler.await.unwrap_or_else(Reply::into_response)
}

/// A header that may be absent; one that is not text counts as absent.
fn header(name: &'static str) -> impl Filter<Extract = (Option<String>,), Error = Rejection> + Clone {
    let text = |value: HeaderValue| value.to_str().ok().map(str::to_owned);
    warp::header::value(name).map(text).or(warp::any().map(|| None)).unify().map(|value| value).boxed()
}

fn form(accept: Option<&str>) -> Form {
    let wants = |accept: &str| accept.split(',').any(|kind| kind.trim().starts_with("text/event-stream"));
    if accept.is_some_and(wants) { Form::EventStream } else { Form::Json }
}

/// W3C trace context of the usual length and alphabet; anything else is not passed on.
fn trace_of(header: Option<String>) -> Option<String> {
    header.filter(|trace| trace.len() == 55 && trace.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'))
}
