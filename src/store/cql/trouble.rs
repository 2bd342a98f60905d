//! From the driver's errors to what the caller can do.

use scylla::errors::{DbError, ExecutionError, PrepareError, RequestAttemptError};

use crate::store::{StoreError, Trouble};

/// What came of one request.
#[derive(Debug)]
pub(super) enum Failure {
    /// The cluster has too much to do, or too few nodes to answer: the same request may go through later.
    Busy(String),
    /// The connection or a node is gone: the same request may go through elsewhere or later.
    Away(String),
    /// The values can't be stored at all.
    Row(String),
    /// The request can't be answered as it is.
    Never(StoreError),
}

/// Says what `error` means for somebody who tried to `action` in the store at `place`.
pub(super) fn explain(action: &str, place: &str, error: &ExecutionError) -> Failure {
    let cause = error.to_string();
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(kind, words)) => {
            db_error(action, place, kind, words, cause)
        }
        ExecutionError::PrepareError(PrepareError::AllAttemptsFailed {
            first_attempt: RequestAttemptError::DbError(kind, words),
        }) => db_error(action, place, kind, words, cause),
        ExecutionError::RequestTimeout(_) => Failure::Busy(cause),
        ExecutionError::BadQuery(_)
        | ExecutionError::LastAttemptError(
            RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_),
        ) => Failure::Row(cause),
        ExecutionError::EmptyPlan => Failure::Never(no_datacenter(action, place, cause)),
        _ => Failure::Away(cause),
    }
}

fn db_error(action: &str, place: &str, kind: &DbError, words: &str, cause: String) -> Failure {
    match kind {
        DbError::Overloaded
        | DbError::WriteTimeout { .. }
        | DbError::ReadTimeout { .. }
        | DbError::Unavailable { .. }
        | DbError::RateLimitReached { .. }
        | DbError::WriteFailure { .. }
        | DbError::ReadFailure { .. } => Failure::Busy(cause),
        // The words of the servers for a mutation that does not fit into their logs.
        DbError::Invalid if words.contains("too large") || words.contains("oversized") => {
            Failure::Row(words.to_owned())
        }
        // What a guardrail says of a disk that is nearly full.
        DbError::Invalid if words.contains("disk usage exceeds") => Failure::Busy(cause),
        DbError::Invalid | DbError::SyntaxError | DbError::ConfigError | DbError::AlreadyExists { .. } => {
            Failure::Never(unusable(action, place, cause, GONE))
        }
        DbError::AuthenticationError | DbError::Unauthorized if could_not_look(words) => Failure::Away(cause),
        DbError::AuthenticationError | DbError::Unauthorized => {
            Failure::Never(unusable(action, place, cause, "give store.user and store.password the right to do this"))
        }
        _ => Failure::Away(cause),
    }
}

/// Whether a node that keeps somebody out could not read who its users are, and what they may: that passes.
pub(super) fn could_not_look(words: &str) -> bool {
    words.contains("Unable to perform authentication") || words.contains("Unable to perform authorization")
}

/// Nobody is left to ask.
pub(super) fn no_datacenter(action: &str, place: &str, cause: String) -> StoreError {
    let next = "store.datacenter names a data centre that this cluster does not have: correct it";
    unusable(action, place, cause, next)
}

/// The next step when a statement does not fit the tables.
const GONE: &str = "its tables are not as yalo made them: put them back from a backup. If the whole keyspace is gone, run \
                    `yalo init`, which makes it anew, start yalo again, which stores what was not acknowledged, and run \
                    `yalo audit verify --repair`, which stores what the stream still holds of the rest";

/// It is tried again.
pub(super) fn unavailable(action: &str, place: &str, cause: String) -> StoreError {
    StoreError::Away(Trouble {
        action: action.to_owned(),
        place: place.to_owned(),
        cause,
        next: "look at its nodes and their load (store.nodes); it is tried again".to_owned(),
    })
}

pub(super) fn unusable(action: &str, place: &str, cause: String, next: &str) -> StoreError {
    StoreError::Unusable(Trouble { action: action.to_owned(), place: place.to_owned(), cause, next: next.to_owned() })
}

/// What is stored is not what yalo writes.
pub(super) fn corrupt(action: &str, place: &str, cause: String) -> StoreError {
    StoreError::Corrupt(Trouble {
        action: action.to_owned(),
        place: place.to_owned(),
        cause,
        next: "something else than yalo wrote there: see `yalo audit verify`".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_somebody_has_to_mend() {
        let failure = |kind, words: &str| db_error("write", "there", &kind, words, words.to_owned());
        let full = "Write request failed because disk usage exceeds failure threshold";
        assert!(matches!(failure(DbError::Invalid, full), Failure::Busy(_)));
        assert!(matches!(failure(DbError::Invalid, "unconfigured table log"), Failure::Never(_)));
        assert!(matches!(failure(DbError::Invalid, "Mutation of 9 MiB is too large"), Failure::Row(_)));
        let blind = "Unable to perform authorization of permissions: Cannot achieve consistency level LOCAL_ONE";
        assert!(matches!(failure(DbError::Unauthorized, blind), Failure::Away(_)));
        let refused = "User yalo has no MODIFY permission on <table yalo.log> or any of its parents";
        assert!(matches!(failure(DbError::Unauthorized, refused), Failure::Never(_)));
    }
}
