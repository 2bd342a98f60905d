//! Room in the stream: at nine tenths of its limit nothing more is accepted, so that the answers to what was accepted
//! still fit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::state::Front;
use crate::web::ops::Dependency;

/// How often the stream is asked how full it is.
const LOOK: Duration = Duration::from_secs(2);
/// What a stored message takes besides its payload, roughly: subject, headers, the record's own head.
const AROUND: u64 = 200;

/// What one frontend knows of the room in the stream.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Bytes in the stream when it was asked last, and what this frontend has stored since.
    used: AtomicU64,
    /// Bytes that may be used; 0 while nobody knows of a limit.
    allowed: AtomicU64,
}

impl Room {
    /// Whether a question of so many bytes may be accepted; it is counted then, with an answer that is as long.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(AROUND).saturating_mul(2);
        let allowed = self.allowed.load(Ordering::Relaxed);
        allowed == 0 || self.used.fetch_add(bytes, Ordering::Relaxed) <= allowed
    }

    /// Whether a message of so many bytes that nobody answers may be accepted. Those stop earlier, at 85 of 100 parts, so
    /// that a bulk load never keeps people from talking.
    pub(super) fn takes_log(&self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(AROUND);
        let allowed = self.allowed.load(Ordering::Relaxed) / 90 * 85;
        allowed == 0 || self.used.fetch_add(bytes, Ordering::Relaxed) <= allowed
    }

    /// Takes in what the stream says of itself.
    fn learn(&self, bytes: u64, limit: i64) {
        let allowed = u64::try_from(limit).map_or(0, |limit| limit / 10 * 9);
        let was_full = self.is_full();
        self.used.store(bytes, Ordering::Relaxed);
        self.allowed.store(allowed, Ordering::Relaxed);
        match (was_full, self.is_full()) {
            (false, true) => tracing::error!(
                bytes,
                limit,
                "the stream is nine tenths full ({bytes} of {limit} bytes): no more messages are accepted until the \
                 auditors have caught up and its head is trimmed, or nats.max_bytes is raised and `yalo init` has run"
            ),
            (true, false) => tracing::info!("the stream has room again: messages are accepted"),
            _ => {}
        }
    }

    /// Whether nothing more is accepted.
    fn is_full(&self) -> bool {
        let allowed = self.allowed.load(Ordering::Relaxed);
        allowed != 0 && self.used.load(Ordering::Relaxed) > allowed
    }
}

/// Asks the stream how full it is until the frontend stops; one that does not answer takes no messages, which is said.
pub(super) async fn watch(front: Arc<Front>, stream: Dependency) {
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            biased;
            () = front.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match front.bus.stream_state().await {
            Ok(state) => {
                front.room.learn(state.bytes, state.max_bytes);
                front.metrics.stream_full.set(i64::from(front.room.is_full()));
                stream.set_ready(true, "");
            }
            Err(error) => {
                let name = front.bus.chat_stream();
                stream.set_ready(false, &format!("{name} has no leader or cannot be reached, trying again: {error}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_tenths_are_taken_and_no_more_until_there_is_room_again() {
        let room = Room::default();
        assert!(room.takes(1 << 30), "nobody knows of a limit yet");
        room.learn(0, 1_000_000);
        let taken = std::iter::from_fn(|| room.takes(9_800).then_some(2 * 10_000)).sum::<u64>();
        assert!((890_000..=920_000).contains(&taken), "{taken}");
        assert!(room.is_full());
        room.learn(860_000, 1_000_000);
        assert!(!room.takes_log(100) && room.takes(100), "people can still talk");
        room.learn(100, 1_000_000);
        assert!(room.takes_log(100));
        assert!(room.takes(9_800));
        room.learn(u64::MAX, -1);
        assert!(room.takes(9_800), "no limit");
    }
}
