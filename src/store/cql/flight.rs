//! Requests under way: who is asked, how often, and what the cluster says about them.
//!
//! A node that struggles is asked less (`room.rs`), and after the others (`nodes.rs`). Every statement of yalo may be
//! repeated, so each is tried several times before the caller hears of it, each time at another node if there is one. The
//! driver tries nothing by itself.

use std::future::Future;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use scylla::response::query_result::{QueryResult, QueryRowsResult};
use scylla::routing::Token;
use scylla::serialize::SerializationError;
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::Batch;
use scylla::statement::bound::BoundStatement;
use scylla::statement::prepared::PreparedStatement;

use super::nodes::{Candidate, Nodes, Unseated};
use super::trouble::{Failure, corrupt, explain, no_datacenter, unavailable};
use crate::store::StoreError;

/// How often a request is tried in all, and the shortest pause before the second try; the longest is twice that, and both
/// double with each.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(50);
/// Warnings of the cluster are logged so often, with the number of those in between.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The session, and the nodes that it asks.
///
/// Values are bound when a request is made, not when it is waited for: a write of thousands of rows has as many futures,
/// and one that holds its values as they came is five times as large.
pub(super) struct Flight {
    pub(super) session: Session,
    place: String,
    nodes: Nodes,
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
    pub(super) fn new(session: Session, place: String, nodes: Nodes) -> Self {
        Self { session, place, nodes, warned: Mutex::default() }
    }

    /// How errors name the store.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Rows of a query that names its partition.
    pub(super) fn rows(
        &self,
        action: &'static str,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> impl Future<Output = Result<QueryRowsResult, StoreError>> {
        let bound = statement.clone().bind(&values);
        async move {
            match self.execute(action, &bound).await? {
                Ok(result) => {
                    result.into_rows_result().map_err(|error| corrupt(action, &self.place, error.to_string()))
                }
                Err(reason) => Err(corrupt(action, &self.place, reason)),
            }
        }
    }

    /// One statement that writes.
    pub(super) fn write(
        &self,
        action: &'static str,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> impl Future<Output = Result<Written, StoreError>> {
        let bound = statement.clone().bind(&values);
        async move { Ok(self.execute(action, &bound).await?.map_or_else(Written::Refused, |_| Written::Stored)) }
    }

    /// Several rows of one partition: `batch` has `statement` for each of them.
    pub(super) async fn batch<R: SerializeRow>(
        &self,
        action: &str,
        statement: &PreparedStatement,
        batch: &Batch,
        values: &[R],
    ) -> Result<Written, StoreError> {
        let token = values.first().and_then(|row| statement.calculate_token(row).ok().flatten());
        let answer = self.answer(action, statement, token, || self.session.batch(batch, values)).await?;
        Ok(answer.map_or_else(Written::Refused, |_| Written::Stored))
    }

    /// One statement with its values.
    async fn execute(
        &self,
        action: &str,
        bound: &Result<BoundStatement, SerializationError>,
    ) -> Result<Result<QueryResult, String>, StoreError> {
        let bound = match bound {
            Ok(bound) => bound,
            Err(error) => return Ok(Err(error.to_string())),
        };
        // Of values that make no key the driver says why.
        let token = bound.calculate_token().ok().flatten();
        self.answer(action, bound.prepared(), token, || self.session.execute_bound_unpaged(bound)).await
    }

    /// Asks until there is an answer, a few times. The inner error: values that can't be stored.
    async fn answer<F: Future<Output = Result<QueryResult, ExecutionError>>>(
        &self,
        action: &str,
        statement: &PreparedStatement,
        token: Option<Token>,
        mut ask: impl FnMut() -> F,
    ) -> Result<Result<QueryResult, String>, StoreError> {
        let (mut attempt, mut avoided) = (1, None);
        loop {
            let seat = self.nodes.seat(&self.session, statement, token, avoided).await;
            let seat = seat.map_err(|unseated| self.unseated(action, &unseated))?;
            // The driver's future is large, and many of ours hold one.
            let (answer, asked) = seat.ask(Box::pin(ask())).await;
            let cause = match answer {
                Ok(result) => {
                    asked.room.answered();
                    if let Some(warning) = result.warnings().next() {
                        self.warn(warning);
                    }
                    return Ok(Ok(result));
                }
                // It has left the cluster since it was chosen.
                Err(error @ ExecutionError::EmptyPlan) => error.to_string(),
                Err(error) => match explain(action, &self.place, &error) {
                    Failure::Row(reason) => return Ok(Err(reason)),
                    Failure::Never(error) => return Err(error),
                    Failure::Away(cause) => cause,
                    Failure::Busy(cause) => {
                        halve(&asked);
                        cause
                    }
                },
            };
            asked.room.failed();
            avoided = Some(asked.node.host_id);
            if attempt == ATTEMPTS {
                return Err(unavailable(action, &self.place, cause));
            }
            let longest = PAUSE * (1 << attempt);
            Box::pin(tokio::time::sleep(longest.mul_f64(0.5 + fastrand::f64() / 2.0))).await;
            attempt += 1;
        }
    }

    fn unseated(&self, action: &str, unseated: &Unseated) -> StoreError {
        match unseated {
            Unseated::Closed => StoreError::Closed { place: self.place.clone() },
            Unseated::Nobody => no_datacenter(action, &self.place, "there is no node in it".to_owned()),
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
        self.nodes.close();
    }
}

fn halve(asked: &Candidate) {
    if let Some(left) = asked.room.halve() {
        let address = &asked.node.address;
        tracing::info!(left, %address, "{address} has too much to do: {left} requests under way at most for now");
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
