//! What belongs to the request in hand: its id, and the methods that its path knows.
//!
//! Set by the accept loop around the routes, so that an error can name the request without being told about it.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use warp::http::{HeaderName, HeaderValue, Method};

/// The header of the request id, both ways.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken over from a client.
const LONGEST: usize = 64;

tokio::task_local! {
    static CURRENT: Current;
}

/// The name of one request in answers and in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// A new one: 16 random hex digits.
    pub fn new() -> Self {
        Self(format!("{:016x}", fastrand::u64(..)).into())
    }

    /// The client's own id if it is 1 to 64 of `A-Za-z0-9._-`, which are safe in a log; else a new one.
    pub fn accept(incoming: Option<&HeaderValue>) -> Self {
        let is_sane = |text: &&str| {
            (1..=LONGEST).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        match incoming.and_then(|value| value.to_str().ok()).filter(is_sane) {
            Some(text) => Self(text.into()),
            None => Self::new(),
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The request that this task answers.
#[derive(Debug)]
pub(super) struct Current {
    id: RequestId,
    method: Method,
    allowed: Cell<u8>,
}

/// Runs `routes` as the answer to this request.
pub(super) async fn scope<F: Future>(id: RequestId, method: Method, routes: F) -> F::Output {
    CURRENT.scope(Current { id, method, allowed: Cell::new(0) }, routes).await
}

/// The id of the request in hand; a new one outside of any request.
pub fn current_id() -> RequestId {
    CURRENT.try_with(|current| current.id.clone()).unwrap_or_default()
}

/// The method of the request in hand.
pub(super) fn current_method() -> Option<Method> {
    CURRENT.try_with(|current| current.method.clone()).ok()
}

/// Notes that the path in hand is known with these methods, one bit each.
pub(super) fn allow(methods: u8) {
    // Outside of a request there is nobody to tell.
    CURRENT.try_with(|current| current.allowed.set(current.allowed.get() | methods)).unwrap_or_default();
}

/// The methods noted so far.
pub(super) fn allowed() -> u8 {
    CURRENT.try_with(|current| current.allowed.get()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_of_the_client_is_kept_and_any_other_replaced() {
        let accept = |text: &str| RequestId::accept(HeaderValue::from_str(text).ok().as_ref());
        assert_eq!(accept("trace-1.A_b").as_str(), "trace-1.A_b");
        for text in ["", "a b", "x\"y", "ä", &"a".repeat(65)] {
            let made = accept(text);
            assert_ne!(made.as_str(), text);
            assert_eq!(made.as_str().len(), 16);
        }
        assert_ne!(RequestId::accept(None), RequestId::accept(None));
    }
}
