//! A batch: messages in a row without ids, which the server numbers and stores in that order, without a gap, and
//! acknowledges many at a time (fast ingest, ADR-50; nats-server 2.14 and newer).
//!
//! - The server keeps no id but that of the first message, which is acknowledged by itself, and works half as long for each.
//! - What keeps from doubles is the batch's name: nobody else uses it, and [`Bus::end_batches`] sees to it that nothing more of
//!   it is stored, whatever still lies in a socket or waits to be begun. After that the record says what of it was stored.
//! - A connection of its own. A batch that breaks is given up, never taken up again.

mod end;

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::{HeaderMap, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::publish::AckError;
use super::{Bus, BusError, Link, LinkEvents, Publish, Published};

/// The server acknowledges each so many messages, or more often. Fewer than that are not acknowledged before the end, so
/// they have to fit into the window, each as large as a message can be.
const FLOW: u64 = 100;
/// Messages in flight.
const WINDOW: u64 = 1000;
/// Bytes in flight.
const WINDOW_BYTES: usize = 8 << 20;
/// The server forgets a batch of which it hears nothing for 10 s.
const ALIVE: Duration = Duration::from_secs(3);

/// The server's error codes.
mod code {
    pub(super) const DISABLED: u64 = 10205;
    pub(super) const UNKNOWN: u64 = 10208;
}

/// What a message of a batch asks for: the last but one token of its reply subject.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Start = 0,
    Append = 1,
    /// The end, which is no message itself.
    End = 3,
    /// No message: is the batch there?
    Ping = 4,
}

/// Messages on their way under one name.
pub struct Batch {
    bus: Bus,
    name: Uuid,
    link: Link,
    /// What the reply subjects of its messages begin with.
    replies: String,
    answers: Subscriber,
    /// An answer that is due for so long does not come.
    silence: Duration,
    /// That of its first message: it goes to the same stream.
    subject: String,
    sent: u64,
    sent_at: Instant,
    /// The server has begun with it.
    begun: bool,
    /// The first so many are stored.
    stored: u64,
    /// Of these, the first one left out, the caller knows.
    told: u64,
    /// The server acknowledges each so many.
    flow: u64,
    /// The bytes of each message that is not known to be stored.
    sizes: VecDeque<usize>,
    bytes: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Going,
    /// The server's last word: all of it is stored, and this is the sequence of its last message.
    Over(u64),
    Failed(BusError),
}

/// What the server says of a batch.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    /// Absent in its last word.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// In an `ack` of the batch, in the last word of the stream.
    #[serde(default)]
    seq: u64,
    /// Acknowledgements come each so many messages.
    msgs: Option<u64>,
    /// Messages of it, in the last word.
    count: Option<u64>,
    error: Option<AckError>,
}

impl Batch {
    async fn open(bus: &Bus, connection: &str, events: LinkEvents, name: Uuid) -> Result<Self, BusError> {
        let link = Link::open_single(&bus.options, connection, events).await?;
        let inbox = link.client().new_inbox();
        let answers = link.client().subscribe(format!("{inbox}.>")).await;
        let answers = answers.map_err(|error| BusError::unavailable("publish", error))?;
        Ok(Self {
            bus: bus.clone(),
            name,
            link,
            replies: replies(&inbox, name),
            answers,
            silence: bus.options.publish_timeout,
            subject: String::new(),
            sent: 0,
            sent_at: Instant::now(),
            begun: false,
            stored: 0,
            told: 0,
            flow: FLOW,
            sizes: VecDeque::new(),
            bytes: 0,
            state: State::Going,
        })
    }

    /// Stores the first message by itself, with its id, and begins behind it.
    ///
    /// A batch begins with a message, also one that was given up while nobody knew of it yet: whoever gives it up says so
    /// before that. What is asked here after the beginning is either answered by that word, or was asked before it, and then
    /// the batch is found and ended. So nothing goes behind the beginning before. The beginning itself may come too late, after
    /// the first question: so it is the first message once more, which the server knows by its id and does not store.
    pub async fn begin(&mut self, subject: String, id: String, payload: Bytes) -> Result<Published, BusError> {
        self.subject.clone_from(&subject);
        self.is_wanted().await?;
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id.as_str());
        let (message_id, first) = (Some(id), payload.clone());
        let publish = Publish { subject: subject.clone(), payload: first, message_id, ..Publish::default() };
        // Should it fail, the message may be stored all the same.
        let published = self.bus.publish(publish).await.map_err(|error| self.fail(error))?;
        self.put(Operation::Start, subject, headers, payload).await?;
        while !self.begun {
            self.hear().await?;
        }
        self.is_wanted().await?;
        Ok(published)
    }

    async fn is_wanted(&mut self) -> Result<(), BusError> {
        match self.bus.is_given_up(self.name).await {
            Ok(false) => Ok(()),
            Ok(true) => Err(self.fail(BusError::unavailable("publish", "another try has taken the place of this one"))),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Sends another message, as soon as the window has room. After an error some of what was sent may be stored, and may be
    /// stored still: see [`Bus::end_batches`].
    pub async fn send(&mut self, subject: String, payload: Bytes) -> Result<(), BusError> {
        self.collect();
        while self.is_full() {
            self.hear().await?;
        }
        self.put(Operation::Append, subject, HeaderMap::new(), payload).await
    }

    /// How many more messages behind the first one are known to be stored, in the order of sending.
    pub fn stored(&mut self) -> u64 {
        self.collect();
        let stored = self.stored.saturating_sub(1);
        stored - std::mem::replace(&mut self.told, stored)
    }

    /// Whether nothing of it was sent.
    pub fn is_empty(&self) -> bool {
        self.sent == 0
    }

    /// Keeps it alive while no message comes, until it fails. Whoever leaves off waiting may go on as if nothing had been.
    pub async fn wait(&mut self) -> BusError {
        loop {
            let next = tokio::time::timeout_at(self.sent_at + ALIVE, self.next()).await;
            let kept = match next {
                Ok(answer) => self.note(answer),
                Err(_) => self.put(Operation::Ping, self.subject.clone(), HeaderMap::new(), Bytes::new()).await,
            };
            if let Err(error) = kept {
                return error;
            }
        }
    }

    /// Ends it, waits until all of it is stored, and gives the sequence of its last message.
    pub async fn end(&mut self) -> Result<Option<u64>, BusError> {
        self.going()?;
        if self.is_empty() {
            return Ok(None);
        }
        self.put(Operation::End, self.subject.clone(), HeaderMap::new(), Bytes::new()).await?;
        loop {
            if let State::Over(last) = self.state {
                return Ok(Some(last));
            }
            self.hear().await?;
        }
    }

    async fn put(
        &mut self,
        operation: Operation,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), BusError> {
        self.going()?;
        let seq = self.sent + u64::from(!matches!(operation, Operation::Ping));
        let reply = reply(&self.replies, seq, operation);
        let client = self.link.client();
        if matches!(operation, Operation::Start | Operation::Append) {
            self.sent += 1;
            self.sizes.push_back(payload.len());
            self.bytes += payload.len();
        }
        self.sent_at = Instant::now();
        let sent = if headers.is_empty() {
            client.publish_with_reply(subject, reply, payload).await
        } else {
            client.publish_with_reply_and_headers(subject, reply, headers, payload).await
        };
        sent.map_err(|error| self.fail(BusError::unavailable("publish", error)))
    }

    fn is_full(&self) -> bool {
        let open = self.sent - self.stored;
        // For fewer than `flow` no acknowledgement comes.
        open >= WINDOW || (self.bytes >= WINDOW_BYTES && open >= self.flow)
    }

    /// The next answer; `None` if none can come any more.
    async fn next(&mut self) -> Option<async_nats::Message> {
        tokio::select! {
            biased;
            answer = self.answers.next() => answer,
            () = self.link.broken().cancelled() => None,
        }
    }

    /// Waits for an answer that is due.
    async fn hear(&mut self) -> Result<(), BusError> {
        self.going()?;
        match tokio::time::timeout(self.silence, self.next()).await {
            Ok(answer) => self.note(answer),
            Err(_) => Err(self.fail(BusError::TimedOut { doing: "publish" })),
        }
    }

    /// Takes in what has come, without waiting.
    fn collect(&mut self) {
        while let Some(Some(answer)) = self.answers.next().now_or_never() {
            // A failure is told to whoever does something next.
            drop(self.note(Some(answer)));
        }
    }

    fn note(&mut self, answer: Option<async_nats::Message>) -> Result<(), BusError> {
        self.going()?;
        let broke = |reason| BusError::unavailable("publish", reason);
        let Some(answer) = answer.filter(|answer| answer.status.is_none()) else {
            return Err(self.fail(broke("the connection broke, or nobody answers on that subject")));
        };
        let failed = match Answer::of(&answer) {
            Answer { kind: Some(kind), seq, msgs: Some(flow), .. } if kind == "ack" => {
                (self.begun, self.flow) = (true, flow.max(1));
                self.are_stored(seq);
                return Ok(());
            }
            Answer { error: Some(error), .. } if error.err_code == code::UNKNOWN => {
                broke("the server has forgotten the batch")
            }
            Answer { error: Some(error), .. } => error.into_error("publish"),
            Answer { kind: None, count: Some(count), seq, .. } => {
                self.are_stored(count);
                if count == self.sent {
                    self.state = State::Over(seq);
                    return Ok(());
                }
                broke("the server has ended the batch")
            }
            Answer { kind: Some(kind), .. } if kind == "gap" => broke("a message was lost on its way"),
            _ => not_of_a_batch("publish"),
        };
        Err(self.fail(failed))
    }

    fn are_stored(&mut self, number: u64) {
        while self.stored < number.min(self.sent) {
            self.stored += 1;
            self.bytes -= self.sizes.pop_front().unwrap_or(0);
        }
    }

    fn going(&mut self) -> Result<(), BusError> {
        match &self.state {
            State::Going => Ok(()),
            State::Over(_) => Err(BusError::unavailable("publish", "the batch is over")),
            State::Failed(error) => Err(error.clone()),
        }
    }

    fn fail(&mut self, error: BusError) -> BusError {
        self.state = State::Failed(error.clone());
        error
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.link.broken().cancel();
    }
}

impl Answer {
    fn of(message: &async_nats::Message) -> Self {
        serde_json::from_slice(&message.payload).unwrap_or_default()
    }
}

fn not_of_a_batch(doing: &'static str) -> BusError {
    BusError::Refused { doing, reason: "the answer is not one to a batch".to_owned() }
}

fn replies(inbox: &str, name: Uuid) -> String {
    format!("{inbox}.{}.{FLOW}.fail", name.simple())
}

fn reply(replies: &str, seq: u64, operation: Operation) -> String {
    format!("{replies}.{seq}.{}.$FI", operation as u8)
}

impl Bus {
    /// A batch of this name, which nobody has ever used, on a connection of its own that `connection` shows to operators.
    /// [`StreamState::batches`](super::StreamState::batches) says whether the stream takes any.
    pub async fn batch(&self, connection: &str, events: LinkEvents, name: Uuid) -> Result<Batch, BusError> {
        Batch::open(self, connection, events, name).await
    }
}
