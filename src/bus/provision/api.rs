//! The server's JetStream API, asked in its own JSON.
//!
//! The client library's typed configuration would drop the fields that it does not know, and an update would then reset
//! them; so whatever a newer server or an operator has set comes back exactly as it was.

use async_nats::jetstream::Context;
use async_nats::jetstream::context::RequestErrorKind;
use serde_json::{Map, Value, json};

use super::ProvisionError;
use crate::bus::state::is_led;

/// Codes of the server's refusals that mean something to us.
mod code {
    pub(super) const NO_PEERS: u64 = 10005;
    pub(super) const CLUSTER_NOT_AVAILABLE: u64 = 10008;
    pub(super) const CONSUMER_NAME_EXISTS: u64 = 10013;
    pub(super) const NOT_ENABLED_FOR_ACCOUNT: u64 = 10039;
    pub(super) const NO_STORAGE: u64 = 10047;
    pub(super) const STREAM_NAME_EXISTS: u64 = 10058;
    pub(super) const STREAM_NOT_FOUND: u64 = 10059;
    pub(super) const SUBJECTS_OVERLAP: u64 = 10065;
    pub(super) const REPLICAS_NOT_SUPPORTED: u64 = 10074;
    pub(super) const NOT_ENABLED: u64 = 10076;
    pub(super) const CONSUMER_EXISTS: u64 = 10148;
}

/// Most pages of a list of consumers that are read; 256 stand on one.
const PAGES: usize = 16;

/// A refusal by the server.
#[derive(Debug)]
pub(super) struct Refusal {
    code: u64,
    description: String,
}

impl Refusal {
    /// Someone else made the object in the meantime: look again.
    pub(super) fn is_race(&self) -> bool {
        matches!(self.code, code::CONSUMER_NAME_EXISTS | code::STREAM_NAME_EXISTS | code::CONSUMER_EXISTS)
    }

    /// With what the operator can do.
    pub(super) fn into_error(self, object: String) -> ProvisionError {
        let way_out = match self.code {
            code::NO_PEERS | code::REPLICAS_NOT_SUPPORTED => {
                "there are fewer servers than copies: lower nats.replicas, or add servers"
            }
            code::NO_STORAGE => "lower nats.max_bytes, or raise max_file of the server (or the account's limit)",
            code::SUBJECTS_OVERLAP => {
                "another stream takes the same subjects: choose another nats.prefix, or see `nats stream ls --subject`"
            }
            code::NOT_ENABLED | code::NOT_ENABLED_FOR_ACCOUNT => return ProvisionError::NoJetStream,
            code::CLUSTER_NOT_AVAILABLE => return ProvisionError::Leaderless { object },
            _ => "see the server's log",
        };
        ProvisionError::Server { object, code: self.code, description: self.description, way_out }
    }
}

/// A stream as the server tells it.
#[derive(Debug)]
pub(super) struct StreamInfo {
    pub(super) config: Map<String, Value>,
    pub(super) bytes: i64,
    pub(super) messages: u64,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
}

/// A consumer as the server tells it.
#[derive(Debug)]
pub(super) struct ConsumerInfo {
    pub(super) name: String,
    pub(super) config: Map<String, Value>,
    pub(super) ack_floor: u64,
    /// Nothing is left for it, neither delivered nor to be delivered.
    pub(super) idle: bool,
}

/// One request. The outer error is about the connection, the inner one is the server's refusal.
async fn ask(context: &Context, subject: &str, body: &Value) -> Result<Result<Value, Refusal>, ProvisionError> {
    let answer: Value = context.request(subject.to_owned(), body).await.map_err(|error| match error.kind() {
        RequestErrorKind::NoResponders => ProvisionError::NoJetStream,
        _ => ProvisionError::NoAnswer { request: subject.to_owned(), source: error },
    })?;
    let Some(error) = answer.get("error") else { return Ok(Ok(answer)) };
    let description = error["description"].as_str().unwrap_or("unknown error").to_owned();
    Ok(Err(Refusal { code: error["err_code"].as_u64().unwrap_or(0), description }))
}

/// `None` if there is no such stream.
pub(super) async fn stream(context: &Context, name: &str) -> Result<Option<StreamInfo>, ProvisionError> {
    let answer = match ask(context, &format!("STREAM.INFO.{name}"), &json!({})).await? {
        Ok(answer) => answer,
        Err(refusal) if refusal.code == code::STREAM_NOT_FOUND => return Ok(None),
        Err(refusal) => return Err(refusal.into_error(format!("stream {name}"))),
    };
    if !is_led(&answer, context.client().server_info().cluster.is_some()) {
        return Err(ProvisionError::Leaderless { object: format!("stream {name}") });
    }
    let state = &answer["state"];
    let number = |key: &str| state[key].as_u64().unwrap_or(0);
    Ok(Some(StreamInfo {
        config: answer["config"].as_object().cloned().unwrap_or_default(),
        bytes: state["bytes"].as_i64().unwrap_or(0),
        messages: number("messages"),
        first_seq: number("first_seq"),
        last_seq: number("last_seq"),
    }))
}

/// All consumers of a stream.
pub(super) async fn consumers(context: &Context, stream: &str) -> Result<Vec<ConsumerInfo>, ProvisionError> {
    let mut all = Vec::new();
    for _ in 0..PAGES {
        let request = json!({ "offset": all.len() });
        let answer = ask(context, &format!("CONSUMER.LIST.{stream}"), &request).await?;
        let answer = answer.map_err(|refusal| refusal.into_error(format!("consumers of {stream}")))?;
        let page = listed(&answer, stream)?;
        let is_last = page.is_empty();
        all.extend(page);
        let total = answer["total"].as_u64().and_then(|total| usize::try_from(total).ok()).unwrap_or(0);
        if is_last || all.len() >= total {
            break;
        }
    }
    Ok(all)
}

/// The consumers of one page of the list, if it has all of them: those whose leader did not answer are named apart.
fn listed(answer: &Value, stream: &str) -> Result<Vec<ConsumerInfo>, ProvisionError> {
    if let Some(name) = answer["missing"][0].as_str() {
        return Err(ProvisionError::Leaderless { object: format!("consumer {name} of {stream}") });
    }
    let read = |info: &Value| ConsumerInfo {
        name: info["name"].as_str().unwrap_or_default().to_owned(),
        config: info["config"].as_object().cloned().unwrap_or_default(),
        ack_floor: info["ack_floor"]["stream_seq"].as_u64().unwrap_or(0),
        idle: [&info["num_pending"], &info["num_ack_pending"]].iter().all(|left| left.as_u64() == Some(0)),
    };
    Ok(answer["consumers"].as_array().map_or(&[][..], Vec::as_slice).iter().map(read).collect())
}

/// When the first message at or after `seq` was stored, as the server writes it; `None` if there is none.
pub(super) async fn time_of(context: &Context, stream: &str, seq: u64) -> Result<Option<String>, ProvisionError> {
    let request = json!({ "seq": seq, "next_by_subj": ">" });
    let answer = ask(context, &format!("STREAM.MSG.GET.{stream}"), &request).await?;
    Ok(answer.ok().and_then(|answer| answer["message"]["time"].as_str().map(ToOwned::to_owned)))
}

/// Makes a stream. The same one again is no error.
pub(super) async fn create_stream(
    context: &Context,
    name: &str,
    config: &Map<String, Value>,
) -> Result<Result<(), Refusal>, ProvisionError> {
    let answer = ask(context, &format!("STREAM.CREATE.{name}"), &json!(config)).await?;
    Ok(answer.map(drop))
}

/// Changes a stream in place.
pub(super) async fn update_stream(
    context: &Context,
    name: &str,
    config: &Map<String, Value>,
) -> Result<Result<(), Refusal>, ProvisionError> {
    let answer = ask(context, &format!("STREAM.UPDATE.{name}"), &json!(config)).await?;
    Ok(answer.map(drop))
}

/// Makes (`action` "create") or changes ("update") a consumer.
pub(super) async fn put_consumer(
    context: &Context,
    (stream, name): (&str, &str),
    config: &Map<String, Value>,
    action: &str,
) -> Result<Result<(), Refusal>, ProvisionError> {
    let request = json!({ "stream_name": stream, "config": config, "action": action });
    let answer = ask(context, &format!("CONSUMER.CREATE.{stream}.{name}"), &request).await?;
    Ok(answer.map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_without_all_its_consumers_is_not_believed() {
        let info = json!({ "name": "audit", "num_pending": 0, "num_ack_pending": 0 });
        let whole = listed(&json!({ "total": 1, "consumers": [info] }), "YALO_CHAT").unwrap();
        assert!(whole.len() == 1 && whole[0].name == "audit" && whole[0].idle);
        // As three servers answer of which two are dead.
        let nobody = json!({ "total": 0, "consumers": [], "missing": ["audit", "bot-0"] });
        let error = listed(&nobody, "YALO_CHAT").expect_err("nothing that is believed");
        assert!(error.is_leaderless() && error.to_string().contains("consumer audit of YALO_CHAT"), "{error}");
    }
}
