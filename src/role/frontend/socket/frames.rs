//! The frames of `yalo.v1`, as text. Each side's frame carries its `type`; answers carry the `ref` of what they answer.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::{ConversationId, Stored, Timestamp};
use crate::role::frontend::replies::{AcceptedReply, GapEvent};
use crate::web::{ApiError, body};

/// Longest `ref`.
const REFERENCE: usize = 64;

/// What a client may say.
pub(super) enum ClientFrame {
    Hello(Hello),
    Open(Open),
    Watch(Watch),
    Unwatch(OfConversation),
    Send(Send),
    Stop(OfConversation),
    Ping(Ping),
}

/// A frame that could not be read, with its reference if that could.
pub(super) struct Refused {
    pub(super) reference: Option<String>,
    pub(super) refusal: ApiError,
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "ref")]
    reference: Option<String>,
}

macro_rules! frame {
    ($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty),* }) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            #[serde(rename = "type")]
            _kind: IgnoredAny,
            #[serde(rename = "ref", default)]
            _reference: IgnoredAny,
            $($(#[$attribute])* pub(super) $field: $type,)*
        }
    };
}

frame!(Hello { token: Option<String> });
frame!(Open { bot: Option<String> });
frame!(Watch { conversation: String, after: Option<String> });
frame!(OfConversation { conversation: String });
frame!(Send { conversation: String, id: Option<String>, text: String, bot: Option<String>, data: Option<Box<RawValue>> });
frame!(Ping {});

/// Reads a frame, and its reference; `hello` needs none.
pub(super) fn parse(text: &str) -> Result<(String, ClientFrame), Refused> {
    let head: Head = body::parse_json(text.as_bytes()).map_err(|refusal| Refused { reference: None, refusal })?;
    let refused = |refusal| Refused { reference: head.reference.clone(), refusal };
    let frame = match head.kind.as_str() {
        "hello" => read(text).map(ClientFrame::Hello),
        "open" => read(text).map(ClientFrame::Open),
        "watch" => read(text).map(ClientFrame::Watch),
        "unwatch" => read(text).map(ClientFrame::Unwatch),
        "send" => read(text).map(ClientFrame::Send),
        "stop" => read(text).map(ClientFrame::Stop),
        "ping" => read(text).map(ClientFrame::Ping),
        _ => Err(ApiError::invalid_field("type", "this `type` of frame is not known")
            .next("send one of hello, open, watch, unwatch, send, stop, ping")),
    };
    let frame = frame.map_err(refused)?;
    match &head.reference {
        Some(reference) if (1..=REFERENCE).contains(&reference.len()) => Ok((reference.clone(), frame)),
        None if matches!(frame, ClientFrame::Hello(_)) => Ok((String::new(), frame)),
        _ => {
            let detail = format!("`ref` is a text of 1 to {REFERENCE} bytes, given back in the answer");
            Err(Refused { reference: None, refusal: ApiError::invalid_field("ref", detail) })
        }
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    body::parse_json(text.as_bytes())
}

/// What the server says.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum ServerFrame {
    Welcome {
        user: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        server_time: Timestamp,
    },
    Opened {
        #[serde(rename = "ref")]
        reference: String,
        conversation: ConversationId,
        cursor: String,
    },
    Watching {
        #[serde(rename = "ref")]
        reference: String,
        conversation: ConversationId,
        cursor: String,
    },
    Unwatched {
        #[serde(rename = "ref")]
        reference: String,
        conversation: ConversationId,
    },
    Accepted {
        #[serde(rename = "ref")]
        reference: String,
        conversation: ConversationId,
        #[serde(flatten)]
        accepted: AcceptedReply,
    },
    Stopping {
        #[serde(rename = "ref")]
        reference: String,
        conversation: ConversationId,
    },
    Pong {
        #[serde(rename = "ref")]
        reference: String,
        server_time: Timestamp,
    },
    Bye {
        code: &'static str,
        reason: &'static str,
    },
}

/// A refusal: the members of the problem document, as a frame.
#[derive(Serialize)]
pub(super) struct Refusal<P: Serialize> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub(super) reference: Option<String>,
    #[serde(flatten)]
    pub(super) problem: P,
}

#[derive(Serialize)]
struct MessageFrame<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'a Stored,
}

/// A stored message, pushed.
pub(super) fn message(stored: &Stored) -> serde_json::Result<String> {
    serde_json::to_string(&MessageFrame { kind: "message", message: stored })
}

#[derive(Serialize)]
struct GapFrame<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    gap: &'a GapEvent,
}

/// A gap, pushed.
pub(super) fn gap(gap: &GapEvent) -> serde_json::Result<String> {
    serde_json::to_string(&GapFrame { kind: "gap", gap })
}
