//! Answers for the frontends, so that they never open the store: history, message, conversation, conversations.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::Admin;
use crate::bus::{BusError, RpcEndpoint, RpcError, RpcRequest, RpcService};
use crate::domain::limits;
use crate::role::Beside;
use crate::store::{Contract, PageQuery};
use crate::wire::rpc::{
    ConversationReply, ConversationRequest, ConversationsReply, ConversationsRequest, HistoryReply, HistoryRequest,
    MessageReply, MessageRequest, StoredMessage, Summary,
};

/// A page stops before it outgrows one NATS message.
const PAGE_BYTES: usize = 512 * 1024;

/// The names under `yalo.rpc.`, and how many requests of each are answered at the same time; more wait in NATS, and their
/// callers time out. Each has its own room: whoever has very many conversations holds up nobody's history.
const ROOMS: [(&str, usize); 4] = [("history", 64), ("message", 32), ("conversation", 32), ("conversations", 8)];

/// Announces the service and answers in `tasks` until it is stopped.
pub(super) async fn start(admin: &Arc<Admin>, beside: &Beside, tasks: &TaskTracker) -> Result<RpcService, BusError> {
    let service = RpcService::start(&admin.bus, "yalo-admin").await?;
    for (name, at_once) in ROOMS {
        let endpoint = service.endpoint(name).await?;
        let room = Arc::new(Semaphore::new(at_once));
        beside.spawn(tasks, "answering the frontends", listen(Arc::clone(admin), name, endpoint, room, tasks.clone()));
    }
    Ok(service)
}

async fn listen(
    admin: Arc<Admin>,
    name: &'static str,
    mut endpoint: RpcEndpoint,
    room: Arc<Semaphore>,
    tasks: TaskTracker,
) {
    while let Some(request) = endpoint.next().await {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let admin = Arc::clone(&admin);
        tasks.spawn(async move {
            answer(&admin, name, request).await;
            drop(permit);
        });
    }
}

async fn answer(admin: &Admin, name: &str, request: RpcRequest) {
    let payload = request.payload.clone();
    let answering = async {
        match name {
            "history" => reply(history(admin, &payload).await),
            "message" => reply(message(admin, &payload).await),
            "conversation" => reply(conversation(admin, &payload).await),
            _ => reply(conversations(admin, &payload).await),
        }
    };
    // Its caller waits no longer than this.
    let limit = admin.bus.options().request_timeout;
    let late = |_| Err(RpcError::Failed(format!("the store took longer than {limit:?} (nats.request_timeout_ms)")));
    let answered = tokio::time::timeout(limit, answering).await.unwrap_or_else(late);
    if let Err(error) = &answered {
        tracing::warn!(%error, "rpc {name} failed: {error}");
    }
    request.respond(answered).await;
}

fn reply<T: Serialize>(answer: anyhow::Result<T>) -> Result<Bytes, RpcError> {
    let answer = answer.map_err(|error| RpcError::Failed(format!("{error:#}")))?;
    serde_json::to_vec(&answer).map(Bytes::from).map_err(|error| RpcError::Failed(error.to_string()))
}

fn parse<T: DeserializeOwned>(payload: &[u8]) -> anyhow::Result<T> {
    Ok(serde_json::from_slice(payload)?)
}

async fn history(admin: &Admin, payload: &[u8]) -> anyhow::Result<HistoryReply> {
    let request: HistoryRequest = parse(payload)?;
    // Asked before the store is read: what is complete by then is in what is read after.
    let complete_to = admin.flow.complete_to().await?;
    let limit = request.limit.clamp(1, limits::PAGE);
    let query = PageQuery { after: request.after, before: request.before, limit: limit + 1 };
    let mut rows = admin.store.page(request.conversation, query).await?;
    let forward = request.after.is_some();
    let more = rows.len() > limit;
    if more && forward {
        rows.truncate(limit);
    } else if more {
        rows.remove(0);
    }
    let mut messages: Vec<StoredMessage> = rows.iter().filter_map(StoredMessage::from_row).collect();
    let cut = fit(&mut messages, forward);
    // Rows that could not be decoded are looked at too, though they are not in the answer.
    let looked_at = rows.last().map(|row| row.seq).filter(|_| more);
    let read_to = if cut { messages.last().map(|message| message.seq) } else { looked_at };
    Ok(HistoryReply { messages, complete_to, older: forward || more || cut, read_to: read_to.filter(|_| forward) })
}

/// Drops what would not fit into one NATS message: the newest of a page read forward, else the oldest.
fn fit(messages: &mut Vec<StoredMessage>, forward: bool) -> bool {
    let size =
        |messages: &[StoredMessage]| messages.iter().map(|message| message.payload.get().len() + 64).sum::<usize>();
    let mut cut = false;
    while messages.len() > 1 && size(messages) > PAGE_BYTES {
        cut = true;
        let half = messages.len().div_ceil(2);
        if forward {
            messages.truncate(half);
        } else {
            messages.drain(..messages.len() - half);
        }
    }
    cut
}

async fn message(admin: &Admin, payload: &[u8]) -> anyhow::Result<MessageReply> {
    let request: MessageRequest = parse(payload)?;
    let complete_to = admin.flow.complete_to().await?;
    let row = admin.store.by_id(request.conversation, request.id).await?;
    Ok(MessageReply { message: row.as_ref().and_then(StoredMessage::from_row), complete_to })
}

async fn conversation(admin: &Admin, payload: &[u8]) -> anyhow::Result<ConversationReply> {
    let request: ConversationRequest = parse(payload)?;
    let complete_to = admin.flow.complete_to().await?;
    let found = admin.store.conversation(request.conversation).await?;
    Ok(ConversationReply { summary: found.as_ref().map(Summary::from_store), complete_to })
}

async fn conversations(admin: &Admin, payload: &[u8]) -> anyhow::Result<ConversationsReply> {
    let request: ConversationsRequest = parse(payload)?;
    let limit = request.limit.clamp(1, limits::PAGE);
    let found = admin.store.owned_by(&request.owner, request.before, limit).await?;
    Ok(ConversationsReply { conversations: found.iter().map(Summary::from_store).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(lengths: &[usize]) -> Vec<StoredMessage> {
        let message = |(place, length): (usize, &usize)| {
            let payload = serde_json::value::to_raw_value(&"x".repeat(*length)).unwrap();
            StoredMessage { seq: u64::try_from(place).unwrap() + 1, at_ns: 0, payload }
        };
        lengths.iter().enumerate().map(message).collect()
    }

    fn sequences(messages: &[StoredMessage]) -> Vec<u64> {
        messages.iter().map(|message| message.seq).collect()
    }

    #[test]
    fn a_page_that_fits_one_message_is_left_as_it_is() {
        let mut messages = page(&[900; 500]);
        assert!(!fit(&mut messages, true));
        assert_eq!(messages.len(), 500);
    }

    #[test]
    fn a_page_that_is_too_large_loses_its_far_end() {
        let mut forward = page(&[20_000; 100]);
        assert!(fit(&mut forward, true));
        assert_eq!(sequences(&forward), (1..=25).collect::<Vec<_>>());
        let mut backward = page(&[20_000; 100]);
        assert!(fit(&mut backward, false));
        assert_eq!(sequences(&backward), (76..=100).collect::<Vec<_>>());
        for messages in [forward, backward] {
            assert!(messages.iter().map(|message| message.payload.get().len()).sum::<usize>() <= PAGE_BYTES);
        }
    }

    #[test]
    fn one_message_is_never_too_large() {
        let mut messages = page(&[PAGE_BYTES * 2]);
        assert!(!fit(&mut messages, true));
        assert_eq!(messages.len(), 1);
    }
}
