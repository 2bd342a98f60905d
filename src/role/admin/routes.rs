//! Which address leads to which handler.

use std::sync::Arc;

use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

use super::api::{self, Call};
use super::{Admin, PATIENCE, dead, export};
use crate::web::{ApiError, Code, Routes, assets, auth, method, pages, problem, query};

pub(super) fn routes(admin: &Arc<Admin>) -> Routes {
    // After the method, which comes after the whole path.
    let sent = || {
        let admin = Arc::clone(admin);
        warp::any()
            .map(move || Arc::clone(&admin))
            .and(auth::bearer().and(query::query()).map(|sent, query| Call { sent, query }))
    };
    let call = || method::get().and(sent());
    let root = || warp::path("admin").and(warp::path("v1"));
    let id = warp::path::param::<String>;
    let end = warp::path::end;

    let messages = root().and(warp::path("messages"));
    let conversations = root().and(warp::path("conversations"));
    let transcript = conversations.and(id()).and(warp::path("messages"));

    let lists =
        root().and(warp::path("stats")).and(end()).and(call()).then(|admin, call| answer(api::stats(admin, call)));
    let events = root()
        .and(warp::path("events"))
        .and(end())
        .and(call())
        .then(|admin, call| std::future::ready(api::events(admin, call).unwrap_or_else(Reply::into_response)));
    let between = messages.and(end()).and(call()).then(|admin, call| answer(api::between(admin, call)));
    let exported =
        root().and(warp::path("export")).and(end()).and(call()).then(|admin, call| answer(export::export(admin, call)));
    let by_seq = messages
        .and(warp::path::param::<u64>())
        .and(end())
        .and(call())
        .then(|seq, admin, call| answer(api::message_by_seq(admin, seq, call)));
    let recent = conversations.and(end()).and(call()).then(|admin, call| answer(api::conversations(admin, call)));
    let one = conversations
        .and(id())
        .and(end())
        .and(call())
        .then(|id, admin, call| answer(api::conversation(admin, id, call)));
    let page = transcript.and(end()).and(call()).then(|id, admin, call| answer(api::transcript(admin, id, call)));
    let by_id = transcript
        .and(id())
        .and(end())
        .and(call())
        .then(|conversation, id, admin, call| answer(api::message_by_id(admin, conversation, id, call)));

    let letters = root().and(warp::path("dead-letters"));
    let letter = letters.and(warp::path::param::<u64>());
    let dead = letters.and(end()).and(call()).then(|admin, call| answer(dead::letters(admin, call)));
    let shown = letter.and(end()).and(call()).then(|letter, admin, call| answer(dead::letter(admin, letter, call)));
    let dropped = letter
        .and(end())
        .and(method::delete().and(sent()))
        .then(|letter, admin, call| answer(dead::discard(admin, letter, call)));
    let replayed = letter
        .and(warp::path("replay"))
        .and(end())
        .and(method::post().and(sent()))
        .then(|letter, admin, call| answer(dead::replay(admin, letter, call)));

    let api = lists.or(events).unify().or(between).unify().or(by_seq).unify().boxed();
    let more = recent.or(one).unify().or(page).unify().or(by_id).unify().or(exported).unify().boxed();
    let desk = dead.or(shown).unify().or(dropped).unify().or(replayed).unify().boxed();
    problem::finish(api.or(more).unify().or(desk).unify().or(assets::routes(pages::ADMIN)).unify())
}

/// The page, and for everything else that there is no store yet.
pub(super) fn waiting() -> Routes {
    let refused = warp::any().and_then(|| {
        let error = ApiError::new(Code::StoreUnavailable, "the store is not there yet").retry_after(PATIENCE);
        std::future::ready(Ok::<_, Rejection>(error.into_response()))
    });
    problem::finish(assets::routes(pages::ADMIN).or(refused).unify())
}

async fn answer(handler: impl Future<Output = Result<Response, ApiError>>) -> Response {
    handler.await.unwrap_or_else(Reply::into_response)
}
