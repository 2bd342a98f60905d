//! Which web pages may use this server from a browser: the page's own origin, and those that the operator named.

use std::sync::Arc;

use warp::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use warp::http::{HeaderMap, HeaderValue, Method, StatusCode};
use warp::reply::{Reply, Response};

/// An entry that is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an origin: write scheme and host, such as https://example.org, or * for any")]
pub struct OriginError(String);

/// The origins that are allowed besides the server's own. Cheap to clone; the default allows no other.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    any: bool,
    named: Arc<[String]>,
}

impl Origins {
    /// From the configured list: `https://host[:port]`, or `*`.
    pub fn parse(entries: &[String]) -> Result<Self, OriginError> {
        let named = entries.iter().filter(|entry| *entry != "*").map(|entry| parse(entry));
        Ok(Self { any: entries.iter().any(|entry| entry == "*"), named: named.collect::<Result<_, _>>()? })
    }

    /// Whether the request may come from where it says. One without `Origin` comes from no browser's page.
    pub fn allow(&self, origin: Option<&HeaderValue>, host: Option<&HeaderValue>) -> bool {
        let Some(origin) = origin else { return true };
        if self.any {
            return true;
        }
        let Ok(origin) = origin.to_str() else { return false };
        is_same_host(origin, host) || self.named.iter().any(|named| named.eq_ignore_ascii_case(origin))
    }

    /// The answer to a browser that asks whether it may send a request; none if this is no such question.
    pub(super) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response> {
        let asks = method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let origin = headers.get(ORIGIN).filter(|_| asks)?;
        let mut response = StatusCode::NO_CONTENT.into_response();
        if self.allow(Some(origin), headers.get(HOST)) {
            let answer = response.headers_mut();
            let methods = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
            let names = "accept, authorization, content-type, last-event-id, prefer, x-request-id";
            answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(names));
            answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
        Some(response)
    }

    /// Lets the named page read the answer. `origin` is the request's; a page of the same host needs nothing.
    pub(super) fn decorate(&self, origin: &HeaderValue, host: Option<&HeaderValue>, response: &mut Response) {
        let headers = response.headers_mut();
        headers.append(VARY, HeaderValue::from_static("origin"));
        if headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) || !self.allow(Some(origin), host) {
            return;
        }
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        let exposed = HeaderValue::from_static("location, retry-after, x-request-id");
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

fn parse(entry: &str) -> Result<String, OriginError> {
    let error = || OriginError(entry.to_owned());
    let host = entry.strip_prefix("https://").or_else(|| entry.strip_prefix("http://")).ok_or_else(error)?;
    let is_bare = !host.is_empty() && !host.contains(['/', '?', '#', '@', '*', ' ', ',']) && entry.is_ascii();
    if is_bare { Ok(entry.to_owned()) } else { Err(error()) }
}

fn is_same_host(origin: &str, host: Option<&HeaderValue>) -> bool {
    let Some(host) = host.and_then(|host| host.to_str().ok()) else { return false };
    origin.split_once("://").is_some_and(|(_, origin_host)| origin_host.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(entries: &[&str], origin: &'static str, host: &'static str) -> bool {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        let origins = Origins::parse(&entries).unwrap();
        origins.allow(Some(&HeaderValue::from_static(origin)), Some(&HeaderValue::from_static(host)))
    }

    #[test]
    fn the_own_page_and_named_origins_are_allowed_and_nobody_else() {
        assert!(allows(&[], "http://127.0.0.1:8080", "127.0.0.1:8080"));
        assert!(!allows(&[], "http://127.0.0.1:9999", "127.0.0.1:8080"));
        assert!(allows(&["https://app.example"], "https://app.example", "api.example"));
        assert!(!allows(&["https://app.example"], "http://app.example", "api.example"));
        assert!(!allows(&["https://app.example"], "https://app.example.evil", "api.example"));
        assert!(!allows(&[], "null", "api.example"));
        assert!(allows(&["*"], "null", "api.example"));
        assert!(Origins::default().allow(None, None));
    }

    #[test]
    fn an_entry_that_is_no_origin_is_refused_by_name() {
        for entry in ["app.example", "https://", "https://app.example/", "https://*.example", ""] {
            let error = Origins::parse(&[entry.to_owned()]).unwrap_err();
            assert!(error.to_string().contains(&format!("{entry:?}")), "{error}");
        }
    }
}
