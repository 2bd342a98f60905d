//! What the neighbours' errors mean to a user of the API.

use std::borrow::Cow;
use std::time::Duration;

use super::history::HistoryError;
use crate::bus::{BusError, RpcError};
use crate::domain::{IdError, MessageId, Timestamp};
use crate::web::{ApiError, Code};

/// After a short trouble a new try makes sense soon.
const SOON: Duration = Duration::from_secs(1);

pub(super) fn not_found(detail: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::not_found(detail)
}

/// NATS could not be reached, is full, or refused. What was sent may be stored: the same id may be sent again for ever.
pub(super) fn from_bus(error: &BusError) -> ApiError {
    let cause = anyhow::anyhow!("{error}");
    let problem = match error {
        BusError::Full => ApiError::new(Code::Overloaded, "no more messages can be stored just now")
            .next("try again with the same id in a while; the operator has to make room")
            .retry_after(Duration::from_secs(10)),
        BusError::Unavailable { .. } | BusError::TimedOut { .. } => {
            ApiError::unavailable("the message store did not answer in time", SOON)
                .next("send it again with the same id")
        }
        // A server of a cluster that has only just started says this of each stream, and an operator mends the rest.
        BusError::Missing(_) => ApiError::unavailable("the message store is not there just now", SOON)
            .next("send it again with the same id"),
        BusError::Fenced | BusError::Refused { .. } => {
            ApiError::new(Code::Internal, "the request could not be completed")
        }
    };
    problem.caused_by(cause)
}

/// A stored message that neither stream nor store shows: a server of a cluster that took itself for the leader said so.
pub(super) fn unreadable(seq: u64) -> ApiError {
    ApiError::unavailable("the message is stored, and cannot be read back just now", SOON)
        .next("send it again with the same id")
        .caused_by(anyhow::anyhow!("message {seq} is stored and not found"))
}

/// The reading side is away: never "not found".
pub(super) fn from_rpc(error: &RpcError) -> ApiError {
    ApiError::new(Code::StoreUnavailable, "older messages cannot be read just now")
        .retry_after(SOON)
        .caused_by(anyhow::anyhow!("{error}"))
}

pub(super) fn from_history(error: &HistoryError) -> ApiError {
    match error {
        HistoryError::Bus(error) => from_bus(error),
        HistoryError::Store(error) => from_rpc(error),
    }
}

/// An id in a field that is not one.
pub(super) fn from_id(field: &str, error: &IdError) -> ApiError {
    ApiError::new(Code::InvalidId, error.to_string()).field(field)
}

/// A message id whose time is out of bounds: the refusal carries the server's, so that a client can correct its clock.
pub(super) fn from_id_time(field: &str, error: &IdError) -> ApiError {
    let code = match error {
        IdError::FromTheFuture { .. } => Code::IdInFuture,
        IdError::TooOld { .. } => Code::IdTooOld,
        IdError::NotUuid | IdError::NotV7(_) => Code::InvalidId,
    };
    ApiError::new(code, error.to_string()).field(field).with("server_time", Timestamp::now().to_string())
}

pub(super) fn id_reused(id: MessageId) -> ApiError {
    ApiError::new(Code::IdReused, format!("the id {id} was used for another message of this conversation")).field("id")
}
