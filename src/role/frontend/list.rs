//! `/v1/conversations`: opening one, listing one's own.

use std::sync::Arc;

use warp::http::header::LOCATION;
use warp::http::{HeaderValue, StatusCode};
use warp::reply::{Reply, Response};

use super::callers::{self, Sent};
use super::conversations::open;
use super::replies::{ConversationReply, ConversationsReply, OpenedReply};
use super::requests::{self, OpenRequest};
use super::state::Front;
use super::{history, problems};
use crate::web::ApiError;
use crate::web::query::Query;
use crate::wire::rpc::{self, ConversationsRequest};

pub(super) async fn post_conversation(
    front: Arc<Front>,
    sent: Sent,
    body: Result<OpenRequest, ApiError>,
) -> Result<Response, ApiError> {
    let (user, token) = callers::user_or_guest(&front, sent)?;
    let bot = requests::check_bot(body?.bot)?;
    let (conversation, cursor) = open(&front, &user.id, bot).await?;
    let reply = OpenedReply { conversation, cursor: cursor.to_string(), token: token.as_deref() };
    let mut response = warp::reply::with_status(warp::reply::json(&reply), StatusCode::CREATED).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/conversations/{conversation}/messages")) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

pub(super) async fn get_conversations(front: Arc<Front>, sent: Sent, query: Query) -> Result<Response, ApiError> {
    let user = callers::user(&front, sent)?;
    let query = query.only(&["limit", "before"])?;
    let (before, limit) = (query.list_cursor("before")?, query.limit()?);
    let request = ConversationsRequest { owner: user.id, before, limit };
    let asked = history::ask(&front.bus, "conversations", &request).await;
    let reply: rpc::ConversationsReply = asked.map_err(|error| problems::from_rpc(&error))?;
    let full = reply.conversations.len() == limit;
    let next = reply.conversations.last().filter(|_| full).map(|last| last.list_cursor().to_string());
    let conversations = reply.conversations.into_iter().map(ConversationReply::from).collect();
    Ok(warp::reply::json(&ConversationsReply { conversations, next }).into_response())
}
