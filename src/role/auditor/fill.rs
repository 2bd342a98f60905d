//! When a write has waited long enough for more rows.

use std::time::Duration;

use tokio::time::sleep;

use crate::bus::{Delivery, Pull};
use crate::config::AuditorConfig;

/// One write holds no more than this of payload, and one message.
const BYTES: usize = 4 << 20;
/// Where rows come so fast that they fill a write in so many times `flush_ms`, it waits for that: a sync costs the same for
/// few rows and for many.
const PATIENCE: u32 = 4;

/// Fills `batch` with what comes: up to `flush_rows`, and no later than `flush_ms` after the first one, or four times that
/// if it is a quarter full by then. May be dropped at any time: what has come is in `batch`.
pub(super) async fn fill<S: Source>(source: &mut S, config: &AuditorConfig, batch: &mut Vec<S::Item>) {
    if batch.is_empty() {
        batch.push(source.next().await);
    }
    let wait = Duration::from_millis(config.flush_ms);
    let flush = sleep(wait);
    tokio::pin!(flush);
    let last = flush.deadline() + wait * (PATIENCE - 1);
    let mut bytes: usize = batch.iter().map(S::size).sum();
    while batch.len() < config.flush_rows && bytes < BYTES {
        tokio::select! {
            biased;
            item = source.next() => {
                bytes += S::size(&item);
                batch.push(item);
            }
            () = &mut flush => {
                let fills_soon = batch.len() >= config.flush_rows.div_ceil(PATIENCE as usize);
                if flush.deadline() == last || !fills_soon {
                    break;
                }
                flush.as_mut().reset(last);
            }
        }
    }
}

/// What rows come from.
pub(super) trait Source: Send {
    type Item: Send;

    fn next(&mut self) -> impl Future<Output = Self::Item> + Send;

    /// Bytes of payload.
    fn size(item: &Self::Item) -> usize;
}

impl Source for Pull {
    type Item = Delivery;

    async fn next(&mut self) -> Delivery {
        Pull::next(self).await
    }

    fn size(delivery: &Delivery) -> usize {
        delivery.record.payload.len()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// A row each millisecond, so many of so many bytes.
    struct Steady {
        rows: usize,
        bytes: usize,
    }

    impl Source for Steady {
        type Item = usize;

        async fn next(&mut self) -> usize {
            if self.rows == 0 {
                std::future::pending::<()>().await;
            }
            sleep(Duration::from_millis(1)).await;
            self.rows -= 1;
            self.bytes
        }

        fn size(item: &usize) -> usize {
            *item
        }
    }

    /// Rows of a write, and the milliseconds that it waited from its first one on.
    async fn filled(flush_rows: usize, rows: usize, bytes: usize) -> (usize, u128) {
        let config = AuditorConfig { batch: 1, flush_rows, flush_ms: 10, flushes: 1, retry_min_ms: 1, retry_max_ms: 1 };
        let mut batch = vec![bytes];
        let start = Instant::now();
        fill(&mut Steady { rows, bytes }, &config, &mut batch).await;
        (batch.len(), start.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_waits_for_more_rows_only_where_they_come_fast() {
        assert_eq!(filled(100, 99, 1).await, (11, 10), "too slow to fill it");
        assert_eq!(filled(100, 0, 1).await, (1, 10), "nothing more comes");
        assert_eq!(filled(30, 99, 1).await, (30, 29), "fast enough: full");
        assert_eq!(filled(30, 12, 1).await, (13, 40), "fast at first, and no more than four times as long");
        assert_eq!(filled(5, 99, 1).await, (5, 4), "full before that");
        assert_eq!(filled(100, 99, BYTES / 2).await, (2, 1), "full of bytes");
    }
}
