//! A cluster of three nats-servers that are killed, frozen and emptied in turn, under people who talk: they go on within
//! a bounded time, and in the end every message is there once, in order and proved.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Api, new_id};
use crate::harness::{Cluster, Fleet, PATIENCE, Start, eventually};
use crate::replay::proof::{self, Talk, Turn};
use crate::steady::{self, Crowd};

/// People go on within this time after each fault.
const SOON: Duration = Duration::from_secs(20);
/// Frontends look at the stream every two seconds.
const LOOKS: Duration = Duration::from_secs(5);
/// Of a publish, here.
const DEADLINE_MS: u64 = 3000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_talk_on_while_servers_of_a_cluster_are_killed_frozen_and_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path()).await;
    let deadline = format!("nats.publish_deadline_ms={DEADLINE_MS}");
    let settings = ["nats.replicas=3", &deadline, "nats.publish_timeout_ms=1000"];
    let mut fleet = Fleet::start_on(folder.path(), &cluster.url(), &settings).await;
    let place = fleet.place();
    cluster.is_whole(PATIENCE).await;
    let mut asked = None;
    let mut talks = steady::through(&place, async |crowd| {
        a_leader_is_killed(&mut cluster, crowd).await;
        a_node_is_frozen(&cluster, crowd).await;
        a_disk_is_emptied(&mut cluster, crowd).await;
        asked = Some(the_quorum_is_lost(&mut cluster, &fleet, crowd).await);
        a_follower_lags(&cluster, crowd).await;
    })
    .await;
    talks.extend(asked);
    proof::prove(&place, &talks).await;
    let arguments = ["audit", "verify"].map(str::to_owned).into();
    let verify = Start { name: "verify".to_owned(), arguments, ..fleet.start_of("admin") };
    let (code, output, errors) = verify.finish().await;
    assert_eq!(code, Some(0), "{output}{errors}");
    fleet.stop().await;
}

async fn a_leader_is_killed(cluster: &mut Cluster, crowd: &Crowd) {
    let (leader, _) = cluster.leader_and_follower().await;
    cluster.kill9(leader);
    crowd.goes_on(SOON, "the leader's death").await;
    cluster.start_again(leader);
    cluster.is_whole(PATIENCE).await;
}

async fn a_node_is_frozen(cluster: &Cluster, crowd: &Crowd) {
    let (leader, _) = cluster.leader_and_follower().await;
    cluster.freeze(leader);
    tokio::time::sleep(Duration::from_secs(8)).await;
    cluster.thaw(leader);
    crowd.goes_on(SOON, "the thaw of a leader").await;
    cluster.is_whole(PATIENCE).await;
}

async fn a_disk_is_emptied(cluster: &mut Cluster, crowd: &Crowd) {
    let (_, emptied) = cluster.leader_and_follower().await;
    cluster.kill9(emptied);
    cluster.forget(emptied);
    crowd.goes_on(SOON, "a follower's death").await;
    cluster.is_missed(emptied, PATIENCE).await;
    cluster.start_again(emptied);
    cluster.is_whole(PATIENCE).await;
}

async fn the_quorum_is_lost(cluster: &mut Cluster, fleet: &Fleet, crowd: &Crowd) -> Talk {
    let place = fleet.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let (leader, follower) = cluster.led_apart().await;
    cluster.kill9(leader);
    cluster.kill9(follower);
    let begun = Instant::now();
    let id = new_id();
    let body = json!({"text": "is anybody there?", "conversation": conversation, "id": id});
    let refused = me.post("/v1/chat", body.clone()).await;
    let took = begun.elapsed();
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.headers.contains_key("retry-after"));
    assert!(took < Duration::from_millis(DEADLINE_MS + 2500), "{took:?}");
    let ready = format!("{}/readyz", fleet.role("frontend-1").address("ops"));
    let misses_the_stream = async || {
        let page: Value = reqwest::get(&ready).await.unwrap().json().await.unwrap();
        let states = page["dependencies"].as_array().unwrap();
        let stream = states.iter().find(|state| state["name"].as_str().unwrap().starts_with("stream"))?;
        let reason = stream["reason"].as_str().unwrap_or_default();
        (page["ready"] == false && reason.contains("YALO_CHAT")).then_some(())
    };
    eventually(SOON, "a frontend that says what is missing", misses_the_stream).await;
    // The one that is left leads the metadata, and after a while it describes the stream, without a leader.
    cluster.describes_the_leaderless(3 - leader - follower, PATIENCE).await;
    let end = Instant::now() + LOOKS;
    while Instant::now() < end {
        assert!(misses_the_stream().await.is_some(), "ready without a leader");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let waits = async |name: &str, cause: &str| {
        let bot = Start { name: name.to_owned(), ..fleet.start_of("bot-1") }.spawn();
        eventually(PATIENCE, "a bot that waits for a leader", async || bot.says(cause).then_some(())).await;
        bot
    };
    waits("bot-5", "not started yet, trying again for 30 s: stream YALO_CHAT has no leader").await.stop().await;
    let mut late = waits("bot-4", "not started yet").await;
    cluster.start_again(leader);
    cluster.start_again(follower);
    tokio::join!(late.announcement(), crowd.goes_on(2 * SOON, "the quorum's return"));
    let said = me.post("/v1/chat", body).await.expect(200);
    assert_eq!(said["answer"]["text"], "is anybody there?");
    late.stop().await;
    cluster.is_whole(PATIENCE).await;
    let turn = Turn { id, question: said["message"].clone(), answer: said["answer"].clone() };
    Talk { file: "without a quorum".to_owned(), conversation: Some(conversation), turns: vec![turn] }
}

/// Readers come back while one copy of the stream lags.
async fn a_follower_lags(cluster: &Cluster, crowd: &Crowd) {
    let (_, follower) = cluster.leader_and_follower().await;
    cluster.freeze(follower);
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.thaw(follower);
    crowd.resume();
    crowd.goes_on(SOON, "the thaw of a follower").await;
}
