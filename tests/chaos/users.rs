//! Those who talk and those who read: clients that follow the protocol and believe nothing.
//!
//! Who gets no answer sends the same id again, at the other frontend. Who loses a connection resumes from the last
//! cursor. Everything that they are told goes into the record.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

use crate::fleet::Fleet;
use crate::record::Record;

/// Nobody waits longer for one call.
const CALL: Duration = Duration::from_secs(6);
/// A line that was silent for so long is dead: keep-alives come each 15 s.
const SILENCE: Duration = Duration::from_secs(18);

/// What all users share.
pub(crate) struct World {
    pub(crate) record: Record,
    /// `127.0.0.1:port` of each frontend's door.
    pub(crate) doors: Vec<String>,
    /// Nobody begins anything new.
    pub(crate) quiet: CancellationToken,
    /// Readers may go.
    pub(crate) over: CancellationToken,
    /// Ids are made as by an outbox that wakes up after five minutes, and sent again that much later.
    pub(crate) late: Option<Duration>,
    /// Answers take up to so many milliseconds.
    pub(crate) slow_answers: u64,
    pub(crate) http: reqwest::Client,
}

/// One try to have a message stored.
enum Try {
    Accepted(Value),
    Again(Duration),
    Refused(String),
}

impl World {
    /// Users at the doors of this fleet.
    pub(crate) fn new(fleet: &Fleet) -> Self {
        let http = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(2)).build().unwrap();
        Self {
            record: Record::default(),
            doors: fleet.doors.iter().map(|door| door.address().to_string()).collect(),
            quiet: CancellationToken::new(),
            over: CancellationToken::new(),
            late: None,
            slow_answers: 0,
            http,
        }
    }

    pub(crate) fn door(&self, number: usize) -> &str {
        &self.doors[number % self.doors.len()]
    }

    /// Opens a conversation, as soon as somebody lets us.
    pub(crate) async fn open(&self, number: usize) -> usize {
        loop {
            let url = format!("http://{}/v1/conversations", self.door(number));
            let sent = self.http.post(url).json(&json!({})).timeout(CALL).send().await;
            if let Ok(response) = sent
                && response.status() == 201
                && let Ok(opened) = response.json::<Value>().await
            {
                let text = |name: &str| opened[name].as_str().unwrap_or_default().to_owned();
                return self.record.conversation(text("conversation"), text("token"), text("cursor"));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn new_id(&self) -> String {
        let age = if self.late.is_some() { 300_000 } else { 0 };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let ms = u64::try_from(now.as_millis()).unwrap() - age;
        let nanos = u32::try_from(ms % 1000).unwrap() * 1_000_000;
        uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, ms / 1000, nanos)).to_string()
    }

    async fn post(&self, door: usize, place: &Place, message: &Value, wait: bool) -> Try {
        let url = format!("http://{}/v1/conversations/{}/messages", self.door(door), place.id);
        let mut request = self.http.post(url).header(AUTHORIZATION, format!("Bearer {}", place.token)).timeout(CALL);
        if wait {
            request = request.header("prefer", "wait=5");
        }
        let Ok(response) = request.json(message).send().await else { return Try::Again(Duration::ZERO) };
        let status = response.status().as_u16();
        let later = response.headers().get("retry-after").and_then(|later| later.to_str().ok()?.parse::<u64>().ok());
        let Ok(body) = response.json::<Value>().await else { return Try::Again(Duration::ZERO) };
        match status {
            200 | 202 => Try::Accepted(body),
            429 | 503 => Try::Again(Duration::from_secs(later.unwrap_or(0).min(1))),
            _ => Try::Refused(format!("{status} {body}")),
        }
    }

    /// Sends one message until it is accepted, however long that takes.
    async fn send(&self, place: &Place, socket: &mut Option<Socket>, id: &str, text: &str, door: &mut usize) {
        let message = json!({"id": id, "text": text});
        for attempt in 0.. {
            let wait = place.by == By::Waiting;
            let tried = match place.by {
                By::Socket => send_by_socket(self, *door, place, socket, &message).await,
                By::Http | By::Waiting => self.post(*door, place, &message, wait).await,
            };
            match tried {
                Try::Accepted(body) => {
                    let seq = body["seq"].as_u64().unwrap_or_default();
                    self.record.accepted(place.number, id, seq);
                    let answer = &body["answer"];
                    let fits = answer["reply_to"]["seq"].as_u64() == Some(seq) && answer["text"] == text;
                    if answer.is_object() && !fits {
                        self.record.violation(&format!("message {seq} was answered by {answer}"));
                    }
                    return;
                }
                Try::Refused(why) => {
                    self.record.violation(&format!("message {id} of {} was refused: {why}", place.id));
                    return;
                }
                Try::Again(later) => {
                    self.record.count("sent again");
                    *door += 1;
                    sleep(later.max(Duration::from_millis(fastrand::u64(20..100 << attempt.min(3))))).await;
                }
            }
        }
    }

    /// Talks in one conversation until it is time to be quiet: bursts of questions, pauses, late retries.
    pub(crate) async fn talk(self: Arc<Self>, place: Place, pace: Duration) {
        let (mut socket, mut door, mut sent) = (None, place.number, Vec::new());
        let mut number = 0u32;
        while !self.quiet.is_cancelled() {
            let burst = fastrand::u32(1..=4);
            for _ in 0..burst {
                number += 1;
                let (id, pause) = (self.new_id(), fastrand::u64(0..=self.slow_answers));
                let text = format!("sleep {pause} question {number} of {} \u{2713} \u{1f980}", place.number);
                self.record.trying(place.number, &id, &text);
                self.send(&place, &mut socket, &id, &text, &mut door).await;
                sent.push((std::time::Instant::now(), id, text));
            }
            let age = self.late.unwrap_or_default();
            let old = sent.iter().position(|(at, _, _)| at.elapsed() > age);
            if let Some(old) = old.filter(|_| self.late.is_some() || fastrand::u8(0..8) == 0) {
                let (_, id, text) = sent.swap_remove(old);
                self.record.count("known ids sent once more");
                door += 1;
                self.send(&place, &mut socket, &id, &text, &mut door).await;
            }
            // Nobody asks faster than the answers can come: each takes half of the longest on the average.
            let answers = Duration::from_millis(self.slow_answers * 6 / 10) * burst;
            sleep(answers + pace.mul_f32(0.2 + 1.6 * fastrand::f32())).await;
        }
    }

    /// Asks one question in a conversation of its own.
    pub(crate) async fn ask_once(&self, door: usize, text: &str) {
        let conversation = self.open(door).await;
        let opened = self.record.conversations().swap_remove(conversation);
        let place =
            Place { number: conversation, id: opened.id, token: opened.token, cursor: opened.cursor, by: By::Http };
        let id = self.new_id();
        self.record.trying(place.number, &id, text);
        self.send(&place, &mut None, &id, text, &mut { door }).await;
    }

    /// Reads one conversation until everything is over, with breaks and without losing its place.
    pub(crate) async fn read(self: Arc<Self>, mut place: Place, way: Way) {
        let reading = self.record.reading(place.number, way.name());
        let mut door = place.number + reading;
        while !self.over.is_cancelled() {
            let stay = Duration::from_millis(fastrand::u64(500..8000));
            let reader = async {
                match way {
                    Way::Sse => self.read_events(door, &mut place, reading).await,
                    Way::Socket => self.read_socket(door, &mut place, reading).await,
                    Way::Poll => self.poll(door, &mut place, reading).await,
                }
            };
            tokio::select! {
                biased;
                () = self.over.cancelled() => return,
                _ = timeout(stay, reader) => {}
            }
            self.record.count("readers resumed");
            door += 1;
            sleep(Duration::from_millis(fastrand::u64(10..100))).await;
        }
    }

    fn tell(&self, place: &mut Place, reading: usize, message: &Value) {
        self.record.told(place.number, reading, message);
        message["cursor"].as_str().unwrap_or_default().clone_into(&mut place.cursor);
    }

    async fn read_events(&self, door: usize, place: &mut Place, reading: usize) -> Option<()> {
        let url = format!("http://{}/v1/conversations/{}/events", self.door(door), place.id);
        let request = self.http.get(url).header(AUTHORIZATION, format!("Bearer {}", place.token));
        let request = request.header("accept", "text/event-stream").header("last-event-id", &place.cursor);
        let mut response = timeout(CALL, request.send()).await.ok()?.ok()?;
        if response.status() != 200 {
            self.refused(place, response.status().as_u16());
            return None;
        }
        let mut buffer = Vec::new();
        loop {
            let chunk = timeout(SILENCE, response.chunk()).await.ok()?.ok()??;
            buffer.extend_from_slice(&chunk);
            while let Some(end) = buffer.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = buffer.drain(..end + 2).collect();
                let block = String::from_utf8_lossy(&block).into_owned();
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                let data: Value = field("data").and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
                match field("event") {
                    Some("message") => self.tell(place, reading, &data),
                    Some("gap") => self.record.gap(place.number, reading, &data),
                    Some("bye") => return None,
                    _ => {}
                }
            }
        }
    }

    async fn read_socket(&self, door: usize, place: &mut Place, reading: usize) -> Option<()> {
        let mut socket = Socket::open(self.door(door), &place.token).await?;
        socket.say(&json!({"type": "watch", "ref": "w", "conversation": place.id, "after": place.cursor})).await?;
        loop {
            let frame = timeout(SILENCE, socket.hear()).await.ok()??;
            match frame["type"].as_str() {
                Some("message") => self.tell(place, reading, &frame["message"]),
                Some("gap") => self.record.gap(place.number, reading, &frame),
                Some("error") => self.refused(place, u16::try_from(frame["status"].as_u64()?).unwrap_or(0)),
                Some("bye") => return None,
                _ => {}
            }
        }
    }

    async fn poll(&self, door: usize, place: &mut Place, reading: usize) -> Option<()> {
        loop {
            let (door, id, after) = (self.door(door), &place.id, &place.cursor);
            let url = format!("http://{door}/v1/conversations/{id}/messages?after={after}&limit=50&wait=2");
            let request = self.http.get(url).header(AUTHORIZATION, format!("Bearer {}", place.token)).timeout(CALL);
            let response = request.send().await.ok()?;
            if response.status() != 200 {
                self.refused(place, response.status().as_u16());
                return None;
            }
            let page: Value = response.json().await.ok()?;
            for message in page["messages"].as_array()? {
                self.tell(place, reading, message);
            }
            if let Some(next) = page["next"].as_str() {
                next.clone_into(&mut place.cursor);
            }
        }
    }

    /// A reader may be told "not now", and nothing else.
    fn refused(&self, place: &Place, status: u16) {
        if !matches!(status, 429 | 503) {
            self.record.violation(&format!("a reader of {} was refused with {status}", place.id));
        }
    }
}

/// How somebody sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Http,
    /// And waits for the answer before the next one.
    Waiting,
    Socket,
}

/// How somebody reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Sse,
    Socket,
    Poll,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Sse => "server-sent events",
            Self::Socket => "WebSocket",
            Self::Poll => "long poll",
        }
    }
}

/// One user's side of a conversation.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) number: usize,
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) cursor: String,
    pub(crate) by: By,
}

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(door: &str, token: &str) -> Option<Self> {
        let mut request = format!("ws://{door}/v1/ws").into_client_request().ok()?;
        request.headers_mut().insert("sec-websocket-protocol", "yalo.v1".parse().ok()?);
        let (stream, _) = timeout(CALL, tokio_tungstenite::connect_async(request)).await.ok()?.ok()?;
        let mut socket = Self(stream);
        socket.say(&json!({"type": "hello", "token": token})).await?;
        let welcome = timeout(CALL, socket.hear()).await.ok()??;
        (welcome["type"] == "welcome").then_some(socket)
    }

    async fn say(&mut self, frame: &Value) -> Option<()> {
        timeout(CALL, self.0.send(Message::text(frame.to_string()))).await.ok()?.ok()
    }

    async fn hear(&mut self) -> Option<Value> {
        loop {
            match self.0.next().await?.ok()? {
                Message::Text(text) => return serde_json::from_str(&text).ok(),
                Message::Ping(_) | Message::Pong(_) => {}
                _ => return None,
            }
        }
    }
}

async fn send_by_socket(
    world: &World,
    door: usize,
    place: &Place,
    socket: &mut Option<Socket>,
    message: &Value,
) -> Try {
    let tried = async {
        if socket.is_none() {
            *socket = Socket::open(world.door(door), &place.token).await;
        }
        let open = socket.as_mut()?;
        let id = &message["id"];
        let frame = json!({
            "type": "send", "ref": id, "conversation": place.id, "id": id, "text": message["text"],
        });
        open.say(&frame).await?;
        loop {
            let frame = timeout(CALL, open.hear()).await.ok()??;
            if frame["ref"] != *id {
                continue;
            }
            return Some(match (frame["type"].as_str(), frame["status"].as_u64()) {
                (Some("accepted"), _) => Try::Accepted(frame),
                (_, Some(429 | 503)) => Try::Again(Duration::from_millis(500)),
                _ => Try::Refused(frame.to_string()),
            });
        }
    };
    let tried = tried.await;
    if !matches!(tried, Some(Try::Accepted(_))) {
        *socket = None;
    }
    tried.unwrap_or(Try::Again(Duration::ZERO))
}
