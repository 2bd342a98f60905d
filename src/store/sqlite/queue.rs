//! A bounded queue from async callers to threads. Full: the caller waits, up to a limit.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// A job, and the room in the queue that it takes until it is dropped.
#[derive(Debug)]
pub(super) struct Ticket<T> {
    pub(super) job: T,
    _room: OwnedSemaphorePermit,
}

/// Why a job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unqueued {
    /// It stayed full for all of the time allowed.
    Full,
    /// It is closed, or its threads have ended.
    Closed,
}

/// The callers' end.
#[derive(Debug)]
pub(super) struct Queue<T> {
    sender: Mutex<Option<SyncSender<Ticket<T>>>>,
    room: Arc<Semaphore>,
}

impl<T> Queue<T> {
    /// A queue that holds at most `size` jobs, those in work included.
    pub(super) fn new(size: usize) -> (Self, Receiver<Ticket<T>>) {
        let (sender, receiver) = sync_channel(size);
        (Self { sender: Mutex::new(Some(sender)), room: Arc::new(Semaphore::new(size)) }, receiver)
    }

    /// Queues a job, waiting for room no longer than `limit`.
    pub(super) async fn push(&self, job: T, limit: Duration) -> Result<(), Unqueued> {
        let room = timeout(limit, Arc::clone(&self.room).acquire_owned()).await.map_err(|_| Unqueued::Full)?;
        let ticket = Ticket { job, _room: room.map_err(|_| Unqueued::Closed)? };
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        // There is a place for every permit, so this never waits.
        sender.as_ref().ok_or(Unqueued::Closed)?.try_send(ticket).map_err(|_| Unqueued::Closed)
    }

    /// Takes no more jobs; the threads finish those that are queued, and end.
    pub(super) fn close(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
