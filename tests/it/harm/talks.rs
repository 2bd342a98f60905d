//! People talk while one trouble follows the other: afterwards every transcript and the whole record are as they must be.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use super::disks::fill;
use crate::client::Api;
use crate::corpus::Dialogue;
use crate::harness::{All, PATIENCE, Place, Process, children, eventually};
use crate::replay::people::{Person, Way};
use crate::replay::proof::{self, Talk};

/// People who talk at the same time, and how much each has to say.
const PEOPLE: usize = 4;
const TURNS: usize = 50;
/// Turns between two troubles, and in the middle of one that users do not notice.
const SOME: usize = 20;
/// Long texts: a few of them need more than the last page of a file has room for.
const TEXT_BYTES: usize = 12_000;

/// One who sends the same again until it is answered.
async fn talk(place: &Place, number: usize, turns: &watch::Sender<usize>) -> Talk {
    let api = Api::connect(&place.frontends[0]).await;
    let mut person = Person::arrive(api, Way::Stubborn).await;
    let words = |turn: usize| format!("{number}/{turn} ").repeat(TEXT_BYTES / 4).chars().take(TEXT_BYTES).collect();
    let words = (0..TURNS).map(words).collect();
    let dialogue = Dialogue { language: String::new(), file: format!("person {number}"), turns: words };
    person.talk(&dialogue, turns).await
}

async fn some_turns(turns: &mut watch::Receiver<usize>) {
    let end = *turns.borrow() + SOME;
    turns.wait_for(|turns| *turns >= end).await.unwrap();
}

/// Waits until `/readyz` says that `name` is not ready, for a reason with this word in it.
async fn not_ready(process: &Process, name: &str, word: &str) {
    eventually(PATIENCE, &format!("{name} is not ready: {word}"), async || {
        let page = readiness(process).await;
        let states = page["dependencies"].as_array().unwrap();
        let is_so = |state: &serde_json::Value| {
            state["name"] == name && state["ready"] == false && state["reason"].as_str().unwrap().contains(word)
        };
        states.iter().any(is_so).then_some(())
    })
    .await;
}

async fn all_ready(process: &Process) {
    eventually(PATIENCE, "ready again", async || (readiness(process).await["ready"] == true).then_some(())).await;
}

async fn readiness(process: &Process) -> serde_json::Value {
    reqwest::get(format!("{}/readyz", process.address("ops"))).await.unwrap().json().await.unwrap()
}

/// A full disk under NATS, one under the store, a killed nats-server.
async fn troubles(process: &Process, nats: &Path, store: &Path, mut turns: watch::Receiver<usize>) {
    some_turns(&mut turns).await;
    let filler = process.inside(&nats.join("filler"));
    fill(&filler);
    not_ready(process, "nats-server", "full").await;
    fs::remove_file(&filler).unwrap();
    all_ready(process).await;

    some_turns(&mut turns).await;
    let filler = process.inside(&store.join("filler"));
    fill(&filler);
    not_ready(process, "store", "full").await;
    // Nobody notices.
    some_turns(&mut turns).await;
    fs::remove_file(&filler).unwrap();
    all_ready(process).await;

    some_turns(&mut turns).await;
    let killed = children(process.pid());
    kill_process(Pid::from_raw(killed[0].cast_signed()).unwrap(), Signal::KILL).unwrap();
    eventually(PATIENCE, "another nats-server", async || {
        let children = children(process.pid());
        (children.len() == 1 && children != killed).then_some(())
    })
    .await;
    all_ready(process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_talk_through_one_trouble_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let (nats, store) = (folder.path().join("data/nats"), folder.path().join("store"));
    fs::create_dir_all(&nats).unwrap();
    fs::create_dir(&store).unwrap();
    let settings = [
        &format!("store.path={}", store.join("messages.db").display()),
        "nats.publish_timeout_ms=300",
        "nats.publish_deadline_ms=1000",
        // Many attempts while the store is away.
        "auditor.retry_min_ms=2",
        "auditor.retry_max_ms=20",
    ];
    let start = crate::harness::all(folder.path(), "all", &settings);
    let mut all = All::run(start.with_disk(&nats, 32 << 20).with_disk(&store, 32 << 20)).await;
    let place = all.place();
    let (turns, seen) = watch::channel(0);
    let talking = futures_util::future::join_all((0..PEOPLE).map(|number| talk(&place, number, &turns)));
    let (talks, ()) = tokio::join!(talking, troubles(all.process(), &nats, &store, seen));
    proof::prove(&place, &talks).await;
    all.stop().await;
}
