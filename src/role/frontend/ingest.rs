//! `POST /v1/ingest`: lines of JSON in, as many as come, each stored as a message of its own.
//!
//! - Read as a stream: a few hundred lines are in memory, whatever the length of the body. While NATS is slow the socket is
//!   not read.
//! - Each line has a fate: stored, stored before, refused for good. A refused line stops nothing.
//! - The answer says from which line on the rest is to be sent (`next_line`), also when it is a refusal: everything before that
//!   line is dealt with. A line behind it may be stored too; sent again with the same id, it is a duplicate.
//! - Lines of one conversation are stored in the order of the upload.
//! - With `batch` a log goes without ids, which is faster and leaves the nats-server none to remember. Then only what the sender keeps
//!   guards from doubles: the names of its batches (`past`), and where the record ended before them (`after`).
//! - An upload that may have been stored in part before the duplicate window says since when (`after`): the record is searched
//!   for its lines first.

mod known;
mod line;
mod tally;
mod way;

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Semaphore;
use tokio_util::io::StreamReader;
use uuid::Uuid;
use warp::http::HeaderValue;
use warp::http::header::CONNECTION;
use warp::reply::{Reply, Response};

use self::known::Known;
use self::line::{Line, Logged};
use self::tally::Tally;
use self::way::{InBatch, Log, Questions, Stop, Way};
use super::callers::Sent;
use super::problems;
use super::state::Front;
use crate::bus::server::BATCHES;
use crate::bus::{Batch, Bulk, LinkEvents};
use crate::domain::Timestamp;
use crate::domain::limits::LINE_BYTES;
use crate::web::auth::ServiceToken;
use crate::web::inflate::Packing;
use crate::web::lines::{self, Lines};
use crate::web::query::Query;
use crate::web::{ApiError, Code};

/// Longest name of a source, in bytes.
const SOURCE_BYTES: usize = 512;
/// An upload whose lines are looked for in the record has at most so many bytes, unpacked.
const SEARCHED_BYTES: usize = 8 << 20;
/// Batches that one upload may name as those of earlier tries.
const PAST_BATCHES: usize = 64;
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
    /// Lines of it may be in the record behind this sequence.
    after: Option<u64>,
    /// The name under which its lines go without ids.
    batch: Option<Uuid>,
    /// Those of earlier tries.
    past: Vec<Uuid>,
    packing: Packing,
}

impl Order {
    fn of(query: Query, encoding: Option<&str>) -> Result<Self, ApiError> {
        let query = query.only(&["as", "source", "line", "after", "batch", "past"])?;
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
        let after = query.parse("after", "a sequence of the stream")?;
        if as_user && after.is_some() {
            let detail = "with `as=user` each id is looked for in any case: leave the parameter \"after\" out";
            return Err(ApiError::invalid_field("after", detail));
        }
        let batch: Option<Uuid> = query.parse("batch", "a UUID that no upload has had before")?;
        if batch.is_some() && (as_user || source.is_none()) {
            let detail = "a batch is of a log, and has a `source`: else its lines could not be found in the record";
            return Err(ApiError::invalid_field("batch", detail));
        }
        let names = query.text("past").unwrap_or_default().split(',').filter(|name| !name.is_empty());
        let past: Result<Vec<_>, _> = names.map(Uuid::parse_str).collect();
        let past = past.ok().filter(|past| past.len() <= PAST_BATCHES && (past.is_empty() || after.is_some()));
        let Some(past) = past else {
            let detail = format!(
                "the parameter \"past\" is the `batch` of each earlier try, at most {PAST_BATCHES}, with commas between them, \
                 and goes with `after`"
            );
            return Err(ApiError::invalid_field("past", detail));
        };
        Ok(Self { as_user, source, first_line, after, batch, past, packing: Packing::of_header(encoding)? })
    }

    fn line<'a>(&'a self, bytes: &'a [u8], number: u64) -> Line<'a> {
        // Some editors begin a file with a byte order mark.
        let bytes = if number == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
        Line { bytes, number, source: self.source.as_deref() }
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

/// Where the record ends: what is uploaded from now on lies behind it.
#[derive(Debug, Serialize)]
struct End {
    last_seq: u64,
}

pub(super) async fn get_ingest(front: Arc<Front>, sent: Sent, query: Query) -> Result<Response, ApiError> {
    front.ingest.verify(sent)?;
    query.only(&[])?;
    let stream = front.bus.stream_state().await.map_err(|error| problems::from_bus(&error))?;
    Ok(warp::reply::json(&End { last_seq: stream.last_seq }).into_response())
}

/// Takes the whole body in; the tally is right however it ends.
async fn take_in(front: &Front, order: &Order, body: &mut Body, tally: &mut Tally) -> Result<(), ApiError> {
    let Ok(_place) = front.ingest.places.try_acquire() else {
        let detail = "as many uploads as this frontend serves at once are under way";
        return Err(ApiError::new(Code::Overloaded, detail).retry_after(Duration::from_secs(1)));
    };
    let begun = Timestamp::now();
    is_steady(front, begun).map_err(|Stop(problem)| problem)?;
    let reader = order.packing.unpack(StreamReader::new(body));
    // First: what is looked for next must not come later.
    front.bus.end_batches(&order.past).await.map_err(|error| problems::from_bus(&error))?;
    let (reader, known) = match order.after {
        Some(after) => search(front, order, reader, after).await.map_err(|Stop(problem)| problem)?,
        None => (reader, Known::new()),
    };
    let mut way = match order.batch {
        Some(name) => Way::Batch(InBatch::new(batch(front, name).await?, known)),
        None if order.as_user => Way::User(Questions::default()),
        None => Way::Log(Log::new(bulk(front), known)),
    };
    let mut lines = Lines::new(reader, LINE_BYTES);
    let read = read_all(front, (order, begun), &mut lines, &mut way, tally).await;
    // Whatever ended it, what is under way is waited for, so that the tally is right. With NATS away that ends at once.
    let settled = way.settle(front, tally).await;
    tally.settle(settled.is_ok());
    tally.close(&front.metrics);
    if let Way::Log(log) = way
        && let Some(bulk) = log.idle()
    {
        front.ingest.idle.lock().unwrap_or_else(PoisonError::into_inner).push(bulk);
    }
    match (read, settled) {
        (Err(Stop(problem)), Ok(())) | (_, Err(Stop(problem))) => Err(problem),
        (Ok(()), Ok(())) => Ok(()),
    }
}

/// Reads the whole body, and which of its lines the record has behind `after`.
async fn search<'a>(
    front: &Front,
    order: &Order,
    reader: impl AsyncRead + Send + Unpin,
    after: u64,
) -> Result<(Box<dyn AsyncRead + Send + Unpin + 'a>, Known), Stop> {
    let mut reader = reader.take(u64::try_from(SEARCHED_BYTES).unwrap_or(u64::MAX) + 1);
    let mut body = Vec::with_capacity(64 * 1024);
    while in_time(front, reader.read_buf(&mut body)).await? > 0 {}
    if body.len() > SEARCHED_BYTES {
        let detail = format!("with `after` an upload has at most {SEARCHED_BYTES} bytes, unpacked");
        return Err(Stop(ApiError::new(Code::BodyTooLarge, detail).next("send it in parts, each of whole lines")));
    }
    let mut wanted = HashSet::new();
    let mut lines = Lines::new(&body[..], LINE_BYTES);
    let (mut number, mut more) = (order.first_line, true);
    while more {
        more = in_time(front, lines.fill()).await?;
        while let Some(line) = lines.take() {
            if let lines::Line::Whole(bytes) = line
                && let Ok(Logged { message, .. }) = order.line(bytes, number).log()
            {
                wanted.insert((message.conversation, message.id));
            }
            number += 1;
        }
    }
    let known = known::find(front, after, wanted).await?;
    Ok((Box::new(io::Cursor::new(body)), known))
}

/// A line to the stream that is free, or a new one.
fn bulk(front: &Front) -> Bulk {
    let idle = front.ingest.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    idle.unwrap_or_else(|| front.bus.bulk(&front.ingest.name, front.ingest.events.clone()))
}

async fn batch(front: &Front, name: Uuid) -> Result<Batch, ApiError> {
    let from_bus = |error| problems::from_bus(&error);
    if !front.bus.stream_state().await.map_err(from_bus)?.batches {
        let detail =
            format!("this NATS takes no batches: it needs nats-server {BATCHES} or newer, and then `yalo init`");
        return Err(ApiError::invalid_field("batch", detail).next("send it without `batch`"));
    }
    front.bus.batch(&front.ingest.name, front.ingest.events.clone(), name).await.map_err(from_bus)
}

async fn read_all<'a, R: AsyncRead + Unpin>(
    front: &'a Front,
    (order, begun): (&Order, Timestamp),
    lines: &mut Lines<R>,
    way: &mut Way<'a>,
    tally: &mut Tally,
) -> Result<(), Stop> {
    let mut more = true;
    loop {
        while let Some(line) = lines.take() {
            is_steady(front, begun)?;
            let number = tally.read_line();
            match line {
                lines::Line::TooLong => {
                    let detail = format!("the line has more than {LINE_BYTES} bytes");
                    tally.refuse(number, &ApiError::new(Code::LineTooLong, detail));
                }
                lines::Line::Whole(bytes) => {
                    let line = order.line(bytes, number);
                    if !line.bytes.trim_ascii().is_empty() {
                        way.take(front, line, tally).await?;
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
    let mut reading = std::pin::pin!(in_time(front, lines.fill()));
    loop {
        tokio::select! {
            biased;
            read = reading.as_mut() => return read,
            attended = way.attend(front, tally), if !way.is_idle() => attended?,
        }
    }
}

/// What is read of the body, unless nothing comes for too long or this frontend stops.
async fn in_time<T>(front: &Front, reading: impl Future<Output = io::Result<T>>) -> Result<T, Stop> {
    let idle = Duration::from_millis(front.config.body_timeout_ms);
    let read = tokio::select! {
        biased;
        () = front.stop.cancelled() => return Err(Stop(stopping())),
        read = tokio::time::timeout(idle, reading) => read,
    };
    let problem = match read {
        Ok(Ok(read)) => return Ok(read),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            ApiError::new(Code::BodyIncomplete, "the body broke off before its end").caused_by(error)
        }
        Ok(Err(error)) => ApiError::new(Code::BodyIncomplete, format!("the body cannot be unpacked: {error}")),
        Err(_) => ApiError::new(Code::BodyTimeout, format!("nothing came for {} s", idle.as_secs_f32())),
    };
    Err(Stop(problem.next("send the rest from line `next_line` on")))
}

/// Whether what is read was sent just now. Else another frontend may have taken it meanwhile, and its ids may be forgotten.
fn is_steady(front: &Front, begun: Timestamp) -> Result<(), Stop> {
    if front.pulse.is_steady(begun, Timestamp::now()) {
        return Ok(());
    }
    let detail = "this frontend stood still: another one may have taken these lines meanwhile";
    Err(Stop(ApiError::unavailable(detail, Duration::from_secs(1))))
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
