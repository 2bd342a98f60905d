//! The server over real connections: what slow, broken and too many clients get, and how a stop ends each kind.

mod answers;
mod endings;
mod limits;

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
                body::Payload::Json(Post { text }) | body::Payload::Text(text) => text,
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

/// Yields to the other tasks until it is so.
async fn eventually(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LIMIT, waiting).await.expect("it becomes so");
}
