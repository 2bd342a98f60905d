//! Request bodies: read whole, within a size and a time, and parsed with errors that name the place.
//!
//! The filters never reject; they extract a result that the handler opens by `?`.

mod json;

use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use warp::http::HeaderValue;
use warp::http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE};
use warp::{Filter, Rejection};

use super::problem::{ApiError, Code};

pub use json::parse_json;

/// Of a body that is too large, this much is still read, so that the client hears why instead of a broken connection.
const DRAINED_BYTES: usize = 1024 * 1024;

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Most bytes.
    pub bytes: usize,
    /// From the head of the request to the last byte of its body.
    pub timeout: Duration,
}

/// A body of either kind.
#[derive(Debug)]
pub enum Payload<T> {
    /// `application/json`.
    Json(T),
    /// `text/plain`: the text as it is.
    Text(String),
}

/// A JSON body; one without a content type is taken for JSON.
pub fn json<T>(limits: BodyLimits) -> impl Filter<Extract = (Result<T, ApiError>,), Error = Rejection> + Clone
where
    T: DeserializeOwned + Send + 'static,
{
    read(limits, false).map(|body: Result<Raw, ApiError>| parse_json(&body?.bytes))
}

/// A plain text body in UTF-8.
pub fn text(limits: BodyLimits) -> impl Filter<Extract = (Result<String, ApiError>,), Error = Rejection> + Clone {
    read(limits, true).map(|body: Result<Raw, ApiError>| match body? {
        Raw { bytes, is_text: true } => plain(bytes),
        Raw { is_text: false, .. } => Err(unsupported("text/plain")),
    })
}

/// Either kind, told apart by the content type.
pub fn json_or_text<T>(
    limits: BodyLimits,
) -> impl Filter<Extract = (Result<Payload<T>, ApiError>,), Error = Rejection> + Clone
where
    T: DeserializeOwned + Send + 'static,
{
    read(limits, true).map(|body: Result<Raw, ApiError>| match body? {
        Raw { bytes, is_text: true } => plain(bytes).map(Payload::Text),
        Raw { bytes, is_text: false } => parse_json(&bytes).map(Payload::Json),
    })
}

struct Raw {
    bytes: Vec<u8>,
    is_text: bool,
}

fn read(
    limits: BodyLimits,
    takes_text: bool,
) -> impl Filter<Extract = (Result<Raw, ApiError>,), Error = Rejection> + Clone {
    header(CONTENT_TYPE.as_str()).and(header(CONTENT_ENCODING.as_str())).and(warp::body::stream()).then(
        move |kind: Option<HeaderValue>, encoding: Option<HeaderValue>, stream| async move {
            let is_text = is_text(kind.as_ref(), takes_text)?;
            if encoding.is_some_and(|encoding| encoding != "identity") {
                return Err(ApiError::new(Code::UnsupportedMediaType, "the body is compressed")
                    .next("send it without content-encoding"));
            }
            let bytes = tokio::time::timeout(limits.timeout, collect(stream, limits.bytes)).await;
            let bytes = bytes.map_err(|_| {
                let seconds = limits.timeout.as_secs_f32();
                ApiError::new(Code::BodyTimeout, format!("the body was not complete after {seconds} s"))
                    .header(CONNECTION, HeaderValue::from_static("close"))
            })?;
            Ok(Raw { bytes: bytes?, is_text })
        },
    )
}

/// A header that may be absent, and that may hold any bytes.
fn header(
    name: &'static str,
) -> impl Filter<Extract = (Option<HeaderValue>,), Error = std::convert::Infallible> + Clone {
    warp::header::value(name).map(Some).or(warp::any().map(|| None)).unify()
}

fn is_text(kind: Option<&HeaderValue>, takes_text: bool) -> Result<bool, ApiError> {
    let expected = if takes_text { "application/json or text/plain" } else { "application/json" };
    let Some(kind) = kind else { return Ok(false) };
    let kind = kind.to_str().map_err(|_| unsupported(expected))?;
    let (essence, parameters) = kind.split_once(';').unwrap_or((kind, ""));
    let essence = essence.trim().to_ascii_lowercase();
    let charset = parameters.split(';').filter_map(|parameter| parameter.trim().split_once('='));
    let is_foreign = charset.filter(|(name, _)| name.eq_ignore_ascii_case("charset")).any(|(_, value)| {
        !["utf-8", "utf8", "us-ascii"].contains(&value.trim_matches('"').to_ascii_lowercase().as_str())
    });
    match essence.as_str() {
        _ if is_foreign => Err(unsupported("a charset of utf-8")),
        "application/json" => Ok(false),
        "text/plain" if takes_text => Ok(true),
        _ => Err(unsupported(expected)),
    }
}

fn unsupported(expected: &str) -> ApiError {
    ApiError::new(Code::UnsupportedMediaType, format!("the content type is not {expected}"))
        .next(format!("send {expected} and say so in the content-type header"))
}

async fn collect<S, B>(stream: S, most: usize) -> Result<Vec<u8>, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let mut stream = std::pin::pin!(stream);
    let mut bytes = Vec::new();
    let mut drained = 0;
    while let Some(chunk) = stream.next().await {
        let mut chunk = chunk.map_err(|error| {
            ApiError::new(Code::BodyIncomplete, "the body broke off, or its chunks are malformed").caused_by(error)
        })?;
        while chunk.has_remaining() {
            let part = chunk.chunk();
            let length = part.len();
            if drained == 0 && bytes.len() + length <= most {
                bytes.extend_from_slice(part);
            } else {
                drained += length;
                bytes = Vec::new();
            }
            chunk.advance(length);
        }
        if drained > DRAINED_BYTES {
            break;
        }
    }
    if drained == 0 {
        return Ok(bytes);
    }
    let problem = ApiError::new(Code::BodyTooLarge, format!("the body is larger than {most} bytes"));
    Err(problem.with("limit", most).header(CONNECTION, HeaderValue::from_static("close")))
}

/// Plain text: UTF-8 without NUL.
fn plain(bytes: Vec<u8>) -> Result<String, ApiError> {
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(error.utf8_error()))?;
    if let Some(at) = text.bytes().position(|byte| byte == 0) {
        return Err(ApiError::invalid_field("text", format!("the text contains the character NUL at byte {at}"))
            .next("send the text without it"));
    }
    Ok(text)
}

fn not_utf8(error: std::str::Utf8Error) -> ApiError {
    ApiError::new(Code::NotUtf8, format!("the body is not UTF-8 from byte {} on", error.valid_up_to()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_decides_how_a_body_is_read() {
        let of = |kind: &str, takes_text| {
            is_text(Some(&HeaderValue::from_str(kind).unwrap()), takes_text).map_err(|problem| problem.code())
        };
        let refused = Err(Code::UnsupportedMediaType);
        assert_eq!(of("application/json", false), Ok(false));
        assert_eq!(of("Application/JSON; charset=\"UTF-8\"", true), Ok(false));
        assert_eq!(of("text/plain;charset=utf-8", true), Ok(true));
        assert_eq!(of("text/plain", false), refused);
        assert_eq!(of("text/plain; charset=iso-8859-1", true), refused);
        assert_eq!(of("application/x-www-form-urlencoded", true), refused);
        assert!(!is_text(None, true).unwrap());
    }

    #[test]
    fn plain_text_is_utf8_without_nul() {
        assert_eq!(plain("grüß 👋\n".into()).unwrap(), "grüß 👋\n");
        assert_eq!(plain(vec![b'a', 0xff]).unwrap_err().code(), Code::NotUtf8);
        assert_eq!(plain(b"a\0b".to_vec()).unwrap_err().code(), Code::InvalidField);
    }

    #[tokio::test]
    async fn a_body_is_refused_at_the_first_byte_too_many() {
        let body = |sizes: &[usize]| {
            let chunks: Vec<_> = sizes.iter().map(|size| Ok(bytes::Bytes::from(vec![b'x'; *size]))).collect();
            futures_util::stream::iter(chunks)
        };
        assert_eq!(collect(body(&[4, 6]), 10).await.unwrap().len(), 10);
        assert_eq!(collect(body(&[4, 7]), 10).await.unwrap_err().code(), Code::BodyTooLarge);
        // What follows the byte too many never makes the body acceptable again.
        assert_eq!(collect(body(&[11, 1]), 10).await.unwrap_err().code(), Code::BodyTooLarge);
    }
}
