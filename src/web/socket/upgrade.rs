//! From a request to a socket: the handshake of RFC 6455, checked before the connection changes its protocol.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::upgrade::OnUpgrade;
use sha1::{Digest, Sha1};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::Filter;
use warp::http::header::{
    CONNECTION, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::{Reply, Response};

use super::{Socket, SocketOptions};
use crate::web::origin::Origins;
use crate::web::problem::{ApiError, Code};
use crate::web::serve::{Client, client};

/// Appended to the client's key, as RFC 6455 says.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// From our 101 to the connection being ours.
const UPGRADE_TIME: Duration = Duration::from_secs(10);

/// A checked handshake, ready to be accepted.
#[derive(Debug)]
pub struct Upgrade {
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
    connection: OnUpgrade,
    client: Client,
    options: SocketOptions,
}

/// Extracts the handshake of a request: put it after the path and GET. It never rejects.
pub fn upgrade(
    options: SocketOptions,
    origins: Origins,
) -> impl Filter<Extract = (Result<Upgrade, ApiError>,), Error = Infallible> + Clone {
    warp::header::headers_cloned().and(warp::ext::optional::<OnUpgrade>()).and(client()).map(
        move |headers: HeaderMap, connection: Option<OnUpgrade>, client: Client| {
            let (accept, protocol) = check(&headers, options.protocol, &origins)?;
            let connection = connection.ok_or_else(|| upgrade_required("this connection cannot become a WebSocket"))?;
            Ok(Upgrade { accept, protocol, connection, client, options })
        },
    )
}

impl Upgrade {
    /// Who asks.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Answers 101 and runs `handler` with the socket, as a task of `tasks`; `stop` is what the socket listens to.
    pub fn accept<H, F>(self, tasks: &TaskTracker, stop: CancellationToken, handler: H) -> Response
    where
        H: FnOnce(Socket) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let Self { accept, protocol, connection, client, options } = self;
        let slot = client.slot();
        // Tracked from here on: a stop between our 101 and the first frame waits for it too.
        tasks.spawn(async move {
            let Ok(Ok(upgraded)) = timeout(UPGRADE_TIME, connection).await else { return };
            let socket = Socket::new(upgraded, options, stop).await;
            // Boxed, so that an idle socket does not keep the room of its handshake.
            Box::pin(handler(socket)).await;
            drop(slot);
        });
        let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(protocol) = protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

type Answer = (HeaderValue, Option<HeaderValue>);

fn check(headers: &HeaderMap, protocol: &'static str, origins: &Origins) -> Result<Answer, ApiError> {
    if !lists(headers, &UPGRADE, "websocket") || !lists(headers, &CONNECTION, "upgrade") {
        return Err(upgrade_required("this address speaks WebSocket only"));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(upgrade_required("the WebSocket version is not 13"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
    let Some(key) = key else {
        return Err(ApiError::invalid_field("sec-websocket-key", "the key must be 16 bytes in base64"));
    };
    if !origins.allow(headers.get(ORIGIN), headers.get(HOST)) {
        return Err(ApiError::new(Code::Forbidden, "pages of this origin may not open a socket here")
            .next("the operator may add the origin to the allowed ones"));
    }
    let asks = headers.contains_key(SEC_WEBSOCKET_PROTOCOL);
    if asks && !lists(headers, &SEC_WEBSOCKET_PROTOCOL, protocol) {
        let detail = format!("the only subprotocol here is {protocol}");
        return Err(ApiError::invalid_field("sec-websocket-protocol", detail));
    }
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(GUID).finalize();
    let accept = HeaderValue::from_str(&STANDARD.encode(digest)).map_err(ApiError::internal)?;
    Ok((accept, asks.then(|| HeaderValue::from_static(protocol))))
}

/// Whether a header holds `word` in one of its comma-separated lists.
fn lists(headers: &HeaderMap, name: &warp::http::HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
}

fn is_key(key: &HeaderValue) -> bool {
    STANDARD.decode(key.as_bytes()).is_ok_and(|bytes| bytes.len() == 16)
}

fn upgrade_required(detail: &'static str) -> ApiError {
    ApiError::new(Code::UpgradeRequired, detail)
        .header(CONNECTION, HeaderValue::from_static("upgrade"))
        .header(UPGRADE, HeaderValue::from_static("websocket"))
        .header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(changes: &[(&'static str, Option<&'static str>)]) -> Result<Answer, Code> {
        let mut headers = HeaderMap::new();
        let usual = [
            ("host", "127.0.0.1:8080"),
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (name, value) in usual.map(|(name, value)| (name, Some(value))).iter().chain(changes) {
            match value {
                Some(value) => drop(headers.insert(*name, HeaderValue::from_static(value))),
                None => drop(headers.remove(*name)),
            }
        }
        check(&headers, "yalo.v1", &Origins::default()).map_err(|problem| problem.code())
    }

    #[test]
    fn the_accept_key_is_the_one_of_the_rfc() {
        let (accept, protocol) = handshake(&[]).unwrap();
        assert_eq!((accept.to_str().unwrap(), protocol), ("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", None));
    }

    #[test]
    fn the_subprotocol_is_taken_from_a_list_and_confirmed() {
        let asks = [("sec-websocket-protocol", Some("chat, yalo.v1"))];
        assert_eq!(handshake(&asks).unwrap().1.unwrap(), "yalo.v1");
        assert_eq!(handshake(&[("sec-websocket-protocol", Some("chat"))]).unwrap_err(), Code::InvalidField);
    }

    #[test]
    fn whatever_is_no_handshake_is_refused_before_the_upgrade() {
        let cases = [
            ("upgrade", None, Code::UpgradeRequired),
            ("upgrade", Some("h2c"), Code::UpgradeRequired),
            ("connection", Some("keep-alive"), Code::UpgradeRequired),
            ("sec-websocket-version", Some("8"), Code::UpgradeRequired),
            ("sec-websocket-key", None, Code::InvalidField),
            ("sec-websocket-key", Some("c2hvcnQ="), Code::InvalidField),
            ("origin", Some("https://evil.example"), Code::Forbidden),
        ];
        for (name, value, code) in cases {
            assert_eq!(handshake(&[(name, value)]).unwrap_err(), code, "{name}: {value:?}");
        }
        assert!(handshake(&[("origin", Some("http://127.0.0.1:8080"))]).is_ok());
    }
}
