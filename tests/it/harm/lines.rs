//! Connections that are slow, endless, broken or too many.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::client::Api;
use crate::client::raw::{line, rest, status};
use crate::harness::{All, PATIENCE, eventually};

/// The status of an answer and the code of its problem.
#[track_caller]
fn problem(answer: &str) -> (u16, String) {
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap_or_default()).unwrap_or_default();
    (status(answer), body["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn slow_heads_and_bodies_are_ended_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["frontend.header_timeout_ms=400", "frontend.body_timeout_ms=400"];
    let mut all = All::start_with(folder.path(), &settings).await;
    let base = &all.place().frontends[0];

    let mut stream = line(base).await;
    stream.write_all(b"POST /v1/chat HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "a head without end: {answer}");

    let mut stream = line(base).await;
    let head = "POST /v1/chat HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n";
    stream.write_all(format!("{head}{{\"text\":").as_bytes()).await.unwrap();
    assert_eq!(problem(&rest(&mut stream).await), (408, "body_timeout".to_owned()));

    // A byte now and then does not help.
    let mut stream = line(base).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let trickle = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if writing.write_all(b" ").await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut heard = Vec::new();
    tokio::select! {
        () = trickle => {}
        read = timeout(PATIENCE, reading.read_to_end(&mut heard)) => drop(read.unwrap()),
    }
    assert_eq!(problem(&String::from_utf8(heard).unwrap()), (408, "body_timeout".to_owned()));
    all.stop().await;
}

#[tokio::test]
async fn a_body_without_end_is_refused_long_before_it_fills_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start(folder.path()).await;
    let mut stream = line(&all.place().frontends[0]).await;
    let head =
        "POST /v1/chat HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let mut sent = 0;
    let endless = async {
        let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
        while sent < 64 << 20 && writing.write_all(chunk.as_bytes()).await.is_ok() {
            sent += chunk.len();
        }
        std::future::pending::<()>().await;
    };
    let mut heard = vec![0; 4096];
    let length = tokio::select! {
        () = endless => unreachable!(),
        read = timeout(PATIENCE, reading.read(&mut heard)) => read.unwrap().unwrap(),
    };
    let answer = String::from_utf8_lossy(&heard[..length]).into_owned();
    assert_eq!(problem(&answer), (413, "body_too_large".to_owned()), "{answer}");
    // What lies in the sockets' buffers, and not much more.
    assert!(sent < 16 << 20, "it took {sent} bytes in");
    all.stop().await;
}

#[tokio::test]
async fn without_a_free_descriptor_it_waits_and_goes_on() {
    const DESCRIPTORS: usize = 128;
    let folder = tempfile::tempdir().unwrap();
    let mut start = crate::harness::all(folder.path(), "all", &[]);
    start.wrapper = vec!["prlimit".to_owned(), format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}")];
    let mut all = All::run(start).await;
    let base = all.place().frontends[0].clone();
    let (friend, talk) = Api::guest(&base).await;
    let mut socket = friend.signed_in_socket().await;
    let mut idle = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        idle.push(line(&base).await);
    }
    let warnings = || {
        let log = std::fs::read_to_string(folder.path().join("all.log")).unwrap();
        log.matches("Too many open files").count()
    };
    eventually(PATIENCE, "a warning", async || (warnings() > 0).then_some(())).await;
    // Who is connected goes on as ever, through NATS and the store.
    for words in ["one", "two", "three"] {
        let said = socket.ask(json!({"type": "send", "conversation": talk, "text": words})).await;
        assert_eq!(said["type"], "accepted", "{said}");
    }
    // It tries again after 20 ms, doubling to a second: not a storm.
    let (before, begun) = (warnings(), std::time::Instant::now());
    eventually(PATIENCE, "another warning", async || (warnings() > before + 1).then_some(())).await;
    let most = 8 + usize::try_from(begun.elapsed().as_secs()).unwrap();
    assert!(warnings() - before < most, "{} warnings in {:?}", warnings() - before, begun.elapsed());
    drop(idle);
    let (me, conversation) = Api::guest(&base).await;
    let said = me.post("/v1/chat", json!({"text": "room again", "conversation": conversation})).await.expect(200);
    assert_eq!(said["answer"]["text"], "room again");
    all.stop().await;
}
