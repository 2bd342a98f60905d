//! Opening conversations, and whose they are: someone else's is "not found".

use std::time::Duration;

use bytes::Bytes;

use super::history;
use super::hub::read_record;
use super::problems;
use super::state::Front;
use crate::bus::{BusError, From, Publish, Record};
use crate::domain::{ConversationId, Cursor, Kind, Message, MessageId, Timestamp, Who};
use crate::web::ApiError;
use crate::wire;
use crate::wire::rpc::{ConversationReply, ConversationRequest};

/// A replica may lag behind the leader by that much: so long a young conversation is looked for again.
const YOUNG: Duration = Duration::from_secs(30);

/// Opens a conversation for `owner`: its first message says so, and is its proof of ownership.
pub(super) async fn open(
    front: &Front,
    owner: &str,
    bot: Option<String>,
) -> Result<(ConversationId, Cursor), ApiError> {
    let conversation = ConversationId::new();
    let published = publish_opened(front, conversation, owner, bot, None).await;
    let seq = published.map_err(|error| problems::from_bus(&error))?;
    front.owners.put(conversation, owner);
    Ok((conversation, Cursor::new(Timestamp::now(), seq)))
}

/// Opens a conversation whose id comes from elsewhere, unless it is open already: then `owner` has to be its owner.
pub(super) async fn open_once(front: &Front, conversation: ConversationId, owner: &str) -> Result<(), ApiError> {
    if front.owners.get(conversation).is_some() || find_owner(front, conversation).await?.is_some() {
        return check_owner(front, conversation, owner).await;
    }
    // The fence lets one of several frontends open it.
    match publish_opened(front, conversation, owner, None, Some(0)).await {
        Ok(_) => {
            front.owners.put(conversation, owner);
            Ok(())
        }
        Err(BusError::Fenced) => check_owner(front, conversation, owner).await,
        Err(error) => Err(problems::from_bus(&error)),
    }
}

async fn publish_opened(
    front: &Front,
    conversation: ConversationId,
    owner: &str,
    bot: Option<String>,
    expected_last: Option<u64>,
) -> Result<u64, BusError> {
    let message = Message {
        id: MessageId::new(),
        conversation,
        who: Who::Meta,
        author: owner.to_owned(),
        kind: Kind::Opened,
        text: None,
        reply_to: None,
        bot,
        sent_at: Timestamp::now(),
        data: None,
        side: None,
    };
    let publish = Publish {
        subject: front.bus.subjects().record(conversation, Who::Meta),
        payload: Bytes::from(wire::encode(&message)),
        message_id: Some(format!("{conversation}/{}", message.id)),
        expected_last,
        ..Publish::default()
    };
    Ok(front.publish(publish).await?.seq)
}

/// Lets only the owner pass.
pub(super) async fn check_owner(front: &Front, conversation: ConversationId, user: &str) -> Result<(), ApiError> {
    let owner = match front.owners.get(conversation) {
        Some(owner) => owner,
        None => {
            let owner = find_owner(front, conversation).await?.ok_or_else(|| not_found(conversation))?;
            front.owners.put(conversation, &owner);
            owner
        }
    };
    if owner == user { Ok(()) } else { Err(not_found(conversation)) }
}

fn not_found(conversation: ConversationId) -> ApiError {
    problems::not_found(format!("there is no conversation {conversation}, or it is not yours"))
}

async fn find_owner(front: &Front, conversation: ConversationId) -> Result<Option<String>, ApiError> {
    let mut waits = 0;
    loop {
        let streamed = owner_in_stream(front, conversation).await.map_err(|error| problems::from_bus(&error))?;
        if streamed.is_some() {
            return Ok(streamed);
        }
        let opened = conversation.opened_ms().unwrap_or(0);
        if Timestamp::now().since(Timestamp::from_ms(opened)) > YOUNG || waits == 4 {
            break;
        }
        // A lagging replica says "not found" of what the leader has just stored.
        waits += 1;
        tokio::time::sleep(Duration::from_millis(25 << waits)).await;
    }
    // One that was away for longer still does: its leader has the last word.
    let filter = front.bus.subjects().record(conversation, Who::Meta);
    let led = front.bus.record_by_leader(&filter, 1).await.map_err(|error| problems::from_bus(&error))?;
    if let Some(owner) = led.and_then(|record| owner_in(front, &record)) {
        return Ok(Some(owner));
    }
    let request = ConversationRequest { conversation };
    let reply: ConversationReply =
        history::ask(&front.bus, "conversation", &request).await.map_err(|error| problems::from_rpc(&error))?;
    Ok(reply.summary.and_then(|summary| summary.owner))
}

async fn owner_in_stream(front: &Front, conversation: ConversationId) -> Result<Option<String>, BusError> {
    let filter = front.bus.subjects().record(conversation, Who::Meta);
    let first = front.bus.read(&filter, From::Seq(1), 1).await?;
    Ok(first.records.first().and_then(|record| owner_in(front, record)))
}

fn owner_in(front: &Front, record: &Record) -> Option<String> {
    let opened = read_record(&front.bus, record).filter(|stored| stored.message.kind == Kind::Opened);
    opened.map(|stored| stored.message.author)
}
