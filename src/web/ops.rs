//! What an operator's machines ask a process: is it alive, is it ready, its metrics, its configuration.

mod readiness;

use std::sync::Arc;

use serde_json::{Value, json};
use warp::http::header::CONTENT_TYPE;
use warp::http::{HeaderValue, StatusCode};
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

use super::method;

pub use readiness::{Dependency, Readiness, Snapshot, State};

/// Renders the metrics in the OpenMetrics text format.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;
/// The configuration that runs, without its secrets.
pub type Configuration = Arc<dyn Fn() -> Value + Send + Sync>;

/// What [`routes`] answers from.
#[derive(Clone)]
pub struct Ops {
    /// The dependencies of this process.
    pub readiness: Readiness,
    /// For `/metrics`.
    pub metrics: Render,
    /// For `/config`.
    pub configuration: Configuration,
}

/// `/livez`, `/readyz`, `/metrics` and `/config`. Alive says nothing about dependencies: a restart would not mend them.
pub fn routes(ops: Ops) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let Ops { readiness, metrics, configuration } = ops;
    let livez = warp::path!("livez").and(method::get()).map(|| json_answer(StatusCode::OK, &json!({"alive": true})));
    let readyz = warp::path!("readyz").and(method::get()).map(move || readiness_answer(&readiness));
    let metrics = warp::path!("metrics").and(method::get()).map(move || {
        let mut response = Response::new(metrics().into());
        let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    });
    let config = warp::path!("config").and(method::get()).map(move || json_answer(StatusCode::OK, &configuration()));
    livez.or(readyz).unify().or(metrics).unify().or(config).unify()
}

fn readiness_answer(readiness: &Readiness) -> Response {
    let snapshot = readiness.snapshot();
    let status = if snapshot.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_answer(status, &snapshot)
}

fn json_answer<T: serde::Serialize>(status: StatusCode, value: &T) -> Response {
    warp::reply::with_status(warp::reply::json(value), status).into_response()
}
