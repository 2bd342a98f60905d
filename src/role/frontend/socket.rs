//! `GET /v1/ws`: many conversations over one connection, with the same rules as HTTP.
//!
//! The socket's own loop answers frames in order; each watched conversation is a task that feeds it through one bounded
//! queue. A client that reads too slowly fills the queue, its watches wait, and the write time-out ends the connection.

mod frames;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::frames::{ClientFrame, Refusal, ServerFrame};
use super::accept::accept;
use super::conversations::{check_owner, open};
use super::follow::{Event, Follow};
use super::messages::{self, STOPPING};
use super::problems;
use super::replies::AcceptedReply;
use super::requests::{self, SendRequest};
use super::state::Front;
use crate::domain::{ConversationId, Timestamp};
use crate::web::auth::User;
use crate::web::query::cursor;
use crate::web::request::RequestId;
use crate::web::socket::{CloseCode, Received, Socket};
use crate::web::{ApiError, Code};

/// The first frame must come within this time.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// A client that says nothing for this long is asked whether it lives, and is gone after the same time again.
const PING_AFTER: Duration = Duration::from_secs(25);
/// Frames that wait for the client to read.
const OUTBOX: usize = 64;
/// Conversations that one connection may watch.
const WATCHES: usize = 256;

/// Serves one connection until it ends.
pub(super) async fn serve(front: Arc<Front>, mut socket: Socket) {
    let hello = tokio::time::timeout(HELLO_WITHIN, socket.receive()).await;
    let text = match hello {
        Ok(Received::Text(text)) => text,
        Ok(Received::Stopping) => return goodbye(socket).await,
        Ok(Received::Closed) => return,
        Ok(Received::Pong) | Err(_) => return socket.close(CloseCode::Policy, "say hello within 5 seconds").await,
    };
    let user = match sign_in(&front, text.as_str()) {
        Ok((user, welcome)) => {
            if send(&mut socket, &welcome).await.is_err() {
                return;
            }
            user
        }
        Err(refusal) => {
            refuse(&mut socket, None, &refusal).await.ok();
            return socket.close(CloseCode::Policy, "sign in first").await;
        }
    };
    let (outbox, events) = mpsc::channel(OUTBOX);
    let session = Session { front, user, watches: HashMap::new(), outbox };
    // Boxed and apart, so that an idle socket does not keep the room of its hello.
    Box::pin(session.run(socket, events)).await;
}

fn sign_in(front: &Front, text: &str) -> Result<(User, ServerFrame), ApiError> {
    let Ok((_, ClientFrame::Hello(hello))) = frames::parse(text) else {
        return Err(ApiError::unauthorized("the first frame is not a `hello`").next("send {\"type\":\"hello\"} first"));
    };
    let (user, token) = match hello.token {
        Some(token) => (front.tokens.verify(&token)?, None),
        None => front.tokens.issue().map(|(user, token)| (user, Some(token)))?,
    };
    let welcome = ServerFrame::Welcome { user: user.id.clone(), token, server_time: Timestamp::now() };
    Ok((user, welcome))
}

/// The peer is gone.
struct Gone;

async fn send(socket: &mut Socket, frame: &ServerFrame) -> Result<(), Gone> {
    let text = serde_json::to_string(frame).map_err(|error| {
        tracing::error!(%error, "a frame could not be written: {error}");
        Gone
    })?;
    socket.send(text).await.map_err(|_| Gone)
}

async fn refuse(socket: &mut Socket, reference: Option<String>, refusal: &ApiError) -> Result<(), Gone> {
    refusal.log(RequestId::new().as_str());
    let frame = Refusal { kind: "error", reference, problem: refusal.document() };
    let text = serde_json::to_string(&frame).map_err(|_| Gone)?;
    socket.send(text).await.map_err(|_| Gone)
}

async fn goodbye(mut socket: Socket) {
    let bye = ServerFrame::Bye { code: "stopping", reason: STOPPING };
    if send(&mut socket, &bye).await.is_ok() {
        socket.close(CloseCode::Away, STOPPING).await;
    }
}

struct Session {
    front: Arc<Front>,
    user: User,
    watches: HashMap<ConversationId, CancellationToken>,
    outbox: mpsc::Sender<String>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.watches.values().for_each(CancellationToken::cancel);
    }
}

impl Session {
    async fn run(mut self, mut socket: Socket, mut events: mpsc::Receiver<String>) {
        let mut heard = Instant::now();
        let mut asked = false;
        loop {
            let ended = tokio::select! {
                biased;
                received = socket.receive() => {
                    heard = Instant::now();
                    asked = false;
                    match received {
                        Received::Text(text) => self.answer(&mut socket, text.as_str()).await,
                        Received::Pong => Ok(()),
                        Received::Stopping => return goodbye(socket).await,
                        Received::Closed => return,
                    }
                }
                Some(event) = events.recv() => socket.send(event).await.map_err(|_| Gone),
                () = tokio::time::sleep_until(heard + PING_AFTER) => {
                    if asked {
                        return socket.close(CloseCode::Policy, "no sign of life").await;
                    }
                    asked = true;
                    heard = Instant::now();
                    socket.ping().await.map_err(|_| Gone)
                }
            };
            if ended.is_err() {
                return;
            }
        }
    }

    /// Answers one frame; a refusal leaves the connection open.
    async fn answer(&mut self, socket: &mut Socket, text: &str) -> Result<(), Gone> {
        let (reference, frame) = match frames::parse(text) {
            Ok(parsed) => parsed,
            Err(refused) => return refuse(socket, refused.reference, &refused.refusal).await,
        };
        match self.act(frame, reference.clone()).await {
            Ok((reply, follow)) => {
                send(socket, &reply).await?;
                if let Some((conversation, follow)) = follow {
                    self.follow(conversation, follow);
                }
                Ok(())
            }
            // Only a second hello comes without a reference.
            Err(refusal) => refuse(socket, Some(reference).filter(|reference| !reference.is_empty()), &refusal).await,
        }
    }

    async fn act(
        &mut self,
        frame: ClientFrame,
        reference: String,
    ) -> Result<(ServerFrame, Option<(ConversationId, Follow)>), ApiError> {
        let front = Arc::clone(&self.front);
        let reply = match frame {
            ClientFrame::Hello(_) => {
                return Err(ApiError::invalid_field("type", "this connection has said hello already"));
            }
            ClientFrame::Open(frame) => {
                let (conversation, cursor) = open(&front, &self.user.id, requests::check_bot(frame.bot)?).await?;
                ServerFrame::Opened { reference, conversation, cursor: cursor.to_string() }
            }
            ClientFrame::Watch(frame) => {
                let conversation = self.own(&frame.conversation).await?;
                let after = frame.after.as_deref().map(|after| cursor("after", after)).transpose()?;
                if self.watches.len() >= WATCHES && !self.watches.contains_key(&conversation) {
                    let detail = format!("one connection watches at most {WATCHES} conversations");
                    return Err(ApiError::new(Code::Overloaded, detail).next("unwatch one, or open another connection"));
                }
                let follow = Follow::open(&front, conversation, after).await;
                let follow = follow.map_err(|error| problems::from_bus(&error))?;
                let at_ms = after.map_or_else(|| Timestamp::now().ms(), |after| after.at_ms);
                let cursor = crate::domain::Cursor { at_ms, seq: follow.position() }.to_string();
                return Ok((ServerFrame::Watching { reference, conversation, cursor }, Some((conversation, follow))));
            }
            ClientFrame::Unwatch(frame) => {
                let conversation = requests::conversation("conversation", &frame.conversation)?;
                if let Some(stop) = self.watches.remove(&conversation) {
                    stop.cancel();
                }
                ServerFrame::Unwatched { reference, conversation }
            }
            ClientFrame::Send(frame) => {
                let send = SendRequest { text: frame.text, id: frame.id, bot: frame.bot, data: frame.data };
                let said = send.check(None)?;
                let conversation = self.own(&frame.conversation).await?;
                let accepted = accept(&front, conversation, &self.user.id, said).await?;
                let stored = accepted.stored(&front, conversation).await?;
                ServerFrame::Accepted {
                    reference,
                    conversation,
                    accepted: AcceptedReply::new(&stored, accepted.duplicate),
                }
            }
            ClientFrame::Stop(frame) => {
                let conversation = self.own(&frame.conversation).await?;
                messages::stop_answer(&front, conversation).await?;
                ServerFrame::Stopping { reference, conversation }
            }
            ClientFrame::Ping(_) => ServerFrame::Pong { reference, server_time: Timestamp::now() },
        };
        Ok((reply, None))
    }

    async fn own(&self, text: &str) -> Result<ConversationId, ApiError> {
        let conversation = requests::conversation("conversation", text)?;
        check_owner(&self.front, conversation, &self.user.id).await?;
        Ok(conversation)
    }

    /// Passes a conversation on from now; a second watch of the same one takes the place of the first.
    fn follow(&mut self, conversation: ConversationId, follow: Follow) {
        let stop = self.front.stop.child_token();
        if let Some(earlier) = self.watches.insert(conversation, stop.clone()) {
            earlier.cancel();
        }
        self.front.tasks.spawn(pass_on(conversation, follow, self.outbox.clone(), stop));
    }
}

async fn pass_on(
    conversation: ConversationId,
    mut follow: Follow,
    outbox: mpsc::Sender<String>,
    stop: CancellationToken,
) {
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            event = follow.next() => event,
        };
        let text = match &event {
            Event::Message(message) => frames::message(&message.stored),
            Event::Read(stored) => frames::message(stored),
            Event::Draft(draft) => serde_json::to_string(draft),
            Event::Gap { after, before } => frames::gap(&messages::gap(conversation, *after, *before)),
        };
        let Ok(text) = text else { continue };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            sent = outbox.send(text) => if sent.is_err() { return },
        }
    }
}
