//! Roles that are started before the cluster is there.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::talk::Talk;
use crate::client::Api;
use crate::client::raw::{line, rest, status};
use crate::harness::deployment::{Deployment, shared};
use crate::harness::{PATIENCE, eventually, lasting_address};
use crate::proxy::Proxy;

/// What `/readyz` says of the store.
async fn readiness(ops: &str) -> Option<(u16, Value)> {
    let answer = reqwest::get(format!("http://{ops}/readyz")).await.ok()?;
    let status = answer.status().as_u16();
    let page: Value = answer.json().await.ok()?;
    let store = page["dependencies"].as_array()?.iter().find(|dependency| dependency["name"] == "store")?;
    Some((status, store.clone()))
}

/// A role waits for the store, and says for which.
pub(super) async fn says_what_it_waits_for(ops: &str, address: &str) {
    eventually(PATIENCE, "a word about the store", async || {
        let (status, store) = readiness(ops).await?;
        let reason = store["reason"].as_str()?;
        (status == 503 && reason.contains(address) && reason.contains("store.nodes")).then_some(())
    })
    .await;
}

/// It waits no more.
pub(super) async fn is_ready(ops: &str) {
    eventually(PATIENCE, "ready", async || {
        let (status, store) = readiness(ops).await?;
        (status == 200 && store["ready"] == json!(true)).then_some(())
    })
    .await;
}

/// Whoever connects before a role has its store, and asks after that, is answered all the same: with what was true when
/// the connection was taken.
async fn nobody_is_cut_off(base: &str, ops: &str) {
    let lines = RefCell::new(Vec::new());
    eventually(PATIENCE, "ready", async || {
        let line = line(base).await;
        lines.borrow_mut().push((line, Instant::now()));
        readiness(ops).await?.1["ready"].as_bool()?.then_some(())
    })
    .await;
    let mut lines = lines.into_inner();
    // A connection that says nothing is closed after ten seconds.
    lines.retain(|(_, since)| since.elapsed() < Duration::from_secs(5));
    let mut answers = Vec::new();
    for (line, _) in &mut lines {
        line.write_all(b"GET /admin/v1/stats HTTP/1.1\r\nhost: yalo\r\nconnection: close\r\n\r\n").await.unwrap();
        answers.push(status(&rest(line).await));
    }
    assert!(answers.contains(&503) && answers.iter().all(|status| [503, 401].contains(status)), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_are_there_before_the_cluster_wait_for_it_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let address = lasting_address();
    let way = Proxy::start_at(&address, shared().await.addresses()).await;
    let mut all = Deployment::start_at(folder.path(), address.clone(), "late").await;
    let place = all.fleet.place();
    let mut talk = Talk::begin(&place).await;
    let operator = Api::operator(&place).await;
    for name in ["auditor-1", "auditor-2", "admin"] {
        all.fleet.stop_role(name).await;
    }
    drop(way);
    let starts = ["auditor-1", "admin"].map(|name| {
        let ops = lasting_address();
        (all.role(name, &[&format!("ops.listen={ops}")]).spawn(), ops)
    });
    for (_, ops) in &starts {
        says_what_it_waits_for(ops, &address).await;
    }
    // People notice nothing, an operator is told, and a tool does not wait.
    talk.say(5).await;
    eventually(PATIENCE, "a word to the operator", async || {
        let call = operator.get("/admin/v1/stats").await;
        (call.status == 503).then(|| call.refused(503, "store_unavailable"))
    })
    .await;
    for command in ["init", "export"] {
        let (code, _, errors) = all.tool(&[command], &[]).finish().await;
        assert!(code == Some(4) && errors.contains(&address) && errors.contains("store.nodes"), "{code:?} {errors}");
    }
    let way = Proxy::start_at(&address, shared().await.addresses()).await;
    nobody_is_cut_off(&place.admin, &starts[1].1).await;
    talk.stored(&operator).await;
    talk.is_whole(&operator).await;
    for (_, ops) in &starts {
        is_ready(ops).await;
    }
    // One that waits is stopped like any other.
    drop(way);
    let ops = lasting_address();
    let mut waiting = all.role("auditor-2", &[&format!("ops.listen={ops}")]).spawn();
    says_what_it_waits_for(&ops, &address).await;
    waiting.stop().await;
    for (mut role, _) in starts {
        role.stop().await;
    }
}
