//! Live copies from NATS to the watchers of this process, by conversation, in memory.
//!
//! One subscription for each partition that has watchers, not one for each conversation. Live is a hint, the stream is
//! the truth: each event carries what a watcher needs to see that it missed something, and `follow.rs` reads the stream.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::{Bus, BusError, LinkEvents, Record};
use crate::domain::{ConversationId, Partition, Stored, Who};
use crate::role::{Beside, Ctx};
use crate::wire::{self, Draft};

/// A partition without watchers stays subscribed that long: turns come in bursts, and a new subscription costs a round
/// trip.
const LINGER: Duration = Duration::from_secs(60);

/// What a watcher hears.
#[derive(Debug, Clone)]
pub(super) enum Live {
    /// A message was stored.
    Message(Arc<LiveMessage>),
    /// An answer is being worked on or written.
    Draft(Draft),
}

/// The live copy of a stored message.
#[derive(Debug)]
pub(super) struct LiveMessage {
    pub(super) stored: Stored,
    /// The previous sequence of the same subject: a watcher that has seen less missed something.
    pub(super) previous: u64,
    /// Counts the breaks of the subscription: a change means that anything may have been missed.
    pub(super) generation: u64,
}

/// Receives what happens in one conversation until dropped.
pub(super) struct Watch {
    pub(super) events: mpsc::Receiver<Live>,
    conversation: ConversationId,
    key: u64,
    lost: Arc<AtomicBool>,
    hub: Hub,
}

impl Watch {
    pub(super) fn conversation(&self) -> ConversationId {
        self.conversation
    }

    /// Whether events were dropped since the last call, because the queue was full.
    pub(super) fn take_lost(&self) -> bool {
        self.lost.swap(false, Ordering::AcqRel)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.forget(self.conversation, self.key);
    }
}

/// Hands live copies to watchers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    bus: Bus,
    events: LinkEvents,
    queue: usize,
    partitions: Vec<Slot>,
    keys: AtomicU64,
    beside: Beside,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// One partition: its watchers, and whether its live subscription stands.
#[derive(Default)]
struct Slot {
    watchers: Mutex<Watchers>,
    subscribed: AsyncMutex<Option<CancellationToken>>,
}

struct Listener {
    key: u64,
    sender: mpsc::Sender<Live>,
    lost: Arc<AtomicBool>,
}

#[derive(Default)]
struct Watchers {
    by_conversation: HashMap<ConversationId, Vec<Listener>>,
    empty_since: Option<Instant>,
}

impl Hub {
    /// A hub without subscriptions; `queue` events are held for each watcher; one that lags further reads the stream.
    pub(super) fn new(ctx: &Ctx, queue: usize, tasks: TaskTracker, stop: CancellationToken) -> Self {
        let (bus, events, beside) = (ctx.bus.clone(), ctx.events.clone(), ctx.beside.clone());
        let partitions = (0..=u8::MAX).map(|_| Slot::default()).collect();
        let inner = Inner { bus, events, queue, partitions, keys: AtomicU64::new(0), beside, tasks, stop };
        Self { inner: Arc::new(inner) }
    }

    /// Begins to listen to a conversation: everything stored after this returns is heard.
    pub(super) async fn watch(&self, conversation: ConversationId) -> Result<Watch, BusError> {
        let key = self.inner.keys.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = mpsc::channel(self.inner.queue);
        let lost = Arc::new(AtomicBool::new(false));
        {
            let mut watchers = self.watchers(conversation.partition());
            watchers.by_conversation.entry(conversation).or_default().push(Listener {
                key,
                sender,
                lost: Arc::clone(&lost),
            });
            watchers.empty_since = None;
        }
        // From here on the drop of the watch takes it out again, also when subscribing fails.
        let watch = Watch { events, conversation, key, lost, hub: self.clone() };
        self.subscribe(conversation.partition()).await?;
        Ok(watch)
    }

    /// The count of breaks up to now, to compare with [`LiveMessage::generation`].
    pub(super) fn generation(&self) -> u64 {
        self.inner.events.reconnects() + self.inner.events.lagged()
    }

    /// Watchers of all conversations.
    pub(super) fn watching(&self) -> usize {
        let count = |slot: &Slot| {
            let watchers = slot.watchers.lock().unwrap_or_else(PoisonError::into_inner);
            watchers.by_conversation.values().map(Vec::len).sum::<usize>()
        };
        self.inner.partitions.iter().map(count).sum()
    }

    async fn subscribe(&self, partition: Partition) -> Result<(), BusError> {
        let mut subscribed = self.slot(partition).subscribed.lock().await;
        if subscribed.as_ref().is_some_and(|ended| !ended.is_cancelled()) {
            return Ok(());
        }
        let bus = &self.inner.bus;
        let live = bus.subscribe(bus.subjects().live(partition)).await?;
        let drafts = bus.subscribe(bus.subjects().drafts(partition)).await?;
        // Without this a message stored right after could be copied before the server knows of the subscription.
        bus.barrier().await?;
        let ended = CancellationToken::new();
        *subscribed = Some(ended.clone());
        let handing_out = self.clone().hand_out(partition, live, drafts, ended);
        self.inner.beside.spawn(&self.inner.tasks, "the handing out of what is said", handing_out);
        Ok(())
    }

    /// Hands out what one partition says until nobody has listened for a while.
    async fn hand_out(
        self,
        partition: Partition,
        mut live: async_nats::Subscriber,
        mut drafts: async_nats::Subscriber,
        ended: CancellationToken,
    ) {
        let mut ticks = tokio::time::interval(LINGER / 4);
        loop {
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => break,
                message = live.next() => match message {
                    Some(message) => self.hand_out_copy(partition, &message),
                    None => break,
                },
                message = drafts.next() => match message {
                    Some(message) => self.hand_out_draft(partition, &message),
                    None => break,
                },
                _ = ticks.tick() => {
                    // The lock keeps a new watcher from finding a subscription that is about to end.
                    let mut subscribed = self.slot(partition).subscribed.lock().await;
                    if self.is_idle(partition) {
                        *subscribed = None;
                        break;
                    }
                }
            }
        }
        ended.cancel();
    }

    fn hand_out_copy(&self, partition: Partition, message: &async_nats::Message) {
        let bus = &self.inner.bus;
        let Some(subject) = bus.subjects().parse_live(message.subject.as_str()) else { return };
        let watchers = self.watchers(partition);
        let Some(listening) = watchers.by_conversation.get(&subject.conversation) else { return };
        let Some((record, previous)) = Record::from_live(message) else { return };
        let Some(stored) = read_record(bus, &record) else { return };
        let generation = self.generation();
        let event = Live::Message(Arc::new(LiveMessage { stored, previous, generation }));
        tell(listening, &event);
    }

    fn hand_out_draft(&self, partition: Partition, message: &async_nats::Message) {
        let subjects = self.inner.bus.subjects();
        let Some(conversation) = subjects.parse_draft(message.subject.as_str()) else { return };
        let watchers = self.watchers(partition);
        let Some(listening) = watchers.by_conversation.get(&conversation) else { return };
        let Ok(draft) = serde_json::from_slice::<Draft>(&message.payload) else { return };
        tell(listening, &Live::Draft(draft));
    }

    fn is_idle(&self, partition: Partition) -> bool {
        let mut watchers = self.watchers(partition);
        if !watchers.by_conversation.is_empty() {
            return false;
        }
        watchers.empty_since.get_or_insert_with(Instant::now).elapsed() >= LINGER
    }

    fn forget(&self, conversation: ConversationId, key: u64) {
        let mut watchers = self.watchers(conversation.partition());
        if let Some(listening) = watchers.by_conversation.get_mut(&conversation) {
            listening.retain(|listener| listener.key != key);
            if listening.is_empty() {
                watchers.by_conversation.remove(&conversation);
            }
        }
    }

    fn slot(&self, partition: Partition) -> &Slot {
        // 256 slots, one for each value of the token.
        &self.inner.partitions[usize::from(partition.0)]
    }

    fn watchers(&self, partition: Partition) -> std::sync::MutexGuard<'_, Watchers> {
        self.slot(partition).watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A watcher whose queue is full is told that it lost something: it reads the stream, at its own pace.
fn tell(listening: &[Listener], event: &Live) {
    for listener in listening {
        if listener.sender.try_send(event.clone()).is_err() {
            listener.lost.store(true, Ordering::Release);
        }
    }
}

/// A stored message of the grammar; `None` for what a foreign publisher wrote.
pub(super) fn read_record(bus: &Bus, record: &Record) -> Option<Stored> {
    let subject = bus.subjects().parse(&record.subject)?;
    let message = wire::decode(&record.payload).ok()?;
    let honest = message.conversation == subject.conversation && message.who == subject.who && message.who != Who::Log;
    honest.then_some(Stored { seq: record.seq, at: record.at, message })
}
