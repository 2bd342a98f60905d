//! Notices that this process, or the machine under it, stood still. What lies in its sockets after that may be long given up
//! by who sent it, and stored through another frontend.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::Timestamp;

const BEAT: Duration = Duration::from_secs(1);
/// A beat that comes so late was held up by more than a busy machine. Well below the time for which the nats-server knows ids.
const LATE_NS: i64 = 10_000_000_000;
/// What had come before the process goes on is read within so long after that.
const STALE_NS: i64 = 10_000_000_000;

/// By the wall clock, which goes on while a machine sleeps.
pub(super) struct Pulse {
    beat_ns: AtomicI64,
    /// When the process went on after its last standstill.
    woke_ns: AtomicI64,
}

impl Pulse {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { beat_ns: AtomicI64::new(now.ns()), woke_ns: AtomicI64::new(i64::MIN) }
    }

    /// Beats until `stop`.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(BEAT);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.beat(Timestamp::now());
        }
    }

    fn beat(&self, now: Timestamp) {
        let late = now.ns().saturating_sub(self.beat_ns.load(Ordering::Acquire)) > LATE_NS;
        if late {
            tracing::warn!("this frontend stood still: uploads that it had begun to read are given up");
            self.woke_ns.store(now.ns(), Ordering::Release);
        }
        self.beat_ns.store(now.ns(), Ordering::Release);
    }

    /// Whether a request that was begun to be read at `begun` had come in after the last standstill, and none has been since.
    pub(super) fn is_steady(&self, begun: Timestamp, now: Timestamp) -> bool {
        // In this order: the first beat after a standstill says when it ended before it hides that it is late.
        let beat = self.beat_ns.load(Ordering::Acquire);
        let woke = self.woke_ns.load(Ordering::Acquire);
        // A clock that was put back since then tells nothing.
        let fresh = begun.ns().saturating_sub(woke) > STALE_NS || now.ns() < woke;
        fresh && now.ns().saturating_sub(beat) <= LATE_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_ns(second * SECOND)
    }

    #[test]
    fn what_came_before_a_standstill_is_not_taken_after_it() {
        let pulse = Pulse::new(at(100));
        assert!(pulse.is_steady(at(100), at(110)), "a beat may be late");
        assert!(!pulse.is_steady(at(100), at(111)), "nobody has noticed yet");
        pulse.beat(at(160));
        assert!(!pulse.is_steady(at(100), at(160)), "begun before");
        assert!(!pulse.is_steady(at(170), at(170)), "it may have lain in the socket");
        pulse.beat(at(170));
        assert!(pulse.is_steady(at(171), at(172)), "begun after it");
        assert!(!pulse.is_steady(at(165), at(172)), "still the same request");
        pulse.beat(at(20));
        assert!(pulse.is_steady(at(20), at(21)), "the clock was put back");
    }
}
