//! The embedded store: one SQLite file, one writing thread, and reading threads with connections of their own.
//!
//! Several processes may write and read one file. Durable means synced: every commit syncs the write-ahead log.

mod calls;
mod columns;
mod holder;
mod identity;
mod inherit;
mod lists;
mod queue;
mod readers;
mod record;
mod retire;
mod rows;
mod schema;
mod settings;
mod streams;
mod tally;
#[cfg(test)]
mod tests;
mod trouble;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use self::identity::Identity;
use self::queue::{Queue, Unqueued};
use self::schema::Use;
use self::trouble::explain;
use self::writer::Writer;
use super::{StoreError, Trouble};

/// Sequences of one block; part of the file's format.
const BLOCK: i64 = 4096;
/// Calls queued for the writing thread, and for the reading threads. Full: the caller waits.
const WRITES: usize = 64;
const READS: usize = 256;
/// Between two tries to open a file that another process is just making.
const OPEN_PAUSE: Duration = Duration::from_millis(20);
/// How long a caller waits for a locked file and for room in a queue, for an answer to a read, for rows to be durable, and for the close.
const QUEUE_LIMIT: Duration = Duration::from_secs(5);
const READ_LIMIT: Duration = Duration::from_secs(10);
const WRITE_LIMIT: Duration = Duration::from_secs(30);
const CLOSE_LIMIT: Duration = Duration::from_secs(30);

/// Where the file is and how it is used.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The SQLite file. It is made when it is missing; its folder is not.
    pub path: PathBuf,
    /// Connections that read side by side, at least one.
    pub readers: usize,
    /// Only read: nothing is created, and [`Contract::record`](super::Contract::record) is refused.
    pub read_only: bool,
}

/// An open SQLite store. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Sqlite {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    identity: Identity,
    writes: Option<Queue<writer::Job>>,
    reads: Queue<readers::Job>,
    ends: tokio::sync::Mutex<Ends>,
}

/// How the threads tell that they have ended: the readers by letting go of their sender.
struct Ends {
    readers: mpsc::Receiver<()>,
    writer: Option<oneshot::Receiver<()>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Sqlite")
            .field("path", &self.path)
            .field("writes", &self.writes.is_some())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// How errors name the store.
    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

impl Sqlite {
    /// Whether both are the same file.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.shared.identity == other.shared.identity
    }

    /// Opens the file, makes or migrates its schema, and starts the threads.
    pub(super) async fn open(options: &SqliteOptions) -> Result<Self, StoreError> {
        let options = options.clone();
        let place = options.path.display().to_string();
        let opened = tokio::task::spawn_blocking(move || Self::open_unlocked(&options)).await;
        opened.map_err(|_| StoreError::Closed { place })?
    }

    /// Some steps of making a file don't wait for a lock by themselves: processes that start together take turns here.
    fn open_unlocked(options: &SqliteOptions) -> Result<Self, StoreError> {
        let deadline = Instant::now() + QUEUE_LIMIT;
        loop {
            match Self::open_now(options) {
                Err(StoreError::Locked(_)) if Instant::now() < deadline => std::thread::sleep(OPEN_PAUSE),
                opened => return opened,
            }
        }
    }

    fn open_now(options: &SqliteOptions) -> Result<Self, StoreError> {
        let path = options.path.as_path();
        check_place(path, options.read_only)?;
        let connection = if options.read_only { None } else { Some(schema::connect(path, Use::Write)?) };
        let purpose = if options.read_only { Use::ReadOnly } else { Use::Read };
        let connections =
            (0..options.readers.max(1)).map(|_| schema::connect(path, purpose)).collect::<Result<Vec<_>, _>>()?;
        Self::start(path, connection, connections)
    }

    fn start(path: &Path, connection: Option<Connection>, connections: Vec<Connection>) -> Result<Self, StoreError> {
        let identity = Identity::of(path);
        let (reads, jobs) = Queue::new(READS);
        let jobs: readers::Jobs = Arc::new(Mutex::new(jobs));
        let (running, readers) = mpsc::channel(1);
        for connection in connections {
            let (jobs, running) = (Arc::clone(&jobs), running.clone());
            spawn("store-read", path, move || {
                readers::run(&connection, &jobs);
                drop(connection);
                drop(running);
            })?;
        }
        let (mut writes, mut writer_end) = (None, None);
        if let Some(connection) = connection {
            let (queue, jobs) = Queue::new(WRITES);
            let (done, ended) = oneshot::channel();
            let thread = Writer { connection, path: path.to_owned(), identity, jobs, done };
            spawn("store-write", path, move || thread.run())?;
            (writes, writer_end) = (Some(queue), Some(ended));
        }
        let ends = tokio::sync::Mutex::new(Ends { readers, writer: writer_end });
        Ok(Self { shared: Arc::new(Shared { path: path.to_owned(), identity, writes, reads, ends }) })
    }

    /// Runs a query on a reading thread. `action` names it for errors: "read a page from".
    async fn read<T: Send + 'static>(
        &self,
        action: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: readers::Job = Box::new(move |connection| {
            // Whoever asked may have gone: then the answer is not worth working out.
            if !answer.is_closed() {
                answer.send(query(connection)).ok();
            }
        });
        self.shared.reads.push(job, QUEUE_LIMIT).await.map_err(|reason| self.unqueued(action, reason))?;
        let result = self.answer(action, READ_LIMIT, answered).await?;
        result.map_err(|error| explain(action, &self.shared.path, &error))
    }

    /// Runs a change on the writing thread.
    async fn write<T: Send + 'static>(
        &self,
        action: &'static str,
        change: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let act = Box::new(move |connection: &mut Connection| {
            if !answer.is_closed() {
                answer.send(change(connection)).ok();
            }
        });
        self.queue_write(action, writer::Job::Act(act)).await?;
        let result = self.answer(action, WRITE_LIMIT, answered).await?;
        result.map_err(|error| explain(action, &self.shared.path, &error))
    }

    async fn queue_write(&self, action: &str, job: writer::Job) -> Result<(), StoreError> {
        let Some(writes) = &self.shared.writes else {
            return Err(StoreError::ReadOnly { place: self.shared.place() });
        };
        writes.push(job, QUEUE_LIMIT).await.map_err(|reason| self.unqueued(action, reason))
    }

    async fn answer<T>(&self, action: &str, limit: Duration, answered: oneshot::Receiver<T>) -> Result<T, StoreError> {
        match timeout(limit, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(StoreError::Closed { place: self.shared.place() }),
            Err(_) => Err(self.overloaded(action, &format!("no answer within {} s", limit.as_secs()))),
        }
    }

    fn unqueued(&self, action: &str, reason: Unqueued) -> StoreError {
        match reason {
            Unqueued::Full => self.overloaded(action, "its queue is full"),
            Unqueued::Closed => StoreError::Closed { place: self.shared.place() },
        }
    }

    fn overloaded(&self, action: &str, cause: &str) -> StoreError {
        StoreError::Unavailable(Trouble {
            action: action.to_owned(),
            place: self.shared.place(),
            cause: cause.to_owned(),
            next: "look at the load of the machine and of its disk; it is tried again".to_owned(),
        })
    }
}

/// Starts a thread that ends when its queue is closed.
fn spawn(name: &str, path: &Path, work: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map(drop).map_err(|error| {
        StoreError::Unavailable(Trouble {
            action: "start a thread for".to_owned(),
            place: path.display().to_string(),
            cause: error.to_string(),
            next: "allow more threads; it is tried again".to_owned(),
        })
    })
}

/// Says in plain words what SQLite would call "unable to open database file".
fn check_place(path: &Path, read_only: bool) -> Result<(), StoreError> {
    let unusable = |cause: String, next: &str| {
        let (action, next) = ("open".to_owned(), next.to_owned());
        Err(StoreError::Unusable(Trouble { action, place: path.display().to_string(), cause, next }))
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() {
        return unusable("it is a folder".to_owned(), "set store.path to a file");
    }
    if !folder.is_dir() {
        let cause = format!("there is no folder {}", folder.display());
        return unusable(cause, "make it, or set store.path or data.dir");
    }
    if read_only && !path.exists() {
        return Err(schema::not_yet(path));
    }
    Ok(())
}
