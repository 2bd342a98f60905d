//! The accept loop: what a server owes its clients beyond routes.
//!
//! Every header has a time limit, connections are counted and capped, small answers leave at once (TCP_NODELAY), a client
//! that takes nothing is dropped, and a stop lets answers in flight finish. warp gives none of these, and its own server
//! holds twice the memory for a stream. TLS will be one more step between `accept` and `serve_connection`, here only.

mod answer;
mod bind;
mod connections;

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::reply::Response;

use super::Routes;
use super::origin::Origins;

pub use answer::{Access, Observer};
pub use bind::bind;
pub use connections::{Client, Connections, client};

/// Largest head of a request; hyper's least is 8 KiB.
const HEAD_BYTES: usize = 16 * 1024;
/// How long a refused client is given to read why.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// Refused clients that are told why at the same time; more are just cut off.
const REFUSALS: usize = 64;
/// Waits after a failed `accept`, doubling from the first to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Least time between two log lines about refused clients.
const REFUSAL_LOG: Duration = Duration::from_secs(10);

const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
    retry-after: 1\r\nconnection: close\r\ncontent-length: 166\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Too much at once\",\"status\":503,\"code\":\"overloaded\",\
    \"detail\":\"all connections of this server are in use\",\"next\":\"try again in a moment\"}";

/// How a listener is served.
#[derive(Clone)]
pub struct ServeOptions {
    /// A request's head must be complete within this time; a connection idle for longer is closed.
    pub header_timeout: Duration,
    /// Open connections, upgraded ones included; one more is refused at once.
    pub max_connections: usize,
    /// Where they are counted; share it to read the count, or to cap several listeners together.
    pub connections: Arc<Connections>,
    /// Pages of other origins that may use this server.
    pub origins: Origins,
    /// From when on each answer is the last one of its connection, so that clients go elsewhere before the stop.
    pub leaving: CancellationToken,
    /// Told of each answer, for metrics.
    pub observe: Option<Observer>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            max_connections: 10_000,
            connections: Arc::default(),
            origins: Origins::default(),
            leaving: CancellationToken::new(),
            observe: None,
        }
    }
}

/// Answers connections by `routes` until `stop`; each connection is a task of `tasks`.
///
/// Returns when nothing more is accepted. Idle connections are then closed and answers in flight finish: close `tasks`
/// and wait for it, within a limit of your own. Several calls may share one listener.
pub async fn serve(
    listener: Arc<TcpListener>,
    routes: Routes,
    options: ServeOptions,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let routes = TowerToHyperService::new(warp::service(routes));
    let options = Arc::new(options);
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let mut back_off = BACK_OFF.0;
    let mut refusal_logged: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_client(&error) => continue,
            Err(error) => {
                // Most likely out of file descriptors: those in use must be given back before another try makes sense.
                let count = options.connections.count_accept_error();
                tracing::error!(accept.errors = count, "cannot accept a connection ({error}); waiting {back_off:?}");
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(back_off) => {},
                }
                back_off = (back_off * 2).min(BACK_OFF.1);
                continue;
            }
        };
        back_off = BACK_OFF.0;
        let Some(slot) = options.connections.open(options.max_connections) else {
            if refusal_logged.is_none_or(|logged| logged.elapsed() >= REFUSAL_LOG) {
                refusal_logged = Some(Instant::now());
                let (most, refused) = (options.max_connections, options.connections.refused());
                tracing::warn!(connections.refused = refused, "all {most} connections are in use; refusing new ones");
            }
            if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                tasks.spawn(async move {
                    refuse(stream).await;
                    drop(permit);
                });
            }
            continue;
        };
        let client = Client::new(address, slot);
        tasks.spawn(connection(stream, client, routes.clone(), Arc::clone(&options), stop.clone()));
    }
}

/// Errors of `accept` that say something about the client, not about this server.
fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// One connection from its first byte to its last, or to its upgrade.
async fn connection<S>(
    stream: TcpStream,
    client: Client,
    routes: S,
    options: Arc<ServeOptions>,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(options.header_timeout).max_buf_size(HEAD_BYTES);
    // Boxed, since hyper keeps room for the service's future for the life of the connection, streams included.
    let service = service_fn(move |request| {
        Box::pin(answer::answer(request, routes.clone(), client.clone(), Arc::clone(&options)))
    });
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        },
    };
    if let Err(error) = ended {
        // The client went away, was too slow or spoke no HTTP; hyper has answered what can be answered.
        tracing::debug!("connection ended: {error}");
    }
}

/// Says why, then waits a moment for the client to read it: closing with its request unread would drop the answer.
async fn refuse(mut stream: TcpStream) {
    let telling = async {
        stream.write_all(REFUSAL).await?;
        stream.shutdown().await?;
        let mut unread = [0u8; 512];
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(REFUSAL_TIME, telling).await {
        tracing::debug!("a refused client left early: {error}");
    }
}

#[cfg(test)]
mod tests;
