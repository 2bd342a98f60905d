//! What all requests of one frontend share.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hub::Hub;
use crate::bus::{Bus, BusError};
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
    pub(super) check_open: Duration,
    pub(super) check_quiet: Duration,
    /// Streams, sockets and long polls; the role waits for them before it ends.
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    owners: Mutex<LruCache<ConversationId, String>>,
    order: Vec<AsyncMutex<()>>,
}

/// What a frontend is made of.
pub(super) struct FrontParts {
    pub(super) bus: Bus,
    pub(super) hub: Hub,
    pub(super) tokens: Tokens,
    pub(super) metrics: Metrics,
    pub(super) config: FrontendConfig,
    pub(super) body_bytes: usize,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Front {
    pub(super) fn new(parts: FrontParts) -> Self {
        let FrontParts { bus, hub, tokens, metrics, config, body_bytes, tasks, stop } = parts;
        Self {
            check_open: Duration::from_millis(config.check_open_ms),
            check_quiet: Duration::from_millis(config.check_quiet_ms),
            bus,
            hub,
            tokens,
            metrics,
            config,
            body_bytes,
            tasks,
            stop,
            owners: Mutex::new(LruCache::new(OWNERS)),
            order: (0..STRIPES).map(|_| AsyncMutex::new(())).collect(),
        }
    }

    /// The lock that keeps one publish of a conversation in flight, and so its messages in order.
    pub(super) fn order(&self, conversation: ConversationId) -> &AsyncMutex<()> {
        let bytes = conversation.as_bytes();
        // The last bytes of a UUID are its random ones.
        &self.order[usize::from(u16::from_le_bytes([bytes[14], bytes[15]])) % STRIPES]
    }

    pub(super) fn known_owner(&self, conversation: ConversationId) -> Option<String> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner).get(&conversation).cloned()
    }

    pub(super) fn remember_owner(&self, conversation: ConversationId, owner: &str) {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner).put(conversation, owner.to_owned());
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
