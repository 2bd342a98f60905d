//! What can go wrong on NATS, by what the caller can do about it.

use async_nats::client::{RequestError, RequestErrorKind};

/// A failed call to NATS.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BusError {
    /// Nobody could be reached; try again, the connection heals by itself.
    #[error("cannot {doing}: nats is not reachable ({reason})")]
    Unavailable {
        /// What was tried.
        doing: &'static str,
        /// What the client said.
        reason: String,
    },
    /// No answer in time; a publish may or may not have been stored.
    #[error("cannot {doing}: no answer in time")]
    TimedOut {
        /// What was tried.
        doing: &'static str,
    },
    /// The stream has reached its limit; audit what it holds, or raise `nats.max_bytes`.
    #[error("the stream is full: raise nats.max_bytes, or let the auditors catch up")]
    Full,
    /// Another record came first; read again and decide again.
    #[error("another record of this subject was stored first")]
    Fenced,
    /// A stream or consumer is not there.
    #[error("{0} is missing: run `yalo init`")]
    Missing(String),
    /// Sign-in or permission refused, or a request that the server will never take.
    #[error("cannot {doing}: {reason}")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// What the server said.
        reason: String,
    },
}

impl BusError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::TimedOut { .. } | Self::Full => true,
            Self::Fenced | Self::Missing(_) | Self::Refused { .. } => false,
        }
    }

    pub(crate) fn unavailable(doing: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Unavailable { doing, reason: format!("{reason}") }
    }

    pub(super) fn from_request(doing: &'static str, error: &RequestError) -> Self {
        match error.kind() {
            RequestErrorKind::TimedOut => Self::TimedOut { doing },
            RequestErrorKind::NoResponders => Self::unavailable(doing, "nobody answers on that subject"),
            RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                Self::Refused { doing, reason: error.to_string() }
            }
            RequestErrorKind::Other => Self::unavailable(doing, error),
        }
    }
}
