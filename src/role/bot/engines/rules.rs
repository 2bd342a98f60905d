//! The rules engine: answers by a file that people write, read again when it changes.
//!
//! The file is TOML; `config/rules.example.toml` documents it by example:
//!
//! ```toml
//! [settings]
//! choose = "random"                        # or "first", or "conversation"
//!
//! [[rule]]
//! exact = ["hello", "hi"]                  # the whole text; one string or a list
//! answers = ["Hello!", "Hi there."]        # one string or a list
//!
//! [[rule]]
//! keywords = ["price", "how much"]         # somewhere in the text, as whole words
//! match = "any"                            # or "all"
//! answers = "That is 5 $."
//!
//! [[rule]]
//! pattern = 'my name is (?<name>\w+)'      # a regular expression, anywhere in the text, upper or lower case
//! answers = "Nice to meet you, ${name}."   # $1, ${1}, $name, ${name}; $$ is a dollar sign
//!
//! [fallback]
//! answers = "I do not know that yet."
//! ```
//!
//! Which rule answers, and when two texts are the same, is said in [`book`] and [`fold`].
//!
//! The file is compared at most once a second, by the first question of that second, which waits for the new rules when
//! there are any; so an edit counts from the next question on. A file that is refused, or gone, changes nothing: the
//! rules in force stay, and one warning says why.

mod book;
mod file;
mod fold;
mod refusal;
mod template;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::time::Instant;

use tracing::{debug, info, warn};

use super::{Answer, Question};
use book::Book;
use refusal::Flaw;
use watch::{Fingerprint, Gate};

pub use fold::folded;
pub use refusal::Refusal;

/// How long a file is trusted to be unchanged.
const CHECK_MS: u64 = 1000;

/// See the module.
#[derive(Debug)]
pub struct Rules {
    shelf: Arc<Shelf>,
    gate: Gate,
    opened: Instant,
}

/// The file and the rules in force.
#[derive(Debug)]
struct Shelf {
    path: PathBuf,
    book: RwLock<Arc<Book>>,
    seen: Mutex<Seen>,
}

/// How the file looked at the last check, whether it was taken or not: no state is judged, or warned about, twice.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    File(Fingerprint),
    Nothing(io::ErrorKind),
}

/// What a check found.
#[derive(Debug, PartialEq, Eq)]
enum Check {
    Same,
    Taken,
    Refused(Refusal),
}

impl Rules {
    /// Reads the file; a bad one is an error with its line and column.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        let refused = |error: io::Error| Flaw::whole(format!("cannot be read: {error}")).refuse(path, &[]);
        let fingerprint = Fingerprint::of(path).map_err(refused)?;
        let book = Arc::new(load(path).map_err(refused)??);
        let (rules, path_shown) = (book.rules.len(), path.display());
        info!(rules.count = rules, "read {rules} rules from {path_shown}");
        let shelf = Shelf { path: path.to_owned(), book: RwLock::new(book), seen: Mutex::new(Seen::File(fingerprint)) };
        let opened = Instant::now();
        Ok(Self { shelf: Arc::new(shelf), gate: Gate::default(), opened })
    }

    pub(super) async fn answer(&self, question: &Question<'_>) -> Answer {
        let now_ms = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        if self.gate.open(now_ms, CHECK_MS) {
            let shelf = Arc::clone(&self.shelf);
            // A large file takes a while to read: not on a thread that serves others. It ends by itself, whether or not
            // someone still waits for it.
            let checked = tokio::task::spawn_blocking(move || shelf.check()).await;
            match checked {
                Ok(check) => self.shelf.tell(&check),
                Err(error) => warn!(%error, "cannot look for new rules in {}", self.shelf.path.display()),
            }
        }
        let (text, line) = self.shelf.book().answer(question);
        debug!(rule.line = line, message.seq = question.seq, "answered by rule");
        Answer::new(text)
    }
}

impl Shelf {
    /// The rules in force.
    fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the file, and takes it if it has changed and is good.
    fn check(&self) -> Check {
        let mut seen = match self.seen.try_lock() {
            Ok(seen) => seen,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // An earlier check still reads.
            Err(TryLockError::WouldBlock) => return Check::Same,
        };
        let unreadable = |error: &io::Error| Flaw::whole(format!("cannot be read: {error}")).refuse(&self.path, &[]);
        let read = Fingerprint::of(&self.path).and_then(|fingerprint| {
            if *seen == Seen::File(fingerprint) {
                return Ok(None);
            }
            let book = load(&self.path)?;
            // Still being written: what was read may be half of it, so it is neither taken nor judged yet.
            let settled = Fingerprint::of(&self.path)? == fingerprint;
            Ok(settled.then_some((fingerprint, book)))
        });
        match read {
            Ok(None) => Check::Same,
            Ok(Some((fingerprint, book))) => {
                *seen = Seen::File(fingerprint);
                match book {
                    Ok(book) => {
                        *self.book.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(book);
                        Check::Taken
                    }
                    Err(refusal) => Check::Refused(refusal),
                }
            }
            Err(error) if *seen == Seen::Nothing(error.kind()) => Check::Same,
            Err(error) => {
                *seen = Seen::Nothing(error.kind());
                Check::Refused(unreadable(&error))
            }
        }
    }

    fn tell(&self, check: &Check) {
        match check {
            Check::Same => {}
            Check::Taken => {
                let rules = self.book().rules.len();
                info!(rules.count = rules, "read {rules} rules from {}, which has changed", self.path.display());
            }
            Check::Refused(refusal) => warn!(reason = %refusal, "the rules file is refused, the earlier rules stay"),
        }
    }
}

/// The outer error: the file can't be read; the inner one: it is no rules file.
fn load(path: &Path) -> io::Result<Result<Book, Refusal>> {
    let bytes = watch::read(path, file::FILE_BYTES)?;
    Ok(file::read(&bytes).map_err(|flaw| flaw.refuse(path, &bytes)))
}

#[cfg(test)]
mod tests;
