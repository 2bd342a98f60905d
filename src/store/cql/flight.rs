//! Requests under way: how many at once, how often they are tried, and what the cluster says about them.
//!
//! A cluster that struggles is asked less (`room.rs`). Every statement of yalo may be repeated, so each is tried several
//! times before the caller hears of it. In each of these tries the driver may ask the other nodes too, if one can't be reached
//! or has too much to do.

use std::future::Future;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use scylla::response::query_result::{QueryResult, QueryRowsResult};
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::Batch;
use scylla::statement::prepared::PreparedStatement;

use super::room::Room;
use super::trouble::{Failure, corrupt, explain, unavailable};
use crate::store::StoreError;

/// How often a request is tried in all, and the longest pause before the second try; it doubles with each.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(50);
/// Warnings of the cluster are logged so often, with the number of those in between.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The session, and the room for requests on it.
pub(super) struct Flight {
    pub(super) session: Session,
    place: String,
    room: Room,
    /// For each node of the cluster.
    most: usize,
    warned: Mutex<Warned>,
}

/// What the cluster has warned of.
#[derive(Default)]
struct Warned {
    /// When that was logged last.
    at: Option<Instant>,
    /// How often since then.
    more: u64,
}

impl Warned {
    /// Another one, now; if it is to be logged, how many were not since the last time.
    fn again(&mut self, now: Instant) -> Option<u64> {
        if self.at.is_some_and(|at| now.duration_since(at) < WARN_EVERY) {
            self.more += 1;
            return None;
        }
        self.at = Some(now);
        Some(std::mem::take(&mut self.more))
    }
}

/// What a write came to that the cluster answered.
#[derive(Debug)]
pub(super) enum Written {
    /// It is as durable as the consistency says.
    Stored,
    /// Some of its values can't be stored at all, and nothing of it was.
    Refused(String),
}

impl Flight {
    /// At most `most` requests under way for each node that the cluster has.
    pub(super) fn new(session: Session, place: String, most: usize) -> Self {
        Self { session, place, room: Room::new(most), most, warned: Mutex::default() }
    }

    /// How errors name the store.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Rows of a query that names its partition.
    pub(super) async fn rows(
        &self,
        action: &str,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryRowsResult, StoreError> {
        let result = self.answer(action, || self.session.execute_unpaged(statement, &values)).await?;
        match result {
            Ok(result) => result.into_rows_result().map_err(|error| corrupt(action, &self.place, error.to_string())),
            Err(reason) => Err(corrupt(action, &self.place, reason)),
        }
    }

    /// One statement that writes.
    pub(super) async fn write(
        &self,
        action: &str,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Written, StoreError> {
        let answer = self.answer(action, || self.session.execute_unpaged(statement, &values)).await?;
        Ok(answer.map_or_else(Written::Refused, |_| Written::Stored))
    }

    /// Several rows of one partition.
    pub(super) async fn batch<R: SerializeRow>(
        &self,
        action: &str,
        batch: &Batch,
        values: &[R],
    ) -> Result<Written, StoreError> {
        let answer = self.answer(action, || self.session.batch(batch, values)).await?;
        Ok(answer.map_or_else(Written::Refused, |_| Written::Stored))
    }

    /// Asks until there is an answer, a few times. The inner error: values that can't be stored.
    async fn answer<F: Future<Output = Result<QueryResult, ExecutionError>>>(
        &self,
        action: &str,
        mut ask: impl FnMut() -> F,
    ) -> Result<Result<QueryResult, String>, StoreError> {
        let mut attempt = 1;
        loop {
            let entered = self.room.enter().await;
            let Some(entered) = entered else { return Err(StoreError::Closed { place: self.place.clone() }) };
            // The driver's future is large, and many of ours hold one.
            let answer = Box::pin(ask()).await;
            drop(entered);
            let cause = match answer {
                Ok(result) => {
                    self.answered(&result);
                    return Ok(Ok(result));
                }
                Err(error) => match explain(action, &self.place, &error) {
                    Failure::Row(reason) => return Ok(Err(reason)),
                    Failure::Never(error) => return Err(error),
                    Failure::Away(cause) => cause,
                    Failure::Busy(cause) => {
                        self.halve();
                        cause
                    }
                },
            };
            if attempt == ATTEMPTS {
                return Err(unavailable(action, &self.place, cause));
            }
            let longest = PAUSE * (1 << attempt);
            tokio::time::sleep(longest.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            attempt += 1;
        }
    }

    fn answered(&self, result: &QueryResult) {
        if let Some(warning) = result.warnings().next() {
            self.warn(warning);
        }
        self.room.answered(|| self.most * self.session.get_cluster_state().get_nodes_info().len().max(1));
    }

    fn halve(&self) {
        if let Some(left) = self.room.halve() {
            tracing::info!(left, "the store has too much to do: {left} requests under way at most for now");
        }
    }

    fn warn(&self, warning: &str) {
        let more = self.warned.lock().ok().and_then(|mut warned| warned.again(Instant::now()));
        if let Some(more) = more {
            tracing::warn!(more, "the store warns ({more} more since the last time): {warning}");
        }
    }

    /// No request begins from now on.
    pub(super) fn close(&self) {
        self.room.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_logged_once_a_minute_with_the_number_of_the_others() {
        let (mut warned, begun) = (Warned::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        let logged: Vec<_> = [0, 1, 59, 60, 61, 200].map(|seconds| warned.again(at(seconds))).into();
        assert_eq!(logged, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
