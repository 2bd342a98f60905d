//! Filters of the HTTP method that remember what a path knows, so that "method not allowed" can say what is.
//!
//! Put them after the whole path: `warp::path!("v1" / "chat").and(method::post())`.

use std::future;

use warp::http::{HeaderValue, Method};
use warp::{Filter, Rejection};

use super::request;

/// The methods that yalo's routes use, each with its bit.
const METHODS: [(Method, u8); 6] = [
    (Method::GET, 1),
    (Method::HEAD, 1),
    (Method::POST, 2),
    (Method::PUT, 4),
    (Method::PATCH, 8),
    (Method::DELETE, 16),
];

/// GET, and HEAD of the same.
pub fn get() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    only(1)
}

/// POST.
pub fn post() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    only(2)
}

/// PUT.
pub fn put() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    only(4)
}

/// PATCH.
pub fn patch() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    only(8)
}

/// DELETE.
pub fn delete() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    only(16)
}

fn only(wanted: u8) -> impl Filter<Extract = (), Error = Rejection> + Copy {
    warp::method()
        .and_then(move |method: Method| {
            request::allow(wanted);
            let matches = METHODS.iter().any(|(known, bit)| *bit == wanted && *known == method);
            future::ready(if matches { Ok(()) } else { Err(warp::reject::not_found()) })
        })
        .untuple_one()
}

/// The `Allow` header for the path in hand, if any route knew the path.
pub(super) fn allow_header() -> Option<HeaderValue> {
    let allowed = request::allowed();
    let names: Vec<&str> =
        METHODS.iter().filter(|(_, bit)| allowed & bit != 0).map(|(method, _)| method.as_str()).collect();
    if names.is_empty() { None } else { HeaderValue::from_str(&format!("{}, OPTIONS", names.join(", "))).ok() }
}
