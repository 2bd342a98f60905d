//! A client that believes nothing: whatever comes back is held against the API's own description.

mod events;
pub(crate) mod raw;
mod schemas;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use serde_json::{Value, json};

pub(crate) use self::events::Events;
use self::schemas::Schemas;
pub(crate) use self::socket::Socket;
use crate::harness::{PATIENCE, Place};

/// A caller of one frontend or of admin.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    base: String,
    token: Option<String>,
    http: reqwest::Client,
    schemas: Arc<Schemas>,
}

/// What came back; its body fits the description.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// One request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call<'a> {
    pub(crate) post: bool,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: Vec<u8>,
}

impl Call<'_> {
    fn method(&self) -> &'static str {
        if self.post { "post" } else { "get" }
    }
}

impl Api {
    /// Reads the description that `base` serves.
    pub(crate) async fn connect(base: &str) -> Self {
        // A slow answer is a failed test: one limit for all calls but streams.
        let http = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(5)).build().unwrap();
        let description = http.get(format!("{base}/openapi.json")).send().await.unwrap();
        let schemas = Schemas::new(description.json().await.unwrap());
        Self { base: base.to_owned(), token: None, http, schemas: Arc::new(schemas) }
    }

    /// A guest who has signed in, and the first conversation that this made.
    pub(crate) async fn guest(base: &str) -> (Self, String) {
        let api = Self::connect(base).await;
        let opened = api.post("/v1/conversations", json!({})).await.expect(201);
        let (token, conversation) = (text(&opened, "token"), text(&opened, "conversation"));
        (api.with_token(&token), conversation)
    }

    /// The operator.
    pub(crate) async fn operator(place: &Place) -> Self {
        Self::connect(&place.admin).await.with_token(&place.token)
    }

    /// The same caller with this token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same caller, signed out.
    pub(crate) fn without_token(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// The same caller at another frontend.
    pub(crate) fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Call { path, ..Call::default() }).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.try_post(path, &body).await.unwrap()
    }

    /// For those who expect that nobody may be there.
    pub(crate) async fn try_post(&self, path: &str, body: &Value) -> reqwest::Result<Answer> {
        let headers = &[("content-type", "application/json")];
        self.try_call(Call { post: true, path, headers, body: serde_json::to_vec(&body).unwrap() }).await
    }

    pub(crate) async fn call(&self, call: Call<'_>) -> Answer {
        let path = call.path.to_owned();
        self.try_call(call).await.unwrap_or_else(|error| panic!("{path}: {error:?}"))
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        let call = Call { path, ..Call::default() };
        self.exchange("delete", &call).await.unwrap_or_else(|error| panic!("{path}: {error:?}"))
    }

    pub(crate) async fn try_call(&self, call: Call<'_>) -> reqwest::Result<Answer> {
        self.exchange(call.method(), &call).await
    }

    async fn exchange(&self, method: &str, call: &Call<'_>) -> reqwest::Result<Answer> {
        let response = self.request(method, call).timeout(PATIENCE).send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await?;
        let kind = headers.get(CONTENT_TYPE).map_or("", |kind| kind.to_str().unwrap());
        let body = serde_json::from_slice(&body)
            .unwrap_or_else(|error| panic!("{method} {}: {status} {kind} {body:?} is not JSON: {error}", call.path));
        self.schemas.check_answer(method, call.path, status, kind, &body);
        Ok(Answer { status, headers, body })
    }

    fn request(&self, method: &str, call: &Call<'_>) -> reqwest::RequestBuilder {
        let url = format!("{}{}", self.base, call.path);
        let mut request = self.http.request(method.to_uppercase().parse().unwrap(), url);
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if call.post { request.body(call.body.clone()) } else { request }
    }

    /// A stream of events.
    pub(crate) async fn events(&self, call: Call<'_>) -> Events {
        self.try_events(call).await.unwrap().expect("a stream")
    }

    /// For those who expect that nobody may be there: an error, or `None` for "not now".
    pub(crate) async fn try_events(&self, call: Call<'_>) -> reqwest::Result<Option<Events>> {
        let request = self.request(call.method(), &call).header(ACCEPT, "text/event-stream");
        let response = request.send().await?;
        if response.status() == 503 {
            return Ok(None);
        }
        assert_eq!(response.status(), 200, "{}: {}", call.path, response.text().await.unwrap());
        Ok(Some(Events::new(response, Arc::clone(&self.schemas))))
    }

    /// A WebSocket that has not said hello.
    pub(crate) async fn socket(&self) -> Socket {
        self.try_socket().await.unwrap()
    }

    /// For those who expect that nobody may be there.
    pub(crate) async fn try_socket(&self) -> Result<Socket, String> {
        Socket::connect(&self.base, Arc::clone(&self.schemas)).await
    }

    /// A WebSocket that has said hello as this caller.
    pub(crate) async fn signed_in_socket(&self) -> Socket {
        let mut socket = self.socket().await;
        let welcome = socket.hello(self.token.as_deref()).await;
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        socket
    }
}

impl Answer {
    /// The body of an answer that has this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// The body of a refusal with this status and code.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{}", self.body);
        assert_eq!(self.headers[CONTENT_TYPE], "application/problem+json");
        self.body
    }
}

/// A text member of an object.
#[track_caller]
pub(crate) fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no text `{name}` in {value}")).to_owned()
}

/// A whole number in an object.
#[track_caller]
pub(crate) fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no number `{name}` in {value}"))
}

/// A new message id.
pub(crate) fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// A message id with the time of now and some milliseconds.
pub(crate) fn id_at(offset_ms: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let ms = u64::try_from(i64::try_from(now.as_millis()).unwrap() + offset_ms).unwrap();
    let time = uuid::Timestamp::from_unix(uuid::NoContext, ms / 1000, u32::try_from(ms % 1000).unwrap() * 1_000_000);
    uuid::Uuid::new_v7(time).to_string()
}
