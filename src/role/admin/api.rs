//! The operators' API: handlers of `/admin/v1`.

use std::sync::Arc;

use warp::reply::{Reply, Response};

use super::flow::FlowError;
use super::replies::{BetweenReply, ConversationReply, ConversationsReply, PageReply};
use super::{Admin, PATIENCE};
use crate::domain::{ConversationId, Cursor, MessageId, Row, Timestamp};
use crate::export::Shown;
use crate::store::{Contract, PageQuery, StoreError};
use crate::web::auth::Bearer;
use crate::web::query::Query;
use crate::web::{ApiError, Code, sse};

/// What every call carries.
pub(super) struct Call {
    pub(super) sent: Result<Option<Bearer>, ApiError>,
    pub(super) query: Query,
}

impl Call {
    /// Lets only the operator pass, and only the named parameters.
    pub(super) fn check(self, admin: &Admin, parameters: &[&str]) -> Result<Query, ApiError> {
        admin.token.verify(self.sent?.as_ref())?;
        self.query.only(parameters)
    }
}

/// A read of the store under the operators' patience.
pub(super) async fn read<T>(reading: impl Future<Output = Result<T, StoreError>>) -> Result<T, ApiError> {
    let unavailable = |cause: anyhow::Error| {
        ApiError::new(Code::StoreUnavailable, "the store could not be read just now")
            .retry_after(PATIENCE)
            .caused_by(cause)
    };
    match tokio::time::timeout(PATIENCE, reading).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(unavailable(error.into())),
        Err(_) => Err(unavailable(anyhow::anyhow!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

pub(super) fn json<T: serde::Serialize>(reply: &T) -> Response {
    warp::reply::json(reply).into_response()
}

pub(super) fn conversation_id(text: &str) -> Result<ConversationId, ApiError> {
    ConversationId::parse(text).map_err(|error| ApiError::new(Code::InvalidId, error.to_string()).field("conversation"))
}

fn instant(query: &Query, name: &str) -> Result<Option<Timestamp>, ApiError> {
    let invalid = || ApiError::invalid_field(name, format!("`{name}` is an instant such as 2026-11-23T22:04:13Z"));
    query.text(name).map(|text| Timestamp::parse(text).ok_or_else(invalid)).transpose()
}

pub(super) async fn conversations(admin: Arc<Admin>, call: Call) -> Result<Response, ApiError> {
    let query = call.check(&admin, &["limit", "before", "owner"])?;
    let (before, limit) = (query.list_cursor("before")?, query.limit()?);
    let found = match query.text("owner") {
        Some(owner) => read(admin.store.owned_by(owner, before, limit)).await?,
        None => read(admin.store.recent(before, limit)).await?,
    };
    let next = found.last().filter(|_| found.len() == limit).map(|last| last.list_cursor().to_string());
    let conversations = found.iter().map(ConversationReply::from).collect();
    Ok(json(&ConversationsReply { conversations, next }))
}

pub(super) async fn conversation(admin: Arc<Admin>, id: String, call: Call) -> Result<Response, ApiError> {
    call.check(&admin, &[])?;
    let id = conversation_id(&id)?;
    let found = read(admin.store.conversation(id)).await?;
    let found = found.ok_or_else(|| ApiError::not_found(format!("no message of conversation {id} is stored")))?;
    Ok(json(&ConversationReply::from(&found)))
}

pub(super) async fn transcript(admin: Arc<Admin>, id: String, call: Call) -> Result<Response, ApiError> {
    let query = call.check(&admin, &["after", "before", "limit"])?;
    let id = conversation_id(&id)?;
    let (after, before, limit) = (query.cursor("after")?, query.cursor("before")?, query.limit()?);
    let ask = PageQuery {
        after: after.map(|cursor| cursor.seq),
        before: before.map(|cursor| cursor.seq),
        // One more tells whether there is more.
        limit: limit + 1,
    };
    let mut rows = read(admin.store.page(id, ask)).await?;
    let more = rows.len() > limit;
    if after.is_some() {
        rows.truncate(limit);
    } else if more {
        rows.remove(0);
    }
    let older = if after.is_some() { after.is_some_and(|after| after.seq > 0) } else { more };
    let place = |row: &Row| Cursor::new(row.at, row.seq).to_string();
    Ok(json(&PageReply {
        next: rows.last().map(place).or_else(|| after.map(|after| after.to_string())),
        previous: rows.first().filter(|_| older).map(place),
        messages: rows.iter().map(Shown::from).collect(),
    }))
}

pub(super) async fn message_by_id(
    admin: Arc<Admin>,
    conversation: String,
    id: String,
    call: Call,
) -> Result<Response, ApiError> {
    call.check(&admin, &[])?;
    let conversation = conversation_id(&conversation)?;
    let id = MessageId::parse(&id).map_err(|error| ApiError::new(Code::InvalidId, error.to_string()).field("id"))?;
    let row = read(admin.store.by_id(conversation, id)).await?;
    let row = row.ok_or_else(|| ApiError::not_found(format!("conversation {conversation} has no message {id}")))?;
    Ok(json(&Shown::from(&row)))
}

pub(super) async fn message_by_seq(admin: Arc<Admin>, seq: u64, call: Call) -> Result<Response, ApiError> {
    call.check(&admin, &[])?;
    let row = read(admin.store.by_seq(seq)).await?;
    let row = row.ok_or_else(|| ApiError::not_found(format!("no message with sequence {seq} is stored")))?;
    Ok(json(&Shown::from(&row)))
}

pub(super) async fn between(admin: Arc<Admin>, call: Call) -> Result<Response, ApiError> {
    let query = call.check(&admin, &["from", "to", "after", "limit"])?;
    let from = instant(&query, "from")?.unwrap_or_default();
    let to = instant(&query, "to")?.unwrap_or_else(Timestamp::now);
    let (after, limit) = (query.cursor("after")?.unwrap_or_default(), query.limit()?);
    let rows = read(admin.store.between(from, to, after.seq, limit)).await?;
    let full = rows.len() == limit;
    let next = rows.last().filter(|_| full).map(|row| Cursor::new(row.at, row.seq).to_string());
    Ok(json(&BetweenReply { messages: rows.iter().map(Shown::from).collect(), next }))
}

pub(super) async fn stats(admin: Arc<Admin>, call: Call) -> Result<Response, ApiError> {
    call.check(&admin, &[])?;
    let looked = tokio::time::timeout(PATIENCE, admin.flow.look()).await;
    match looked {
        Ok(Ok(stats)) => Ok(json(&stats)),
        Ok(Err(FlowError::Store(error))) => {
            Err(ApiError::new(Code::StoreUnavailable, "the store could not be read just now")
                .retry_after(PATIENCE)
                .caused_by(error))
        }
        Ok(Err(FlowError::Bus(error))) => {
            Err(ApiError::unavailable("nats did not answer", PATIENCE).caused_by(anyhow::anyhow!("{error}")))
        }
        Err(_) => Err(ApiError::unavailable("nats or the store did not answer in time", PATIENCE)),
    }
}

pub(super) fn events(admin: Arc<Admin>, call: Call) -> Result<Response, ApiError> {
    call.check(&admin, &[])?;
    let mut looks = admin.flow.subscribe();
    let (events, frames) = sse::channel(4);
    let stop = admin.stop.clone();
    admin.tasks.clone().spawn(async move {
        loop {
            let latest = looks.borrow_and_update().clone();
            if let Some(Ok(frame)) = latest.map(|stats| sse::json_event("stats", None, &*stats))
                && events.send(frame).await.is_err()
            {
                return;
            }
            tokio::select! {
                biased;
                () = admin.stop.cancelled() => return,
                () = events.closed() => return,
                changed = looks.changed() => if changed.is_err() { return },
            }
        }
    });
    let farewell = serde_json::json!({"code": "stopping", "reason": "this server is going down, connect again"});
    Ok(sse::response(frames, sse::json_event("bye", None, &farewell).ok(), stop))
}
