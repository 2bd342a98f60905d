//! The server over real connections: what slow, broken and too many clients get, and how a stop ends each kind.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use warp::Filter;
use warp::http::HeaderValue;

use super::*;
use crate::web::assets::{self, Asset};
use crate::web::body::{self, BodyLimits};
use crate::web::ops::{self, Ops, Readiness};
use crate::web::problem::{self, ApiError};
use crate::web::socket::{self, Received, SocketOptions};
use crate::web::{method, query, sse};

/// Nothing here may take longer: a hang is a failure with a name.
const LIMIT: Duration = Duration::from_secs(10);
const LIMITS: BodyLimits = BodyLimits { bytes: 1000, timeout: Duration::from_millis(300) };
static PAGES: [Asset; 2] = [
    Asset { path: "/", content_type: assets::HTML, bytes: b"<!doctype html>" },
    Asset { path: "/page.js", content_type: assets::JAVASCRIPT, bytes: b"export {}" },
];

struct Running {
    address: String,
    connections: Arc<Connections>,
    readiness: Readiness,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Running {
    /// Stops and waits for the last task; the test fails if one does not end.
    async fn stopped(self) {
        self.stop.cancel();
        self.tasks.close();
        timeout(LIMIT, self.tasks.wait()).await.expect("every task ends at a stop");
        assert_eq!(self.connections.count(), 0);
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn raw(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }
}

fn start(change: impl FnOnce(&mut ServeOptions)) -> Running {
    let listener = bind("127.0.0.1:0", "test.listen").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut options = ServeOptions::default();
    change(&mut options);
    let (tasks, stop, readiness) = (TaskTracker::new(), CancellationToken::new(), Readiness::default());
    let connections = Arc::clone(&options.connections);
    let routes = problem::finish(routes(&readiness, &tasks, &stop));
    tasks.spawn(serve(listener, routes, options, tasks.clone(), stop.clone()));
    Running { address, connections, readiness, tasks, stop }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Post {
    text: String,
}

fn routes(
    readiness: &Readiness,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> impl Filter<Extract = (Response,), Error = warp::Rejection> + Clone + use<> {
    use warp::reply::Reply;

    let post = warp::path!("post").and(method::post()).and(body::json_or_text(LIMITS)).then(
        |body: Result<body::Payload<Post>, ApiError>| async move {
            let text = match body? {
                body::Payload::Json(Post { text }) => text,
                body::Payload::Text(text) => text,
            };
            Ok::<_, ApiError>(warp::reply::json(&json!({ "text": text })))
        },
    );
    let list = warp::path!("post").and(method::get()).and(query::query()).then(|query: query::Query| async move {
        let limit = query.only(&["limit"])?.parse::<u16>("limit", "a number")?;
        Ok::<_, ApiError>(warp::reply::json(&json!({ "limit": limit })))
    });
    let panics = warp::path!("panic").and(method::get()).then(|| async { panic_now() });
    let (sse_stop, socket_stop, tasks) = (stop.clone(), stop.clone(), tasks.clone());
    let events = warp::path!("events").and(method::get()).map(move || {
        let frames = futures_util::stream::once(async { sse::event("hello", None, "you") })
            .chain(futures_util::stream::pending());
        sse::response(frames, Some(sse::event("bye", None, "{}")), sse_stop.clone())
    });
    let options = SocketOptions { protocol: "yalo.v1", message_bytes: 1000, write_timeout: Duration::from_millis(500) };
    let socket = warp::path!("ws").and(method::get()).and(socket::upgrade(options, Origins::default())).map(
        move |upgrade: Result<socket::Upgrade, ApiError>| match upgrade {
            Ok(upgrade) => upgrade.accept(&tasks, socket_stop.clone(), echo),
            Err(problem) => problem.into_response(),
        },
    );
    let ops = Ops {
        readiness: readiness.clone(),
        metrics: Arc::new(|| "# EOF\n".to_owned()),
        configuration: Arc::new(|| json!({"nats": {"password": "***"}})),
    };
    let (post, list) = (post.map(Reply::into_response), list.map(Reply::into_response));
    post.or(list)
        .unify()
        .or(events)
        .unify()
        .or(socket)
        .unify()
        .or(panics)
        .unify()
        .or(ops::routes(ops))
        .unify()
        .or(assets::routes(&PAGES))
        .unify()
}

fn panic_now() -> Response {
    panic!("on purpose")
}

async fn echo(mut socket: socket::Socket) {
    loop {
        match socket.receive().await {
            Received::Text(text) => {
                if socket.send(text).await.is_err() {
                    return;
                }
            }
            Received::Pong => {}
            Received::Closed => return,
            Received::Stopping => return socket.close(CloseCode::Away, "going down").await,
        }
    }
}

/// Sends bytes as they are and returns everything until the server closes.
async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    read_all(stream).await
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is the end too.
    let _end = timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("the server closes");
    String::from_utf8_lossy(&answer).into_owned()
}

fn document(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    serde_json::from_str(body).expect("a JSON body")
}

#[tokio::test]
async fn an_answer_carries_its_id_and_the_security_headers() {
    let server = start(|_| ());
    let client = reqwest::Client::new();
    let request = client.get(server.url("/post?limit=5")).header("x-request-id", "mine-1");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "mine-1");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers()["referrer-policy"], "no-referrer");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert!(!answer.headers().contains_key("content-security-policy"));
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"limit": 5}));
    let page = client.get(server.url("/")).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(
        (&page.headers()["cache-control"], page.headers().contains_key("etag")),
        (&HeaderValue::from_static("no-cache"), true)
    );
    drop(client);
    server.stopped().await;
}

#[tokio::test]
async fn every_refusal_is_a_problem_document_with_the_id_of_its_request() {
    let server = start(|_| ());
    let client = reqwest::Client::new();
    let json_post =
        |body: &'static str| client.post(server.url("/post")).header("content-type", "application/json").body(body);
    let cases = [
        (client.get(server.url("/nowhere")), 404, "not_found"),
        (client.delete(server.url("/post")), 405, "method_not_allowed"),
        (client.get(server.url("/post?limit=x")), 400, "invalid_field"),
        (client.get(server.url("/post?limits=1")), 400, "unknown_field"),
        (client.get(server.url("/ws")), 426, "upgrade_required"),
        (json_post("{"), 400, "invalid_json"),
        (json_post("{\"text\":1}"), 400, "invalid_field"),
        (json_post("{\"text\":\"\",\"odd\":1}"), 400, "unknown_field"),
        (json_post(r#"{"text":"\ud800"}"#), 400, "invalid_json"),
        (client.post(server.url("/post")).header("content-type", "text/html").body("x"), 415, "unsupported_media_type"),
        (client.post(server.url("/post")).header("content-encoding", "gzip").body("x"), 415, "unsupported_media_type"),
        (client.post(server.url("/post")).header("content-type", "text/plain").body(vec![0xff]), 400, "not_utf8"),
        (client.post(server.url("/post")).body("x".repeat(500_000)), 413, "body_too_large"),
        (client.get(server.url("/panic")), 500, "internal"),
    ];
    for (request, status, code) in cases {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{code}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{code}");
        let request_id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        let allow = answer.headers().get("allow").cloned();
        let document: Value = answer.json().await.unwrap();
        assert_eq!((&document["code"], &document["request_id"]), (&json!(code), &json!(request_id)));
        assert_eq!(document["status"], status);
        assert!(document["next"].is_string() && document["title"].is_string() && document["detail"].is_string());
        if status == 405 {
            assert_eq!(allow.unwrap(), "GET, HEAD, POST, OPTIONS");
        }
        assert!(!document.to_string().contains("on purpose"), "a cause was sent: {document}");
    }
    let head = client.head(server.url("/post")).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.text().await.unwrap()), (200, String::new()));
    let options = client.request(reqwest::Method::OPTIONS, server.url("/post")).send().await.unwrap();
    assert_eq!(
        (options.status().as_u16(), &options.headers()["allow"]),
        (204, &HeaderValue::from_static("GET, HEAD, POST, OPTIONS"))
    );
    drop(client);
    server.stopped().await;
}

#[tokio::test]
async fn a_named_origin_may_read_answers_and_no_other() {
    let server = start(|options| options.origins = Origins::parse(&["https://app.example".to_owned()]).unwrap());
    let client = reqwest::Client::new();
    let ask = |origin: &'static str| {
        let request = client.request(reqwest::Method::OPTIONS, server.url("/post"));
        request.header("origin", origin).header("access-control-request-method", "POST")
    };
    let answer = ask("https://app.example").send().await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://app.example");
    assert!(answer.headers()["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
    let answer = ask("https://evil.example").send().await.unwrap();
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    let post = client.post(server.url("/post")).header("origin", "https://app.example").body("{\"text\":\"x\"}");
    assert_eq!(post.send().await.unwrap().headers()["access-control-allow-origin"], "https://app.example");
    drop(client);
    server.stopped().await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let server = start(|options| options.header_timeout = Duration::from_millis(200));
    let mut stream = server.raw().await;
    assert_eq!(exchange(&mut stream, "GET /post HTTP/1.1\r\nhost: x\r\n").await, "");
    // One that says nothing at all, too.
    let mut silent = server.raw().await;
    assert_eq!(read_all(&mut silent).await, "");
    server.stopped().await;
}

#[tokio::test]
async fn a_body_that_never_ends_is_refused_in_time() {
    let server = start(|_| ());
    let mut slow = server.raw().await;
    let head = "POST /post HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"text\":";
    let answer = exchange(&mut slow, head).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(document(&answer)["code"], "body_timeout");

    let mut endless = server.raw().await;
    let head = "POST /post HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("{:x}\r\n{}\r\n", 10_000, "x".repeat(10_000));
    let answer = exchange(&mut endless, &format!("{head}{}", chunk.repeat(150))).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    let mut stalled = server.raw().await;
    let answer = exchange(&mut stalled, &format!("{head}5\r\nhello\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");

    let mut malformed = server.raw().await;
    let answer = exchange(&mut malformed, &format!("{head}zz\r\n")).await;
    assert_eq!(document(&answer)["code"], "body_incomplete");
    server.stopped().await;
}

#[tokio::test]
async fn a_chunked_body_within_the_limit_is_read() {
    let server = start(|_| ());
    let mut stream = server.raw().await;
    let request = "POST /post HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
        8\r\n{\"text\":\r\n6\r\n\"h\u{f6}\"}\r\n0\r\n\r\n";
    let answer = exchange(&mut stream, request).await;
    assert_eq!(document(&answer), json!({"text": "h\u{f6}"}));
    server.stopped().await;
}

#[tokio::test]
async fn one_connection_too_many_is_refused_at_once_and_told_why() {
    let server = start(|options| options.max_connections = 2);
    let (first, second) = (server.raw().await, server.raw().await);
    let mut third = server.raw().await;
    let answer = exchange(&mut third, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("connection: close") && answer.contains("retry-after: 1"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    assert_eq!(document(&answer)["code"], "overloaded");
    assert_eq!((server.connections.count(), server.connections.refused()), (2, 1));
    drop((first, second));
    eventually(|| server.connections.count() == 0).await;
    let answer = reqwest::get(server.url("/livez")).await.unwrap();
    assert_eq!(answer.status(), 200);
    server.stopped().await;
}

/// Yields to the other tasks until it is so.
async fn eventually(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LIMIT, waiting).await.expect("it becomes so");
}

#[tokio::test]
async fn a_stop_ends_a_stream_by_its_farewell_and_an_idle_connection_at_once() {
    let server = start(|_| ());
    let mut idle = server.raw().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0u8; 15];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let mut answer = reqwest::get(server.url("/events")).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.headers()["x-accel-buffering"], "no");
    let mut seen = String::new();
    while !seen.contains("hello") {
        seen.push_str(&String::from_utf8_lossy(&answer.chunk().await.unwrap().unwrap()));
    }
    server.stop.cancel();
    while let Some(chunk) = answer.chunk().await.unwrap() {
        seen.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert_eq!(seen, "retry: 2000\n\nevent: hello\ndata: you\n\nevent: bye\ndata: {}\n\n");
    read_all(&mut idle).await;
    server.stopped().await;
}

#[tokio::test]
async fn a_stop_lets_a_request_in_flight_finish() {
    let server = start(|_| ());
    let mut stream = server.raw().await;
    let head = b"POST /post HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 12\r\n\r\n";
    stream.write_all(head).await.unwrap();
    // Says that the route has begun to read the body.
    let mut go_on = [0u8; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    server.stop.cancel();
    let answer = exchange(&mut stream, "{\"text\":\"x\"}").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.stopped().await;
}

type Client = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>;

async fn connect(server: &Running) -> Client {
    let mut request = format!("ws://{}/ws", server.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("yalo.v1"));
    let (client, answer) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "yalo.v1");
    client
}

async fn next(client: &mut Client) -> Option<Result<Message, Error>> {
    timeout(LIMIT, client.next()).await.expect("a frame in time")
}

async fn close_code(client: &mut Client) -> CloseCode {
    match next(client).await {
        Some(Ok(Message::Close(Some(frame)))) => frame.code,
        other => panic!("no close frame but {other:?}"),
    }
}

#[tokio::test]
async fn a_socket_echoes_counts_as_a_connection_and_closes_with_1001_at_a_stop() {
    let server = start(|_| ());
    let mut client = connect(&server).await;
    for text in ["hello", "grüß 👋", ""] {
        client.send(Message::text(text)).await.unwrap();
        assert_eq!(next(&mut client).await.unwrap().unwrap(), Message::text(text));
    }
    client.send(Message::Ping("p".into())).await.unwrap();
    assert_eq!(next(&mut client).await.unwrap().unwrap(), Message::Pong("p".into()));
    assert_eq!(server.connections.count(), 1);
    server.stop.cancel();
    assert_eq!(close_code(&mut client).await, CloseCode::Away);
    assert!(next(&mut client).await.is_none());
    server.stopped().await;
}

#[tokio::test]
async fn a_socket_that_breaks_the_rules_is_told_which() {
    let server = start(|_| ());
    let cases = [(Message::text("x".repeat(1001)), CloseCode::Size), (Message::binary("x"), CloseCode::Unsupported)];
    for (message, code) in cases {
        let mut client = connect(&server).await;
        client.send(message).await.unwrap();
        assert_eq!(close_code(&mut client).await, code);
    }
    // A client that closes is answered in kind.
    let mut client = connect(&server).await;
    client.close(None).await.unwrap();
    assert!(matches!(next(&mut client).await, Some(Ok(Message::Close(_)))));
    eventually(|| server.connections.count() == 0).await;
    server.stopped().await;
}

#[tokio::test]
async fn a_dead_or_deaf_socket_does_not_hold_up_a_stop() {
    let server = start(|_| ());
    let gone = connect(&server).await;
    let deaf = connect(&server).await;
    drop(gone);
    server.stopped().await;
    drop(deaf);
}

#[tokio::test]
async fn a_stranger_may_not_open_a_socket_from_a_page() {
    let server = start(|_| ());
    let mut request = format!("ws://{}/ws", server.address).into_client_request().unwrap();
    request.headers_mut().insert("origin", HeaderValue::from_static("https://evil.example"));
    match tokio_tungstenite::connect_async(request).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 403),
        other => panic!("{other:?}"),
    }
    server.stopped().await;
}

#[tokio::test]
async fn health_names_each_dependency() {
    let server = start(|_| ());
    let nats = server.readiness.dependency("nats");
    nats.set_ready(false, "connecting");
    let answer = reqwest::get(server.url("/readyz")).await.unwrap();
    assert_eq!(answer.status(), 503);
    let document: Value = answer.json().await.unwrap();
    assert_eq!((&document["ready"], &document["dependencies"][0]["name"]), (&json!(false), &json!("nats")));
    assert_eq!(document["dependencies"][0]["reason"], "connecting");
    nats.set_ready(true, "");
    assert_eq!(reqwest::get(server.url("/readyz")).await.unwrap().status(), 200);
    assert_eq!(reqwest::get(server.url("/livez")).await.unwrap().status(), 200);
    let metrics = reqwest::get(server.url("/metrics")).await.unwrap();
    assert!(metrics.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    assert_eq!(metrics.text().await.unwrap(), "# EOF\n");
    let config: Value = reqwest::get(server.url("/config")).await.unwrap().json().await.unwrap();
    assert_eq!(config["nats"]["password"], "***");
    server.stopped().await;
}
