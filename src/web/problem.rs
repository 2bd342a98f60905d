//! Refusals as RFC 9457 problem documents: a stable code, a plain sentence, what to do next.
//!
//! The cause is logged under the request's id, once, when the answer is made; it is never sent.

mod code;

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use warp::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use warp::http::{HeaderName, HeaderValue, Method, StatusCode};
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

use super::{Routes, method, request};

pub use code::Code;

/// A refusal with its HTTP meaning. Small, since it travels in many results.
#[derive(Debug)]
pub struct ApiError(Box<Problem>);

#[derive(Debug)]
struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    next: Cow<'static, str>,
    extras: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    retry_after: Option<Duration>,
    cause: Option<anyhow::Error>,
}

impl ApiError {
    /// A refusal; `detail` is a plain sentence about this very request, lower case and without a full stop.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Problem {
            code,
            detail: detail.into(),
            next: Cow::Borrowed(code.next()),
            extras: Map::new(),
            headers: Vec::new(),
            retry_after: None,
            cause: None,
        }))
    }

    /// 404: also for what belongs to someone else.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::NotFound, detail)
    }

    /// 401 with the reason.
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unauthorized, detail)
    }

    /// 400 for the named field, parameter or header.
    pub fn invalid_field(field: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidField, detail).field(field)
    }

    /// 503 with the time after which a new try makes sense.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        Self::new(Code::Unavailable, detail).retry_after(retry_after)
    }

    /// 500: the cause goes to the log only.
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        Self::new(Code::Internal, "the request could not be completed").caused_by(cause)
    }

    /// Replaces the usual next step.
    #[must_use]
    pub fn next(mut self, next: impl Into<Cow<'static, str>>) -> Self {
        self.0.next = next.into();
        self
    }

    /// Adds an extra member to the document.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.extras.insert(name.to_owned(), value.into());
        self
    }

    /// Adds the extra `field`.
    #[must_use]
    pub fn field(self, name: &str) -> Self {
        self.with("field", name)
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Adds `Retry-After`, in whole seconds rounded up.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// Keeps what really happened, for the log.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<anyhow::Error>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The sentence about this request.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// An extra member.
    pub fn extra(&self, name: &str) -> Option<Value> {
        self.0.extras.get(name).cloned()
    }

    /// The members that also make a WebSocket error frame: status, code, title, detail, next and the extras.
    pub fn document(&self) -> impl Serialize + '_ {
        self.members(None)
    }

    /// Logs the cause under the request's id. Called by the answer; call it yourself only for a WebSocket frame.
    pub fn log(&self, request_id: &str) {
        let code = self.0.code.as_str();
        match &self.0.cause {
            Some(cause) if self.0.code == Code::Internal => {
                tracing::error!(request.id = request_id, code, "request {request_id} failed: {cause:#}");
            }
            Some(cause) => tracing::warn!(request.id = request_id, code, "request {request_id} refused: {cause:#}"),
            None => tracing::debug!(request.id = request_id, code, "request {request_id} refused: {}", self.0.detail),
        }
    }

    fn members<'a>(&'a self, request_id: Option<&'a str>) -> Members<'a> {
        let problem = &*self.0;
        Members {
            kind: request_id.map(|_| "about:blank"),
            title: problem.code.title(),
            status: problem.code.status().as_u16(),
            code: problem.code.as_str(),
            detail: &problem.detail,
            next: &problem.next,
            request_id,
            extras: &problem.extras,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.0.code.as_str(), self.0.detail)
    }
}

impl std::error::Error for ApiError {}

#[derive(Serialize)]
struct Members<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
    next: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(flatten)]
    extras: &'a Map<String, Value>,
}

impl Reply for ApiError {
    fn into_response(self) -> Response {
        let request_id = request::current_id();
        self.log(request_id.as_str());
        // Strings and numbers only: this cannot fail, and an empty body would still carry the status.
        let document = serde_json::to_vec(&self.members(Some(request_id.as_str()))).unwrap_or_default();
        let mut response = Response::new(document.into());
        *response.status_mut() = self.0.code.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.0.code == Code::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.0.retry_after {
            let seconds = after.as_millis().div_ceil(1000).max(1);
            headers.insert(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
        }
        for (name, value) in self.0.headers {
            headers.insert(name, value);
        }
        response
    }
}

/// Ends a set of routes: whatever no route took becomes a problem document.
pub fn finish<F>(routes: F) -> Routes
where
    F: Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static,
{
    routes.recover(recover).unify().boxed()
}

async fn recover(rejection: Rejection) -> Result<Response, Infallible> {
    Ok(refusal(&rejection))
}

fn refusal(rejection: &Rejection) -> Response {
    use warp::reject::{
        InvalidHeader, InvalidQuery, LengthRequired, MethodNotAllowed, MissingHeader, PayloadTooLarge,
        UnsupportedMediaType,
    };

    let problem = if let Some(header) = rejection.find::<InvalidHeader>() {
        ApiError::invalid_field(header.name(), format!("the header {:?} cannot be read", header.name()))
    } else if let Some(header) = rejection.find::<MissingHeader>() {
        ApiError::invalid_field(header.name(), format!("the header {:?} is missing", header.name()))
    } else if rejection.find::<InvalidQuery>().is_some() {
        ApiError::invalid_field("query", "the parameters after the question mark cannot be read")
    } else if rejection.find::<UnsupportedMediaType>().is_some() {
        ApiError::new(Code::UnsupportedMediaType, "the content type is not read here")
    } else if rejection.find::<PayloadTooLarge>().is_some() || rejection.find::<LengthRequired>().is_some() {
        ApiError::new(Code::BodyTooLarge, "the body is larger than accepted")
    } else if let Some(allow) = method::allow_header() {
        if request::current_method() == Some(Method::OPTIONS) {
            return options(allow);
        }
        ApiError::new(Code::MethodNotAllowed, "this address does not take this method").header(ALLOW, allow)
    } else if rejection.find::<MethodNotAllowed>().is_some() {
        ApiError::new(Code::MethodNotAllowed, "this address does not take this method")
    } else if rejection.is_not_found() {
        ApiError::not_found("there is nothing at this address")
    } else {
        ApiError::internal(anyhow::anyhow!("no answer to rejection {rejection:?}"))
    };
    problem.into_response()
}

fn options(allow: HeaderValue) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(ALLOW, allow);
    response
}

#[cfg(test)]
mod tests;
