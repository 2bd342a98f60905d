//! `POST /v1/ingest`: lines of JSON in, as many as come, each stored as a message of its own.
//!
//! - Read as a stream: a few hundred lines are in memory, whatever the length of the body. While NATS is slow the socket is
//!   not read.
//! - Each line has a fate: stored, stored before, refused for good. A refused line stops nothing.
//! - The answer says from which line on the rest is to be sent (`next_line`), also when it is a refusal: everything before that
//!   line is dealt with. A line behind it may be stored too; sent again with the same id, it is a duplicate.
//! - Lines of one conversation are stored in the order of the upload.

mod line;
mod tally;
mod way;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Semaphore;
use tokio_util::io::StreamReader;
use warp::http::HeaderValue;
use warp::http::header::CONNECTION;
use warp::reply::{Reply, Response};

use self::line::Line;
use self::tally::Tally;
use self::way::{Questions, Stop, Way};
use super::callers::Sent;
use super::state::Front;
use crate::bus::{Bulk, LinkEvents};
use crate::domain::limits::LINE_BYTES;
use crate::web::auth::ServiceToken;
use crate::web::inflate::Packing;
use crate::web::lines::{self, Lines};
use crate::web::query::Query;
use crate::web::{ApiError, Code};

/// Longest name of a source, in bytes.
const SOURCE_BYTES: usize = 512;
/// After a refusal so much of the body is still read, so that the client hears why instead of a broken connection.
const DRAINED_BYTES: usize = 64 << 20;
const DRAINED_FOR: Duration = Duration::from_secs(5);

/// What the uploads of one frontend share.
pub(super) struct Ingest {
    token: Option<ServiceToken>,
    places: Semaphore,
    /// Lines to the stream that nobody uses now.
    idle: Mutex<Vec<Bulk>>,
    name: String,
    events: LinkEvents,
}

impl Ingest {
    /// With an empty token nobody may.
    pub(super) fn new(token: &str, uploads: usize, name: String, events: LinkEvents) -> Self {
        let token = (!token.is_empty()).then(|| ServiceToken::new(token));
        Self { token, places: Semaphore::new(uploads), idle: Mutex::default(), name, events }
    }

    fn verify(&self, sent: Sent) -> Result<(), ApiError> {
        let Some(token) = &self.token else {
            return Err(ApiError::new(
                Code::Forbidden,
                "this frontend takes no uploads, since auth.ingest_token is empty",
            )
            .next(
                "the operator sets auth.ingest_token to a secret of 32 characters or more and restarts the frontend",
            ));
        };
        token.verify(sent?.as_ref(), "the one of auth.ingest_token")
    }
}

/// The body of a request, as it comes in.
pub(super) type Body = std::pin::Pin<Box<dyn Stream<Item = io::Result<bytes::Bytes>> + Send>>;

/// A request's body as bytes; what it ends with early is an `UnexpectedEof`.
pub(super) fn body<B: Buf>(stream: impl Stream<Item = Result<B, warp::Error>> + Send + 'static) -> Body {
    Box::pin(stream.map(|chunk| {
        let broken = |error| io::Error::new(io::ErrorKind::UnexpectedEof, error);
        chunk.map_err(broken).map(|mut chunk| chunk.copy_to_bytes(chunk.remaining()))
    }))
}

pub(super) struct IngestCall {
    pub(super) sent: Sent,
    pub(super) query: Query,
    pub(super) encoding: Option<String>,
    pub(super) body: Body,
}

/// What an upload asks for besides its lines.
struct Order {
    as_user: bool,
    source: Option<String>,
    first_line: u64,
    packing: Packing,
}

impl Order {
    fn of(query: Query, encoding: Option<&str>) -> Result<Self, ApiError> {
        let query = query.only(&["as", "source", "line"])?;
        let as_user = match query.text("as") {
            None | Some("log") => false,
            Some("user") => true,
            Some(_) => return Err(ApiError::invalid_field("as", "the parameter \"as\" is log or user")),
        };
        let source = query.text("source").map(ToOwned::to_owned);
        if source.as_ref().is_some_and(|source| !(1..=SOURCE_BYTES).contains(&source.len())) {
            let detail = format!("the parameter \"source\" has 1 to {SOURCE_BYTES} bytes");
            return Err(ApiError::invalid_field("source", detail));
        }
        let expected = "the number of the first line that is sent, from 1 on";
        let first_line = query.parse("line", expected)?.unwrap_or(1);
        if first_line == 0 {
            return Err(ApiError::invalid_field("line", format!("the parameter \"line\" must be {expected}")));
        }
        Ok(Self { as_user, source, first_line, packing: Packing::of_header(encoding)? })
    }
}

pub(super) async fn post_ingest(front: Arc<Front>, mut call: IngestCall) -> Result<Response, ApiError> {
    let mut tally = None;
    let taken = {
        let (query, encoding) = (std::mem::take(&mut call.query), call.encoding.as_deref());
        let allowed = front.ingest.verify(call.sent).and_then(|()| Order::of(query, encoding));
        match allowed {
            Ok(order) => {
                let tally = tally.insert(Tally::begin_at(order.first_line));
                take_in(&front, &order, &mut call.body, tally).await
            }
            Err(problem) => Err(problem),
        }
    };
    match (taken, tally) {
        (Ok(()), Some(tally)) => Ok(warp::reply::json(&tally).into_response()),
        (Ok(()), None) => Err(ApiError::internal(anyhow::anyhow!("an upload without a tally"))),
        (Err(problem), tally) => {
            // The answer goes out at once; what the client is still sending is read beside it for a while.
            front.tasks.spawn(drain(call.body));
            let problem = problem.header(CONNECTION, HeaderValue::from_static("close"));
            Err(match tally {
                Some(tally) => tally.told_in(problem),
                None => problem,
            })
        }
    }
}

/// Takes the whole body in; the tally is right however it ends.
async fn take_in(front: &Front, order: &Order, body: &mut Body, tally: &mut Tally) -> Result<(), ApiError> {
    let Ok(_place) = front.ingest.places.try_acquire() else {
        let detail = "as many uploads as this frontend serves at once are under way";
        return Err(ApiError::new(Code::Overloaded, detail).retry_after(Duration::from_secs(1)));
    };
    let mut way = if order.as_user { Way::User(Questions::default()) } else { Way::Log(Box::new(bulk(front))) };
    let reader = order.packing.unpack(StreamReader::new(body));
    let mut lines = Lines::new(reader, LINE_BYTES);
    let read = read_all(front, order, &mut lines, &mut way, tally).await;
    // Whatever ended it, what is under way is waited for, so that the tally is right. With NATS away that ends at once.
    let settled = way.settle(tally).await;
    tally.close(&front.metrics);
    if let Way::Log(bulk) = way
        && bulk.is_idle()
    {
        front.ingest.idle.lock().unwrap_or_else(PoisonError::into_inner).push(*bulk);
    }
    match (read, settled) {
        (Err(Stop(problem)), Ok(())) | (_, Err(Stop(problem))) => Err(problem),
        (Ok(()), Ok(())) => Ok(()),
    }
}

/// A line to the stream that is free, or a new one.
fn bulk(front: &Front) -> Bulk {
    let idle = front.ingest.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    idle.unwrap_or_else(|| front.bus.bulk(&front.ingest.name, front.ingest.events.clone()))
}

async fn read_all<'a, R: AsyncRead + Unpin>(
    front: &'a Front,
    order: &Order,
    lines: &mut Lines<R>,
    way: &mut Way<'a>,
    tally: &mut Tally,
) -> Result<(), Stop> {
    let mut more = true;
    loop {
        while let Some(line) = lines.take() {
            let number = tally.read_line();
            match line {
                lines::Line::TooLong => {
                    let detail = format!("the line has more than {LINE_BYTES} bytes");
                    tally.refuse(number, &ApiError::new(Code::LineTooLong, detail));
                }
                lines::Line::Whole(bytes) => {
                    // Some editors begin a file with a byte order mark.
                    let bytes = if number == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
                    if !bytes.trim_ascii().is_empty() {
                        way.take(front, Line { bytes, number, source: order.source.as_deref() }, tally).await?;
                    }
                }
            }
            if front.stop.is_cancelled() {
                return Err(Stop(stopping()));
            }
        }
        if !more {
            return Ok(());
        }
        more = fill(front, lines, way, tally).await?;
    }
}

/// Reads on; meanwhile what is under way is looked after.
async fn fill<R: AsyncRead + Unpin>(
    front: &Front,
    lines: &mut Lines<R>,
    way: &mut Way<'_>,
    tally: &mut Tally,
) -> Result<bool, Stop> {
    let idle = Duration::from_millis(front.config.body_timeout_ms);
    let mut reading = std::pin::pin!(tokio::time::timeout(idle, lines.fill()));
    loop {
        let read = tokio::select! {
            biased;
            () = front.stop.cancelled() => return Err(Stop(stopping())),
            read = reading.as_mut() => read,
            settled = way.settle(tally), if !way.is_idle() => {
                settled?;
                continue;
            }
        };
        let problem = match read {
            Ok(Ok(more)) => return Ok(more),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                ApiError::new(Code::BodyIncomplete, "the body broke off before its end").caused_by(error)
            }
            Ok(Err(error)) => ApiError::new(Code::BodyIncomplete, format!("the body cannot be unpacked: {error}")),
            Err(_) => ApiError::new(Code::BodyTimeout, format!("nothing came for {} s", idle.as_secs_f32())),
        };
        return Err(Stop(problem.next("send the rest from line `next_line` on")));
    }
}

fn stopping() -> ApiError {
    ApiError::new(Code::Stopping, super::messages::STOPPING).retry_after(Duration::from_secs(1))
}

async fn drain(body: Body) {
    let mut rest = StreamReader::new(body).take(u64::try_from(DRAINED_BYTES).unwrap_or(u64::MAX));
    let drained = tokio::time::timeout(DRAINED_FOR, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    if !matches!(drained, Ok(Ok(_))) {
        tracing::debug!("the rest of a refused upload was not read");
    }
}
