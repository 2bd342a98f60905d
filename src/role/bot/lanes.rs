//! One lane per conversation: first in, first out, many side by side.
//!
//! A lane keeps order inside a conversation while others run in parallel. Retries happen inside the lane, never by
//! giving the message back, which would reorder. A redelivery of a question that already waits only brings its new
//! acknowledgement handle.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Memory;
use crate::bus::Delivery;
use crate::domain::ConversationId;

/// A question that waits or runs, with its place in memory.
pub(super) struct Entry {
    pub(super) delivery: Delivery,
    _room: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Entry>,
    /// The one being answered: its sequence, and its newest acknowledgement handle if it was delivered again meanwhile.
    running: Option<u64>,
    redelivered: Option<Delivery>,
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

    /// Puts a delivery behind the others of its conversation.
    pub(super) fn offer(&self, conversation: ConversationId, delivery: Delivery, room: OwnedSemaphorePermit) -> Offer {
        let mut inner = self.lock();
        let Some(lane) = inner.lanes.get_mut(&conversation) else {
            let lane = Lane { waiting: VecDeque::from([Entry { delivery, _room: room }]), ..Lane::default() };
            inner.lanes.insert(conversation, lane);
            return Offer::Opened;
        };
        if lane.running == Some(delivery.seq) {
            lane.redelivered = Some(delivery);
        } else if let Some(entry) = lane.waiting.iter_mut().find(|entry| entry.delivery.seq == delivery.seq) {
            entry.delivery = delivery;
        } else {
            // In order of sequence: a redelivery may arrive behind younger ones.
            let place = lane.waiting.partition_point(|entry| entry.delivery.seq < delivery.seq);
            lane.waiting.insert(place, Entry { delivery, _room: room });
        }
        Offer::Queued
    }

    /// The next question of a lane, or `None`: then the lane is closed and what was learnt is kept.
    pub(super) fn next(&self, conversation: ConversationId, memory: &mut Option<Memory>) -> Option<Entry> {
        let mut inner = self.lock();
        let lane = inner.lanes.get_mut(&conversation)?;
        let entry = lane.waiting.pop_front();
        lane.running = entry.as_ref().map(|entry| entry.delivery.seq);
        lane.redelivered = None;
        if entry.is_none() {
            inner.lanes.remove(&conversation);
            if let Some(memory) = memory.take() {
                inner.memories.put(conversation, memory);
            }
        }
        entry
    }

    /// What is known of a conversation from an earlier lane.
    pub(super) fn recall(&self, conversation: ConversationId) -> Option<Memory> {
        self.lock().memories.pop(&conversation)
    }

    /// The newest acknowledgement handle of the question that runs, if it was delivered again meanwhile.
    pub(super) fn newest_handle(&self, conversation: ConversationId) -> Option<Delivery> {
        self.lock().lanes.get_mut(&conversation)?.redelivered.take()
    }

    /// Acknowledgement handles of everything that waits, to tell the server that it is not forgotten.
    pub(super) fn give_back(&self) -> Vec<Delivery> {
        let mut inner = self.lock();
        inner.lanes.values_mut().flat_map(|lane| lane.waiting.drain(..)).map(|entry| entry.delivery).collect()
    }

    /// Calls `tell` for each question that waits.
    pub(super) fn progress_marks(&self) -> Vec<crate::bus::Mark> {
        self.lock().lanes.values().flat_map(|lane| lane.waiting.iter()).map(|entry| entry.delivery.mark()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
