//! An even pace for open-loop load: the instants at which something is due, whether or not the last one is finished.
//!
//! Latency counts from the instant that was due, so a stall shows in every request that should have begun in it. The
//! pace has a thread of its own, since the timers of the runtime are only good to a millisecond.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// The numbers 0..count, each with the instant that it is due at.
pub fn pace(per_second: u64, count: u64) -> mpsc::Receiver<(u64, Instant)> {
    let (sender, receiver) = mpsc::channel(100_000);
    thread::spawn(move || {
        let start = Instant::now() + Duration::from_millis(20);
        for number in 0..count {
            let due = start + Duration::from_nanos(number.saturating_mul(1_000_000_000) / per_second.max(1));
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.blocking_send((number, due)).is_err() {
                break;
            }
        }
    });
    receiver
}
