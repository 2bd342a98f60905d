//! The operators' side of the dead letters: handlers of `/admin/v1/dead-letters`. What they do is `yalo dlq`'s, in `bus`.

use std::sync::Arc;

use serde::Serialize;
use warp::reply::{Reply, Response};

use super::api::{Call, json};
use super::{Admin, PATIENCE};
use crate::bus::{BusError, Letter, ReplayError};
use crate::web::{ApiError, Code};

/// A page of letters, oldest first.
#[derive(Serialize)]
struct LettersReply {
    letters: Vec<Letter>,
    next: Option<u64>,
}

#[derive(Serialize)]
struct DroppedReply {
    letter: u64,
}

pub(super) async fn letters(admin: Arc<Admin>, call: Call) -> Result<Response, ApiError> {
    let query = call.check(&admin, &["after", "limit"])?;
    let after = query.parse("after", "the number of a letter")?.unwrap_or(0);
    let found = under(admin.bus.dead_letters(after, query.limit()?)).await?;
    let next = found.letters.last().filter(|_| found.more).map(|last| last.letter);
    Ok(json(&LettersReply { letters: found.letters, next }))
}

pub(super) async fn letter(admin: Arc<Admin>, letter: u64, call: Call) -> Result<Response, ApiError> {
    call.check(&admin, &[])?;
    Ok(json(&find(&admin, letter).await?.in_full()))
}

pub(super) async fn replay(admin: Arc<Admin>, letter: u64, call: Call) -> Result<Response, ApiError> {
    call.check(&admin, &[])?;
    let found = find(&admin, letter).await?;
    match tokio::time::timeout(PATIENCE, admin.bus.replay(&found)).await {
        Ok(Ok(replayed)) => {
            tracing::info!(letter, seq = replayed.seq, "letter {letter} is asked again as message {}", replayed.seq);
            Ok(warp::reply::with_status(json(&replayed), warp::http::StatusCode::ACCEPTED).into_response())
        }
        Ok(Err(ReplayError::Bus(error))) => Err(unavailable(anyhow::Error::new(error))),
        Ok(Err(error)) => Err(ApiError::new(Code::NotAQuestion, error.to_string())),
        Err(_) => Err(unavailable(anyhow::anyhow!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

pub(super) async fn discard(admin: Arc<Admin>, letter: u64, call: Call) -> Result<Response, ApiError> {
    call.check(&admin, &[])?;
    if !under(admin.bus.drop_dead_letter(letter)).await? {
        return Err(missing(letter));
    }
    tracing::info!(letter, "letter {letter} is dropped");
    Ok(json(&DroppedReply { letter }))
}

async fn find(admin: &Admin, letter: u64) -> Result<Letter, ApiError> {
    under(admin.bus.dead_letter(letter)).await?.ok_or_else(|| missing(letter))
}

fn missing(letter: u64) -> ApiError {
    ApiError::not_found(format!("there is no dead letter {letter}"))
        .next("read the list again: it was asked again, dropped, or is too old")
}

/// A request to NATS under the operators' patience.
async fn under<T>(asking: impl Future<Output = Result<T, BusError>>) -> Result<T, ApiError> {
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer.map_err(|error| unavailable(anyhow::Error::new(error))),
        Err(_) => Err(unavailable(anyhow::anyhow!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

fn unavailable(cause: anyhow::Error) -> ApiError {
    ApiError::unavailable("nats did not answer", PATIENCE).caused_by(cause)
}
