//! One lane per conversation: first in, first out, many side by side.
//!
//! A lane keeps order inside a conversation while others run in parallel. Retries happen inside the lane, never by
//! giving the message back, which would reorder. A redelivery of a question that already waits only brings its new
//! acknowledgement handle; a question that a recovery has read gets its first one so.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::answer::Memory;
use crate::bus::{AckHandle, Delivery, Record};
use crate::domain::ConversationId;

/// A question as the stream has it, and how this bot came by it.
pub(super) struct Asked {
    pub(super) record: Record,
    /// Delivered for the first time, to this bot: nobody else can have answered it while the last record is older.
    pub(super) first: bool,
    /// What to acknowledge it with; none until it is delivered.
    pub(super) handle: Option<AckHandle>,
}

impl From<Delivery> for Asked {
    fn from(delivery: Delivery) -> Self {
        let Delivery { record, delivered, handle, .. } = delivery;
        Self { record, first: delivered == 1, handle: Some(handle) }
    }
}

impl From<Record> for Asked {
    fn from(record: Record) -> Self {
        Self { record, first: false, handle: None }
    }
}

/// A question that waits or runs, with its place in memory.
pub(super) struct Entry {
    pub(super) asked: Asked,
    /// Cancelled when its asker wants no answer any more.
    pub(super) stop: CancellationToken,
    _room: OwnedSemaphorePermit,
}

impl Entry {
    pub(super) fn new(asked: Asked, room: OwnedSemaphorePermit) -> Self {
        Self { asked, stop: CancellationToken::new(), _room: room }
    }
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Entry>,
    running: Option<Running>,
}

/// The question of a lane that is being answered.
struct Running {
    seq: u64,
    /// The newest one.
    handle: Option<AckHandle>,
    /// Its asker wants no answer any more.
    stop: CancellationToken,
}

/// What became of a delivery that was offered.
pub(super) enum Offer {
    /// It waits in a lane that is already being worked on.
    Queued,
    /// It opened a lane: somebody has to work it off.
    Opened,
}

/// All lanes of one bot, and what it remembers of recent conversations. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lanes {
    inner: Arc<Mutex<Inner>>,
    room: Arc<Semaphore>,
}

struct Inner {
    lanes: HashMap<ConversationId, Lane>,
    memories: LruCache<ConversationId, Memory>,
}

impl Lanes {
    /// Room for `entries` questions, waiting and running together; a full house stops the pulls.
    pub(super) fn new(entries: usize, memories: NonZeroUsize) -> Self {
        let inner = Inner { lanes: HashMap::new(), memories: LruCache::new(memories) };
        Self { inner: Arc::new(Mutex::new(inner)), room: Arc::new(Semaphore::new(entries)) }
    }

    /// Waits until there is room for one more question.
    pub(super) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).acquire_owned().await.ok()
    }

    /// Puts a question behind the others of its conversation.
    pub(super) fn offer(&self, conversation: ConversationId, asked: Asked, room: OwnedSemaphorePermit) -> Offer {
        let mut inner = self.lock();
        let Some(lane) = inner.lanes.get_mut(&conversation) else {
            let lane = Lane { waiting: VecDeque::from([Entry::new(asked, room)]), ..Lane::default() };
            inner.lanes.insert(conversation, lane);
            return Offer::Opened;
        };
        let seq = asked.record.seq;
        if let Some(running) = lane.running.as_mut().filter(|running| running.seq == seq) {
            running.handle = asked.handle.or(running.handle.take());
        } else if let Some(entry) = lane.waiting.iter_mut().find(|entry| entry.asked.record.seq == seq) {
            entry.asked.handle = asked.handle.or(entry.asked.handle.take());
            entry.asked.first &= asked.first;
        } else {
            // In order of sequence: a redelivery may arrive behind younger ones.
            let place = lane.waiting.partition_point(|entry| entry.asked.record.seq < seq);
            lane.waiting.insert(place, Entry::new(asked, room));
        }
        Offer::Queued
    }

    /// The next question of a lane, or `None`: then the lane is closed and what was learnt is kept.
    pub(super) fn next(&self, conversation: ConversationId, memory: &mut Option<Memory>) -> Option<Entry> {
        let mut inner = self.lock();
        let lane = inner.lanes.get_mut(&conversation)?;
        let entry = lane.waiting.pop_front();
        lane.running = entry.as_ref().map(|entry| Running {
            seq: entry.asked.record.seq,
            handle: entry.asked.handle.clone(),
            stop: entry.stop.clone(),
        });
        if entry.is_none() {
            inner.lanes.remove(&conversation);
            if let Some(memory) = memory.take() {
                inner.memories.put(conversation, memory);
            }
        }
        entry
    }

    /// Whether a conversation has a lane.
    pub(super) fn is_busy(&self, conversation: ConversationId) -> bool {
        self.lock().lanes.contains_key(&conversation)
    }

    /// What is known of a conversation from an earlier lane.
    pub(super) fn recall(&self, conversation: ConversationId) -> Option<Memory> {
        self.lock().memories.pop(&conversation)
    }

    /// The newest acknowledgement handle of the question that runs; none if it was never delivered to this bot.
    pub(super) fn running_handle(&self, conversation: ConversationId) -> Option<AckHandle> {
        let inner = self.lock();
        inner.lanes.get(&conversation)?.running.as_ref()?.handle.clone()
    }

    /// Stops the answer that is being made in a conversation, if this bot makes one.
    pub(super) fn stop(&self, conversation: ConversationId) {
        if let Some(running) = self.lock().lanes.get(&conversation).and_then(|lane| lane.running.as_ref()) {
            running.stop.cancel();
        }
    }

    /// Takes out what waits in the lanes of these conversations: somebody else answers it. What runs goes on.
    pub(super) fn drop_waiting(&self, which: impl Fn(ConversationId) -> bool) -> Vec<AckHandle> {
        let mut inner = self.lock();
        let lanes = inner.lanes.iter_mut().filter(|(conversation, _)| which(**conversation));
        lanes.flat_map(|(_, lane)| lane.waiting.drain(..)).filter_map(|entry| entry.asked.handle).collect()
    }

    /// The handles of everything that waits or runs, to tell the server that it is not forgotten.
    pub(super) fn handles(&self) -> Vec<AckHandle> {
        let inner = self.lock();
        let waiting = inner.lanes.values().flat_map(|lane| &lane.waiting).map(|entry| entry.asked.handle.as_ref());
        let running =
            inner.lanes.values().filter_map(|lane| lane.running.as_ref()).map(|running| running.handle.as_ref());
        waiting.chain(running).flatten().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
