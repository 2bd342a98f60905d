//! Known mistakes, built in to be found: a checker that has never caught one proves nothing.
//!
//! Each is the one line that somebody could leave out or get wrong. `DELIBERATE_MISTAKE=no-fence` makes a process make
//! it; only builds with debug assertions or the feature `mistakes` know them, in a release each of these questions is the
//! constant `false`.
//! `tests/chaos` names for each the faults that expose it, and shows that it is caught.

use std::sync::OnceLock;

/// The variable that chooses one.
pub const VARIABLE: &str = "DELIBERATE_MISTAKE";

/// Whether this build knows any.
const KNOWN: bool = cfg!(any(debug_assertions, feature = "mistakes"));

/// What can be done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[allow(missing_docs, reason = "the help of each value says it, here and on the command line")]
pub enum Mistake {
    /// The auditor acknowledges a message before the store has it
    AckBeforeWrite,
    /// The bot acknowledges a question before its record is stored
    AckBeforeAnswer,
    /// Each question is answered by itself: no lane, no continuity, no fence; what order costs is measured beside it
    NoOrder,
    /// A record is published whatever was published on its subject meanwhile
    NoFence,
    /// A record that the fence refused counts as an answer
    RefusalIsAnswer,
    /// A question is taken as answered if the last record is younger than it
    LastRecordDecides,
    /// Who takes a group over does not read what was open
    NoRecovery,
    /// Nobody notices that a delivery went to somebody else
    NoContinuity,
    /// A question that finds its conversation busy is given back to the server
    NakInsteadOfLane,
    /// A retry that comes late is not looked up
    NoLateLookUp,
    /// A message is published without the id that the duplicate window knows it by
    NoMessageId,
    /// Who resumes is told its last message again
    CursorOffByOne,
    /// Live copies are believed: nothing is compared, nothing read again
    LiveIsTruth,
    /// Nobody counts how often a group is taken over without getting further
    NoPoisonCount,
    /// The end of what a replica shows is taken for the end of the stream
    LaggingReplicaBelieved,
}

/// Whether this process makes this mistake.
pub fn made(mistake: Mistake) -> bool {
    KNOWN && chosen() == Some(mistake)
}

/// The mistake that this process was told to make; to be said aloud at the start.
///
/// # Panics
/// If there is no mistake of that name: a test of one that is not made would prove nothing.
#[expect(clippy::disallowed_methods, reason = "no setting of yalo: nothing that an operator could find or meet")]
pub fn chosen() -> Option<Mistake> {
    static CHOSEN: OnceLock<Option<Mistake>> = OnceLock::new();
    if !KNOWN {
        return None;
    }
    *CHOSEN.get_or_init(|| {
        let name = std::env::var(VARIABLE).ok()?;
        let mistake = clap::ValueEnum::from_str(&name, false);
        #[expect(clippy::panic, reason = "said above")]
        Some(mistake.unwrap_or_else(|_| panic!("{VARIABLE}: there is no mistake `{name}`")))
    })
}
