//! Stops and restarts under load: nothing accepted is lost, and who follows the protocol notices nothing.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::client::{Api, Call, text};
use crate::harness::{All, Fleet, PATIENCE, Start, eventually};
use crate::replay::proof;
use crate::steady;

/// A stop is over within `limits.grace_ms`, and a moment to end the process.
const GRACE: Duration = Duration::from_secs(11);
/// Everybody has an answer again within this time.
const SOON: Duration = Duration::from_secs(15);

/// Asks the record for its proof.
async fn is_proved(start: Start) {
    let arguments = ["audit", "verify"].map(str::to_owned).into();
    let (code, output, errors) = Start { name: "verify".to_owned(), arguments, ..start }.finish().await;
    assert_eq!(code, Some(0), "{output}{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_is_restarted_one_by_one_and_nobody_notices() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let place = fleet.place();
    let names = ["frontend-1", "bot-1", "auditor-1", "admin", "frontend-2", "bot-2", "auditor-2", "bot-3"];
    let talks = steady::through(&place, async |crowd| {
        for name in names {
            let begun = Instant::now();
            fleet.stop_role(name).await;
            let stopped = begun.elapsed();
            assert!(stopped < GRACE, "{name} took {stopped:?}");
            fleet.start_again(name).await;
            crowd.goes_on(SOON, &format!("the restart of {name}, which stopped in {stopped:?}")).await;
        }
    })
    .await;
    proof::prove(&place, &talks).await;
    is_proved(fleet.start_of("admin")).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn yalo_all_is_restarted_under_load_and_nobody_notices() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start_lasting(folder.path()).await;
    let place = all.place();
    let talks = steady::through(&place, async |crowd| {
        for signal in [Signal::TERM, Signal::INT] {
            let begun = Instant::now();
            all.process().signal(signal);
            all.ends_cleanly().await;
            let stopped = begun.elapsed();
            assert!(stopped < GRACE, "{stopped:?}");
            all.restart().await;
            crowd.goes_on(SOON, &format!("a restart, stopped in {stopped:?}")).await;
        }
    })
    .await;
    proof::prove(&place, &talks).await;
    all.stop().await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start_with(folder.path(), &["bot.engine=drill", "bot.attempt_timeout_ms=60000"]).await;
    let (me, conversation) = Api::guest(&all.place().frontends[0]).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    let asked = me.post(&path, json!({"text": "sleep 50000"})).await.expect(202);
    for (signal, code) in [(Signal::TERM, 1), (Signal::INT, 130)] {
        let ready = format!("{}/readyz", all.process().address("ops"));
        // It has to be under way, or a stop has nothing to wait for.
        let path = format!("/v1/conversations/{conversation}/events");
        let here = me.at(&all.place().frontends[0]);
        let mut events = here.events(Call { path: &path, ..Call::default() }).await;
        while events.next().await.expect("an event").name != "working" {}
        all.process().signal(Signal::TERM);
        eventually(PATIENCE, "a stop that has begun", async || {
            let page: serde_json::Value = reqwest::get(&ready).await.unwrap().json().await.unwrap();
            (page["stopping"] == true).then_some(())
        })
        .await;
        all.process().signal(signal);
        let ended = all.exit(Duration::from_secs(1)).await;
        assert_eq!(ended.code(), Some(code));
        all.restart().await;
    }
    let me = me.at(&all.place().frontends[0]);
    // The question is still being answered.
    let stopped = eventually(PATIENCE, "its record", async || {
        me.post(&format!("/v1/conversations/{conversation}/stop"), json!({})).await.expect(202);
        let page = me.get(&path).await.expect(200);
        page["messages"].as_array().unwrap().iter().find(|message| message["who"] == "bot").cloned()
    })
    .await;
    assert_eq!((&stopped["kind"], &stopped["reply_to"]["seq"]), (&json!("stopped"), &asked["seq"]));
    all.stop().await;
}

#[tokio::test]
async fn a_frontend_sends_its_clients_elsewhere_before_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(folder.path(), &["bot.engine=drill", "frontend.drain_ms=1500"]).await;
    let base = fleet.place().frontends[0].clone();
    let (me, conversation) = Api::guest(&base).await;
    let ready = format!("{}/readyz", fleet.role("frontend-1").address("ops"));
    let mut socket = me.signed_in_socket().await;
    let path = format!("/v1/conversations/{conversation}/events");
    let mut events = me.events(Call { path: &path, ..Call::default() }).await;
    let other = text(&me.post("/v1/conversations", json!({})).await.expect(201), "conversation");
    let chat = |words: &str, conversation: &str| json!({"text": words, "conversation": conversation});
    assert!(!me.post("/v1/chat", chat("warm", &conversation)).await.headers.contains_key("connection"));
    let (short, long) = (chat("sleep 800", &conversation), chat("sleep 6000", &other));
    let leaving = async {
        eventually(PATIENCE, "both questions", async || {
            let count = async |conversation: &str| {
                let page = me.get(&format!("/v1/conversations/{conversation}/messages")).await.expect(200);
                page["messages"].as_array().unwrap().len()
            };
            (count(&conversation).await == 4 && count(&other).await == 2).then_some(())
        })
        .await;
        fleet.role("frontend-1").signal(Signal::TERM);
        let begun = Instant::now();
        eventually(PATIENCE, "not ready", async || {
            let page: serde_json::Value = reqwest::get(&ready).await.unwrap().json().await.unwrap();
            (page["stopping"] == true && page["ready"] == false).then_some(())
        })
        .await;
        // Still served, on new connections as well, each for one request.
        let fresh = Api::connect(&base).await.with_token(me.token());
        let read = fresh.get(&format!("/v1/conversations/{conversation}/messages")).await;
        assert_eq!((read.status, read.headers["connection"].to_str().unwrap()), (200, "close"));
        assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    };
    let (short, long, ()) = tokio::join!(me.post("/v1/chat", short), me.post("/v1/chat", long), leaving);
    // What takes longer than that is accepted, and its answer is there for whoever asks again.
    assert_eq!((short.status, long.status), (200, 202), "{} {}", short.body, long.body);
    assert_eq!(short.headers["connection"], "close");
    let asked = text(&long.body["message"], "id");
    let mut last = events.next().await;
    while let Some(event) = &last {
        if event.name == "bye" {
            break;
        }
        last = events.next().await;
    }
    assert_eq!(last.expect("a goodbye").data["code"], "stopping");
    let bye = socket.read().await.unwrap();
    assert_eq!((&bye["type"], &bye["code"]), (&json!("bye"), &json!("stopping")));
    assert_eq!(socket.read().await.unwrap_err(), "closed 1001");
    fleet.role_mut("frontend-1").ends_cleanly().await;
    let body = json!({"text": "sleep 6000", "conversation": other, "id": asked});
    let said = me.at(&fleet.place().frontends[1]).post("/v1/chat", body).await.expect(200);
    assert_eq!((&said["duplicate"], said["answer"]["kind"].as_str()), (&json!(true), Some("text")));
    fleet.stop().await;
}
