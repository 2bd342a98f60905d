//! The one thread of a process's store that writes. Calls that wait side by side share a transaction and its sync.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::identity::Identity;
use super::queue::Ticket;
use super::record::record;
use super::trouble::explain;
use crate::domain::Row;
use crate::store::{Recorded, StoreError};

/// Calls are merged up to this many rows: enough to share a sync, not so many that the first one waits long.
const MERGE_ROWS: usize = 4_000;
/// After this time without a call the log is folded into the file and cut to nothing.
const IDLE: Duration = Duration::from_secs(5);

/// What the thread is asked for.
pub(super) enum Job {
    /// Store rows.
    Record(Call),
    /// Anything else that writes.
    Act(Box<dyn FnOnce(&mut Connection) + Send>),
}

/// Rows to store, and who waits for the outcome.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) rows: Arc<[Row]>,
    pub(super) answer: oneshot::Sender<Result<Recorded, StoreError>>,
}

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    pub(super) jobs: Receiver<Ticket<Job>>,
    /// Told when the file is closed.
    pub(super) done: oneshot::Sender<()>,
}

impl Writer {
    /// Until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut log_is_empty = false;
        loop {
            let ticket = match self.jobs.recv_timeout(IDLE) {
                Ok(ticket) => ticket,
                Err(RecvTimeoutError::Timeout) => {
                    if !log_is_empty {
                        log_is_empty = self.fold_log();
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            log_is_empty = false;
            self.work(ticket);
        }
        self.fold_log();
        drop(self.connection);
        // Nobody waits if the store was dropped without closing.
        self.done.send(()).ok();
    }

    /// Works off one job, and those queued behind it that fit into the same transaction.
    fn work(&mut self, first: Ticket<Job>) {
        let mut calls = Vec::new();
        let mut rows = 0;
        let mut next = Some(first);
        while let Some(ticket) = next {
            match ticket.job {
                Job::Record(call) => {
                    rows += call.rows.len();
                    calls.push(call);
                }
                Job::Act(act) => {
                    self.record(std::mem::take(&mut calls));
                    rows = 0;
                    act(&mut self.connection);
                }
            }
            next = if rows < MERGE_ROWS { self.jobs.try_recv().ok() } else { None };
        }
        self.record(calls);
    }

    fn record(&mut self, mut calls: Vec<Call>) {
        // Who gave up waiting will ask again.
        calls.retain(|call| !call.answer.is_closed());
        if calls.is_empty() {
            return;
        }
        let batches = calls.iter().map(|call| Arc::clone(&call.rows)).collect::<Vec<_>>();
        let recorded = match record(&mut self.connection, &batches) {
            // Looked at after the commit: rows in a file that nobody can find again are not stored.
            Ok(recorded) => self.identity.check(&self.path).map(|()| recorded),
            Err(error) => {
                let rows = batches.iter().map(|rows| rows.len()).sum::<usize>();
                Err(explain(&format!("write {rows} rows to"), &self.path, &error))
            }
        };
        match recorded {
            Ok(recorded) => {
                for (call, recorded) in calls.into_iter().zip(recorded) {
                    call.answer.send(Ok(recorded)).ok();
                }
            }
            Err(error) => {
                for call in calls {
                    call.answer.send(Err(error.clone())).ok();
                }
            }
        }
    }

    /// Folds the write-ahead log into the file and cuts it to nothing; says whether that went through. A reader or
    /// another writer may be in the way: the next time will do.
    fn fold_log(&self) -> bool {
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
            .is_ok_and(|busy| busy == 0)
    }
}
