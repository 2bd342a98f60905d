//! Embedded files: pages, scripts, styles and the API's description, served from memory with an entity tag.

use sha2::{Digest, Sha256};
use warp::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::path::FullPath;
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

use super::method;

/// One file: `Asset { path: "/", content_type: assets::HTML, bytes: include_bytes!("assets/chat.html") }`.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// The whole path, from the slash on.
    pub path: &'static str,
    /// One of the constants of this module.
    pub content_type: &'static str,
    /// Its bytes.
    pub bytes: &'static [u8],
}

/// A page; it gets the strict content security policy: everything from here, nothing inline.
pub const HTML: &str = "text/html; charset=utf-8";
/// A module or script.
pub const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
/// A style sheet.
pub const CSS: &str = "text/css; charset=utf-8";
/// JSON.
pub const JSON: &str = "application/json";
/// An image.
pub const SVG: &str = "image/svg+xml";

/// Routes for a fixed list of files, for GET and HEAD.
///
/// Paths are stable, so browsers ask each time and get 304 while nothing has changed. Files are public, so that the
/// module can be imported by pages of other origins.
pub fn routes(assets: &'static [Asset]) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let tags: std::sync::Arc<[HeaderValue]> = assets.iter().map(|asset| entity_tag(asset.bytes)).collect();
    let find = move |path: FullPath| {
        let place = assets.iter().position(|asset| asset.path == path.as_str());
        let found = place.and_then(|place| Some((assets.get(place)?, tags.get(place)?.clone())));
        std::future::ready(found.ok_or_else(warp::reject::not_found))
    };
    warp::path::full()
        .and_then(find)
        .and(method::get())
        .and(warp::header::headers_cloned())
        .map(|(asset, tag), headers: HeaderMap| answer(asset, tag, &headers))
}

fn entity_tag(bytes: &[u8]) -> HeaderValue {
    let digest = Sha256::digest(bytes);
    let number = digest.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    // Hex digits between quotes are always a header value.
    HeaderValue::from_str(&format!("\"{number:016x}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

fn answer(asset: &Asset, tag: HeaderValue, headers: &HeaderMap) -> Response {
    let has_it = headers.get(IF_NONE_MATCH).and_then(|known| known.to_str().ok()).is_some_and(|known| {
        known.split(',').any(|known| known.trim() == "*" || tag == known.trim().trim_start_matches("W/"))
    });
    let mut response =
        if has_it { StatusCode::NOT_MODIFIED.into_response() } else { Response::new(asset.bytes.into()) };
    let answer = response.headers_mut();
    if !has_it {
        answer.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    }
    answer.insert(ETAG, tag);
    answer.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_has_the_file_is_not_sent_it_again() {
        let asset = Asset { path: "/", content_type: HTML, bytes: b"<!doctype html>" };
        let tag = entity_tag(asset.bytes);
        let status = |known: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(known) = known {
                headers.insert(IF_NONE_MATCH, HeaderValue::from_str(known).unwrap());
            }
            answer(&asset, tag.clone(), &headers).status()
        };
        let known = tag.to_str().unwrap();
        assert_eq!(status(None), 200);
        assert_eq!(status(Some("\"other\"")), 200);
        assert_eq!(status(Some(known)), 304);
        assert_eq!(status(Some(&format!("\"other\", W/{known}"))), 304);
        assert_ne!(entity_tag(b"a"), entity_tag(b"b"));
    }
}
