//! Following one conversation from a cursor: what was said, then what is being said, in order and without doubles.
//!
//! Register first, then read, then go live. A live copy that does not join what was seen, a broken subscription, a full
//! queue, or a comparison with the stream each lead to the same thing: reading the stream again from the cursor.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::history;
use super::hub::{Live, LiveMessage, Watch, read_record};
use super::state::Front;
use crate::bus::BusError;
use crate::domain::{ConversationId, Cursor, Stored, Who};
use crate::mistake::{self, Mistake};
use crate::wire::Draft;

/// Messages read at once.
const PAGE: usize = 200;

/// What a follower is told.
#[derive(Debug)]
pub(super) enum Event {
    /// The next message.
    Message(Arc<LiveMessage>),
    /// The next message, read from the record.
    Read(Stored),
    /// An answer is being written.
    Draft(Draft),
    /// Messages between these sequences were not told of in order: read them again.
    Gap { after: u64, before: u64 },
}

/// One follower of one conversation.
pub(super) struct Follow {
    front: Arc<Front>,
    conversation: ConversationId,
    watch: Watch,
    /// Everything up to here has been told.
    cursor: u64,
    /// By side: everything of it up to here has been told.
    seen: [u64; 4],
    generation: u64,
    refill: bool,
    backlog: VecDeque<Stored>,
    /// The newest question, and the newest one that has its record.
    asked: u64,
    answered: u64,
    check_at: Instant,
    failures: u32,
}

impl Follow {
    /// Begins after `after`, or with what is said from now on.
    pub(super) async fn open(
        front: &Arc<Front>,
        conversation: ConversationId,
        after: Option<Cursor>,
    ) -> Result<Self, BusError> {
        let watch = front.hub.watch(conversation).await?;
        let generation = front.hub.generation();
        let cursor = match after {
            Some(cursor) if mistake::made(Mistake::CursorOffByOne) => cursor.seq.saturating_sub(1),
            Some(cursor) => cursor.seq,
            None => newest_seq(front, conversation).await?,
        };
        Ok(Self {
            front: Arc::clone(front),
            conversation,
            watch,
            cursor,
            seen: [cursor; 4],
            generation,
            refill: after.is_some(),
            backlog: VecDeque::new(),
            asked: 0,
            answered: 0,
            check_at: Instant::now() + front.check_after(false),
            failures: 0,
        })
    }

    /// The sequence that was last told of.
    pub(super) fn position(&self) -> u64 {
        self.cursor
    }

    /// The next event; waits for ever. May be dropped at any time without losing one.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            if let Some(stored) = self.backlog.pop_front() {
                self.advance(&stored);
                if stored.is_shown() {
                    return Event::Read(stored);
                }
            } else if self.refill {
                self.read_on().await;
            } else if let Some(event) = self.listen().await {
                return event;
            }
        }
    }

    async fn listen(&mut self) -> Option<Event> {
        tokio::select! {
            biased;
            live = self.watch.events.recv() => match live {
                Some(Live::Message(message)) => self.hear(message),
                Some(Live::Draft(draft)) => Some(Event::Draft(draft)),
                // The hub has ended: the process stops, and the caller's own token tells it so.
                None => std::future::pending().await,
            },
            () = tokio::time::sleep_until(self.check_at), if !mistake::made(Mistake::LiveIsTruth) => self.compare().await,
        }
    }

    fn hear(&mut self, message: Arc<LiveMessage>) -> Option<Event> {
        let stored = &message.stored;
        if stored.seq <= self.cursor {
            return None;
        }
        let missed_own = message.previous > self.seen[side(stored.message.who)];
        let question = stored.message.reply_to.map_or(0, |reply| reply.seq);
        let missed_question = question > self.seen[side(Who::User)];
        let broken = message.generation != self.generation || self.watch.take_lost();
        if (missed_own || missed_question || broken) && !mistake::made(Mistake::LiveIsTruth) {
            self.generation = message.generation;
            self.refill = true;
            return None;
        }
        self.advance(stored);
        stored.is_shown().then_some(Event::Message(message))
    }

    fn advance(&mut self, stored: &Stored) {
        self.cursor = self.cursor.max(stored.seq);
        let seen = &mut self.seen[side(stored.message.who)];
        *seen = (*seen).max(stored.seq);
        if stored.message.who == Who::User {
            self.asked = self.asked.max(stored.seq);
        }
        if let Some(reply) = stored.message.reply_to {
            self.answered = self.answered.max(reply.seq);
        }
        self.plan_check();
    }

    fn plan_check(&mut self) {
        let open = self.asked > self.answered;
        self.check_at = Instant::now() + self.front.check_after(open);
    }

    async fn read_on(&mut self) {
        match history::after(&self.front.bus, self.conversation, self.cursor, PAGE).await {
            Ok(page) => {
                self.failures = 0;
                if page.messages.is_empty() && page.newer {
                    self.cursor = page.read_to;
                }
                self.backlog.extend(page.messages);
                self.plan_check();
                if !page.newer {
                    self.end_refill(page.read_to).await;
                }
            }
            Err(error) => self.pause(&error).await,
        }
    }

    /// A replica has no more: the end only if the leader has no more either. What was stored before the watch began and
    /// is not read now is heard of by nobody, and the next live copy of another side would pass over it for ever.
    async fn end_refill(&mut self, read_to: u64) {
        let bus = &self.front.bus;
        let filter = bus.subjects().conversation(self.conversation);
        match bus.record_by_leader(&filter, read_to + 1).await {
            Ok(Some(record)) => match read_record(bus, &record) {
                Some(stored) => self.backlog.push_back(stored),
                None if self.backlog.is_empty() => self.cursor = record.seq,
                None => {}
            },
            Ok(None) => {
                // Everything up to here was read, of every side.
                self.refill = false;
                self.seen.iter_mut().for_each(|seen| *seen = (*seen).max(read_to));
            }
            Err(error) => self.pause(&error).await,
        }
    }

    /// Waits longer after each failure.
    async fn pause(&mut self, error: &(impl std::fmt::Display + Sync)) {
        if self.failures.is_multiple_of(16) {
            tracing::warn!(conversation = %self.conversation, %error, "cannot read on: {error}, trying again");
        }
        self.failures += 1;
        let most = (100u64 << self.failures.min(5)).min(2000);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(most / 2..=most))).await;
    }

    /// Compares with the stream's last messages of this conversation: a live copy may have been lost unseen.
    async fn compare(&mut self) -> Option<Event> {
        self.plan_check();
        let last = self.front.last_by_side(self.conversation).await.ok()?;
        let mut missed = None;
        for (who, seq) in last {
            let seen = &mut self.seen[side(who)];
            if seq > self.cursor {
                self.refill = true;
            } else if seq > *seen {
                missed = Some(Event::Gap { after: *seen, before: self.cursor });
                *seen = seq;
            }
        }
        missed
    }
}

async fn newest_seq(front: &Front, conversation: ConversationId) -> Result<u64, BusError> {
    let last = front.last_by_side(conversation).await?;
    Ok(last.into_iter().map(|(_, seq)| seq).max().unwrap_or(0))
}

fn side(who: Who) -> usize {
    match who {
        Who::User => 0,
        Who::Bot => 1,
        Who::Agent => 2,
        // Bulk messages are not republished and never reach a follower.
        Who::Meta | Who::Log => 3,
    }
}
