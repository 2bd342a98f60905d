//! Files that yalo cannot use are refused at the start, by name, with the way out, and stay as they are.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use serde_json::json;

use crate::client::Api;
use crate::harness::{All, all};

/// A start on `folder` that must be refused: what it says.
async fn refusal(folder: &Path, settings: &[&str]) -> String {
    let (code, output, errors) = all(folder, "refused", settings).finish().await;
    assert_eq!((code, output.as_str()), (Some(1), ""), "{errors}");
    let said = errors.lines().find(|line| line.starts_with("error: "));
    said.unwrap_or_else(|| panic!("no error in {errors}")).to_owned()
}

/// The holder of a lock is named, where the system keeps a list of locks.
#[track_caller]
fn names_us(said: &str) {
    if fs::read_to_string("/proc/locks").is_ok_and(|locks| locks.contains("POSIX")) {
        let holder = format!("process {} ", std::process::id());
        assert!(said.contains(&holder), "{holder}: {said}");
    }
}

#[tokio::test]
async fn a_store_that_is_no_store_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/messages.db");
    fs::create_dir(folder.path().join("data")).unwrap();

    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(100_000).collect();
    fs::write(&path, &noise).unwrap();
    let said = refusal(folder.path(), &[]).await;
    assert!(said.contains("messages.db") && said.contains(".recover"), "{said}");
    assert_eq!(fs::read(&path).unwrap(), noise);

    fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE accounts (id)").unwrap();
    let before = fs::read(&path).unwrap();
    let said = refusal(folder.path(), &[]).await;
    assert!(said.contains("another program") && said.contains("store.path"), "{said}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_store_of_a_newer_release_is_refused_and_opens_again_with_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start(folder.path()).await;
    let (me, conversation) = Api::guest(&all.place().frontends[0]).await;
    me.post("/v1/chat", json!({"text": "keep this", "conversation": conversation})).await.expect(200);
    all.stop().await;
    let path = folder.path().join("data/messages.db");
    let version = |change: i64| {
        let store = Connection::open(&path).unwrap();
        let version: i64 = store.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        store.pragma_update(None, "user_version", version + change).unwrap();
    };
    version(1);
    let said = refusal(folder.path(), &[]).await;
    assert!(said.contains("messages.db") && said.contains("newer"), "{said}");
    version(-1);
    all.restart().await;
    let page = me.at(&all.place().frontends[0]).get(&format!("/v1/conversations/{conversation}/messages")).await;
    assert_eq!(page.expect(200)["messages"][1]["text"], "keep this");
    all.stop().await;
}

#[tokio::test]
async fn a_store_that_somebody_else_writes_to_is_waited_for_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start(folder.path()).await;
    let place = all.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let other = Connection::open(folder.path().join("data/messages.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Users notice nothing: the stream holds what the store cannot take now.
    let said = me.post("/v1/chat", json!({"text": "now", "conversation": conversation})).await.expect(200);
    let ready = format!("{}/readyz", all.process().address("ops"));
    let ready = async || reqwest::get(&ready).await.unwrap();
    let locked = crate::harness::eventually(crate::harness::PATIENCE, "the store not ready", async || {
        let page = ready().await;
        let (status, page) = (page.status(), page.text().await.unwrap());
        (status == 503 && page.contains("locked")).then_some(page)
    })
    .await;
    // It is named, and not a reader of our own that happens to hold another lock at that moment.
    names_us(&locked);
    other.execute_batch("ROLLBACK").unwrap();
    let operator = Api::operator(&place).await;
    crate::harness::eventually(crate::harness::PATIENCE, "the answer in the store", async || {
        let stored = operator.get(&format!("/admin/v1/messages/{}", said["answer"]["seq"])).await;
        (stored.status == 200).then(|| assert_eq!(stored.body, said["answer"]))
    })
    .await;
    crate::harness::eventually(crate::harness::PATIENCE, "ready again", async || {
        (ready().await.status() == 200).then_some(())
    })
    .await;
    all.stop().await;
}

#[tokio::test]
async fn yalo_stops_in_time_while_its_store_is_away() {
    let folder = tempfile::tempdir().unwrap();
    // Shorter than one write waits for a lock.
    let mut all = All::start_with(folder.path(), &["limits.grace_ms=3000"]).await;
    let place = all.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let operator = Api::operator(&place).await;
    let other = Connection::open(folder.path().join("data/messages.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ask = async |text: &str| {
        me.post("/v1/chat", json!({"text": text, "conversation": conversation})).await.expect(200);
    };
    ask("first").await;
    let away = async || all.process().says("the store is away").then_some(());
    crate::harness::eventually(crate::harness::PATIENCE, "a write that failed", away).await;
    // What comes behind it is taken, and waits until the store is back.
    ask("second").await;
    crate::harness::eventually(crate::harness::PATIENCE, "both with the auditor", async || {
        let stats = operator.get("/admin/v1/stats").await.expect(200);
        (stats["consumers"][0]["ack_pending"].as_u64() >= Some(4)).then_some(())
    })
    .await;
    all.stop().await;
    other.execute_batch("ROLLBACK").unwrap();
}

#[tokio::test]
async fn a_store_that_is_locked_at_the_start_is_refused_with_its_holder() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start(folder.path()).await;
    all.stop().await;
    let other = Connection::open(folder.path().join("data/messages.db")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let said = refusal(folder.path(), &[]).await;
    assert!(said.contains("messages.db") && said.contains("locked"), "{said}");
    names_us(&said);
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    all.restart().await;
    all.stop().await;
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_written_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::write(&data, "a file").unwrap();
    let said = refusal(folder.path(), &[]).await;
    assert!(said.contains("is not a folder") && said.contains("data.dir"), "{said}");
    fs::remove_file(&data).unwrap();
    fs::create_dir(&data).unwrap();
    let (code, _, errors) = all(folder.path(), "refused", &[]).with_disk(&data, 0).finish().await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("data folder") && errors.contains("Read-only"), "{errors}");
}
