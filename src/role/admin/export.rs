//! `GET /admin/v1/export`: the record or a part of it as a body without an end in sight.
//!
//! A task reads no more than one piece ahead of the client and ends when the client goes. Only a body that is complete
//! ends as such: whatever stops the task breaks the connection, so that nobody takes a part for the whole.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use warp::http::HeaderValue;
use warp::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use warp::reply::{Reply, Response};

use super::Admin;
use super::api::{self, Call};
use crate::domain::Bound;
use crate::export::{Export, ExportError, Format, Holes, Order, Packing, Selection, Whose};
use crate::web::query::Query;
use crate::web::{ApiError, Code};

/// Exports that run side by side; each reads as fast as its client takes it.
pub(super) const AT_ONCE: usize = 4;
/// A client that takes nothing for so long is cut off.
const STALLED: Duration = Duration::from_secs(30);
/// When a refused client should come again.
const AGAIN: Duration = Duration::from_secs(10);

pub(super) async fn export(admin: Arc<Admin>, call: Call) -> Result<Response, ApiError> {
    let query = call.check(&admin, &["conversation", "user", "from", "to", "format", "compress", "after"])?;
    let order = order(&query)?;
    let (format, packing) = (order.format, order.packing);
    let room = Arc::clone(&admin.exports).try_acquire_owned().map_err(|_| {
        let detail = format!("{AT_ONCE} exports are running, which is all that may at once");
        ApiError::new(Code::Overloaded, detail).retry_after(AGAIN)
    })?;
    let beginning = async {
        match Export::begin(admin.store.clone(), order).await {
            Ok(export) => Ok(Ok(export)),
            Err(ExportError::NotFound(detail)) => Ok(Err(ApiError::not_found(detail))),
            Err(ExportError::Store(error)) => Err(error),
            Err(error @ ExportError::Press(_)) => Ok(Err(ApiError::internal(error))),
        }
    };
    let export = api::read(beginning).await??;
    let next = export.end().next;
    let (parts, body) = mpsc::channel(1);
    admin.tasks.spawn(feed(export, parts, admin.stop.clone(), room));
    let mut response = warp::reply::stream(Body(Mutex::new(body))).into_response();
    let kind = match (packing, format) {
        (Packing::Gzip, _) => "application/gzip",
        (Packing::Zstd, _) => "application/zstd",
        (Packing::None, Format::Ndjson) => "application/x-ndjson",
        (Packing::None, Format::Csv) => "text/csv; charset=utf-8; header=present",
    };
    let name = format!("attachment; filename=\"yalo-export{}{}\"", format.ending(), packing.ending());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_str(&name).map_err(ApiError::internal)?);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("yalo-next-from", HeaderValue::from(next));
    Ok(response)
}

fn order(query: &Query) -> Result<Order, ApiError> {
    let whose = match (query.text("conversation"), query.text("user")) {
        (Some(_), Some(_)) => return Err(ApiError::invalid_field("user", "give `conversation` or `user`, not both")),
        (Some(id), None) => Whose::Conversation(api::conversation_id(id)?),
        (None, Some(user)) => Whose::User(user.to_owned()),
        (None, None) => Whose::Everyone,
    };
    let after = query.cursor("after")?;
    if after.is_some() && matches!(whose, Whose::User(_)) {
        let detail = "the conversations of a user come one after the other, so that `after` is no place to go on from: \
                      `from` with the number of the header `yalo-next-from` gives what is new in all of them";
        return Err(ApiError::invalid_field("after", detail));
    }
    let bound = |name: &str| query.parse::<Bound>(name, "a sequence or an instant such as 2026-11-23T22:04:13Z");
    let word = |name: &str, expected: &str| {
        ApiError::invalid_field(name, format!("the parameter {name:?} must be one of {expected}"))
    };
    let format = query.text("format").map(|text| Format::parse(text).ok_or_else(|| word("format", "ndjson, csv")));
    let packing = query.text("compress");
    let packing = packing.map(|text| Packing::parse(text).ok_or_else(|| word("compress", "none, gzip, zstd")));
    Ok(Order {
        selection: Selection { whose, from: bound("from")?, to: bound("to")? },
        format: format.transpose()?.unwrap_or_default(),
        packing: packing.transpose()?.unwrap_or_default(),
        after,
        after_in: None,
        end: None,
        is_begun: false,
    })
}

/// What the body is fed with.
enum Part {
    Bytes(Bytes),
    /// It is complete.
    End,
}

/// Reads and sends piece after piece, as long as anybody wants them.
async fn feed(export: Export, parts: mpsc::Sender<Part>, stop: CancellationToken, room: OwnedSemaphorePermit) {
    let sending = send(export, &parts);
    tokio::select! {
        biased;
        () = stop.cancelled() => tracing::info!("an export was cut off: this server is going down"),
        sent = sending => {
            if let Err(error) = sent {
                tracing::warn!(%error, "an export was cut off: {error:#}");
            }
        }
        () = parts.closed() => tracing::info!("an export was given up by its client"),
    }
    drop(room);
}

async fn send(mut export: Export, parts: &mpsc::Sender<Part>) -> anyhow::Result<()> {
    let (mut rows, mut holes) = (0, None);
    let stalled = |_| anyhow::anyhow!("the client took nothing for {} s", STALLED.as_secs());
    // The store's own limit is that of each read.
    while let Some(piece) = export.next().await? {
        rows += piece.rows;
        holes = Holes::join(holes, piece.holes);
        parts.send_timeout(Part::Bytes(piece.bytes), STALLED).await.map_err(stalled)?;
    }
    parts.send_timeout(Part::End, STALLED).await.map_err(stalled)?;
    if let Some(Holes { first, count }) = holes {
        tracing::warn!(first, count, "{count} messages between those that were exported are not in the store");
    }
    tracing::info!(rows, "{rows} messages were exported");
    Ok(())
}

/// The body: what comes, and an error if it ends without the word.
struct Body(Mutex<mpsc::Receiver<Part>>);

impl Stream for Body {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let parts = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        parts.poll_recv(context).map(|part| match part {
            Some(Part::Bytes(bytes)) => Some(Ok(bytes)),
            Some(Part::End) => None,
            None => Some(Err(io::Error::other("the export was cut off"))),
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn end_of(parts: Vec<Part>) -> Option<bool> {
        let (sender, body) = mpsc::channel(4);
        for part in parts {
            sender.send(part).await.ok();
        }
        drop(sender);
        let mut response = warp::reply::stream(Body(Mutex::new(body))).into_response();
        let mut is_good = None;
        while let Some(frame) = response.body_mut().frame().await {
            is_good = Some(frame.is_ok());
            if frame.is_err() {
                break;
            }
        }
        is_good
    }

    #[tokio::test]
    async fn a_body_ends_well_only_with_the_word() {
        let bytes = || Part::Bytes(Bytes::from_static(b"x"));
        assert_eq!(end_of(vec![bytes(), Part::End]).await, Some(true));
        assert_eq!(end_of(vec![Part::End]).await, None);
        assert_eq!(end_of(vec![bytes(), bytes()]).await, Some(false));
        assert_eq!(end_of(vec![]).await, Some(false));
    }
}
