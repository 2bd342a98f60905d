//! The reading threads: each has its own connection, all take from one queue, so reading never blocks the runtime.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::queue::Ticket;

/// A query that answers by itself.
pub(super) type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The queue's end that the threads share.
pub(super) type Jobs = Arc<Mutex<Receiver<Ticket<Job>>>>;

/// Until the queue is closed and empty.
pub(super) fn run(connection: &Connection, jobs: &Jobs) {
    loop {
        // Held only while waiting: the thread that got a job lets the next one wait.
        let ticket = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(ticket) = ticket else { return };
        (ticket.job)(connection);
    }
}
