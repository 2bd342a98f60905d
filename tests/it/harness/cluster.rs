//! Three nats-servers that are one: each can be killed, frozen, emptied and brought back.

use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::stream::{self, ClusterInfo, PeerInfo};
use rustix::process::Signal;

use super::nats::Nats;
use super::{eventually, lasting_address};

/// As it comes: the copies are what keeps a message. Each of the three has a log for each stream and each consumer, and
/// together they would keep one disk busy with syncs.
const SYNC: &str = "2m";

/// A running cluster; dropping it ends it.
pub(crate) struct Cluster {
    nodes: Vec<Nats>,
}

impl Cluster {
    /// Starts one below `folder`, and waits until it has found itself.
    pub(crate) async fn start(folder: &Path) -> Self {
        let routes: Vec<String> = std::iter::repeat_with(lasting_address).take(3).collect();
        let known: Vec<String> = routes.iter().map(|route| format!("\"nats://{route}\"")).collect();
        let node = |(number, route): (usize, &String)| {
            let more = format!(
                "server_name: \"{number}\"\nping_interval: \"20s\"\nping_max: 2\ncluster {{ name: \"yalo\", listen: \
                 \"{route}\", routes: [{}] }}\n",
                known.join(", ")
            );
            Nats::start_with(folder.join(format!("nats-{number}")), SYNC, more)
        };
        let cluster = Self { nodes: routes.iter().enumerate().map(node).collect() };
        eventually(super::PATIENCE, "a leader of the cluster", async || {
            let client = async_nats::connect(cluster.nodes[0].url()).await.ok()?;
            jetstream::new(client).query_account().await.ok()
        })
        .await;
        cluster
    }

    /// The addresses of all three.
    pub(crate) fn url(&self) -> String {
        self.nodes.iter().map(Nats::url).collect::<Vec<_>>().join(",")
    }

    /// What the message stream's leader says of it, asked of a node that lives.
    pub(crate) async fn stream(&self, node: usize) -> Option<stream::Info> {
        let look = async {
            let client = async_nats::connect(self.nodes[node].url()).await.ok()?;
            let mut stream = jetstream::new(client).get_stream("YALO_CHAT").await.ok()?;
            stream.info().await.ok().cloned()
        };
        tokio::time::timeout(Duration::from_secs(3), look).await.ok().flatten()
    }

    /// The node that leads the message stream, and one that follows.
    pub(crate) async fn leader_and_follower(&self) -> (usize, usize) {
        let leader = eventually(super::PATIENCE, "a leader", async || {
            let info = self.stream(fastrand::usize(0..3)).await?;
            info.cluster?.leader?.parse::<usize>().ok()
        })
        .await;
        (leader, (leader + 1) % 3)
    }

    /// The node that leads the message stream, and one that leads nothing: the third leads the metadata.
    pub(crate) async fn led_apart(&self) -> (usize, usize) {
        eventually(super::PATIENCE, "a leader of the metadata that does not lead the stream", async || {
            let page = reqwest::get(format!("{}/jsz", self.nodes[0].monitor())).await.ok()?;
            let page: serde_json::Value = page.json().await.ok()?;
            let meta: usize = page["meta_cluster"]["leader"].as_str()?.parse().ok()?;
            let (leader, _) = self.leader_and_follower().await;
            if leader != meta {
                return Some((leader, 3 - leader - meta));
            }
            let client = async_nats::connect(self.nodes[0].url()).await.ok()?;
            client.request("$JS.API.STREAM.LEADER.STEPDOWN.YALO_CHAT", "".into()).await.ok()?;
            None
        })
        .await
    }

    /// Waits until all three have all of the stream.
    pub(crate) async fn is_whole(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let is_current = |peer: &&PeerInfo| peer.current && !peer.offline;
        let is_whole =
            |info: &ClusterInfo| info.leader.is_some() && info.replicas.iter().filter(is_current).count() == 2;
        loop {
            let seen = self.stream(fastrand::usize(0..3)).await.and_then(|info| info.cluster);
            if seen.as_ref().is_some_and(is_whole) {
                return;
            }
            assert!(Instant::now() < end, "not three copies of the stream within {limit:?}: {seen:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the leader has noticed that a node is away.
    pub(crate) async fn is_missed(&self, node: usize, limit: Duration) {
        eventually(limit, "a leader that misses a follower", async || {
            let replicas = self.stream((node + 1) % 3).await?.cluster?.replicas;
            let peer = replicas.into_iter().find(|peer| peer.name == node.to_string())?;
            (peer.offline || !peer.current).then_some(())
        })
        .await;
    }

    /// Waits until this node answers for the stream although nobody leads it.
    pub(crate) async fn describes_the_leaderless(&self, node: usize, limit: Duration) {
        eventually(limit, "a stream without a leader that is described", async || {
            self.stream(node).await?.cluster?.leader.is_none().then_some(())
        })
        .await;
    }

    pub(crate) fn kill9(&mut self, node: usize) {
        self.nodes[node].kill9();
    }

    /// Starts a killed one again.
    pub(crate) fn start_again(&mut self, node: usize) {
        self.nodes[node].start_again();
    }

    /// Empties the disk of a killed one.
    pub(crate) fn forget(&self, node: usize) {
        self.nodes[node].forget();
    }

    pub(crate) fn freeze(&self, node: usize) {
        self.nodes[node].signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self, node: usize) {
        self.nodes[node].signal(Signal::CONT);
    }
}
