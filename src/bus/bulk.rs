//! Many publishes in flight at once, for bulk loads: sent in order, and settled in the order that they were sent.
//!
//! - A connection of its own, which is thrown away when it breaks, falls silent, or may hold a publish past its deadline.
//! - What has no acknowledgement then is sent again on a new one, from the first such message on, in the same order and
//!   with the same ids. Each connection carries the same order, so the first copy of each message comes after the first
//!   copy of the one before it: no reordering by broken connections. Only a server that refuses one message "for now"
//!   and takes a later one of the same window (a change of leader in a cluster, a stream that is full to its last byte
//!   and is trimmed just then) can put one behind others.
//! - The window is bounded in messages and in bytes; while it is full, `send` waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::connection::Opening;
use super::publish::{Verdict, headers, jitter, verdict};
use super::{BusError, BusOptions, Link, LinkEvents, Publish, Published};

/// Messages in flight. Measured: 128 reach nine tenths of the rate that 512 reach, more only wait longer.
const WINDOW: usize = 512;
/// Bytes in flight: large messages fill the window before their number does.
const WINDOW_BYTES: usize = 8 << 20;

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The stream has it.
    Stored(Published),
    /// The server will never take it.
    Refused(String),
}

/// One line of messages into the stream. It connects at the first message.
pub struct Bulk {
    options: Arc<BusOptions>,
    name: String,
    events: LinkEvents,
    wire: Option<Wire>,
    opening: Opening,
    /// Sent and not settled, and those settled behind one that is not.
    pending: VecDeque<Pending>,
    /// The number of the first pending message.
    first: u64,
    bytes: usize,
    /// Messages whose answer is awaited.
    in_flight: usize,
    /// Messages that are still to be sent, or to be sent again. While there are some, no later one is sent before them.
    waiting: usize,
    /// Why nothing more is sent until all answers have come.
    halt: Option<Halt>,
    settled: VecDeque<Settled>,
}

struct Wire {
    link: Link,
    inbox: String,
    acks: Subscriber,
}

struct Pending {
    publish: Publish,
    begun: Instant,
    sent: Instant,
    attempts: u32,
    state: State,
}

enum State {
    InFlight,
    /// To be sent again.
    Waiting,
    Settled(Settled),
}

enum Halt {
    /// Some were refused for now: they are sent again.
    Later(Duration, BusError),
    /// Nothing more is taken.
    Full,
}

impl Bulk {
    pub(super) fn new(options: Arc<BusOptions>, name: String, events: LinkEvents) -> Self {
        Self {
            options,
            name,
            events,
            wire: None,
            opening: Opening::default(),
            pending: VecDeque::new(),
            first: 0,
            bytes: 0,
            in_flight: 0,
            waiting: 0,
            halt: None,
            settled: VecDeque::new(),
        }
    }

    /// Sends one message, as soon as the window has room. Its fate comes from [`Bulk::settled`].
    ///
    /// An error is the end: NATS was away for longer than a publish may take, or the stream is full. What was not settled
    /// then may or may not be stored.
    pub async fn send(&mut self, publish: Publish) -> Result<(), BusError> {
        if self.pending.len() >= WINDOW || self.bytes >= WINDOW_BYTES {
            // Some room at once saves waking up for each acknowledgement.
            self.wait(|bulk| bulk.pending.len() <= WINDOW / 4 * 3 && bulk.bytes <= WINDOW_BYTES / 4 * 3).await?;
        }
        let now = Instant::now();
        self.bytes += publish.payload.len();
        self.pending.push_back(Pending { publish, begun: now, sent: now, attempts: 0, state: State::Waiting });
        self.waiting += 1;
        if self.wire.is_some() && self.halt.is_none() && self.waiting == 1 {
            self.put(self.pending.len() - 1, now).await;
        }
        Ok(())
    }

    /// The fate of the next message, in the order of sending; `None` if it is not known yet.
    pub fn settled(&mut self) -> Option<Settled> {
        self.settled.pop_front()
    }

    /// Waits until the fate of every message is known. Whoever leaves off waiting may go on as if nothing had been.
    pub async fn settle(&mut self) -> Result<(), BusError> {
        self.wait(|bulk| bulk.pending.is_empty()).await
    }

    /// Whether it may be used for other messages: nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.settled.is_empty()
    }

    async fn wait(&mut self, enough: impl Fn(&Self) -> bool) -> Result<(), BusError> {
        loop {
            self.collect();
            if enough(self) {
                return Ok(());
            }
            if let Some(oldest) = self.pending.front()
                && oldest.begun.elapsed() >= self.options.publish_deadline
            {
                return Err(self.give_up());
            }
            if self.wire.is_none() {
                self.connect().await?;
                continue;
            }
            if self.in_flight == 0 {
                match self.halt.take() {
                    Some(Halt::Full) => return Err(BusError::Full),
                    Some(Halt::Later(pause, _)) => tokio::time::sleep(pause).await,
                    None => {}
                }
                self.send_waiting().await;
                continue;
            }
            if self.halt.is_none() && self.waiting > 0 {
                // The caller once left off waiting, halfway through them.
                self.send_waiting().await;
                continue;
            }
            self.hear().await;
        }
    }

    /// Waits for one answer, a break, or too long a silence.
    async fn hear(&mut self) {
        let Some(wire) = &mut self.wire else { return };
        let oldest = self.pending.iter().find(|pending| matches!(pending.state, State::InFlight));
        let silent = oldest.map_or_else(Instant::now, |oldest| oldest.sent) + self.options.publish_timeout;
        let heard = tokio::select! {
            biased;
            ack = wire.acks.next() => ack,
            () = wire.link.broken().cancelled() => None,
            () = tokio::time::sleep_until(silent) => None,
        };
        match heard {
            Some(ack) => self.note(&ack),
            None => self.hang_up(),
        }
    }

    /// Takes in the answers that have come, without waiting, and settles from the front.
    fn collect(&mut self) {
        while let Some(Some(Some(ack))) = self.wire.as_mut().map(|wire| wire.acks.next().now_or_never()) {
            self.note(&ack);
        }
        while let Some(Pending { state: State::Settled(_), .. }) = self.pending.front() {
            let Some(Pending { publish, state: State::Settled(settled), .. }) = self.pending.pop_front() else {
                return;
            };
            self.bytes -= publish.payload.len();
            self.first += 1;
            self.settled.push_back(settled);
        }
    }

    fn note(&mut self, ack: &async_nats::Message) {
        let number = ack.subject.rsplit('.').next().and_then(|number| number.parse::<u64>().ok());
        let place = number.and_then(|number| usize::try_from(number.checked_sub(self.first)?).ok());
        let Some(pending) = place.and_then(|place| self.pending.get_mut(place)) else { return };
        if !matches!(pending.state, State::InFlight) {
            return;
        }
        self.in_flight -= 1;
        pending.state = match verdict(ack) {
            Verdict::Stored { seq, duplicate } => {
                // Sent more than once, it may be a duplicate of itself.
                let duplicate = duplicate && pending.attempts == 1;
                State::Settled(Settled::Stored(Published { seq, duplicate, attempts: pending.attempts }))
            }
            Verdict::Never(BusError::Full) => {
                self.halt = Some(Halt::Full);
                self.waiting += 1;
                State::Waiting
            }
            Verdict::Never(error) => State::Settled(Settled::Refused(error.to_string())),
            Verdict::Later(pause, error) => {
                if !matches!(self.halt, Some(Halt::Full)) {
                    self.halt = Some(Halt::Later(pause, error));
                }
                self.waiting += 1;
                State::Waiting
            }
        };
    }

    /// Sends the message at this place of the window. Left off halfway, it has not been sent.
    async fn put(&mut self, place: usize, now: Instant) {
        let number = self.first + u64::try_from(place).unwrap_or(u64::MAX);
        let (Some(wire), Some(pending)) = (&self.wire, self.pending.get_mut(place)) else { return };
        let reply = format!("{}.{number}", wire.inbox);
        let Publish { subject, payload, .. } = &pending.publish;
        let (subject, payload) = (subject.clone(), payload.clone());
        let headers = headers(&pending.publish).unwrap_or_default();
        let sent = wire.link.client().publish_with_reply_and_headers(subject, reply, headers, payload).await;
        (pending.sent, pending.state) = (now, State::InFlight);
        pending.attempts += 1;
        self.in_flight += 1;
        self.waiting -= 1;
        if sent.is_err() {
            self.hang_up();
        }
    }

    /// Sends all that has to be sent, in order.
    async fn send_waiting(&mut self) {
        for place in 0..self.pending.len() {
            if matches!(self.pending[place].state, State::Waiting) {
                self.put(place, Instant::now()).await;
            }
        }
    }

    async fn connect(&mut self) -> Result<(), BusError> {
        let opened = async {
            let link = self.opening.link(&self.options, &self.name, &self.events).await?;
            let inbox = link.client().new_inbox();
            let acks = link.client().subscribe(format!("{inbox}.*")).await;
            let acks = acks.map_err(|error| BusError::unavailable("publish", error))?;
            Ok(Wire { link, inbox, acks })
        };
        match opened.await {
            Ok(wire) => {
                self.wire = Some(wire);
                Ok(())
            }
            Err(error @ (BusError::Unavailable { .. } | BusError::TimedOut { .. })) => {
                if matches!(self.halt, None | Some(Halt::Later(..))) {
                    self.halt = Some(Halt::Later(Duration::ZERO, error));
                }
                tokio::time::sleep(jitter(100)).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Throws the connection away with all that is queued on it.
    fn hang_up(&mut self) {
        if let Some(wire) = self.wire.take() {
            wire.link.broken().cancel();
        }
        for pending in &mut self.pending {
            if matches!(pending.state, State::InFlight) {
                pending.state = State::Waiting;
            }
        }
        self.waiting += std::mem::take(&mut self.in_flight);
    }

    fn give_up(&mut self) -> BusError {
        self.hang_up();
        match self.halt.take() {
            Some(Halt::Later(_, error)) => error,
            Some(Halt::Full) => BusError::Full,
            None => BusError::TimedOut { doing: "publish" },
        }
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        self.hang_up();
    }
}
