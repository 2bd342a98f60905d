//! Full disks: under the store, under NATS, and a stream that has reached its own limit.

use std::cell::RefCell;
use std::fs;

use serde_json::{Value, json};

use crate::client::{Api, number, text};
use crate::harness::{All, Fleet, PATIENCE, eventually};

/// Fills a disk to its last byte.
pub(super) fn fill(file: &std::path::Path) {
    use std::io::Write;
    let mut filler = fs::File::create(file).unwrap();
    let block = vec![1; 1 << 16];
    while filler.write_all(&block).is_ok() {}
    while filler.write_all(&block[..512]).is_ok() {}
}

async fn whole(me: &Api, conversation: &str) -> Vec<Value> {
    let (mut whole, mut after) = (Vec::new(), "0-0".to_owned());
    loop {
        let path = format!("/v1/conversations/{conversation}/messages?limit=500&after={after}");
        let page = me.get(&path).await.expect(200);
        let messages = page["messages"].as_array().unwrap();
        let Some(last) = messages.last() else { return whole };
        after = text(last, "cursor");
        whole.extend(messages.clone());
    }
}

/// The store has every message of the stream, and of this conversation just these.
async fn is_complete(operator: &Api, conversation: &str, expected: &[Value]) {
    let stats = eventually(PATIENCE, "everything in the store", async || {
        let stats = operator.get("/admin/v1/stats").await.body;
        (stats["audit_gap"]["behind"] == 0 && stats["last_seq"] == stats["stream"]["last_seq"]).then_some(stats)
    })
    .await;
    assert_eq!(number(&stats, "messages"), number(&stats, "last_seq"), "{stats}");
    let path = format!("/admin/v1/conversations/{conversation}/messages?limit=500&after=0-0");
    assert_eq!(operator.get(&path).await.expect(200)["messages"], json!(expected));
}

#[tokio::test]
async fn a_full_disk_under_the_store_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().join("small");
    fs::create_dir(&small).unwrap();
    let setting = format!("store.path={}", small.join("messages.db").display());
    let start = crate::harness::all(folder.path(), "all", &[&setting]).with_disk(&small, 4 << 20);
    let mut all = All::run(start).await;
    let place = all.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let filler = all.process().inside(&small.join("filler"));
    fill(&filler);
    let ready = format!("{}/readyz", all.process().address("ops"));
    let ready = async || reqwest::get(&ready).await.unwrap();
    // Users notice nothing until the store is needed.
    let said = RefCell::new(0);
    eventually(PATIENCE, "a store that says that it is full", async || {
        let turn =
            me.post("/v1/chat", json!({"text": "x".repeat(8000), "conversation": conversation})).await.expect(200);
        assert_eq!(turn["answer"]["text"], turn["message"]["text"]);
        *said.borrow_mut() += 1;
        let page = ready().await;
        (page.status() == 503 && page.text().await.unwrap().contains("full")).then_some(())
    })
    .await;
    fs::remove_file(&filler).unwrap();
    eventually(PATIENCE, "ready again", async || (ready().await.status() == 200).then_some(())).await;
    let transcript = whole(&me, &conversation).await;
    assert_eq!(transcript.len(), 1 + 2 * said.into_inner());
    is_complete(&Api::operator(&place).await, &conversation, &transcript).await;
    all.stop().await;
}

#[tokio::test]
async fn a_full_disk_under_nats_refuses_politely_and_keeps_what_was_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let nats = folder.path().join("data/nats");
    fs::create_dir_all(&nats).unwrap();
    let start = crate::harness::all(folder.path(), "all", &["nats.max_bytes=33554432"]).with_disk(&nats, 48 << 20);
    let mut all = All::run(start).await;
    let place = all.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    let filler = all.process().inside(&nats.join("filler"));
    fill(&filler);
    let accepted = RefCell::new(Vec::new());
    let refused = eventually(PATIENCE, "a refusal", async || {
        let answer = me.post(&path, json!({"text": "x".repeat(8000)})).await;
        if answer.status == 202 {
            accepted.borrow_mut().push(answer.body);
            return None;
        }
        Some(answer)
    })
    .await;
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    assert_eq!(refused.status, 503, "{refused:?}");
    // The operator is told what is wrong, and what to do.
    let ready = format!("{}/readyz", all.process().address("ops"));
    let reason = eventually(PATIENCE, "not ready, and why", async || {
        let page: Value = reqwest::get(&ready).await.unwrap().json().await.unwrap();
        let server = page["dependencies"].as_array().unwrap().iter().find(|state| state["name"] == "nats-server")?;
        (page["ready"] == false && server["ready"] == false).then(|| text(server, "reason"))
    })
    .await;
    assert!(reason.contains("full") && reason.contains("free some space"), "{reason}");
    fs::remove_file(&filler).unwrap();
    let more = json!({"text": "room again", "id": crate::client::new_id()});
    let last = eventually(PATIENCE, "an acceptance", async || {
        let answer = me.post(&path, more.clone()).await;
        (answer.status == 202).then_some(answer.body)
    })
    .await;
    let mut accepted = accepted.into_inner();
    accepted.push(last);
    let transcript = eventually(PATIENCE, "every answer", async || {
        let transcript = whole(&me, &conversation).await;
        let answers = transcript.iter().filter(|message| message["who"] == "bot").count();
        (answers == accepted.len()).then_some(transcript)
    })
    .await;
    for message in &accepted {
        let found = transcript.iter().find(|found| found["id"] == message["id"]).expect("what was accepted");
        assert_eq!((&found["seq"], &found["at"]), (&message["seq"], &message["at"]));
    }
    is_complete(&Api::operator(&place).await, &conversation, &transcript).await;
    all.stop().await;
}

#[tokio::test]
async fn a_disk_that_is_full_from_the_start_is_named() {
    for place in ["data", "data/nats", "store"] {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join(place);
        fs::create_dir_all(&disk).unwrap();
        let setting = format!("store.path={}", folder.path().join("store/messages.db").display());
        let start = crate::harness::all(folder.path(), "full", &[&setting]).with_full_disk(&disk);
        let (code, output, errors) = start.finish().await;
        assert_eq!((code, output.as_str()), (Some(1), ""), "{place}: {errors}");
        let error = errors.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(error.contains(disk.to_str().unwrap()), "{place}: {errors}");
        assert!(error.contains("No space left") || error.contains("is full"), "{place}: {errors}");
        assert!(error.contains("has room") || error.contains("free some space"), "{place}: {errors}");
    }
}

#[tokio::test]
async fn a_full_stream_refuses_politely_and_keeps_what_was_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(folder.path(), &["nats.max_bytes=1048576"]).await;
    let place = fleet.place();
    // Nothing is trimmed that no auditor has stored.
    fleet.kill9("auditor-1");
    fleet.kill9("auditor-2");
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    let accepted = RefCell::new(Vec::new());
    let refused = eventually(PATIENCE, "a refusal", async || {
        let answer = me.post(&path, json!({"text": "x".repeat(8000)})).await;
        if answer.status == 202 {
            accepted.borrow_mut().push(text(&answer.body, "id"));
            return None;
        }
        Some(answer)
    })
    .await;
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    let (refused, accepted) = (refused.refused(503, "overloaded"), accepted.into_inner());
    assert!(text(&refused, "next").contains("room"), "{refused}");
    // Reading goes on, and every answer to what was accepted still had room.
    let transcript = eventually(PATIENCE, "every answer", async || {
        let transcript = whole(&me, &conversation).await;
        let answers = transcript.iter().filter(|message| message["who"] == "bot").count();
        (answers == accepted.len()).then_some(transcript)
    })
    .await;
    // Nine tenths, so that the answers still fit.
    let operator = Api::operator(&place).await;
    let stats = operator.get("/admin/v1/stats").await.expect(200);
    let (bytes, limit) = (number(&stats["stream"], "bytes"), number(&stats["stream"], "max_bytes"));
    assert!((limit / 100 * 85..limit / 100 * 95).contains(&bytes), "{stats}");
    // With auditors it makes itself room, and goes on.
    fleet.start_again("auditor-1").await;
    fleet.start_again("auditor-2").await;
    let said = eventually(PATIENCE, "an answer", async || {
        let said = me.post("/v1/chat", json!({"text": "room again", "conversation": conversation})).await;
        (said.status == 200).then_some(said.body)
    })
    .await;
    assert_eq!(said["answer"]["text"], "room again");
    let whole = whole(&me, &conversation).await;
    assert_eq!(whole[..transcript.len()], transcript);
    is_complete(&operator, &conversation, &whole).await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_small_stream_carries_any_number_of_messages() {
    const MESSAGES: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start_with(folder.path(), &["nats.max_bytes=1048576"]).await;
    let place = all.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    // Three times what the stream can hold, answers included.
    for number in 0..MESSAGES {
        let message = json!({"text": format!("{number} {}", "x".repeat(8000)), "id": crate::client::new_id()});
        eventually(PATIENCE, "an acceptance", async || {
            let answer = me.post(&path, message.clone()).await;
            assert!(matches!(answer.status, 202 | 503), "{answer:?}");
            (answer.status == 202).then_some(())
        })
        .await;
    }
    let transcript = eventually(PATIENCE, "every answer", async || {
        let transcript = whole(&me, &conversation).await;
        (transcript.len() == 1 + 2 * MESSAGES).then_some(transcript)
    })
    .await;
    let operator = Api::operator(&place).await;
    is_complete(&operator, &conversation, &transcript).await;
    let stats = operator.get("/admin/v1/stats").await.expect(200);
    assert!(number(&stats["stream"], "first_seq") > 100, "{stats}");
    all.stop().await;
}
