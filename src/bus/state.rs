//! The state of stream and consumers, as the server's JSON API reports it.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::BusError;
use crate::domain::Timestamp;

/// The message stream now.
#[derive(Debug, Clone, serde::Serialize)]
pub struct StreamState {
    /// Messages in it.
    pub messages: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// The limit in bytes; -1 for none.
    pub max_bytes: i64,
    /// Its oldest sequence.
    pub first_seq: u64,
    /// Its newest sequence.
    pub last_seq: u64,
    /// When it was made.
    pub created: Timestamp,
    /// How many consumer groups its bots share.
    #[serde(skip)]
    pub groups: u16,
    /// How many servers have a copy.
    #[serde(skip)]
    pub replicas: u64,
    /// Whether it takes batches of messages without ids.
    #[serde(skip)]
    pub batches: bool,
}

/// One consumer now.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ConsumerState {
    /// Its name.
    pub name: String,
    /// Messages not delivered yet: the lag.
    pub pending: u64,
    /// Delivered, not acknowledged yet.
    pub ack_pending: u64,
    /// Of those, delivered more than once.
    pub redelivered: u64,
    /// Open pulls; 0 means that nobody works.
    pub waiting: u64,
    /// Everything up to this stream sequence is acknowledged.
    pub ack_floor: u64,
    /// The newest stream sequence that was delivered.
    pub delivered: u64,
    /// How many deliveries there were: the consumer sequence of the newest one.
    #[serde(skip)]
    pub deliveries: u64,
}

#[derive(Deserialize)]
pub(super) struct Purged {
    pub(super) purged: u64,
}

#[derive(Deserialize)]
pub(super) struct StreamInfo {
    created: Timestamp,
    config: serde_json::Value,
    state: StreamCounts,
}

#[derive(Deserialize)]
struct StreamCounts {
    messages: u64,
    bytes: u64,
    first_seq: u64,
    last_seq: u64,
}

#[derive(Deserialize)]
pub(super) struct ConsumerInfo {
    name: String,
    delivered: Place,
    ack_floor: Place,
    num_pending: u64,
    num_ack_pending: u64,
    num_redelivered: u64,
    num_waiting: u64,
}

#[derive(Deserialize)]
struct Place {
    consumer_seq: u64,
    stream_seq: u64,
}

#[derive(Deserialize)]
struct ApiFailure {
    error: ApiError,
}

#[derive(Deserialize)]
struct ApiError {
    code: u64,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// `JSNoMessageFoundErr` of `nats-server/server/errors.json`: the stream is there, what was asked for is not in it.
const NO_MESSAGE: u64 = 10037;

/// Whether an answer says that the stream has no such message. That of a stream which is not there is a 404 too, and a
/// server that has only just started says it of each.
pub(super) fn has_no_message(payload: &[u8]) -> bool {
    serde_json::from_slice(payload).is_ok_and(|ApiFailure { error }| error.err_code == NO_MESSAGE)
}

/// Reads an answer of the API, or the error in it.
pub(super) fn parse<'a, T: Deserialize<'a>>(payload: &'a [u8], what: &str) -> Result<T, BusError> {
    if let Ok(ApiFailure { error }) = serde_json::from_slice(payload) {
        return Err(match error.code {
            404 => BusError::Missing(what.to_owned()),
            429 | 500.. => BusError::unavailable("read the state", error.description),
            _ => BusError::Refused { doing: "read the state", reason: error.description },
        });
    }
    serde_json::from_slice(payload).map_err(|error| odd(&error))
}

/// An answer of another shape.
fn odd(error: &serde_json::Error) -> BusError {
    BusError::Refused { doing: "read the state", reason: error.to_string() }
}

/// Whether a stream or a consumer is described by its leader.
///
/// In a cluster others answer too: the leader of the metadata for a stream that has lost its own one, and a server that has
/// not opened a consumer yet, with zeros throughout (`jsConsumerInfoRequest` of nats-server 2.15). Taken for true, the
/// first would be a stream that can be reached, and the second a consumer that is done with everything.
pub(super) fn is_led(answer: &Value, clustered: bool) -> bool {
    match &answer["cluster"] {
        Value::Null => !clustered,
        cluster => cluster["leader"].as_str().is_some_and(|leader| !leader.is_empty()),
    }
}

/// The same as [`parse`], of what the leader says; `clustered` is the server that was asked.
pub(super) fn parse_led<T: DeserializeOwned>(payload: &[u8], what: &str, clustered: bool) -> Result<T, BusError> {
    let answer: Value = parse(payload, what)?;
    if is_led(&answer, clustered) {
        return serde_json::from_value(answer).map_err(|error| odd(&error));
    }
    Err(BusError::unavailable("read the state", format!("{what} has no leader")))
}

impl From<StreamInfo> for StreamState {
    fn from(info: StreamInfo) -> Self {
        let StreamInfo { created, config, state } = info;
        Self {
            messages: state.messages,
            bytes: state.bytes,
            max_bytes: config["max_bytes"].as_i64().unwrap_or(-1),
            groups: super::provision::groups_of(&config),
            replicas: config["num_replicas"].as_u64().unwrap_or(1),
            batches: config["allow_batched"].as_bool().unwrap_or(false),
            first_seq: state.first_seq,
            last_seq: state.last_seq,
            created,
        }
    }
}

impl From<ConsumerInfo> for ConsumerState {
    fn from(info: ConsumerInfo) -> Self {
        Self {
            name: info.name,
            pending: info.num_pending,
            ack_pending: info.num_ack_pending,
            redelivered: info.num_redelivered,
            waiting: info.num_waiting,
            ack_floor: info.ack_floor.stream_seq,
            delivered: info.delivered.stream_seq,
            deliveries: info.delivered.consumer_seq,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A consumer as a server tells it that knows nothing of it yet.
    fn zeros() -> Value {
        let place = json!({ "consumer_seq": 0, "stream_seq": 0 });
        json!({
            "name": "audit", "delivered": place, "ack_floor": place, "num_ack_pending": 0, "num_redelivered": 0,
            "num_waiting": 0, "num_pending": 0
        })
    }

    #[test]
    fn in_a_cluster_only_a_leader_is_believed() {
        let told = |cluster: Value, clustered| {
            let mut answer = zeros();
            if !cluster.is_null() {
                answer["cluster"] = cluster;
            }
            parse_led::<ConsumerInfo>(answer.to_string().as_bytes(), "audit", clustered)
        };
        for believed in [told(Value::Null, false), told(json!({ "name": "yalo", "leader": "2" }), true)] {
            assert_eq!(believed.unwrap().num_pending, 0);
        }
        let nobody = json!({ "name": "yalo", "replicas": [{ "name": "0", "current": true }] });
        for told in [told(Value::Null, true), told(nobody.clone(), true), told(nobody, false)] {
            let error = told.err().expect("nothing that is believed");
            assert!(error.is_transient() && error.to_string().contains("audit has no leader"), "{error}");
        }
    }
}
