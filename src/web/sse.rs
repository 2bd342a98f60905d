//! Server-sent events: frames that are written once and shared by all who watch, and the response that carries them.

use std::convert::Infallible;
use std::fmt::Write;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, Stream};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use warp::http::HeaderValue;
use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use warp::reply::{Reply, Response};

/// Without events for this long a comment is sent, so that proxies keep the stream and a dead peer is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a client waits before it connects again.
const RETRY_MS: u64 = 2000;

/// One event in the form that travels. `data` may have any line breaks; `name` and `id` may have none, and lose them.
///
/// Send the result to as many streams as you like: it is shared, not copied.
pub fn event(name: &str, id: Option<&str>, data: &str) -> Bytes {
    let mut frame = String::with_capacity(name.len() + data.len() + 64);
    line(&mut frame, "event: ", name);
    if let Some(id) = id {
        line(&mut frame, "id: ", id);
    }
    // A lone CR ends a line too, for the reader; it is the same break as LF and CR LF.
    for part in data.replace("\r\n", "\n").split(['\n', '\r']) {
        line(&mut frame, "data: ", part);
    }
    frame.push('\n');
    frame.into()
}

/// One event with JSON data, which has no line breaks outside of strings and none inside.
pub fn json_event<T: serde::Serialize>(name: &str, id: Option<&str>, data: &T) -> serde_json::Result<Bytes> {
    Ok(event(name, id, &serde_json::to_string(data)?))
}

fn line(frame: &mut String, field: &str, value: &str) {
    frame.push_str(field);
    frame.extend(value.chars().filter(|letter| !matches!(letter, '\n' | '\r' | '\0')));
    frame.push('\n');
}

/// A bounded queue of frames as a stream. Full means that this client reads too slowly: drop the sender, which ends the
/// stream after what is queued, and the client resumes by its cursor.
pub fn channel(size: usize) -> (mpsc::Sender<Bytes>, Frames) {
    let (sender, receiver) = mpsc::channel(size);
    (sender, Frames(receiver))
}

/// The reading end of [`channel`].
#[derive(Debug)]
pub struct Frames(mpsc::Receiver<Bytes>);

impl Stream for Frames {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_recv(context)
    }
}

/// Streams `frames` until they end or `stop` is cancelled; `farewell` is then sent as the last frame.
pub fn response<S>(frames: S, farewell: Option<Bytes>, stop: CancellationToken) -> Response
where
    S: Stream<Item = Bytes> + Send + 'static,
{
    let live = Live {
        frames: Box::pin(frames),
        opening: true,
        farewell,
        is_over: false,
        keep_alive: Box::pin(tokio::time::sleep(KEEP_ALIVE)),
        stop: Box::pin(stop.cancelled_owned()),
    };
    let mut response = warp::reply::stream(Exclusive(Mutex::new(live))).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx holds back what it may buffer.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Live<S> {
    frames: Pin<Box<S>>,
    opening: bool,
    farewell: Option<Bytes>,
    is_over: bool,
    keep_alive: Pin<Box<Sleep>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S: Stream<Item = Bytes>> Live<S> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut self.opening) {
            // Makes the head leave at once, and tells how long to wait after a break.
            let mut opening = String::new();
            return match write!(opening, "retry: {RETRY_MS}\n\n") {
                Ok(()) => Poll::Ready(Some(opening.into())),
                Err(_) => Poll::Ready(None),
            };
        }
        // What is queued is older than the stop and is still sent: it comes first.
        if let Poll::Ready(next) = self.frames.as_mut().poll_next(context) {
            match next {
                Some(frame) => {
                    self.keep_alive.as_mut().reset(Instant::now() + KEEP_ALIVE);
                    return Poll::Ready(Some(frame));
                }
                None => self.is_over = true,
            }
            // Whoever fills the queue hears of the stop too, and may have let go of it first.
            let is_stopped = self.stop.poll_unpin(context).is_ready();
            return Poll::Ready(self.farewell.take().filter(|_| is_stopped));
        }
        if self.stop.poll_unpin(context).is_ready() {
            self.is_over = true;
            return Poll::Ready(self.farewell.take());
        }
        if self.keep_alive.poll_unpin(context).is_ready() {
            self.keep_alive.as_mut().reset(Instant::now() + KEEP_ALIVE);
            // Registers the new time, or nothing would wake this stream again.
            if self.keep_alive.poll_unpin(context).is_pending() {
                return Poll::Ready(Some(Bytes::from_static(b":\n\n")));
            }
        }
        Poll::Pending
    }
}

/// warp wants bodies that may be shared between threads. Nobody shares a body, so the lock is never taken by two.
struct Exclusive<S>(Mutex<Live<S>>);

impl<S: Stream<Item = Bytes>> Stream for Exclusive<S> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let live = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        live.poll(context).map(|frame| frame.map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn data_of_many_lines_stays_one_event() {
        assert_eq!(
            event("message", Some("17-4"), "a\nb\r\nc\rd"),
            "event: message\nid: 17-4\ndata: a\ndata: b\ndata: c\ndata: d\n\n"
        );
        assert_eq!(event("x", None, ""), "event: x\ndata: \n\n");
    }

    #[test]
    fn a_name_or_an_id_cannot_smuggle_in_an_event() {
        assert_eq!(event("a\ndata: b", Some("1\r\n\r\nevent: c"), "d"), "event: adata: b\nid: 1event: c\ndata: d\n\n");
    }

    async fn next(response: &mut Response) -> Option<Bytes> {
        response.body_mut().frame().await.map(|frame| frame.unwrap().into_data().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_stream_is_kept_alive_again_and_again() {
        let (sender, frames) = channel(4);
        let mut response = response(frames, None, CancellationToken::new());
        assert_eq!(next(&mut response).await.unwrap(), "retry: 2000\n\n");
        let start = Instant::now();
        assert_eq!(next(&mut response).await.unwrap(), ":\n\n");
        assert_eq!(next(&mut response).await.unwrap(), ":\n\n");
        assert_eq!(start.elapsed().as_secs(), 30);
        sender.send(event("x", None, "y")).await.unwrap();
        assert_eq!(next(&mut response).await.unwrap(), event("x", None, "y"));
        drop(sender);
        assert_eq!(next(&mut response).await, None);
    }

    #[tokio::test]
    async fn a_stop_says_farewell_even_if_the_queue_was_let_go_first() {
        let (sender, frames) = channel(4);
        let stop = CancellationToken::new();
        let mut response = response(frames, Some(event("bye", None, "{}")), stop.clone());
        next(&mut response).await.unwrap();
        stop.cancel();
        drop(sender);
        assert_eq!(next(&mut response).await.unwrap(), event("bye", None, "{}"));
        assert_eq!(next(&mut response).await, None);
    }

    #[tokio::test]
    async fn a_stop_sends_what_is_queued_then_the_farewell() {
        let (sender, frames) = channel(4);
        let stop = CancellationToken::new();
        let mut response = response(frames, Some(event("bye", None, "{}")), stop.clone());
        next(&mut response).await.unwrap();
        sender.send(event("x", None, "y")).await.unwrap();
        stop.cancel();
        assert_eq!(next(&mut response).await.unwrap(), event("x", None, "y"));
        assert_eq!(next(&mut response).await.unwrap(), event("bye", None, "{}"));
        assert_eq!(next(&mut response).await, None);
    }
}
