//! What all requests of one frontend share.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hub::Hub;
use super::ingest::Ingest;
use super::pulse::Pulse;
use super::room::Room;
use crate::bus::{Bus, BusError, Publish, Published};
use crate::config::FrontendConfig;
use crate::domain::{ConversationId, Who};
use crate::telemetry::Metrics;
use crate::web::auth::Tokens;

/// Conversations whose owner is remembered.
const OWNERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(65_535);
/// Conversations share this many locks for "one publish in flight"; two on one lock only wait for each other.
const STRIPES: usize = 1024;

/// One frontend.
pub(super) struct Front {
    pub(super) bus: Bus,
    pub(super) hub: Hub,
    pub(super) tokens: Tokens,
    pub(super) metrics: Metrics,
    pub(super) config: FrontendConfig,
    pub(super) body_bytes: usize,
    /// Streams, sockets and long polls; the role waits for them before it ends.
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) owners: Owners,
    pub(super) order: Order,
    pub(super) room: Room,
    pub(super) ingest: Ingest,
    pub(super) pulse: Pulse,
}

/// Who opened the conversations that were lately used.
pub(super) struct Owners(Mutex<LruCache<ConversationId, String>>);

impl Default for Owners {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(OWNERS)))
    }
}

impl Owners {
    pub(super) fn get(&self, conversation: ConversationId) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&conversation).cloned()
    }

    pub(super) fn put(&self, conversation: ConversationId, owner: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(conversation, owner.to_owned());
    }
}

/// The locks that keep one publish of a conversation in flight, and so its messages in order.
pub(super) struct Order(Vec<AsyncMutex<()>>);

impl Default for Order {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| AsyncMutex::new(())).collect())
    }
}

impl Order {
    pub(super) fn of(&self, conversation: ConversationId) -> &AsyncMutex<()> {
        let bytes = conversation.as_bytes();
        // The last bytes of a UUID are its random ones.
        &self.0[usize::from(u16::from_le_bytes([bytes[14], bytes[15]])) % STRIPES]
    }
}

impl Front {
    /// How long a watcher trusts what it was told before it compares with the stream.
    pub(super) fn check_after(&self, question_open: bool) -> Duration {
        Duration::from_millis(if question_open { self.config.check_open_ms } else { self.config.check_quiet_ms })
    }

    /// Stores a message, if the stream may still take one.
    pub(super) async fn publish(&self, publish: Publish) -> Result<Published, BusError> {
        if self.room.takes(publish.payload.len()) { self.bus.publish(publish).await } else { Err(BusError::Full) }
    }

    /// The last sequence of each side that has said something.
    pub(super) async fn last_by_side(&self, conversation: ConversationId) -> Result<Vec<(Who, u64)>, BusError> {
        let subjects = self.bus.subjects();
        let sides = [Who::User, Who::Bot, Who::Agent, Who::Meta];
        let names: Vec<String> = sides.iter().map(|who| subjects.record(conversation, *who)).collect();
        let last = self.bus.last_of(&names).await?;
        let read = |record: &crate::bus::Record| Some((subjects.parse(&record.subject)?.who, record.seq));
        Ok(last.iter().filter_map(read).collect())
    }
}
