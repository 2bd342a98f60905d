//! What surrounds the routes: request id, panics, security headers, one access line, the metrics hook.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use warp::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use warp::http::{HeaderMap, HeaderValue, Method, StatusCode};
use warp::reply::{Reply, Response};

use super::{Client, ServeOptions};
use crate::web::problem::ApiError;
use crate::web::request::{self, REQUEST_ID, RequestId};

/// Everything from this origin, nothing from any other, no inline code, in nobody's frame.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One answer, as metrics see it. The time ends with the head: a stream or a socket goes on.
#[derive(Debug)]
pub struct Access<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path without its query; it carries ids, so it is no label.
    pub path: &'a str,
    /// The status.
    pub status: StatusCode,
    /// From the head of the request to the head of the answer.
    pub took: Duration,
}

/// Is told of each answer.
pub type Observer = Arc<dyn Fn(&Access<'_>) + Send + Sync>;

pub(super) async fn answer<S>(
    mut request: Request<Incoming>,
    routes: S,
    client: Client,
    options: Arc<ServeOptions>,
) -> Result<Response, Infallible>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
{
    let started = Instant::now();
    let request_id = RequestId::accept(request.headers().get(&REQUEST_ID));
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let origin = request.headers().get(ORIGIN).cloned();
    let host = origin.as_ref().and_then(|_| request.headers().get(HOST).cloned());
    let mut response = if let Some(response) = options.origins.preflight(&method, request.headers()) {
        response
    } else {
        request.extensions_mut().insert(client);
        request::scope(request_id.clone(), method.clone(), guarded(routes.call(request))).await
    };
    if let Some(origin) = &origin {
        options.origins.decorate(origin, host.as_ref(), &mut response);
    }
    harden(response.headers_mut());
    if options.leaving.is_cancelled() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Ok(value) = HeaderValue::from_str(request_id.as_str()) {
        response.headers_mut().insert(&REQUEST_ID, value);
    }
    let access = Access { method: &method, path: uri.path(), status: response.status(), took: started.elapsed() };
    log(&access, &request_id);
    if let Some(observe) = &options.observe {
        observe(&access);
    }
    Ok(response)
}

/// A panic is an answer too: the client must not wait for one that never comes. The panic hook has logged where.
async fn guarded(answering: impl Future<Output = Result<Response, Infallible>>) -> Response {
    match AssertUnwindSafe(answering).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => ApiError::internal(anyhow::anyhow!("panic while answering")).into_response(),
    }
}

/// Headers that every answer carries unless the route chose its own.
fn harden(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let is_page = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if is_page {
        headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(PAGE_POLICY));
    }
}

fn log(access: &Access<'_>, request_id: &RequestId) {
    let Access { method, path, status, took } = access;
    tracing::debug!(
        http.status = status.as_u16(),
        request.id = request_id.as_str(),
        "{method} {path} -> {} in {took:.1?}",
        status.as_u16()
    );
}
