//! Keeps room in the stream: at four fifths of its limit the oldest part goes, as far as every consumer is done with it.
//!
//! Each auditor looks, none is elected: to trim to the same place twice is to trim once. What goes is in the store, since
//! the auditors' own consumer is one of those that have to be done.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::bus::provision::Names;
use crate::bus::{Bus, BusError, ConsumerState, Streak, StreamState};

/// How often it looks. Frontends stop accepting at nine tenths, should it be too late.
const LOOK: Duration = Duration::from_secs(2);

pub(super) async fn keep(bus: Bus, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK);
    let mut failures = Streak::default();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match look(&bus).await {
            Ok(()) if failures.ends() => tracing::info!("the room in the stream is looked after again"),
            Ok(()) => {}
            Err(error) if failures.fails() => {
                tracing::warn!(%error, "nobody can look after the room in the stream, which may fill up: {error}");
            }
            Err(_) => {}
        }
    }
}

async fn look(bus: &Bus) -> Result<(), BusError> {
    let stream = bus.stream_state().await?;
    let Some(wanted) = wanted(&stream) else { return Ok(()) };
    let mut done = u64::MAX;
    let bots = Names::bots(stream.groups).map(|(_, name)| name);
    for name in bots.chain([super::CONSUMER.to_owned()]) {
        done = done.min(done_to(&bus.consumer_state(&name).await?, &stream));
    }
    let below = wanted.min(done.saturating_add(1));
    if below <= stream.first_seq {
        tracing::warn!(
            done,
            "the stream is four fifths full and nothing can go: questions or messages up to {done} only are dealt with"
        );
        return Ok(());
    }
    let purged = bus.purge_below(below).await?;
    if purged > 0 {
        tracing::info!(
            purged,
            below,
            "the stream was four fifths full: {purged} messages below {below} are in the store only now"
        );
    }
    Ok(())
}

/// The sequence to trim below, so that about three fifths are left; `None` if there is room enough.
fn wanted(stream: &StreamState) -> Option<u64> {
    let limit = u64::try_from(stream.max_bytes).ok().filter(|limit| *limit > 0)?;
    if stream.bytes < limit / 5 * 4 {
        return None;
    }
    let share =
        u128::from(stream.bytes - limit / 5 * 3) * u128::from(stream.messages) / u128::from(stream.bytes.max(1));
    Some(stream.first_seq + u64::try_from(share).unwrap_or(u64::MAX).max(1))
}

/// Everything up to here is nothing to this consumer any more. One without anything to do is done with all.
fn done_to(consumer: &ConsumerState, stream: &StreamState) -> u64 {
    if consumer.pending == 0 && consumer.ack_pending == 0 { stream.last_seq } else { consumer.ack_floor }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn stream(bytes: u64, max_bytes: i64) -> StreamState {
        let created = Timestamp::from_ns(0);
        StreamState {
            messages: 100,
            bytes,
            max_bytes,
            first_seq: 1001,
            last_seq: 1100,
            created,
            groups: 16,
            replicas: 1,
            batches: true,
        }
    }

    #[test]
    fn at_four_fifths_the_oldest_quarter_goes() {
        assert_eq!(wanted(&stream(799, 1000)), None);
        assert_eq!(wanted(&stream(800, 1000)), Some(1001 + 25));
        assert_eq!(wanted(&stream(1000, 1000)), Some(1001 + 40));
        assert_eq!(wanted(&stream(u64::MAX, -1)), None, "no limit");
    }

    #[test]
    fn an_idle_consumer_keeps_nothing_and_a_busy_one_what_it_has_not_done() {
        let consumer = |pending, ack_pending| ConsumerState {
            name: "bot-3".to_owned(),
            pending,
            ack_pending,
            redelivered: 0,
            waiting: 1,
            ack_floor: 7,
            delivered: 9,
            deliveries: 9,
        };
        assert_eq!(done_to(&consumer(0, 0), &stream(0, 1000)), 1100);
        assert_eq!(done_to(&consumer(1, 0), &stream(0, 1000)), 7);
        assert_eq!(done_to(&consumer(0, 1), &stream(0, 1000)), 7);
    }
}
