//! Connections that are slow, endless, broken or too many.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::Api;
use crate::harness::{All, PATIENCE, eventually};

async fn line(base: &str) -> TcpStream {
    TcpStream::connect(base.strip_prefix("http://").unwrap()).await.unwrap()
}

/// What comes back until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    // A reset after the answer is an end too.
    timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("an end").ok();
    String::from_utf8(heard).unwrap()
}

/// The status of an answer and the code of its problem.
#[track_caller]
fn problem(answer: &str) -> (u16, String) {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap_or_default()).unwrap_or_default();
    (status.unwrap_or_else(|| panic!("no status in {answer:?}")), body["code"].as_str().unwrap_or_default().to_owned())
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

/// A WebSocket by hand: what comes back after these bytes, from the first frame on.
async fn after_frame(base: &str, frame: &[u8]) -> Vec<u8> {
    let mut stream = line(base).await;
    let head = "GET /v1/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: yalo.v1\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\n") {
        heard.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    assert!(heard.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&heard));
    stream.write_all(frame).await.unwrap();
    rest_bytes(&mut stream).await
}

async fn rest_bytes(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("an end").ok();
    heard
}

/// The code of the close frame at the end.
#[track_caller]
fn closed(heard: &[u8]) -> u16 {
    let place = heard.iter().rposition(|byte| *byte == 0x88).unwrap_or_else(|| panic!("no close frame in {heard:?}"));
    u16::from_be_bytes([heard[place + 2], heard[place + 3]])
}

#[tokio::test]
async fn frames_that_break_the_protocol_close_the_socket_with_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start(folder.path()).await;
    let base = all.place().frontends[0].clone();
    // Masked with zeros: final frame, opcode, length, mask, payload.
    let masked = |first: u8, payload: &[u8]| {
        let mut frame = vec![first];
        match u8::try_from(payload.len()) {
            Ok(short @ ..126) => frame.push(0x80 | short),
            _ => {
                frame.push(0x80 | 127);
                frame.extend(u64::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        frame
    };
    assert_eq!(closed(&after_frame(&base, &masked(0x81, b"{\"type\":\"hello\xff\"}")).await), 1007, "not UTF-8");
    assert_eq!(closed(&after_frame(&base, &masked(0x82, b"{}")).await), 1003, "a binary frame");
    assert_eq!(closed(&after_frame(&base, &masked(0x83, b"{}")).await), 1002, "an unknown opcode");
    assert_eq!(closed(&after_frame(&base, b"\x81\x02{}").await), 1002, "not masked");
    assert_eq!(closed(&after_frame(&base, &masked(0x81, &vec![b' '; 1 << 20])).await), 1009, "too large");
    // Nobody says hello: the five seconds pass.
    assert_eq!(closed(&after_frame(&base, &[]).await), 1008, "no hello");
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
    let mut idle = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        idle.push(line(&base).await);
    }
    eventually(PATIENCE, "a warning", async || {
        let log = std::fs::read_to_string(folder.path().join("all.log")).unwrap();
        log.contains("Too many open files").then_some(())
    })
    .await;
    drop(idle);
    let (me, conversation) = Api::guest(&base).await;
    let said = me.post("/v1/chat", json!({"text": "room again", "conversation": conversation})).await.expect(200);
    assert_eq!(said["answer"]["text"], "room again");
    all.stop().await;
}
