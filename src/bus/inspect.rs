//! What an operator asks a NATS: its clock, who holds the copies, how it is set. For `yalo doctor`.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::{Bus, BusError, state};
use crate::domain::Timestamp;

/// What the server said when it was connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The cluster that it belongs to.
    pub cluster: Option<String>,
}

/// This machine's clock beside a server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// By how many milliseconds this machine is ahead; negative: behind.
    pub ahead_ms: i64,
    /// How far that may be off: half the way there and back.
    pub give_ms: i64,
}

/// One server that holds a copy of the message stream, besides the leader.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Copy {
    /// The server's name.
    pub name: String,
    /// Whether it has all that the leader has.
    #[serde(default)]
    pub current: bool,
    /// Whether it is away.
    #[serde(default)]
    pub offline: bool,
    /// Entries that it lacks.
    #[serde(default)]
    pub lag: u64,
}

/// The copies of the message stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copies {
    /// How many there are to be.
    pub wanted: u64,
    /// The server that leads; `None` while there is none, and on a single server.
    pub leader: Option<String>,
    /// All but the leader.
    pub others: Vec<Copy>,
}

/// How one server is set, as its monitoring page `/varz` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerPage {
    /// Its name.
    pub name: String,
    /// Whether each write waits for the disk.
    pub sync_always: bool,
    /// How often it waits for the disk otherwise.
    pub sync_interval: Duration,
    /// Its folder.
    pub store_dir: String,
    /// How much it stores at most, in bytes; 0 or less if it does not say.
    pub max_storage: i64,
    /// After this time without a sign of life a connection is ended.
    pub dead_after: Duration,
}

impl ServerPage {
    /// Reads `/varz`. `None` if it is something else, or a server without JetStream.
    pub fn read(page: &Value) -> Option<Self> {
        let config = &page["jetstream"]["config"];
        let span = |value: &Value| value.as_u64().map(Duration::from_nanos);
        let pings = u32::try_from(page["ping_max"].as_u64()?).ok()?;
        Some(Self {
            name: page["server_name"].as_str()?.to_owned(),
            // With `always` the interval still says 2 minutes, so this comes first.
            sync_always: config["sync_always"].as_bool().unwrap_or(false),
            sync_interval: span(&config["sync_interval"])?,
            store_dir: config["store_dir"].as_str()?.to_owned(),
            max_storage: config["max_storage"].as_i64().unwrap_or(0),
            dead_after: span(&page["ping_interval"])?.saturating_mul(pings),
        })
    }
}

#[derive(Deserialize)]
struct StreamInfo {
    config: StreamConfig,
    cluster: Option<Cluster>,
}

#[derive(Deserialize)]
struct StreamConfig {
    num_replicas: u64,
}

#[derive(Deserialize)]
struct Cluster {
    leader: Option<String>,
    #[serde(default)]
    replicas: Vec<Copy>,
}

impl Bus {
    /// What the server said at the connect.
    pub fn greeting(&self) -> Greeting {
        let info = self.client().server_info();
        Greeting { name: info.server_name, version: info.version, cluster: info.cluster }
    }

    /// Compares clocks: by the middle of one request, of which any user has the right.
    pub async fn skew(&self) -> Result<Skew, BusError> {
        let begun = Timestamp::now();
        let subject = "$SYS.REQ.USER.INFO".to_owned();
        let answer = self.ask("read the server's clock", subject, Bytes::new()).await?;
        let ended = Timestamp::now();
        let answer: Value = state::parse(&answer.payload, "the server's clock")?;
        let time = answer["server"]["time"].as_str().and_then(Timestamp::parse);
        let time = time.ok_or(BusError::Refused {
            doing: "read the server's clock",
            reason: "it does not say its time".to_owned(),
        })?;
        let way = (ended.ns() - begun.ns()) / 2;
        Ok(Skew { ahead_ms: (begun.ns() + way - time.ns()) / 1_000_000, give_ms: way / 1_000_000 + 1 })
    }

    /// The copies of the message stream.
    pub async fn copies(&self) -> Result<Copies, BusError> {
        let subject = format!("$JS.API.STREAM.INFO.{}", self.chat_stream());
        let answer = self.ask("read the state of the stream", subject, Bytes::new()).await?;
        let info: StreamInfo = state::parse(&answer.payload, self.chat_stream())?;
        let cluster = info.cluster.unwrap_or(Cluster { leader: None, replicas: Vec::new() });
        Ok(Copies { wanted: info.config.num_replicas, leader: cluster.leader, others: cluster.replicas })
    }

    /// How much the account may store, and how much it has reserved or stored, in bytes; `None` without a limit.
    pub async fn account_storage(&self) -> Result<Option<(u64, u64)>, BusError> {
        let answer = self.ask("read the limits of the account", "$JS.API.INFO".to_owned(), Bytes::new()).await?;
        let info: Value = state::parse(&answer.payload, "the account")?;
        let number = |value: &Value| value.as_i64().and_then(|number| u64::try_from(number).ok());
        let used = number(&info["storage"]).unwrap_or(0).max(number(&info["reserved_storage"]).unwrap_or(0));
        Ok(number(&info["limits"]["max_storage"]).filter(|limit| *limit > 0).map(|limit| (limit, used)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_says_how_a_server_is_set() {
        let mut page = json!({"server_name": "n1", "ping_interval": 20_000_000_000_u64, "ping_max": 2, "jetstream":
            {"config": {"sync_interval": 120_000_000_000_u64, "sync_always": true, "store_dir": "/srv/nats",
            "max_storage": 1000}}});
        let read = ServerPage::read(&page).unwrap();
        assert_eq!((read.sync_always, read.dead_after), (true, Duration::from_secs(40)));
        assert_eq!((read.store_dir.as_str(), read.max_storage), ("/srv/nats", 1000));
        page["jetstream"]["config"]["sync_always"] = json!(null);
        let read = ServerPage::read(&page).unwrap();
        assert_eq!((read.sync_always, read.sync_interval), (false, Duration::from_secs(120)));
        page["jetstream"] = json!({});
        assert_eq!(ServerPage::read(&page), None);
    }
}
